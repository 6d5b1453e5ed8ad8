"""The example of a client that works offline: devices converge, and no write is lost or done twice."""

import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.device import Device, running_devices
from support.npm import require_packages
from support.relay import Relay
from support.service import Client, Json, Service, running, sign

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "offline"
TYPESCRIPT = Path(__file__).parent / "typescript"

EDITS = 50
TOO_LONG = "x" * 201

MakeDevice = Callable[..., Device]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled app."""
    require_packages(TYPESCRIPT)
    directory = tmp_path_factory.mktemp("offline")
    for file in (*EXAMPLE.glob("*.ts"), *(TYPESCRIPT / "offline").iterdir()):
        shutil.copy(file, directory)
    compiler = TYPESCRIPT / "node_modules" / ".bin" / "tsc"
    done = subprocess.run([compiler], cwd=directory, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout
    return directory / "compiled" / "device.js"


@pytest.fixture
def new_device(program: Path, tmp_path: Path) -> Iterator[MakeDevice]:
    """Starts another device of a user. It reaches the service at `url`."""
    with ExitStack() as stack:

        def new(user: str, url: str, token: str = "") -> Device:
            device = Device(program, tmp_path / f"{len(list(tmp_path.iterdir()))}.json", url, user, token)
            device.file.with_suffix(".device").touch()
            stack.enter_context(running_devices(device))
            return device

        yield new


@pytest.fixture
def network(service: Service) -> Iterator[Relay]:
    """The network between a device and the service."""
    with Relay(service.url) as relay:
        yield relay


def is_batch(request: bytes) -> bool:
    return b"/tasks/batch " in request


def is_changes(request: bytes) -> bool:
    return b"/changes" in request


def of_service(client: Client) -> list[Json]:
    """Returns the tasks that the service has, as a device shows them."""
    page = client.request("GET", f"/api/{client.user}/changes").json()
    assert not page["has_more"]
    return sorted(page["tasks"], key=lambda task: -task["id"])


def words_of(tasks: list[Json]) -> list[str]:
    return sorted(word for task in tasks for word in (task["description"] or "").split())


def edit(device: Device, name: str, random_: random.Random) -> tuple[set[str], set[str]]:
    """Makes edits of all kinds, and returns the new titles and the words that it appended."""
    titles, words = set(), set()
    for number in range(EDITS):
        kind = random_.choice(["create", "append", "append", "append", "complete"])
        if number == EDITS // 2:
            device.do("create", TOO_LONG)
        elif kind == "create":
            titles.add(title := f"{name}-{number}")
            device.do("create", title)
        else:
            title = random_.choice([*titles, *(f"shared-{each}" for each in range(6))])
            device.do(kind, title, word := f"{name}.{number}")
            words |= {word} if kind == "append" else set()
    device.do("remove", f"shared-{name}")
    return titles, words


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_two_devices_that_were_offline_converge_and_nothing_is_lost_or_done_twice(
    engine: str, new_device: MakeDevice, new_database_url: Callable[[str], str], randomness: random.Random
) -> None:
    database = new_database_url(engine)
    shared = [*(f"shared-{number}" for number in range(6)), "shared-a", "shared-b"]
    with ExitStack() as stack:
        with running(engine, DATABASE_URL=database) as service:
            alice = service.client()
            networks = [stack.enter_context(Relay(service.url)) for _ in "ab"]
            devices = [new_device(alice.user, network.url) for network in networks]
            for title in shared:
                devices[0].do("create", title)
            for device in devices:
                device.do("sync")
            for network in networks:
                network.close()
        # Both are offline. The service is stopped, and starts again later.
        edits = [edit(device, name, randomness) for device, name in zip(devices, "ab", strict=True)]
        devices[0].kill()
        devices[0].start()
        with running(engine, DATABASE_URL=database) as service:
            alice = service.client(alice.user)
            for network, device in zip(networks, devices, strict=True):
                network.lead_to(service.url)
                network.open()
                lost = network.swallow(is_batch, then="cut")
                device.do("sync")
                assert lost.is_set()
            for device in devices:
                device.do("sync")
            expected = of_service(alice)
            titles = {title for new, _ in edits for title in new} | {f"shared-{number}" for number in range(6)}
            assert sorted(task["title"] for task in expected) == sorted(titles)
            assert words_of(expected) == sorted(word for _, words in edits for word in words)
            assert [device.view() for device in devices] == [expected, expected]
            refused = [code for device in devices for _, code, _ in device.refusals]
            assert refused.count("VALIDATION_ERROR") == 2
            assert "PRECONDITION_FAILED" in refused


@pytest.fixture
def randomness(request: pytest.FixtureRequest) -> random.Random:
    """Random choices. pytest-randomly prints the seed, and can repeat them."""
    return random.Random(random.random())  # noqa: S311 - no secret


def test_refused_writes_do_not_stop_those_around_them(alice: Client, service: Service, new_device: MakeDevice) -> None:
    device, other = new_device(alice.user, service.url), new_device(alice.user, service.url)
    for title in ("changed", "deleted", "removed", "kept"):
        device.do("create", title)
    for each in (device, other):
        each.do("sync")
    offline = Device(device.program, device.file, "http://127.0.0.1:9", alice.user)
    device.kill()
    with running_devices(offline):
        offline.do("create", "before")
        offline.do("append", "changed", "mine")
        offline.do("create", TOO_LONG)
        offline.do("append", TOO_LONG, "mine")
        offline.do("create", "x" * 2_000_000)
        offline.do("append", "deleted", "mine")
        offline.do("remove", "removed")
        offline.do("append", "kept", "mine")
        offline.do("create", "after")
    other.do("append", "changed", "theirs")
    other.do("append", "removed", "theirs")
    other.do("remove", "deleted")
    other.do("sync")
    device.start()
    device.do("sync")
    assert device.refusals == [
        ["patch", "PRECONDITION_FAILED", "changed"],
        ["create", "VALIDATION_ERROR", TOO_LONG],
        ["patch", "NOT_FOUND", TOO_LONG],
        ["create", "PAYLOAD_TOO_LARGE", "x" * 2_000_000],
        ["patch", "NOT_FOUND", "deleted"],
        ["delete", "PRECONDITION_FAILED", "removed"],
    ]
    other.do("sync")
    expected = {"changed": "theirs mine", "removed": "theirs", "kept": "mine", "before": None, "after": None}
    assert device.shown() == other.shown() == expected
    assert device.view() == other.view() == of_service(alice)


def write_one_of_each_kind_offline(device: Device, network: Relay) -> None:
    for title in ("changed", "removed"):
        device.do("create", title)
    device.do("sync")
    network.close()
    device.do("create", "created")
    device.do("append", "changed", "mine")
    device.do("remove", "removed")


def test_nothing_happens_twice_when_the_app_is_killed_before_the_response_arrives(
    alice: Client, network: Relay, new_device: MakeDevice
) -> None:
    device = new_device(alice.user, network.url)
    write_one_of_each_kind_offline(device, network)
    network.open()
    lost = network.swallow(is_batch, then="silence")
    device.begin("sync")
    assert lost.wait(10)
    device.kill()
    network.restore()
    device.start()
    device.do("append", "created", "mine")
    device.do("append", "changed", "again")
    device.do("sync")
    assert device.shown() == {"changed": "mine again", "created": "mine"}
    assert device.view() == of_service(alice)
    assert device.refusals == []


def test_a_later_write_on_a_new_task_does_not_overwrite_what_another_device_wrote_before(
    alice: Client, service: Service, network: Relay, new_device: MakeDevice
) -> None:
    device, other = new_device(alice.user, network.url), new_device(alice.user, service.url)
    network.close()
    device.do("create", "new")
    device.do("append", "new", "mine")
    network.open()
    lost = network.swallow(is_batch, then="silence")
    device.begin("sync")
    assert lost.wait(10)
    other.do("sync")
    other.do("append", "new", "theirs")
    other.do("sync")
    network.cut()
    device.finish()
    assert device.shown() == {"new": "theirs mine"}
    assert device.refusals == [["patch", "PRECONDITION_FAILED", "new"]]


def test_a_form_that_was_open_while_the_task_was_sent_can_still_be_saved(
    alice: Client, service: Service, new_device: MakeDevice
) -> None:
    device = new_device(alice.user, service.url)
    device.do("create", "new")
    device.do("open", "new")
    device.do("sync")
    device.do("appendInEditor", word="mine")
    device.do("sync")
    assert device.shown() == {"new": "mine"}
    assert device.refusals == []


def test_a_form_that_was_open_while_another_device_wrote_does_not_overwrite_that(
    alice: Client, service: Service, new_device: MakeDevice
) -> None:
    device, other = new_device(alice.user, service.url), new_device(alice.user, service.url)
    device.do("create", "task")
    device.do("sync")
    device.do("open", "task")
    other.do("sync")
    other.do("append", "task", "theirs")
    other.do("sync")
    device.do("sync")
    device.do("appendInEditor", word="mine")
    device.do("sync")
    assert device.shown() == {"task": "theirs mine"}


def test_users_see_their_own_writes_until_the_copy_contains_them(
    alice: Client, network: Relay, new_device: MakeDevice
) -> None:
    device = new_device(alice.user, network.url)
    write_one_of_each_kind_offline(device, network)
    expected = {"created": None, "changed": "mine"}
    assert device.shown() == expected
    network.open()
    # The batch is done, but the copy does not contain it yet.
    lost = network.swallow(is_changes, then="silence")
    device.begin("sync")
    assert lost.wait(10)
    device.kill()
    network.close()
    device.start()
    assert device.shown() == expected
    network.open()
    device.do("sync")
    assert device.shown() == expected
    assert device.view() == of_service(alice)


def test_a_device_begins_anew_when_the_account_was_erased(
    alice: Client, network: Relay, new_device: MakeDevice
) -> None:
    device, other = new_device(alice.user, network.url), new_device(alice.user, network.url)
    for title in "abc":
        device.do("create", title)
    device.do("sync")
    other.do("sync")
    lost = network.swallow(is_changes, then="silence")
    device.do("append", "a", "done, but not in the copy yet")
    assert lost.wait(10)
    assert alice.request("DELETE", f"/api/{alice.user}?confirm={alice.user}").status_code == 204
    network.cut()
    device.do("sync")
    assert device.view() == []
    network.close()
    other.do("append", "b", "refused")
    other.do("create", "new")
    network.open()
    other.do("sync")
    device.do("sync")
    assert other.refusals == [["patch", "NOT_FOUND", "b"]]
    assert device.shown() == {"new": None}
    assert device.view() == other.view() == of_service(alice)


def test_a_proxy_that_does_not_reach_the_service_costs_no_write(
    alice: Client, service: Service, network: Relay, new_device: MakeDevice
) -> None:
    device = new_device(alice.user, service.url)
    device.kill()
    # The service answers a path outside of the API as a proxy does that leads to the wrong place: with 404.
    elsewhere = Device(device.program, device.file, f"{network.url}/elsewhere", alice.user)
    with running_devices(elsewhere):
        elsewhere.do("create", "a")
        elsewhere.do("create", "b")
        for _ in range(3):
            elsewhere.begin("sync")
        deadline = time.monotonic() + 20
        while network.round_trips < 4:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    device.start()
    device.do("sync")
    assert device.shown() == {"a": None, "b": None}


def test_changes_of_other_devices_arrive_by_themselves_also_after_a_restart_of_the_service(
    new_device: MakeDevice, new_database_url: Callable[[str], str]
) -> None:
    database = new_database_url("sqlite")
    with ExitStack() as stack:
        with running("sqlite", DATABASE_URL=database) as service:
            alice = service.client()
            network = stack.enter_context(Relay(service.url))
            device = new_device(alice.user, network.url)
            device.do("listen")
            device.do("sync")
            alice.create("first")
            device.wait_until(lambda tasks: len(tasks) == 1)
        with running("sqlite", DATABASE_URL=database) as service:
            alice = service.client(alice.user)
            alice.create("second")
            network.lead_to(service.url)
            device.wait_until(lambda tasks: len(tasks) == 2)
            alice.create("third")
            device.wait_until(lambda tasks: len(tasks) == 3)


def test_a_device_goes_on_listening_with_a_new_token_when_the_old_one_expires(
    alice: Client, service: Service, new_device: MakeDevice
) -> None:
    device = new_device(alice.user, service.url, sign(alice.user, exp=int(time.time()) + 2))
    device.do("listen")
    alice.create("first")
    device.wait_until(lambda tasks: len(tasks) == 1)
    device.wait_until(lambda _: device.last["tokens"] == 1)
    alice.create("second")
    device.wait_until(lambda tasks: len(tasks) == 2)


def test_a_device_whose_stream_is_idle_hears_of_changes_again_when_the_user_comes_back(
    new_device: MakeDevice, new_database_url: Callable[[str], str]
) -> None:
    database = new_database_url("postgres")
    with (
        running("postgres", DATABASE_URL=database, TASKWELL_EVENTS_IDLE_SECONDS="1") as service,
        running("postgres", migrate=False, DATABASE_URL=database) as other_process,
    ):
        device = new_device(service.client().user, service.url)
        alice = other_process.client(device.user)
        device.do("listen")
        device.do("sync")
        # Longer than the stream needs to become idle.
        time.sleep(4)
        alice.create("first")
        device.do("sync")
        alice.create("second")
        device.wait_until(lambda tasks: len(tasks) == 2)


@pytest.mark.slow
def test_a_device_connects_again_when_the_connection_has_died_silently(
    new_device: MakeDevice, new_database_url: Callable[[str], str]
) -> None:
    with running("sqlite", DATABASE_URL=new_database_url("sqlite")) as service, Relay(service.url) as network:
        alice = service.client()
        device = new_device(alice.user, network.url)
        device.do("listen")
        alice.create("first")
        device.wait_until(lambda tasks: len(tasks) == 1)
        network.forget(silently=True)
        alice.create("second")
        device.wait_until(lambda tasks: len(tasks) == 2, seconds=60)


def test_the_chapter_about_it_shows_the_code_that_runs() -> None:
    chapter = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```ts\n(.*?)```", chapter, re.DOTALL)
    assert code == (EXAMPLE / "sync.ts").read_text(encoding="utf-8")
