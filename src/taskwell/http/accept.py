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


def preferred(accept: Sequence[str], media_types: Sequence[str]) -> str:
    """Returns the media type with the highest weight in the values of `Accept`.

    Among equal weights, a type that is named comes before one that only a wildcard includes, and then the first comes
    first. If none is acceptable, returns the first.
    """
    weight = weights(accept)
    return max(media_types, key=lambda media_type: _rank(media_type, weight))


def _rank(media_type: str, weight: dict[str, float]) -> tuple[float, int]:
    # From the most to the least specific. The most specific range counts.
    ranges = [media_type, media_type.partition("/")[0] + "/*", "*/*"]
    place = next((place for place, name in enumerate(ranges) if name in weight), None)
    return (0, 0) if place is None or not weight[ranges[place]] else (weight[ranges[place]], -place)


def _weight(media_range: str) -> float:
    found = _WEIGHT.search(media_range)
    return float(found[1]) if found else 1
