"""The origins of pages that may call the API, and the `Origin` headers that match them.

An entry is an origin as browsers send it (https://html.spec.whatwg.org/multipage/browsers.html#ascii-serialisation-of-an-origin),
such as `https://app.example`, `http://localhost:3000` or `capacitor://localhost`. Or it is a pattern such as
`https://*.app.example`, in which `*` stands for exactly one label of the host name.
"""

import re
from collections.abc import Callable, Iterable

_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([1-9][0-9]{0,4}))?")
_PATTERN = re.compile(rf"https://\*((?:\.{_LABEL})+\.[a-z][a-z0-9-]*)(?::([1-9][0-9]{{0,4}}))?")
_MAX_PORT = 65535
_DEFAULT_PORTS = {"https": "443", "http": "80"}

# Pages of these schemes send `Origin: null`, like every sandboxed frame, so an entry for them could never match.
_OPAQUE_SCHEMES = ("about", "blob", "data", "file", "javascript")
# Anybody can publish a page one label below these domains.
_SHARED_DOMAINS = (
    *("amplifyapp.com", "azurestaticapps.net", "azurewebsites.net", "cloudfront.net", "deno.dev", "firebaseapp.com"),
    *(
        "fly.dev",
        "github.io",
        "gitlab.io",
        "herokuapp.com",
        "lovable.app",
        "netlify.app",
        "ngrok-free.app",
        "ngrok.app",
    ),
    *("onrender.com", "pages.dev", "replit.app", "surge.sh", "trycloudflare.com", "up.railway.app", "vercel.app"),
    *("web.app", "workers.dev"),
)

_REMEDY = "write the scheme and host as the browser does, like https://app.example or https://*.app.example"


def check_origin(entry: str) -> str:
    """Returns `entry` if it is an origin or a pattern.

    Raises:
        ValueError: It is neither, so no `Origin` header could match it, or it is a pattern that admits anybody's pages.
    """
    if pattern := _PATTERN.fullmatch(entry):
        domain, port = pattern.groups()
        if domain.removeprefix(".") in _SHARED_DOMAINS:
            raise ValueError(f"would admit every page under {domain[1:]}, where anybody can publish; name your project")
        scheme = "https"
    elif origin := _ORIGIN.fullmatch(entry):
        scheme, _, port = origin.groups()
    else:
        raise ValueError(f"is not an origin; {_REMEDY}")
    if scheme in _OPAQUE_SCHEMES:
        raise ValueError(f'is not an origin: browsers send "null" for pages of the scheme {scheme}')
    if port is not None and (int(port) > _MAX_PORT or port == _DEFAULT_PORTS.get(scheme)):
        raise ValueError(f"is not an origin: correct its port, or leave it out; {_REMEDY}")
    return entry


def origin_matcher(entries: Iterable[str]) -> Callable[[str], bool]:
    """Returns a function that decides whether an `Origin` header matches one of the checked `entries`."""
    # An entry with a star is a pattern: `check_origin` admits no other star.
    expressions = [re.escape(entry).replace(r"\*", _LABEL) for entry in entries]
    anyone = re.compile("|".join(expressions) or r"(?!)")
    return lambda origin: anyone.fullmatch(origin) is not None
