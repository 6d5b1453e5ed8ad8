"""What verifying a token costs: each kind, the first time and again, in rounds that take turns.

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
    """A key set of one key, at hand."""

    ready = True

    def __init__(self, key: Key) -> None:
        self._key = key

    def cached(self, kid: str | None) -> Key | None:
        return self._key if kid == "k" else None

    async def get(self, kid: str | None) -> Key:
        if key := self.cached(kid):
            return key
        raise UnknownKey


def subjects() -> dict[str, tuple[Keys, Signer]]:
    made: dict[str, tuple[Keys, Signer]] = {"HS256": (SharedSecret(SECRET), Signer("HS256", SECRET.encode()))}
    for alg in ("EdDSA", "ES256", "RS256"):
        key = private_key(alg)
        key_set = parse_key_set(json.dumps({"keys": [jwk(key, kid="k")]}).encode())
        made[alg] = (OneKey(key_set["k"]), Signer(alg, key, {"kid": "k"}))
    return made


async def microseconds(verifier: Verifier, tokens: list[str]) -> float:
    started = time.process_time_ns()
    for token in tokens:
        await verifier.verify(token)
    return (time.process_time_ns() - started) / 1000 / len(tokens)


async def main() -> None:
    results: dict[str, tuple[list[float], list[float]]] = {}
    made = subjects()
    tokens = {alg: [signer.token(f"user {n}") for n in range(TOKENS)] for alg, (_, signer) in made.items()}
    for _ in range(ROUNDS):
        for alg, (keys, _) in made.items():
            verifier = Verifier(keys)
            first, again = results.setdefault(alg, ([], []))
            first.append(await microseconds(verifier, tokens[alg]))
            again.append(await microseconds(verifier, tokens[alg]))
    print(f"CPU microseconds per token, median of {ROUNDS} rounds (each round)")
    for alg, (first, again) in results.items():
        rounds = " ".join(f"{value:.0f}" for value in first), " ".join(f"{value:.1f}" for value in again)
        print(
            f"{alg:6} verified {statistics.median(first):6.1f} ({rounds[0]})   again {statistics.median(again):5.2f} ({rounds[1]})"
        )


asyncio.run(main())
