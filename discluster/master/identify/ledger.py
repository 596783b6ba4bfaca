# SPDX-License-Identifier: Apache-2.0
"""What the fleet has identified, and what it still may: budget, allowances and guard, on disk.

A permit is counted, and the count stored, before it leaves MASTER, and taken off again when it
comes back unused: so whichever process is killed, the count is never too low.
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

from discluster.clock import Clock, SteadyWall, in_words
from discluster.master.identify import allowances, budget
from discluster.master.identify.allowances import Allowances, Grants, Told
from discluster.master.identify.budget import Budget
from discluster.master.identify.guard import LoopGuard, Stop
from discluster.master.settings import MasterSettings
from discluster.master.store import MasterStore, Remembered
from discluster.messages import Allowance, AllowanceReport

log = logging.getLogger(__name__)

# A MASTER that lost its files goes on above what hosts have. One that is further ahead was made up,
# and harms nobody but its own host.
_MOST_AHEAD: Final = 2**32
# What a refusal begins with when it is for the budget.
NO_BUDGET: Final = "waiting for identify budget"


class Promise(NamedTuple):
    """What a host may spend without MASTER: ``left`` of ``limit``; ``daily`` after the reset."""

    limit: int
    left: int
    daily: int


class IdentifyLedger:
    """One for the fleet. ``recommended`` shards, by Discord, are kept in the same file."""

    def __init__(self, *, settings: MasterSettings, store: MasterStore, clock: Clock) -> None:
        """Reads what is stored.

        Raises:
            StateError: it is damaged.
        """
        self._reserve = settings.identify_reserve
        self._waste = settings.identify_waste
        self._store = store
        self._wall = SteadyWall(clock)
        remembered = store.remembered()
        self._budget = remembered.budget
        self._told: dict[str, Allowances] = dict(remembered.allowances)
        self._reserve_until = remembered.reserve_until
        self._serial = max((t.serial for all_ in self._told.values() for t in all_), default=0)
        self._guard = LoopGuard(
            limit=settings.identify_loop_limit,
            waste=settings.identify_waste,
            memory=remembered.guard,
        )
        # Permits that are out, and when the day ends to which they were counted.
        self._out: dict[int, float] = {}
        # Hosts with an allowance that this MASTER did not know.
        self._took_over: set[str] = set()
        self.recommended: int | None = remembered.recommended

    def follow(self, settings: MasterSettings) -> None:
        """Takes new settings."""
        self._reserve = settings.identify_reserve
        self._waste = settings.identify_waste
        self._guard.follow(limit=settings.identify_loop_limit, waste=settings.identify_waste)

    # --- the budget ---

    def now(self) -> float:
        """Wall-clock seconds, by which the days of the budget are counted."""
        return self._wall.now()

    @property
    def budget(self) -> Budget | None:
        """None: Discord has not been asked, and nobody identified."""
        return None if self._budget is None else self._budget.at(self.now())

    @property
    def reserve(self) -> int:
        """How many of the budget are kept; 0 while the operator lets them be spent."""
        return 0 if self.reserve_is_free else self._at_hand().reserve(self._reserve)

    @property
    def reserve_is_free(self) -> bool:
        return self._reserve_until is not None and self.now() < self._reserve_until

    def to_spend(self) -> int:
        """How many permits may be given out now."""
        return max(0, allowances.to_spend(self._at_hand(), self.reserve, self._told))

    def discord_says(
        self, *, total: int, remaining: int, reset_after: float, recommended: int
    ) -> None:
        """``reset_after``: seconds; 0 if nothing was used."""
        self._budget = budget.refreshed(
            self._budget,
            total=total,
            remaining=remaining,
            reset_after=reset_after,
            now=self.now(),
        )
        self.recommended = recommended
        self._save()

    def granted(self, shards: Collection[int]) -> None:
        """Permits for ``shards`` are about to leave."""
        if shards:
            self._charge(len(shards))
            self._out |= dict.fromkeys(shards, self._at_hand().resets_at)
            self._save()

    def used(self, shard: int, *, counted: bool, alone: bool) -> None:
        """``shard`` identified. ``counted``: with a permit that was out. ``alone``: it is, or will
        be, in its host's report.
        """
        day_ends = self._out.pop(shard, None)
        if not counted and self._guard.is_looping(shard, self.now()):
            return  # It gets no permit; that it goes on all the same is not to be paid by others.
        late = counted and day_ends is not None and self.now() >= day_ends
        if not alone and (late or not counted):
            self._charge(1)
        self._guard.used(shard, self.now())
        self._save()

    def returned(self, shard: int) -> None:
        """Its permit, which was out, was not used."""
        day_ends = self._out.pop(shard, None)
        if self._budget is not None and day_ends is not None and self.now() < day_ends:
            self._budget = self._budget.returned(1)
            self._save()

    def _charge(self, count: int) -> None:
        self._budget = self._at_hand().spent(count, self.now())

    def _at_hand(self) -> Budget:
        return self.budget or budget.assumed(self.now())

    # --- allowances ---

    def host_said(self, host: str, report: AllowanceReport, *, first: bool) -> None:
        """``first``: of its connection."""
        told = self._told.get(host, ())
        report = allowances.believable(report, told, total=self._at_hand().total)
        if all(known.serial != report.serial for known in told) and report.serial:
            # MASTER's files may be older than the host's: once.
            if host in self._took_over:
                report = AllowanceReport(serial=0)
            self._took_over.add(host)
        heard = allowances.heard(self._told.get(host, ()), report, first=first, now=self.now())
        self._told[host] = heard.allowances
        if report.serial <= self._serial + _MOST_AHEAD:
            self._serial = max(self._serial, report.serial)
        if heard.spent:
            log.info("%s spent %d identifies without MASTER", host, heard.spent)
            self._charge(heard.spent)
        self._save()

    def forget(self, hosts: Collection[str]) -> None:
        """Hosts that have no shards, and so nothing to identify, any more."""
        for host in self._told.keys() & set(hosts):
            del self._told[host]

    def allow(
        self, shards: Mapping[str, int], *, all_shards: int, demand: int
    ) -> dict[str, Allowance]:
        """The allowances to send now; see :class:`allowances.Grants`."""
        ready = {h: n for h, n in shards.items() if all(t.taken for t in self._told.get(h, ()))}
        case = Grants(
            budget=self._at_hand(),
            reserve=self._at_hand().reserve(self._reserve),
            shards=ready,
            all_shards=all_shards,
            demand=demand,
        )
        due = allowances.due(case, self._told, serial=self._serial + 1)
        if not due:
            return {}
        self._budget = self._at_hand()
        for host, told in due.items():
            self._told[host] = (*self._told.get(host, ()), told)
        self._serial += len(due)
        self._save()
        return {host: self._message(told) for host, told in due.items()}

    def _message(self, told: Told) -> Allowance:
        return Allowance(
            serial=told.serial,
            identifies=told.limit,
            resets_in=told.resets_at - self.now(),
            daily=told.daily,
        )

    @property
    def promises(self) -> Mapping[str, Promise]:
        """By host."""
        ends = self._at_hand().latest_end
        return {
            host: Promise(told[-1].limit, allowances.risk(told, ends), told[-1].daily)
            for host, told in self._told.items()
            if told
        }

    # --- the guard ---

    def look(self, waiting: Iterable[int], endings: Mapping[int, str]) -> tuple[str, ...]:
        """Stops shards, or the fleet, that identify in a loop; what was stopped, in sentences."""
        total = self._at_hand().total
        before, open_before = frozenset(self.stopped), self.closed is None
        if not self._guard.look(waiting, total=total, endings=endings, now=self.now()):
            return ()
        self._save()
        told = []
        if stopped := self.stopped.keys() - before:
            why = self.stopped[min(stopped)].why
            told.append(f"{_named(stopped)} may not identify any more: {why}")
        if open_before and self.closed is not None:
            told.append(f"no shard may identify any more: {self.closed.why}")
        return tuple(told)

    @property
    def again(self) -> int:
        """Identifies of the last 24 hours beyond one for each shard."""
        return self._guard.again(self.now())

    @property
    def waste(self) -> int:
        """How many of them close the guard."""
        return int(self._at_hand().total * self._waste)

    @property
    def stopped(self) -> Mapping[int, Stop]:
        """Shards that get no permit until they are released."""
        return self._guard.stopped

    @property
    def closed(self) -> Stop | None:
        """Why no shard gets a permit until the guard is released."""
        return self._guard.closed

    def hold(self, shard: int) -> str | None:
        """Why ``shard`` gets no permit, in words; None: nothing is against it."""
        stop = self.stopped.get(shard)
        return f"held back by the identify guard: {stop.why}" if stop is not None else None

    def refusal(self, present: Collection[str]) -> str | None:
        """Why nobody gets a permit, in words. ``present``: hosts in touch, which give back what
        they were allowed when it is asked for.
        """
        if self.closed is not None:
            return f"the identify guard has stopped all: {self.closed.why}"
        away = {host: told for host, told in self._told.items() if host not in present}
        left, now = self._at_hand(), self.now()
        if allowances.to_spend(left, self.reserve, away) > 0:
            return None
        promised = sum(allowances.risk(told, left.latest_end) for told in away.values())
        parts = [
            f"{number} of them {words}"
            for number, words in (
                (min(left.remaining, self.reserve), "the reserve"),
                (promised, "for hosts out of touch"),
            )
            if number
        ]
        detail = f" ({', '.join(parts)})" if parts else ""
        resets = in_words(left.resets_at - now)
        return f"{NO_BUDGET}, {left.remaining} left{detail}, resets in {resets}"

    def release(self, shards: Collection[int] | None, *, reserve: bool) -> tuple[str, ...]:
        """The operator lets go ``shards``, or all, and with ``reserve`` the reserve until the next
        reset. Returns what was done, in sentences.
        """
        done = []
        closed = self.closed if shards is None else None
        released = self._guard.release(shards)
        if closed is not None:
            done.append(f"Released the whole fleet, which was held back since it {closed.why}.")
        if released:
            done.append(f"Released {_named(released)}; identifies are counted anew.")
        if reserve:
            current = self._at_hand()
            self._budget, self._reserve_until = current, current.resets_at
            kept = min(current.remaining, current.reserve(self._reserve))
            resets = in_words(current.resets_at - self.now())
            done.append(
                f"The reserve, {kept} identifies, may be spent until the reset in {resets}."
            )
        self._save()
        return tuple(done)

    def _save(self) -> None:
        self._store.remember(
            Remembered(
                budget=self._budget,
                recommended=self.recommended,
                allowances=self._told,
                guard=self._guard.memory,
                reserve_until=self._reserve_until,
            )
        )


def _named(shards: Collection[int]) -> str:
    listed = ", ".join(str(shard) for shard in sorted(shards)[:8])
    more = f" and {len(shards) - 8} more" if len(shards) > 8 else ""
    return f"shard{'s' if len(shards) > 1 else ''} {listed}{more}"
