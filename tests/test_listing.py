"""Lists: search, order and pages. What a client finds does not depend on the database behind the service."""

# Letters of other scripts look like Latin ones; here, that is the point.
# ruff: noqa: RUF001

import asyncio
import json
import re
import unicodedata
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import asyncpg
import httpx2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from support.problem import assert_problem
from support.racing import Call, race
from support.rows import execute
from support.service import Client, Json, Service, running
from taskwell.database.text import fold_case

# For requests that are refused before they reach the database, whatever its kind.
ONCE = pytest.mark.parametrize("service", ["sqlite"], indirect=True, scope="session")

MAX_PAGES = 60
SORTS = ("created_at", "-created_at", "updated_at", "-updated_at", "title", "-title")
EVERY_SORT = pytest.mark.parametrize("sort", [None, *SORTS])


def listed(client: Client, **query: object) -> httpx2.Response:
    """Returns a list. Parameters that are None are not sent."""
    response = client.request("GET", params={name: value for name, value in query.items() if value is not None})
    assert response.status_code == 200, response.text
    return response


def links(response: httpx2.Response) -> dict[str, str]:
    """Returns the targets of a response's `Link` header by relation (RFC 8288)."""
    header = response.headers.get("link", "")
    found = re.findall(r'<([^>]*)>; rel="([a-z]+)"(?:, |$)', header)
    assert ", ".join(f'<{target}>; rel="{relation}"' for target, relation in found) == header
    return {relation: target for target, relation in found}


def pages(client: Client, **query: object) -> Iterator[httpx2.Response]:
    """Walks through a list by `next`. A walk that does not end is an error."""
    response = listed(client, **query)
    yield response
    for _ in range(MAX_PAGES):
        following = links(response).get("next")
        if not following:
            return
        response = client.request("GET", following)
        assert response.status_code == 200, response.text
        yield response
    raise AssertionError(f"more than {MAX_PAGES} pages")


def walk(client: Client, **query: object) -> list[Json]:
    return [task for page in pages(client, **query) for task in page.json()["tasks"]]


def cursor_of(response: httpx2.Response) -> str:
    (cursor,) = parse_qs(urlsplit(links(response)["next"]).query)["cursor"]
    return cursor


def assert_refused(client: Client, parameter: str, query: str) -> None:
    """Asserts that the list with this query string is a 422 that names the parameter."""
    problem = assert_problem(client.request("GET", f"{client.home}?{query}"), 422, "VALIDATION_ERROR")
    assert problem["errors"][0]["loc"] == ["query", parameter]
    assert problem["detail"].startswith(f"query {parameter}: ")


# --- search


@pytest.mark.parametrize(
    "text", ["%", "_", "\\", "'", '"', "\\%", "100%_\\'", "*", "?", "[a]", "--", "$1", ":q", "a\nb", "\u0001", " "]
)
def test_every_character_of_a_search_means_itself(alice: Client, text: str) -> None:
    alice.create("nothing")
    alice.create(f"before{text}after")
    alice.create("in-description", description=f"x{text}")
    expected = ["in-description", f"before{text}after"]
    assert alice.titles(q=text) == expected
    assert alice.titles(q=f"e{text}a") == expected[1:]
    assert alice.titles(q=f"{text}{text}") == []


@pytest.mark.parametrize(
    "forms",
    [
        ("milk", "MILK", "Milk", "mILK"),
        ("ÄPFEL", "äpfel", "Äpfel"),
        ("ΣΑΣ", "σας", "σασ", "ςας"),
        ("K", "k", "\u212a"),
        ("s", "S", "\u017f"),
        ("ß", "\u1e9e"),
        ("\u13a0", "\uab70"),
        ("Å", "å", "\u212b"),
        ("ǆ", "ǅ", "Ǆ"),
        ("µ", "μ", "Μ"),
        ("Ω", "ω", "\u2126"),
        ("θ", "ϑ", "Θ", "ϴ"),
        ("ПРИВЕТ", "привет"),
        ("в", "В", "\u1c80"),
        ("𐐀", "𐐨"),
        ("ა", "Ა"),
        ("ﬅ", "ﬅ"),
        ("ᾳ", "ᾼ"),
        ("ι", "Ι", "\u0345", "\u1fbe"),
    ],
)  # fmt: skip
def test_search_ignores_case_in_every_script(alice: Client, forms: tuple[str, ...]) -> None:
    for form in forms:
        alice.create(f"<{form}>")
    expected = sorted(f"<{form}>" for form in forms)
    for form in forms:
        assert sorted(alice.titles(q=form)) == expected


