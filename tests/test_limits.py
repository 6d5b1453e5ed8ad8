"""Time limits and waiting lists keep their promises even when a time limit and a result come at the same moment."""

import asyncio
import time

import pytest

from taskwell.database import waiting_list
from taskwell.database.waiting_list import WaitingList
from taskwell.errors import Overloaded
from taskwell.http.limits import Deadline


def test_each_task_is_cancelled_when_its_own_time_is_up() -> None:
    deadline = Deadline(0.2, TimeoutError)

    async def cancelled_after(pause: float) -> float:
        await asyncio.sleep(pause)
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            await deadline.run(asyncio.sleep(10))
        return time.monotonic() - started

    async def main() -> list[float]:
        return await asyncio.gather(*map(cancelled_after, (0, 0.05, 0.1, 0.5)))

    assert all(0.19 < seconds < 0.4 for seconds in asyncio.run(main()))
    assert len(deadline.ends) == 0


def test_work_that_ends_in_time_is_not_cancelled() -> None:
    async def main() -> list[int]:
        deadline = Deadline(1.5, TimeoutError)
        # The first one's timer fires while the last one is at work.
        done = [await deadline.run(asyncio.sleep(0.54, number)) for number in range(4)]
        assert len(deadline.ends) == 0
        await asyncio.sleep(1.6)
        return done

    assert asyncio.run(main()) == [0, 1, 2, 3]


def test_a_task_that_others_cancel_stays_cancelled() -> None:
    async def main() -> None:
        deadline = Deadline(0.1, TimeoutError)
        task = asyncio.create_task(deadline.run(asyncio.sleep(10)))
        await asyncio.sleep(0)
        assert len(deadline.ends) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(deadline.ends) == 0

        # Both cancel it at the same time.
        async def stubborn() -> None:
            try:
                await asyncio.sleep(10)
            finally:
                await asyncio.sleep(1)

        task = asyncio.create_task(deadline.run(stubborn()))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_work_that_ends_well_after_its_cancellation_has_ended_well() -> None:
    async def unmoved() -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return "done"
        raise AssertionError

    async def main() -> None:
        assert await Deadline(0.05, TimeoutError).run(unmoved()) == "done"
        task = asyncio.current_task()
        assert task
        assert task.cancelling() == 0

    asyncio.run(main())


def test_the_caller_who_has_waited_longest_gets_the_next_item() -> None:
    async def main() -> list[str]:
        places = WaitingList(["a"])
        got = list[str]()

        async def use(name: str) -> None:
            place = await places.take()
            got.append(name + place)
            await asyncio.sleep(0.01)
            places.give(place)

        await asyncio.gather(*[use(str(number)) for number in range(4)])
        assert places.idle == ["a"]
        return got

    assert asyncio.run(main()) == ["0a", "1a", "2a", "3a"]


def test_an_item_that_arrives_too_late_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_list, "WAIT_SECONDS", 0.05)

    async def main() -> None:
        places = WaitingList(["a"])
        assert await places.take() == "a"
        waiting = [asyncio.create_task(places.take()) for _ in range(2)]
        for task in waiting:
            with pytest.raises(Overloaded):
                await task
        assert not places._waiting
        # The item arrives and the caller is cancelled in the same turn of the event loop, in either order.
        for give_first in (True, False):
            task = asyncio.create_task(places.take())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            first, second = places.give, task.cancel
            if give_first:
                first("a")
                second()
            else:
                second()
                first("a")
            with pytest.raises(asyncio.CancelledError):
                await task
            assert places.idle == ["a"]
            assert await places.take() == "a"

    asyncio.run(main())


def test_the_item_given_back_last_is_taken_first_unless_it_is_to_be_taken_last() -> None:
    async def main() -> list[str]:
        places = WaitingList(["a"])
        places.give("b")
        places.give("c", to_be_taken_last=True)
        return [await places.take() for _ in range(3)]

    assert asyncio.run(main()) == ["b", "a", "c"]
