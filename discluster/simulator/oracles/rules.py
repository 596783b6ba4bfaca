# SPDX-License-Identifier: Apache-2.0
"""What the gateway noted on the spot: O-03, O-04, O-05, O-10, O-11, and STRICT for the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from discluster.simulator import ledger
from discluster.simulator.oracles.evidence import Evidence
from discluster.simulator.oracles.verdict import Limits, Verdict

_ORACLES: Final = {
    "budget-exhausted": "O-03",
    "identify-on-resume-host": "O-04",
    "resume-parameters": "O-04",
    "invalid-seq": "O-05",
    "send-rate": "O-10",
    "payload-size": "O-10",
    "heartbeat-missed": "O-11",
}


def rules_are_kept(evidence: Evidence, limits: Limits, now: float) -> Iterator[Verdict]:
    """Each violation is a verdict.

    O-10 is a sliding minute and 4096 bytes at the simulator's door, as with Discord: a client
    leaves room for what the way there squeezes together.
    """
    impaired = evidence.impaired()
    for record in evidence.of(ledger.Violation):
        oracle = _ORACLES.get(record.rule, "STRICT")
        if oracle == "O-11" and record.connection in impaired:
            continue
        text = f"{record.rule}: {record.text}"
        yield Verdict(oracle=oracle, text=text, records=[record.n])