@pytest.mark.parametrize(
    ("text", "q"),
    [
        ("İ", "i"),
        ("İ", "i\u0307"),
        ("ı", "i"),
        ("I", "ı"),
        ("ß", "ss"),
        ("ﬀ", "ff"),
        ("é", "e"),
        ("é", "e\u0301"),
        ("ŉ", "n"),
        ("ǰ", "j"),
        ("İ", "ı"),
    ],
)
def test_search_finds_nothing_by_a_letter_that_is_only_similar(alice: Client, text: str, q: str) -> None:
    alice.create(text)
    assert alice.titles(q=q) == []
    assert alice.titles(q=text) == [text]


def test_search_looks_in_titles_and_descriptions_of_ones_own_tasks(alice: Client, mallory: Client) -> None:
    mallory.create("Buy milk")
    alice.create("Buy bread", description="and MILK", complete=True)
    alice.create("milkshake")
    alice.create("mil", description="k")
    assert alice.titles(q="milk") == ["milkshake", "Buy bread"]
    assert alice.titles(q="milk", complete="true") == ["Buy bread"]
    assert alice.titles(q="milk", sort="title") == ["Buy bread", "milkshake"]
    assert alice.titles(q="milk", limit=1, offset=1) == ["Buy bread"]
    assert listed(alice, q="milk", limit=1).json()["count"] == 2


@pytest.mark.parametrize("unit", ["x", "ß", "🧀"])
def test_a_search_has_1_to_100_characters(alice: Client, unit: str) -> None:
    alice.create(unit * 200)
    assert alice.titles(q=unit) == alice.titles(q=unit * 100) == [unit * 200]
    assert_refused(alice, "q", f"q={quote(unit * 101)}")


@ONCE
@pytest.mark.parametrize("value", ["", "%00", "a%00b", "x" * 101, "x" * 60_000])
def test_a_search_for_what_no_task_can_contain_gets_422(alice: Client, value: str) -> None:
    assert_refused(alice, "q", f"q={value}")


@pytest.mark.parametrize(
    "value", ["%FF", "%ED%A0%80", "%EF%BF%BF", "%F4%8F%BF%BF", "%C0%AF", "%", "%zz", "+", "%0D%0A"]
)
def test_a_search_for_any_bytes_is_answered(alice: Client, value: str) -> None:
    (response,) = race([Call(alice, "GET", f"?q={value}&limit=1")])
    assert response.status_code == 200


# --- case folding


def _assigned() -> list[str]:
    """Returns all characters of Python's version of Unicode, without NUL and surrogates."""
    return [char for char in map(chr, range(1, 0x110000)) if unicodedata.category(char) not in ("Cn", "Cs")]


# Two versions of PostgreSQL, with different collations.
@pytest.mark.parametrize("engine", ["postgres", "postgres-tls"])
def test_postgresql_and_sqlite_fold_the_same_characters_together(
    new_migrated_url: Callable[[str], str], engine: str
) -> None:
    chars = _assigned()
    url = new_migrated_url(engine)
    folded = asyncio.run(_fold_on_postgres(url, chars))
    pairs = {(fold_case(char), other) for char, other in zip(chars, folded, strict=True)}
    assert len(chars) > 140_000
    # One to one: what is one class on one side is one class on the other.
    assert len({ours for ours, _ in pairs}) == len({theirs for _, theirs in pairs}) == len(pairs)
    # Lower case can depend on the letters around, above all that of a sigma at the end of a word. Folding does not.
    sigma = folded[chars.index("Σ")]
    around = {char: other for char, other in zip(chars, folded, strict=True) if unicodedata.category(char) != "Lo"}
    in_words = asyncio.run(_fold_on_postgres(url, [f"aΣ{char}Σ" for char in around]))
    assert in_words == [f"a{sigma}{other}{sigma}" for other in around.values()]


async def _fold_on_postgres(url: str, chars: list[str]) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT taskwell_0003.fold_case(char) AS folded FROM unnest($1::text[]) WITH ORDINALITY AS c (char, n) ORDER BY n",
            chars,
        )
        return [row["folded"] for row in rows]
    finally:
        await connection.close()


