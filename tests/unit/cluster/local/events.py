# SPDX-License-Identifier: Apache-2.0
"""Events as a shard hands them over, and a look at the frames that are made of them."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from discluster.cluster.local.entries import Frame
from discluster.cluster.local.framing import payload
from discluster.gateway.events import Event

SESSION = "5e551011"


def event(
    seq: int, name: str = "MESSAGE_CREATE", *, session: str = SESSION, shard: int = 0, size: int = 0
) -> Event:
    """``size``: bytes of text in its body."""
    body = msgspec.json.encode({"id": str(seq), "content": "x" * size})
    return Event(shard, seq, name, msgspec.Raw(body), session)


def run(seqs: Iterable[int], *, session: str = SESSION, shard: int = 0) -> list[Event]:
    """Messages with these sequences."""
    return [event(seq, session=session, shard=shard) for seq in seqs]


def opened(frame: Frame) -> dict[str, Any]:
    """The payload of a frame."""
    found: dict[str, Any] = json.loads(bytes(payload(frame)))
    return found


def positions(frames: Sequence[Frame]) -> list[int]:
    """``s`` of each."""
    return [opened(frame)["s"] for frame in frames]
