# SPDX-License-Identifier: Apache-2.0
"""What this host may identify without MASTER: told by MASTER, kept on disk, counted here.

MASTER has taken it off what it spends itself, so it needs not be asked. An identify is counted, and
the count stored, before its permit leaves, so that no restart forgets one.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from discluster.clock import DAY, Clock, SteadyWall, in_words
from discluster.decoding import DECODE_ERRORS
from discluster.errors import DisclusterError
from discluster.files import read_if_there, write_atomically
from discluster.messages import Allowance, AllowanceReport

log = logging.getLogger(__name__)

# By so much this machine's clock may run ahead until the reset.
_MARGIN: Final = 60.0


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """An allowance and what was spent of it. ``resets_at``: wall clock, seconds. ``spent``: since
    it was told. ``times``: of the last 24 hours, also under those before it.
    """

    serial: int = 0
    limit: int = 0
    daily: int = 0
    resets_at: float = 0.0
    spent: int = 0
    times: tuple[float, ...] = ()

    def left(self, now: float) -> int:
        """How many may be spent now.

        After the reset it is so many in any 24 hours: Discord's day begins with the first identify
        of the fleet, which nobody told us of.
        """
        if self._before_reset(now):
            return max(0, self.limit - self.spent)
        return max(0, self.daily - len(self._lately(now)))

    def after_one(self, now: float) -> "Share":
        """One more was spent."""
        times = (*self._lately(now), now)
        return msgspec.structs.replace(self, spent=self.spent + 1, times=times)

    def without_last(self) -> "Share":
        """The last one was not used."""
        return msgspec.structs.replace(self, spent=self.spent - 1, times=self.times[:-1])

    def after(self, told: Allowance, now: float) -> "Share":
        """MASTER told another one."""
        return Share(
            serial=told.serial,
            limit=told.identifies,
            daily=told.daily,
            resets_at=now + told.resets_in,
            times=self._lately(now),
        )

    def why_none(self, now: float) -> str:
        """That nothing is left, in words."""
        if self.serial == 0:
            return (
                "MASTER is away, and has not told this host how many identifies it may spend"
                " without it"
            )
        begin = "MASTER is away and this host's share of the identify budget is used: 0 of"
        if self._before_reset(now):
            resets = in_words(self.resets_at + _MARGIN - now)
            return f"{begin} {self.limit} left, resets in {resets}"
        lately = self._lately(now)
        again = f", the next one in {in_words(lately[0] + DAY - now)}" if lately else ""
        return f"{begin} {self.daily} a day left{again}"

    def _before_reset(self, now: float) -> bool:
        return now < self.resets_at + _MARGIN

    def _lately(self, now: float) -> tuple[float, ...]:
        return tuple(time for time in self.times if time > now - DAY)


class ShareFile:
    """Where the share is kept."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Share:
        """A file that cannot be read is told, and counts as none: MASTER then takes all for spent
        that it had allowed.
        """
        try:
            text = read_if_there(self._path)
            return msgspec.json.decode(text, type=Share) if text is not None else Share()
        except (DisclusterError, *DECODE_ERRORS) as error:
            log.error(
                "%s cannot be read, so this host identifies nothing without MASTER until MASTER has"
                " told it anew: %s",
                self._path,
                error,
            )
            return Share()

    def save(self, share: Share) -> None:
        """Raises StateError."""
        write_atomically(self._path, msgspec.json.encode(share), mode=0o600)


class Purse:
    """The share of this host, and what is spent of it."""

    def __init__(self, share: Share, *, save: Callable[[Share], None], clock: Clock) -> None:
        """``save``: may raise StateError."""
        self._share = share
        self._save = save
        self._wall = SteadyWall(clock)
        self._reported = share.spent

    def refusal(self) -> str | None:
        """Why nobody may identify without MASTER, in words; None if somebody may."""
        now = self._wall.now()
        return None if self._share.left(now) > 0 else self._share.why_none(now)

    def spend(self) -> bool:
        """Takes one; False if none is left, or it cannot be written down."""
        now = self._wall.now()
        return self._share.left(now) > 0 and self._keep(self._share.after_one(now))

    def give_back(self) -> None:
        """One that was taken was not used; in vain if MASTER was told of it."""
        if self._share.spent > self._reported:
            self._keep(self._share.without_last())

    def take(self, told: Allowance) -> AllowanceReport | None:
        """Follows what MASTER allows from now on; the answer, None if it cannot be written down."""
        if told.serial <= self._share.serial:
            return self.report()
        return self.report() if self._keep(self._share.after(told, self._wall.now())) else None

    def report(self) -> AllowanceReport:
        """For MASTER, at once: from now on it counts as told."""
        share = self._share
        self._reported = share.spent
        return AllowanceReport(
            serial=share.serial,
            identifies=share.limit,
            resets_in=share.resets_at - self._wall.now(),
            daily=share.daily,
            spent=share.spent,
        )

    def _keep(self, share: Share) -> bool:
        try:
            self._save(share)
        except DisclusterError as error:
            log.error("no identify without MASTER: %s", error.render())
            return False
        self._share = share
        return True
