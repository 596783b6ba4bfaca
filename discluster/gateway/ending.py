# SPDX-License-Identifier: Apache-2.0
"""Why a connection is over."""

from typing import Final, Literal

import msgspec

Cause = Literal[
    "dial",  # there was no connection: the dial failed
    "closed",  # Discord closed it, or it broke
    "reconnect",  # op 7
    "invalid",  # op 9
    "zombie",  # Discord does not answer any more
    "deadline",  # Discord answers, but not with what it owes
    "garbled",  # what Discord sends cannot be read
    "lease",  # the shard may be somebody else's by now
    "renewed",  # we want a new session
]


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """``text``: in words. ``code``: close code of "closed". ``resumable``: the ``d`` of op 9."""

    cause: Cause
    text: str
    code: int | None = None
    resumable: bool = False


LEASE_OVER: Final = Ending(cause="lease", text="its lease ended: it may be somebody else's by now")


def renewed(why: str) -> Ending:
    """The session is given up on purpose."""
    return Ending(cause="renewed", text=f"its session is given up for a new one: {why}")
