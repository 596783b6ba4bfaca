# SPDX-License-Identifier: Apache-2.0
"""Running totals over the ledger, which itself forgets its oldest records."""

from __future__ import annotations

from collections import Counter

from discluster.simulator import ledger


class Tally:
    """Counts records by kind, closes by their code, and the least gap between IDENTIFYs."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.closes: Counter[str] = Counter()
        self.identifies_rejected = 0
        self.identify_gap_min: float | None = None

    def add(self, record: ledger.Record) -> None:
        """Count one record."""
        self.kinds[record.kind] += 1
        if isinstance(record, ledger.Close):
            self.closes[record.by if record.code is None else f"{record.by}:{record.code}"] += 1
        elif isinstance(record, ledger.Identify):
            self.identifies_rejected += not record.accepted
            if record.gap is not None:
                least = self.identify_gap_min
                self.identify_gap_min = record.gap if least is None else min(least, record.gap)
