# SPDX-License-Identifier: Apache-2.0
"""How many identifies each host may spend without MASTER. Pure.

What a host was allowed is taken off what MASTER may spend, from before the message leaves until the
host says that it follows another one. So whatever is lost on the way, all hosts and MASTER together
stay within the budget less its reserve.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from discluster.clock import DAY
from discluster.master.identify.budget import Budget
from discluster.messages import AllowanceReport

# Of what can be spent, all hosts together get half; MASTER, which is there nearly always, the rest.
_PART: Final = 0.5
# While Discord has not named the reset, each IDENTIFY moves it: not each has to be told then.
_UNSURE: Final = 3600.0
_LAST_SERIAL: Final = 2**53


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An allowance as :class:`~discluster.messages.Allowance` has it. ``taken``: the host said that
    it follows it. ``charged``: identifies under it that are in MASTER's count.
    """

    serial: int
    limit: int
    daily: int
    resets_at: float
    taken: bool = False
    charged: int = 0

    def risk(self, day_ends: float) -> int:
        """What the host may yet spend under it in the day that ends at ``day_ends``."""
        left = max(0, self.limit - self.charged)
        return left if self.resets_at >= day_ends else max(left, self.daily)


# Oldest first. The host follows one of them: the newest that it took, or one that is on its way.
Allowances = tuple[Told, ...]


class Heard(msgspec.Struct, frozen=True):
    """What a report comes to: the allowances that the host may follow, and new identifies."""

    allowances: Allowances
    spent: int


class Grants(msgspec.Struct, frozen=True, kw_only=True):
    """What is decided with. ``shards``: of each host in touch that has none on its way, how many
    it has. ``all_shards``: of the fleet. ``demand``: how many shards wait for MASTER's permit.
    """

    budget: Budget
    reserve: int
    shards: Mapping[str, int]
    all_shards: int
    demand: int


def risk(allowances: Allowances, day_ends: float) -> int:
    """The most that a host may yet spend, whichever of its allowances it follows."""
    return max((told.risk(day_ends) for told in allowances), default=0)


def believable(report: AllowanceReport, allowances: Allowances, *, total: int) -> AllowanceReport:
    """What MASTER takes of it: nobody was ever given more than a part of the ``total``, and nobody
    can have spent more of the day than it was given.
    """
    most = math.ceil(total * _PART)
    if not 0 <= report.serial <= _LAST_SERIAL:
        return AllowanceReport(serial=0)
    known = next((told for told in allowances if told.serial == report.serial), None)
    # What was spent in days that are over costs nothing today.
    day = max(known.limit, known.charged + known.daily) if known is not None else most
    return AllowanceReport(
        serial=report.serial,
        identifies=max(0, min(report.identifies, most)),
        resets_in=max(0.0, min(report.resets_in, 2 * DAY)),
        daily=max(0, min(report.daily, most)),
        spent=max(0, min(report.spent, day)),
    )


def heard(allowances: Allowances, report: AllowanceReport, *, first: bool, now: float) -> Heard:
    """After a report of the host. ``first``: nothing that was sent before can arrive any more.

    A host that lost what it had taken may have spent all of it.
    """
    known = next((told for told in allowances if told.serial == report.serial), None)
    if known is None:
        lost = sum(max(0, t.limit - t.charged) for t in allowances if t.taken)
        if report.serial == 0:
            later = () if first else tuple(t for t in allowances if not t.taken)
            return Heard(later, lost)
        known = Told(
            serial=report.serial,
            limit=report.identifies,
            daily=report.daily,
            resets_at=now + report.resets_in,
        )
        return Heard((_taken(known, report),), lost + report.spent)
    new = max(0, report.spent - known.charged)
    later = () if first else tuple(t for t in allowances if t.serial > known.serial)
    return Heard((_taken(known, report), *later), new)


def _taken(told: Told, report: AllowanceReport) -> Told:
    charged = max(told.charged, report.spent)
    return msgspec.structs.replace(told, taken=True, charged=charged)


def to_spend(budget: Budget, reserve: int, told: Mapping[str, Allowances]) -> int:
    """What MASTER may spend itself; negative if Discord counts identifies that are not ours."""
    promised = sum(risk(allowances, budget.latest_end) for allowances in told.values())
    return budget.remaining - reserve - promised


def due(case: Grants, told: Mapping[str, Allowances], *, serial: int) -> dict[str, Told]:
    """The new allowances to send, numbered from ``serial`` on."""
    found: dict[str, Told] = {}
    promised = sum(map(_daily, told.values()))
    ends = case.budget.latest_end
    free = to_spend(case.budget, case.reserve, told)
    for host, want in _wanted(case, free + sum(risk(told.get(h, ()), ends) for h in case.shards)):
        before = told.get(host, ())
        left = risk(before, ends)
        day = case.budget.total - case.reserve - (promised - _daily(before))
        new = msgspec.structs.replace(
            want,
            limit=min(want.limit, left + max(0, free)),
            daily=max(0, min(want.daily, day)),
            serial=serial + len(found),
        )
        new = msgspec.structs.replace(new, limit=min(new.limit, new.daily))
        if _must_change(before, new, left, case.budget.resets_at, short=free < case.demand):
            free -= max(0, new.limit - left)
            found[host] = new
            promised += max(0, new.daily - _daily(before))
    return found


def _wanted(case: Grants, available: int) -> Iterator[tuple[str, Told]]:
    """``available``: what MASTER and the hosts in touch may spend together."""
    budget = case.budget
    pot = max(0, available - case.demand) * _PART
    day = max(0, budget.total - case.reserve) * _PART
    resets_at = budget.resets_at + (0.0 if budget.confirmed else _UNSURE)
    for host, shards in sorted(case.shards.items()):
        part = min(1.0, shards / max(1, case.all_shards))
        yield (
            host,
            Told(serial=0, limit=int(pot * part), daily=int(day * part), resets_at=resets_at),
        )


def _must_change(before: Allowances, new: Told, left: int, ends: float, *, short: bool) -> bool:
    """Not for every identify: only what is out of date, much too small, or wanted back."""
    if not before or before[-1].resets_at < ends:
        return new.limit > 0 or new.daily > 0 or bool(before)
    last = before[-1]
    too_small = left < new.limit / 2 or last.daily < new.daily / 2
    too_large = (short and new.limit < left) or last.daily > 2 * new.daily
    return too_small or too_large


def _daily(allowances: Allowances) -> int:
    return max((told.daily for told in allowances), default=0)
