"""How an operator writes a rate, such as `200/second`, and the URL of the Redis that counts requests."""

import re
from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import SplitResult, parse_qs, urlsplit

from pydantic import SecretStr

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_RATE = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour|day)")
_DATABASE = re.compile(r"/?|/[0-9]{1,5}")

_EXAMPLE = "redis://user:password@host:6379/0"

# Other parameters would change timeouts or retries, and a misspelt one would fail at the first request instead of at
# the start.
_PARAMETERS = {"ssl_ca_certs": re.compile(".+"), "ssl_cert_reqs": re.compile("none|optional|required")}


@dataclass(frozen=True, slots=True)
class Rate:
    """A number of requests in a unit of time."""

    amount: int
    unit: str

    @property
    def seconds(self) -> int:
        """The length of the unit."""
        return _SECONDS[self.unit]

    def __str__(self) -> str:
        return f"{self.amount}/{self.unit}"


def parse_rate(text: object) -> Rate:
    """Returns the rate that `text` means.

    Raises:
        ValueError: It is not a rate.
    """
    match = _RATE.fullmatch(str(text))
    if match is None:
        raise ValueError("is not a rate; write a number and second, minute, hour or day, such as 200/second")
    return Rate(int(match[1]), match[2])


def check_redis_url(url: SecretStr) -> SecretStr:
    """Returns `url` if it is the URL of a Redis, and if the client of Redis is installed.

    Raises:
        ValueError: It is not. The message contains no part of the URL, because any part can be a password.
    """
    parts = _split(url.get_secret_value())
    if parts is None or not parts.hostname or not _DATABASE.fullmatch(parts.path) or parts.fragment:
        raise ValueError(f"is not a URL such as {_EXAMPLE}; percent-encode the password")
    if parts.scheme not in {"redis", "rediss"}:
        raise ValueError("must begin with redis://, or with rediss:// for TLS")
    for name, values in parse_qs(parts.query, keep_blank_values=True).items():
        if name not in _PARAMETERS:
            raise ValueError(f"has a parameter other than {' and '.join(_PARAMETERS)}; remove it")
        if len(values) > 1 or not _PARAMETERS[name].fullmatch(values[0]):
            raise ValueError(f"has an unusable {name}")
    if find_spec("redis") is None:
        raise ValueError("needs the client of Redis; install it: pip install 'taskwell[redis]'")
    return url


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts
