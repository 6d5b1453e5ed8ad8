import type { Refusal } from "@taskwell/client/tanstack-db";
import { eq, useLiveQuery } from "@tanstack/react-db";

import type { Tasks } from "../lib/tasks";

type Props = { refused: readonly Refusal[]; collection: Tasks["collection"] };

/** The changes that the service did not accept. The user decides about each. */
export function Refusals({ refused, collection }: Props) {
  return (
    <div role="alert">
      {refused.map((refusal) => (
        <Item key={refusal.n} refusal={refusal} collection={collection} />
      ))}
    </div>
  );
}

function Item({ refusal, collection }: { refusal: Refusal; collection: Tasks["collection"] }) {
  const { key, code, values, message } = refusal;
  // The service's version may arrive after its refusal.
  const { data: theirs } = useLiveQuery((query) =>
    query
      .from({ task: collection })
      .where(({ task }) => eq(task.key, key))
      .findOne(),
  );
  const dismiss = () => collection.utils.dismiss(refusal);

  async function keepMine() {
    await collection.update(key, (task) => void Object.assign(task, values)).isPersisted.promise;
    await dismiss();
  }

  if (code !== "PRECONDITION_FAILED" || !theirs) {
    return (
      <section className="refusal">
        <p>
          Your change to “{values.title ?? theirs?.title ?? "a task"}” was not saved: {message}.
        </p>
        <div className="buttons">
          <button onClick={dismiss}>Dismiss</button>
        </div>
      </section>
    );
  }
  return (
    <section className="refusal">
      <p>You and another device have changed the same task.</p>
      <dl>
        <dt>Yours</dt>
        <dd>{described({ ...theirs, ...values })}</dd>
        <dt>Theirs</dt>
        <dd>{described(theirs)}</dd>
      </dl>
      <div className="buttons">
        <button className="primary" onClick={keepMine}>
          Keep mine
        </button>
        <button onClick={dismiss}>Keep theirs</button>
      </div>
    </section>
  );
}

type Described = { title?: string | null; description?: string | null; complete?: boolean | null };

function described({ title, description, complete }: Described): string {
  return [title, description, complete ? "done" : "open"].filter(Boolean).join(" · ");
}
