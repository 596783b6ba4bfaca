# SPDX-License-Identifier: Apache-2.0
"""Invariants of a good client, checked on what really arrived and not on what it says. Pure.

Each oracle is a function from evidence (the ledger of one bot) to verdicts; none at all is a good
judgement. Times in records are simulated seconds; where an oracle speaks of what a network or a
processor takes, it converts to real ones, so that neither compressed time nor a loaded machine
makes a good client a bad one (see Limits).

    identifying    O-01 spacing, O-02 order of buckets (soft), O-03 budget
    resuming       O-05 living sessions are resumed, from the right sequence
    sessions       O-06 after INVALID_SESSION, O-09 one connection, O-12 close codes
    dialling       O-07 after a terminal refusal, O-08 rate of dials
    heartbeats     O-11
    rules          O-04, O-10 and others that the gateway notes on the spot
    conservation   O-13, with the consumer's counts
    recovery       O-14 times, O-18 all shards come back
    processes      O-15, on samples of the client's process
    leaks          O-16, on the client's outputs
    health         O-17, with the client's claims
    judgement      all of them on one ledger
"""

from discluster.simulator.oracles.conservation import Consumed, events_are_conserved
from discluster.simulator.oracles.heartbeats import uniform_distance
from discluster.simulator.oracles.judgement import Claims, judge, report_all
from discluster.simulator.oracles.leaks import secrets_are_kept
from discluster.simulator.oracles.processes import (
    ProcessSample,
    resources_are_flat,
    sample_process,
)
from discluster.simulator.oracles.recovery import Gaps, Recovery, Report
from discluster.simulator.oracles.verdict import Limits, Verdict

__all__ = [
    "Claims",
    "Consumed",
    "Gaps",
    "Limits",
    "ProcessSample",
    "Recovery",
    "Report",
    "Verdict",
    "events_are_conserved",
    "judge",
    "report_all",
    "resources_are_flat",
    "sample_process",
    "secrets_are_kept",
    "uniform_distance",
]
