"""Dependencies whose value is in the state of a request."""

from dataclasses import dataclass

from starlette.requests import Request


class InState:
    """A dependency whose value is in the request's state under `state_name`. The endpoint engine takes it without a call."""

    state_name: str


@dataclass(frozen=True)
class FromState(InState):
    """Such a dependency, for `Depends`. FastAPI would call it."""

    state_name: str

    async def __call__(self, request: Request) -> object:
        return request.scope["state"][self.state_name]
