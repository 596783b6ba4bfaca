# SPDX-License-Identifier: Apache-2.0
"""Messages that are all different, as a client's decompressor meets them on a large bot."""

from __future__ import annotations

import random
from typing import Any, Final

from discluster.simulator import bodies
from discluster.simulator.templates import Template

# More text than any compression window holds, so that no event can refer to its earlier self.
SIZE: Final = 2000
_VOCABULARY: Final = 6000


def chatter(rng: random.Random) -> list[Template]:
    """SIZE variants of MESSAGE_CREATE."""
    words = _vocabulary(rng)
    made = (_chat(rng, words) for _ in range(SIZE))
    return [
        Template(
            "MESSAGE_CREATE",
            bodies.counted(body),
            bodies.counted(bodies.without_content(body)),
        )
        for body in made
    ]


def _vocabulary(rng: random.Random) -> list[str]:
    """Words of a made-up language, the frequent ones first."""
    vowels, consonants = "aeiou", "bcdfghklmnprstvw"
    return [
        "".join(rng.choice(consonants) + rng.choice(vowels) for _ in range(rng.randrange(1, 5)))
        for _ in range(_VOCABULARY)
    ]


def _chat(rng: random.Random, words: list[str]) -> dict[str, Any]:
    """MESSAGE_CREATE as a large bot sees it, hardly ever of the same author twice.

    Its entropy is that of real ones: ids, hashes, and text whose words are drawn by Zipf's law,
    so that zlib and zstd shrink it about four times.
    """
    drawn = [words[int(_VOCABULARY ** rng.random()) - 1] for _ in range(rng.randrange(1, 6))]
    drawn += [f"<@{_snowflake(rng)}>" for _ in range(rng.randrange(1, 4))]
    moment = f"{rng.randrange(10**9):09}"
    author = {
        **bodies.user(rng),
        "id": _snowflake(rng),
        "username": "".join(rng.choices(words, k=2)),
        "global_name": rng.choice((None, rng.choice(words).title())),
        "avatar": _hash(rng),
    }
    return {
        **bodies.message(rng, edited=False),
        "timestamp": f"2026-05-17T12:{rng.randrange(60):02}:0{moment[2]}.{moment[3:]}+00:00",
        "nonce": _snowflake(rng),
        "mentions": [],
        "member": {
            **bodies.member(rng),
            "avatar": rng.choice((None, _hash(rng))),
            "roles": [_snowflake(rng) for _ in range(rng.randrange(2, 5))],
            "joined_at": f"202{moment[8]}-0{rng.randrange(1, 10)}-11T18:03:25.{moment[:6]}+00:00",
        },
        "content": " ".join(drawn),
        "channel_id": _snowflake(rng),
        "author": author,
    }


def _snowflake(rng: random.Random) -> str:
    """An id of any time and place."""
    return str(rng.randrange(10**17, 14 * 10**17))


def _hash(rng: random.Random) -> str:
    return f"{rng.getrandbits(128):032x}"