# --- order


def test_titles_are_sorted_by_code_point(alice: Client) -> None:
    titles = [
        "z",
        "Z",
        "a",
        "ab",
        "A",
        "é",
        "e\u0301",
        "e",
        "🧀",
        "\ufb00",
        "\U00010000",
        "ß",
        "1",
        "10",
        "9",
        "~",
        "À",
        "\uffee",
        "a b",
        "a\u0001",
    ]
    for title in titles:
        alice.create(title)
    assert alice.titles(sort="title") == sorted(titles)
    assert alice.titles(sort="-title") == sorted(titles, reverse=True)


@pytest.mark.parametrize("sort", SORTS)
def test_equal_values_are_sorted_by_id_in_the_same_direction(service: Service, alice: Client, sort: str) -> None:
    ids = [alice.create("same")["id"] for _ in range(5)]
    moment = "'2026-11-21 10:30:00.123456'"
    execute(
        service.url_of_database,
        f"UPDATE task SET created_at = {moment}, updated_at = {moment} WHERE user_id = '{alice.user}' RETURNING id",  # noqa: S608
    )
    expected = ids[::-1] if sort.startswith("-") else ids
    assert [task["id"] for task in listed(alice, sort=sort).json()["tasks"]] == expected
    assert [task["id"] for task in walk(alice, sort=sort, limit=2)] == expected


def test_tasks_can_be_sorted_by_creation_and_by_change(alice: Client) -> None:
    first, _, third = [alice.create(title)["id"] for title in ("1", "2", "3")]
    alice.request("PATCH", third, json={"complete": True})
    alice.request("PATCH", first, json={"complete": True})
    assert alice.titles(sort="created_at") == ["1", "2", "3"]
    assert alice.titles(sort="-created_at") == alice.titles() == ["3", "2", "1"]
    assert alice.titles(sort="updated_at") == ["2", "3", "1"]
    assert alice.titles(sort="-updated_at") == ["1", "3", "2"]


@ONCE
@pytest.mark.parametrize(
    "sort", ["", "id", "+title", "--title", "Title", "title,id", "-", "complete", "title%00", "%FF"]
)
def test_an_unknown_order_gets_422(alice: Client, sort: str) -> None:
    assert_refused(alice, "sort", f"sort={quote(sort, safe='%')}")


# --- pages


@ONCE
@pytest.mark.parametrize(
    ("parameter", "query"),
    [
        *[("limit", f"limit={value}") for value in ("0", "-1", "1001", "1e2", "99999999999999999999", "", "x")],
        *[("offset", f"offset={value}") for value in ("-1", "2147483648", "99999999999999999999", "", "1.0")],
        ("cursor", f"cursor={'x' * 2049}"),
    ],
)
def test_the_bounds_of_a_page_are_never_cut_silently(alice: Client, parameter: str, query: str) -> None:
    assert_refused(alice, parameter, query)
    assert_refused(alice, parameter, f"q=x&sort=title&complete=true&{query}")


@ONCE
@pytest.mark.parametrize("offset", [0, 1, 2**31 - 1])
def test_a_cursor_and_an_offset_do_not_go_together(alice: Client, offset: int) -> None:
    alice.create()
    alice.create()
    cursor = cursor_of(listed(alice, limit=1))
    assert_refused(alice, "cursor", f"cursor={cursor}&offset={offset}")


def _fill(client: Client) -> None:
    """Creates 12 tasks with equal titles among them, and changes some."""
    ids = [
        client.create(title, description="odd" if number % 2 else None, complete=number % 3 == 0)["id"]
        for number, title in enumerate(["b", "a", "B", "🧀", "a", "é", "\uffee", "a", "ab", "b", "\U00010000", "Z"])
    ]
    for number in (7, 2, 9):
        client.request("PATCH", ids[number], json={"description": "changed"})


