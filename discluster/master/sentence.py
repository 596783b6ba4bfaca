# SPDX-License-Identifier: Apache-2.0
"""How the fleet is, in one sentence. Pure."""

from collections import Counter

from discluster.console import IdentifyStatus
from discluster.master.identify.ledger import NO_BUDGET
from discluster.messages import ShardState


def state_in_words(
    states: Counter[ShardState],
    *,
    count: int,
    ready: int,
    away: int,
    identify: IdentifyStatus,
    waiting: str | None,
) -> str:
    """``14 of 16 shards ready, 2 waiting for their turn to identify``. ``states``: of the shards on
    hosts that are there; ``away``: shards on others; ``waiting``: what is waited for, in words.
    """
    if ready == count:
        return f"all {count} shards ready" + (f"; {waiting}" if waiting else "")
    counts = [
        (states["waiting"], _waiting_for(identify)),
        (states["identifying"], "identifying"),
        (states["resuming"], "resuming"),
        (states["backoff"], "pausing before they try again"),
        (states["held"], "held back"),
        (states["fatal"], "rejected by Discord"),
        (states["dialing"] + states["hello"] + states["idle"], "connecting"),
        (states["closing"], "closing"),
        (away, "on hosts out of touch"),
    ]
    details = [f"{number} {words}" for number, words in counts if number]
    unseen = count - ready - sum(number for number, _ in counts)
    if unseen > 0:
        details.append(f"{unseen} not running")
    told = [f"{ready} of {count} shards ready", ", ".join(details), waiting or ""]
    return "; ".join(words for words in told if words)


def _waiting_for(identify: IdentifyStatus) -> str:
    if identify.blocked is not None and identify.blocked.startswith(NO_BUDGET):
        return identify.blocked
    return "waiting for their turn to identify"
