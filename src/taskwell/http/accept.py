"""The preferences of a client: the `Accept` header (RFC 9110, section 12.5.1)."""

import re
from collections.abc import Sequence

_WEIGHT = re.compile(r";\s*q=(0(?:\.[0-9]*)?|1(?:\.0*)?)\s*(?:;|$)")


def weights(accept: Sequence[str]) -> dict[str, float]:
    """Returns the weight of each media range in the values of `Accept`, from 0 (not acceptable) to 1.

    Other parameters of a range are ignored. A weight that is missing or malformed is 1.
    """
    parts = [part.strip().lower() for value in accept for part in value.split(",")]
    return {part.partition(";")[0].rstrip(): _weight(part) for part in parts}


def _weight(media_range: str) -> float:
    found = _WEIGHT.search(media_range)
    return float(found[1]) if found else 1