@EVERY_SORT
@pytest.mark.parametrize("filters", [{}, {"complete": "false", "q": "a"}])
def test_a_walk_by_next_shows_the_whole_list(alice: Client, sort: str | None, filters: dict[str, str]) -> None:
    _fill(alice)
    query = filters | ({"sort": sort} if sort else {})
    whole = listed(alice, **query)
    assert links(whole) == {}
    for limit in (1, 2, 7):
        walked = list(pages(alice, limit=limit, **query))
        tasks = whole.json()["tasks"]
        assert [task for page in walked for task in page.json()["tasks"]] == tasks
        assert {page.json()["count"] for page in walked} == {len(tasks)}
        assert {len(page.json()["tasks"]) for page in walked[:-1]} <= {limit}
        assert len(walked) == -(-len(tasks) // limit)
        assert all(links(page).keys() == {"first", "next"} for page in walked[:-1])
        assert links(walked[-1]).keys() == {"first"} or len(walked) == 1
        if first := links(walked[-1]).get("first"):
            assert alice.request("GET", first).content == walked[0].content


def test_next_keeps_the_parameters_and_replaces_the_offset(alice: Client) -> None:
    for _ in range(4):
        alice.create('a&b=ä #<>"', complete=True)
    response = listed(alice, limit=1, offset=1, complete="true", q='&B=Ä #<>"', sort="-title")
    following, first = (parse_qs(urlsplit(links(response)[name]).query) for name in ("next", "first"))
    same = {"limit": ["1"], "complete": ["true"], "q": ['&B=Ä #<>"'], "sort": ["-title"]}
    assert following == same | {"cursor": following["cursor"]}
    assert first == same
    assert response.headers["link"].isascii()
    (third,) = alice.request("GET", links(response)["next"]).json()["tasks"]
    assert third == walk(alice, limit=1, sort="-title")[2]


@pytest.mark.parametrize("user", ["a/b", "größe", "..", 'a"b>, <x', "x" * 255])
def test_links_lead_to_the_next_page_whatever_the_users_name(service: Service, user: str) -> None:
    client = service.client(user)
    home = f"/api/{quote(user, safe='').replace('.', '%2E')}/tasks"
    made = [client.request("POST", home, json={"title": title}).json() for title in ("1", "2")]
    page = client.request("GET", f"{home}/?limit=1")
    assert page.json()["tasks"] == made[1:]
    assert urlsplit(links(page)["next"]).path == home
    assert client.request("GET", links(page)["next"]).json()["tasks"] == made[:1]


@pytest.mark.parametrize("root_path", ["/prefix", "/api", "/a/b"])
def test_links_lead_through_the_proxy(new_database_url: Callable[[str], str], root_path: str) -> None:
    with running("sqlite", DATABASE_URL=new_database_url("sqlite"), TASKWELL_ROOT_PATH=root_path) as service:
        alice = service.client()
        tasks = [alice.create(), alice.create()]
        # A proxy may have removed the prefix or not.
        for home in (alice.home, root_path + alice.home):
            page = alice.request("GET", f"{home}?limit=1")
            assert links(page)["next"].startswith(f"{root_path}{alice.home}?limit=1&cursor=")
            assert links(page)["first"] == f"{root_path}{alice.home}?limit=1"
            assert alice.request("GET", links(page)["next"]).json()["tasks"] == tasks[:1]


def test_an_empty_page_still_has_the_count_and_leads_to_the_first(alice: Client) -> None:
    tasks = [alice.create(complete=True), alice.create(complete=True)]
    page = listed(alice, complete="true", offset=5)
    assert (page.json(), [*links(page)]) == ({"tasks": [], "count": 2}, ["first"])
    cursor = cursor_of(listed(alice, complete="true", limit=1))
    alice.request("DELETE", tasks[0]["id"])
    page = listed(alice, complete="true", cursor=cursor)
    assert (page.json(), [*links(page)]) == ({"tasks": [], "count": 1}, ["first"])
    assert alice.request("GET", links(page)["first"]).json()["tasks"] == tasks[1:]


@pytest.mark.slow
def test_a_list_without_a_limit_shows_1000_tasks_and_leads_to_the_rest(alice: Client) -> None:
    alice.create()
    for number in range(10):
        operations = [{"op": "create", "task": {"title": f"{number}"}}] * 100
        assert alice.request("POST", "batch", json={"operations": operations}).status_code == 200
    first, second = pages(alice)
    assert [len(page.json()["tasks"]) for page in (first, second)] == [1000, 1]
    assert {page.json()["count"] for page in (first, second)} == {1001}
    assert second.json()["tasks"][0]["title"] == "Buy milk"
    alice.request("DELETE", second.json()["tasks"][0]["id"])
    assert links(listed(alice)) == links(listed(alice, limit=1000)) == {}


@pytest.mark.parametrize("sort", [None, "created_at", "-created_at", "title", "-title"])
def test_a_walk_repeats_and_misses_nothing_while_others_come_and_go(alice: Client, sort: str | None) -> None:
    stay = [alice.create(title)["id"] for title in "hdbfgaec"]
    fleeting = [alice.create(title)["id"] for title in "bdfh"]
    seen: list[int] = []
    for number, page in enumerate(pages(alice, sort=sort, limit=2)):
        seen += [task["id"] for task in page.json()["tasks"]]
        # Around the place where the next page begins, in either direction; also the very task it begins after.
        fleeting += [alice.create(title)["id"] for title in ("aa", page.json()["tasks"][-1]["title"], "zz")]
        for task_id in {seen[-1], fleeting[number]} - {*stay}:
            alice.request("DELETE", task_id)
        if number > 50:
            break
    assert len(seen) == len(set(seen))
    assert {*stay} <= {*seen}


# --- cursors


def test_a_cursor_is_only_valid_for_its_sort_and_filter(alice: Client) -> None:
    for _ in range(3):
        alice.create("None milk", complete=True)
    queries: list[dict[str, Any]] = [
        *({"sort": sort} for sort in SORTS), {}, {"complete": "true"}, {"q": "m"}, {"q": "M"}, {"q": "None"},
        {"q": "m", "complete": "true"}, {"sort": "title", "q": "m"},
    ]  # fmt: skip
    for made_for, used_for in product(queries, queries):
        cursor = cursor_of(listed(alice, limit=1, **made_for))
        if made_for == used_for:
            assert len(listed(alice, cursor=cursor, **used_for).json()["tasks"]) == 2
        else:
            assert_refused(alice, "cursor", urlencode(used_for | {"cursor": cursor}))


def test_a_cursor_may_be_used_with_another_limit_and_by_every_user(alice: Client, mallory: Client) -> None:
    for _ in range(4):
        alice.create()
    cursor = cursor_of(listed(alice, limit=1))
    assert len(listed(alice, cursor=cursor, limit=3).json()["tasks"]) == 3
    assert listed(mallory, cursor=cursor).json() == {"tasks": [], "count": 0}


def test_a_cursor_behind_the_longest_titles_works(alice: Client) -> None:
    titles = ["\u0001" * 199 + end for end in "ab"] + ["🧀" * 200, '"\\' * 100]
    for title in titles:
        alice.create(title)
    assert [task["title"] for task in walk(alice, sort="title", limit=1)] == sorted(titles)


@ONCE
@pytest.mark.parametrize(
    "text",
    [
        "", "=", "A", "AA", "AAA=", "====", "%00", "%FF", "%C3%A4", "null", "W10", "e30", "MQ", "W1tbXV1d", "W" * 2048,
        "+/+/", "-_-_", "%20W10", "W10%0A", "W1%201", "W10=W10", "W10%3D%3D%3D", "WzEsMiwzLDRd", "WzEsMl0",
    ],
)  # fmt: skip
def test_a_text_that_is_not_a_cursor_gets_422(alice: Client, text: str) -> None:
    assert_refused(alice, "cursor", f"cursor={text}")
    for sort in SORTS:
        assert_refused(alice, "cursor", f"cursor={text}&sort={sort}")


def _forged(genuine: str, *parts: object) -> str:
    """Returns a cursor with the parts of a client's choice behind the first part of a genuine one."""
    first, *_ = json.loads(urlsafe_b64decode(genuine + "=" * (-len(genuine) % 4)))
    return urlsafe_b64encode(json.dumps([first, *parts]).encode()).rstrip(b"=").decode()


@pytest.fixture
def genuine(alice: Client) -> dict[str | None, str]:
    """A cursor for each order."""
    alice.create()
    alice.create()
    return {sort: cursor_of(listed(alice, limit=1, sort=sort)) for sort in (None, *SORTS)}


def _is_answered(client: Client, sort: str | None, cursor: str) -> bool:
    """Asserts that a forged cursor does no harm, and returns whether it was accepted."""
    response = client.request("GET", params={"cursor": cursor} | ({"sort": sort} if sort else {}))
    if response.status_code == 200:
        assert response.json()["count"] == 2
        return True
    problem = assert_problem(response, 422, "VALIDATION_ERROR")
    assert problem["errors"][0]["loc"] == ["query", "cursor"]
    return False


BAD_IDS = [0, -1, 2**63, 2**64, 10**400, 1.0, 1.5, "1", None, True, [], {}, [1], "\x00"]
BAD_TIMES = [
    "", "now", "2026", "2026-13-01", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "10000-01-01", "\x00",
    "2026-02-30T00:00:00+00:00", "2026-11-21T10:30:00+24:00", "2026-11-21T25:00:00Z", "-0001-01-01", "\ud800", "infinity",
    0, 1.5, None, True, [], {}, 10**400,
]  # fmt: skip
BAD_TITLES = ["\x00", "a\x00b", "x" * 201, "\ud800", 0, 1.5, None, False, [], {"a": 1}, 10**400]


def test_a_forged_cursor_gets_422(alice: Client, genuine: dict[str | None, str]) -> None:
    good: dict[str | None, object] = {
        None: None,
        **dict.fromkeys(SORTS[:4], "2026-11-21T10:30:00Z"),
        "title": "a",
        "-title": "a",
    }
    bad: dict[str | None, list[Any]] = dict.fromkeys(SORTS[:4], BAD_TIMES)
    bad |= {None: [], "title": BAD_TITLES, "-title": BAD_TITLES}
    for sort, cursor in genuine.items():
        assert _is_answered(alice, sort, _forged(cursor, good[sort], 1))
        for value in bad[sort]:
            assert not _is_answered(alice, sort, _forged(cursor, value, 1)), value
        for task_id in BAD_IDS:
            assert not _is_answered(alice, sort, _forged(cursor, good[sort], task_id)), task_id
        for parts in ([], [good[sort]], [good[sort], 1, 1]):
            assert not _is_answered(alice, sort, _forged(cursor, *parts)), parts


@pytest.mark.parametrize(
    "time",
    [
        "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999+23:59", "0001-01-01T00:00:00-23:59", "0001-01-01T00:00:00Z",
        "0001-01-01", "0001-01-01T00:00:00", "9999-12-31T23:59:59.999999", "9999-12-31T23:59:59.999999-00:01",
        "0001-01-01T00:00:00+00:01", "2026-11-21", "2026-11-21T10:30:00", "20261121T103000Z", "2026-W47-6",
        "2026-11-21T10:30:00,5+00:00:30", "2026-11-21T10:30:00+23:59:59.999999",
    ],
)  # fmt: skip
def test_a_cursor_with_any_time_is_never_a_server_error(
    alice: Client, genuine: dict[str | None, str], time: str
) -> None:
    for sort in SORTS[:4]:
        _is_answered(alice, sort, _forged(genuine[sort], time, 1))


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.datetimes().map(str)
    | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
_FORGED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_FORGED
@given(sort=st.sampled_from([None, *SORTS]), value=_JSON, task_id=_JSON | st.integers(1, 2**63 - 1))
@example("created_at", "9999-12-31T23:59:59-23:59", 1)
@example("title", "\U0010ffff" * 200, 2**63 - 1)
def test_a_cursor_with_any_values_is_never_a_server_error(
    alice: Client, genuine: dict[str | None, str], sort: str | None, value: object, task_id: object
) -> None:
    _is_answered(alice, sort, _forged(genuine[sort], value, task_id))


@ONCE
@_FORGED
@given(st.sampled_from([None, *SORTS]), st.binary(max_size=40) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_a_cursor_of_any_bytes_is_never_a_server_error(
    alice: Client, genuine: dict[str | None, str], sort: str | None, content: bytes
) -> None:
    _is_answered(alice, sort, urlsafe_b64encode(content).decode())
    _is_answered(alice, sort, content.decode("latin-1"))


# --- HEAD


@pytest.mark.parametrize("query", ["", "?limit=1", "?q=milk", "?sort=title&limit=1", "?offset=7"])
def test_head_of_a_list_has_the_headers_of_get(alice: Client, query: str) -> None:
    alice.create()
    alice.create()
    own = {"date", "x-request-id"}
    for path in (f"{alice.home}{query}", f"{alice.home}/{query}"):
        get, head = alice.request("GET", path), alice.request("HEAD", path)
        assert (head.status_code, head.content) == (200, b"")
        assert {name: value for name, value in head.headers.items() if name not in own} == {
            name: value for name, value in get.headers.items() if name not in own
        }
        assert links(head).keys() == {"": set(), "?q=milk": set(), "?offset=7": {"first"}}.get(query, {"next", "first"})
