"""The code that tutorials teach and public projects use: synchronous FastAPI endpoints, and a SQLModel session per request.

It follows the libraries' documentation: `Session` and user as dependencies, `response_model`, `add`, `commit`,
`refresh`, and PyJWT for each request. It has its own table, because its tasks have no revision. The rows, and the index
that lists need, are the same.
"""

# ruff: noqa: FAST003 - `user_id` is the dependency's

import os
from collections.abc import Generator
from datetime import UTC, datetime
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, HTTPException, Query, status
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import BigInteger, Column, DateTime, Identity, Index
from sqlmodel import Field, Session, SQLModel, col, create_engine, func, select

# The same number of connections as the other servers.
engine = create_engine(
    os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://"), pool_size=20, max_overflow=0
)
bearer = HTTPBearer()
app = FastAPI()


# --- models


class TodoBase(SQLModel):
    title: str = Field(min_length=1, max_length=200)
    description: str | None = Field(default=None, max_length=1000)
    complete: bool = False


class Todo(TodoBase, table=True):
    __table_args__ = (Index("todo_newest", "user_id", "id"),)

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    user_id: str
    created_at: datetime = Field(sa_type=DateTime(timezone=True))  # type: ignore[call-overload]
    updated_at: datetime = Field(sa_type=DateTime(timezone=True))  # type: ignore[call-overload]


class TodoCreate(TodoBase):
    pass


class TodoPatch(SQLModel):
    title: str | None = Field(default=None, min_length=1, max_length=200)
    description: str | None = Field(default=None, max_length=1000)
    complete: bool | None = None


class TodoPublic(TodoBase):
    id: int
    user_id: str
    created_at: datetime
    updated_at: datetime


class TodosPublic(SQLModel):
    tasks: list[TodoPublic]
    count: int


# --- dependencies


def get_session() -> Generator[Session]:
    with Session(engine) as session:
        yield session


def get_current_user(user_id: str, credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> str:
    try:
        payload = jwt.decode(
            credentials.credentials,
            os.environ["JWT_KEY"],
            algorithms=[os.environ["JWT_ALGORITHM"]],
            issuer=os.environ.get("JWT_ISSUER"),
            audience=os.environ.get("JWT_AUDIENCE"),
        )
    except jwt.InvalidTokenError:
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, "Could not validate credentials") from None
    if payload.get("sub") != user_id:
        raise HTTPException(status.HTTP_403_FORBIDDEN, "Not enough permissions")
    return user_id


SessionDep = Annotated[Session, Depends(get_session)]
CurrentUser = Annotated[str, Depends(get_current_user)]


def get_own_todo(session: Session, user: str, todo_id: int) -> Todo:
    todo = session.get(Todo, todo_id)
    if not todo or todo.user_id != user:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "Todo not found")
    return todo


# --- endpoints


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/api/{user_id}/tasks", response_model=TodosPublic)
def list_todos(
    session: SessionDep,
    user: CurrentUser,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> object:
    count = session.exec(select(func.count()).select_from(Todo).where(Todo.user_id == user)).one()
    page = select(Todo).where(Todo.user_id == user).order_by(col(Todo.id).desc()).offset(offset).limit(limit)
    return {"tasks": session.exec(page).all(), "count": count}


@app.post("/api/{user_id}/tasks", response_model=TodoPublic, status_code=status.HTTP_201_CREATED)
def create_todo(session: SessionDep, user: CurrentUser, new: TodoCreate) -> Todo:
    now = datetime.now(UTC)
    todo = Todo.model_validate(new, update={"user_id": user, "created_at": now, "updated_at": now})
    session.add(todo)
    session.commit()
    session.refresh(todo)
    return todo


@app.get("/api/{user_id}/tasks/{todo_id}", response_model=TodoPublic)
def get_todo(session: SessionDep, user: CurrentUser, todo_id: int) -> Todo:
    return get_own_todo(session, user, todo_id)


@app.patch("/api/{user_id}/tasks/{todo_id}", response_model=TodoPublic)
def patch_todo(session: SessionDep, user: CurrentUser, todo_id: int, changes: TodoPatch) -> Todo:
    todo = get_own_todo(session, user, todo_id)
    todo.sqlmodel_update(changes.model_dump(exclude_unset=True))
    todo.updated_at = datetime.now(UTC)
    session.add(todo)
    session.commit()
    session.refresh(todo)
    return todo
