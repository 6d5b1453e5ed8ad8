-- The schema of revision 0001, as `taskwell migrate --sql` of that version printed it.
BEGIN;

CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE owner (
    user_id TEXT COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL,
    epoch INTEGER NOT NULL,
    PRIMARY KEY (user_id)
)
 WITH (fillfactor = 50);

CREATE TABLE task (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    user_id TEXT COLLATE "C" NOT NULL,
    title TEXT NOT NULL,
    description TEXT,
    complete BOOLEAN DEFAULT false NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE,
    erased_at TIMESTAMP WITH TIME ZONE,
    revision BIGINT NOT NULL,
    creation_key TEXT COLLATE "C" NOT NULL,
    creation_digest BYTEA,
    PRIMARY KEY (id),
    CONSTRAINT task_title_length CHECK (erased_at IS NOT NULL OR length(title) BETWEEN 1 AND 200),
    CONSTRAINT task_description_length CHECK (length(description) <= 1000),
    CONSTRAINT task_creation_key UNIQUE (user_id, creation_key)
);

CREATE INDEX task_newest ON task (user_id, deleted_at, id, complete);

CREATE INDEX task_revision ON task (user_id, revision);

CREATE FUNCTION next_revision(writer text) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE taken bigint;
BEGIN
    INSERT INTO owner AS o (user_id, revision, epoch)
    VALUES (writer, 1, floor(random() * 2147483647)::integer)
    ON CONFLICT (user_id) DO UPDATE SET revision = o.revision + 1
    RETURNING o.revision INTO taken;
    RETURN taken;
END $$;

INSERT INTO alembic_version (version_num) VALUES ('0001');

COMMIT;

