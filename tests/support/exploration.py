"""Compares a service with the model of it: random requests of two users, one after the other and at once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import cast
from uuid import uuid4

import httpx2
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from support import plans, racing
from support.changes import Copy, changes
from support.model import Call, Condition, Exchange, Model, Query, in_some_order, next_path
from support.plans import Conditions, Plan, list_call
from support.rows import execute
from support.service import Client


class User:
    """A user, the model of their tasks, the lists that they have seen, and their copy, kept up to date by `/changes`."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.model = Model(client.user)
        self.seen: list[Call] = []
        self.copy = Copy(client, limit=7)

    def request(self, call: Call) -> racing.Call:
        return racing.Call(self.client, call.method, call.path, call.body, call.headers)

    def send(self, call: Call) -> httpx2.Response:
        """Sends a request and checks the response."""
        (response,) = racing.race([self.request(call)])
        self.explain([(call, response)])
        if call.method == "GET" and call.task_id is None and response.status_code == 200:
            self.model = self.model.learned(call, response)
            self.seen.append(call)
        return response

    def explain(self, exchanges: Sequence[Exchange]) -> None:
        self.model = in_some_order(self.model, exchanges)

    def sync(self) -> None:
        """Brings the copy up to date, and checks that it is as the model."""
        self.copy.sync()
        model = self.model
        assert self.copy.tasks == {number: {**task, "etag": model.etag(number)} for number, task in model.tasks.items()}
        assert self.copy.deleted.keys() == {*model.deleted}
        assert self.copy.revision == model.revision

    def check_tag(self, call: Call, response: httpx2.Response) -> None:
        """Checks that the tag of this list, which the user got while tasks changed, leads to a 304 only if it is
        current."""
        plain = replace(call, if_none_match=None)
        tag = response.headers["ETag"]
        (again,) = racing.race([self.request(replace(plain, if_none_match=Condition(tag, (tag,))))])
        self.explain([(plain, response if again.status_code == 304 else again)])


users = st.integers(0, 1)
places = st.integers(0, 20)


