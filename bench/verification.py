"""Measures the CPU time of verifying a token, for each algorithm, the first time and from the cache.

The algorithms take turns in each round.

Run: .venv/bin/python bench/verification.py
"""

import asyncio
import statistics
import sys
import time
from pathlib import Path

from taskwell.auth.jwks import parse_key_set
from taskwell.auth.keys import Key, Keys, SharedSecret, UnknownKey
from taskwell.auth.tokens import Verifier

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import json

from support.tokens import Signer, jwk, private_key

ROUNDS = 4
TOKENS = 400
SECRET = "a-secret-of-the-benchmark-and-of-nothing-else"


class OneKey:
    """A cached key set with one key."""

    ready = True

    def __init__(self, key: Key) -> None:
        self._key = key

    def cached(self, kid: str | None) -> Key | None:
        return self._key if kid == "k" else None

    async def get(self, kid: str | None) -> Key:
        if key := self.cached(kid):
            return key
        raise UnknownKey


def algorithms() -> dict[str, tuple[Keys, Signer]]:
    built: dict[str, tuple[Keys, Signer]] = {"HS256": (SharedSecret(SECRET), Signer("HS256", SECRET.encode()))}
    for alg in ("EdDSA", "ES256", "RS256"):
        key = private_key(alg)
        key_set = parse_key_set(json.dumps({"keys": [jwk(key, kid="k")]}).encode())
        built[alg] = (OneKey(key_set["k"]), Signer(alg, key, {"kid": "k"}))
    return built


async def microseconds(verifier: Verifier, tokens: list[str]) -> float:
    started = time.process_time_ns()
    for token in tokens:
        await verifier.verify(token)
    return (time.process_time_ns() - started) / 1000 / len(tokens)


async def main() -> None:
    results: dict[str, tuple[list[float], list[float]]] = {}
    built = algorithms()
    tokens = {alg: [signer.token(f"user {n}") for n in range(TOKENS)] for alg, (_, signer) in built.items()}
    for _ in range(ROUNDS):
        for alg, (keys, _) in built.items():
            verifier = Verifier(keys)
            first, cached = results.setdefault(alg, ([], []))
            first.append(await microseconds(verifier, tokens[alg]))
            cached.append(await microseconds(verifier, tokens[alg]))
    print(f"CPU microseconds per token, median of {ROUNDS} rounds (each round)")
    for alg, (first, cached) in results.items():
        rounds = " ".join(f"{value:.0f}" for value in first), " ".join(f"{value:.1f}" for value in cached)
        print(
            f"{alg:6} verified {statistics.median(first):6.1f} ({rounds[0]})   cached {statistics.median(cached):5.2f} ({rounds[1]})"
        )


asyncio.run(main())
