# SPDX-License-Identifier: Apache-2.0
"""A ledger without a disk, and a Discord that counts, for tests of the budget."""

from pathlib import Path

from discluster.clock import DAY, Clock
from discluster.master.identify.ledger import IdentifyLedger
from discluster.master.settings import MasterSettings
from discluster.master.store import MasterStore, Remembered


class MemoryStore(MasterStore):
    """Outlives a ledger as a disk does."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"))
        self.kept = Remembered()

    def remembered(self) -> Remembered:
        return self.kept

    def remember(self, facts: Remembered) -> None:
        self.kept = facts


class DailyCount:
    """Discord's: a day begins with the first identify after a reset."""

    def __init__(self, total: int) -> None:
        self.total = self.left = total
        self.ends: float | None = None

    def look(self, now: float) -> tuple[int, float]:
        """What is left, and seconds until the reset."""
        if self.ends is not None and now >= self.ends:
            self.left, self.ends = self.total, None
        return self.left, 0.0 if self.ends is None else self.ends - now

    def identify(self, now: float) -> None:
        self.look(now)
        self.left -= 1
        if self.ends is None:
            self.ends = now + DAY


def ledger(clock: Clock, store: MasterStore | None = None, **changed: object) -> IdentifyLedger:
    """``changed``: settings of MASTER."""
    settings = MasterSettings(**changed)  # type: ignore[arg-type]
    return IdentifyLedger(settings=settings, store=store or MemoryStore(), clock=clock)