class Exploration(RuleBasedStateMachine):
    """Each rule is something that a client does; after each, both users look at their lists and bring their copies up
    to date."""

    def __init__(self, new_client: Callable[[str], Client], database: str) -> None:
        super().__init__()
        self.users = [User(new_client(f"user-{uuid4().hex}")) for _ in range(2)]
        self.database = database
        self.steps = 0
        self.erased = False

    def planned(self, who: int, plan: Plan) -> Call:
        return plan.call(self.users[who].model, self.users[1 - who].model)

    @initialize()
    def begin(self) -> None:
        self.look()
        for who in (0, 1):
            self.create_some(who)

    def create_some(self, who: int) -> None:
        for title, key in (("milk", "key-1"), ("x", "key-2"), ("milk", None), ("Milk", None)):
            self.users[who].send(Call("POST", body={"title": title}, key=key))

    def send(self, who: int, plan: Plan) -> None:
        self.users[who].send(self.planned(who, plan))
        self.look()

    def look(self) -> None:
        """Lets both users ask whether their list has changed."""
        for user in self.users:
            user.send(list_call(user.model, "", Query(), ("current",)))

    @rule(who=users, some=st.lists(plans.requests, min_size=3, max_size=12))
    def request(self, who: int, some: Sequence[Plan]) -> None:
        for plan in some:
            self.send(who, plan)

    @rule(who=users, some=st.lists(plans.writes, min_size=3, max_size=12))
    def write(self, who: int, some: Sequence[Plan]) -> None:
        for plan in some:
            self.send(who, plan)

    @rule(who=users, place=places, conditions=plans.conditions)
    def list_again(self, who: int, place: int, conditions: Conditions | None) -> None:
        user = self.users[who]
        seen = user.seen[place % len(user.seen)]
        again = list_call(user.model, seen.path, seen.query, conditions)
        user.send(replace(again, after=seen.after))

    @rule(who=users, title=plans.titles, searches=plans.searches)
    def search(self, who: int, title: str, searches: Sequence[Plan]) -> None:
        self.send(who, Plan("POST", body={"title": title}))
        for plan in searches:
            self.users[who].send(self.planned(who, plan))

    @rule(who=users, queries=st.lists(plans.walks, min_size=2, max_size=4))
    def walk(self, who: int, queries: Sequence[Query]) -> None:
        """Follows the links from page to page."""
        for query in queries:
            self.follow(who, query, [])

    @rule(who=users, query=plans.walks, between=st.lists(plans.writes, min_size=1, max_size=4))
    def walk_while_tasks_change(self, who: int, query: Query, between: Sequence[Plan]) -> None:
        self.follow(who, query, [*between])

    def follow(self, who: int, query: Query, between: list[Plan]) -> None:
        call: Call | None = Call("GET", query.path, query=query)
        while call:
            call = _next(call, self.users[who].send(call))
            if call and between:
                self.send(who, between.pop())

    @rule(who=users, query=plans.walks)
    def misuse_a_cursor(self, who: int, query: Query) -> None:
        user = self.users[who]
        call = Call("GET", query.path, query=query)
        if following := _next(call, user.send(call)):
            other = "&offset=0" if query.complete is not None else "&complete=true"
            user.send(replace(following, path=following.path + other, refused=422))

    @rule(who=st.sampled_from([(0,), (1,), (0, 1)]), races=st.lists(plans.races, min_size=1, max_size=4))
    def races(self, who: Sequence[int], races: Sequence[Sequence[Plan]]) -> None:
        for race_plans in races:
            self.race(who, race_plans)
            self.look()

    def race(self, who: Sequence[int], race_plans: Sequence[Plan]) -> None:
        racers = [who[number % len(who)] for number in range(len(race_plans))]
        calls = [self.planned(racer, plan) for racer, plan in zip(racers, race_plans, strict=True)]
        responses = racing.race([self.users[racer].request(call) for racer, call in zip(racers, calls, strict=True)])
        exchanges = [*zip(racers, calls, responses, strict=True)]
        for racer in who:
            self.users[racer].explain([(call, response) for other, call, response in exchanges if other == racer])
        for racer, call, response in exchanges:
            if call.method == "GET" and call.task_id is None and response.status_code == 200:
                self.users[racer].check_tag(call, response)

    @precondition(lambda self: self.steps > 4 and not self.erased)
    @rule(who=users)
    def erase(self, who: int) -> None:
        """Removes a user's rows, as the operator does who erases an account. Revisions then begin again."""
        user = self.users[who]
        for table in ("task", "owner"):
            execute(self.database, f"DELETE FROM {table} WHERE user_id = '{user.client.user}'")  # noqa: S608
        user.model = user.model.erased()
        self.erased = True
        self.look()
        self.create_some(who)
        assert changes(user.client, since=user.copy.since).status_code == 410
        user.copy = Copy(user.client, limit=7)

    @invariant()
    def copies_are_true(self) -> None:
        for user in self.users:
            user.sync()

    @invariant()
    def count_steps(self) -> None:
        self.steps += 1


def _next(call: Call, response: httpx2.Response) -> Call | None:
    """Returns the request for the page after this one."""
    path = next_path(response)
    if path is None:
        return None
    query = replace(call.query, offset=None)
    return Call("GET", path, query=query, after=query.position(response.json()["tasks"][-1]))


def explore(new_client: Callable[[str], Client], database: str, *, examples: int, steps: int = 10) -> None:
    """Runs random sequences of requests against a service, and fails if the model cannot explain a response.

    hypothesis prints the shortest failing sequence that it finds, and tries it first in the next run.
    """
    # hypothesis only calls it.
    machine = cast("type[Exploration]", partial(Exploration, new_client, database))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
