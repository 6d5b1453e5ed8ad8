"""What the verification of tokens counts, in one place, ready for a metrics exporter."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class AuthMetrics:
    """Counts since the process started."""

    cache_hits: int = 0
    cache_misses: int = 0
    fetches: Counter[str] = field(default_factory=Counter[str])
    """Fetches of the key set by outcome: `ok`, `FetchFailed`, `InvalidKeySet`."""
    refusals: Counter[str] = field(default_factory=Counter[str])
    """Refused tokens by `taskwell.auth.tokens.Cause`."""
