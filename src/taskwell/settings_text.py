"""Finds mistakes in the text of a setting that the setting's type cannot detect.

They happen before the text reaches the environment: `docker --env-file` keeps quotes and comments, a file adds a line
break, a template is not filled in. Without these checks, the service would start and then refuse every token.
"""

import re

_QUOTES = ('""', "''", "``", "\u201c\u201d", "\u2018\u2019")
_COMMENT = re.compile(r"\s#")
_VARIABLE = re.compile(r"\$\{[A-Za-z_]\w*\}|\$\([A-Za-z_]\w*\)|\{\{.*\}\}")


def flaw_of_secret(secret: str) -> str | None:
    """Returns what is wrong with the text of a secret, or None.

    White space is never removed: only the operator knows whether it belongs to the secret.
    """
    if secret != secret.strip():
        return "begins or ends with white space or a line break; remove it"
    if flaw := _flaw(secret, secret):
        return flaw
    return None if secret.isprintable() else "has an invisible character; type the secret again, or make a new one"


def flaw_of_url(url: str) -> str | None:
    """Returns what is wrong with the text of a database URL, or None. Its parser removes quotes."""
    return _flaw(url)


def flaw_of_value(value: str) -> str | None:
    """Returns what is wrong with the text of any other setting, or None. Remove white space around it first."""
    if value.startswith("["):
        return "is a JSON list; write the values with commas between them"
    if flaw := _flaw(value, value, *(entry.strip() for entry in value.split(","))):
        return flaw
    return None if value.isprintable() else "has an invisible character; remove it"


def _flaw(text: str, *unquoted: str) -> str | None:
    if any(len(part) > 1 and part[0] + part[-1] in _QUOTES for part in unquoted):
        return "is in quotes; remove them"
    if _COMMENT.search(text):
        return "has a comment after the value; remove the comment"
    if _VARIABLE.search(text):
        return "contains a variable such as ${NAME}, which is not replaced here; write the value itself"
    return None
