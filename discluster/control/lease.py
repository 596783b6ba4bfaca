# SPDX-License-Identifier: Apache-2.0
"""CONTROL's lease: until when this host's clusters may run. Pure.

MASTER gives the shards of a silent host away when it has not heard it for a lease and a margin, and
only while at least half of the witnesses in the host's plan are steadily in touch with it, for a
whole lease. Here is the other half of that rule. The two cannot both be true:

- MASTER renews the lease by answering; it counts from when the question was *sent*, so MASTER has
  heard us later than that.
- The witnesses renew it when more than half of them do not hear MASTER. A steady one heard it
  within a third of the lease, at every instant; so MASTER is without its half, and needs a whole
  lease to have it again, while this renews for half a lease.
- A lease that has ended is another matter, since the shards may be others' by now. MASTER renews it
  once its plan is carried out here. The witnesses renew it only if none of them follows a newer
  plan than this host: MASTER passes shards of a lost host on when half of the witnesses have
  reported the plan without them.

All instants are CLOCK_BOOTTIME of this machine.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from discluster.clock import in_words
from discluster.lease import holds, is_over
from discluster.messages import Lease

WhenIsolated = Literal["stop", "keep"]
Verdict = Literal["down", "late", "cut off", "isolated"]

NO_LEASE: Final = Lease(until=0.0)
DEFAULT_LENGTH: Final = 30.0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a witness said. ``hears``: MASTER, within the last third of the lease; None: it cannot
    tell. ``generation``: of the plan that it follows; 0: none.
    """

    hears: bool | None
    generation: int


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """All of the ``panel`` were asked at ``began``. ``answers``: of those that did in time;
    ``failures``: why others did not, in words.
    """

    began: float
    panel: tuple[str, ...]
    answers: Mapping[str, Answer] = {}
    failures: Mapping[str, str] = {}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a round says. ``down``: MASTER does not run, or is in touch with too few to give shards
    away; ``late``: it may have given this host's away before it went; ``cut off``: others hear it;
    ``isolated``: nobody can tell.
    """

    verdict: Verdict
    sentence: str


class Tenure(msgspec.Struct, frozen=True, kw_only=True):
    """What CONTROL knows about its lease.

    ``length``: of MASTER's lease, seconds. ``confirmed``: when it sent what MASTER answered last;
    None: not in this boot of the machine. ``settled``: MASTER's plan came over this connection and
    is carried out. ``was_endless``: the lease was, until the last hello. ``cut_off``: when the
    round began that found so, if any did since. ``finding``: of the last round, while out of touch.
    """

    when_isolated: WhenIsolated = "stop"
    length: float = DEFAULT_LENGTH
    lease: Lease = NO_LEASE
    confirmed: float | None = None
    settled: bool = False
    was_endless: bool = False
    cut_off: float | None = None
    finding: Finding | None = None

    def in_touch(self, now: float) -> bool:
        """Whether MASTER answered lately; otherwise the witnesses are asked."""
        return self.confirmed is not None and now < self.confirmed + self.length * 2 / 3


def greeting(tenure: Tenure, now: float) -> Tenure:
    """A hello is about to be sent. From then on MASTER does not take this host for unattended any
    more, so a lease without end gets one.
    """
    if tenure.lease.until is not None:
        return msgspec.structs.replace(tenure, was_endless=False)
    lease = Lease(until=now + tenure.length, then=tenure.when_isolated)
    return msgspec.structs.replace(tenure, lease=lease, confirmed=now, was_endless=True)


def not_taken(tenure: Tenure) -> Tenure:
    """MASTER refused the hello unread, as one of another version does: this host is to it what it
    was before.
    """
    return unattended(tenure) if tenure.was_endless else tenure


def confirmed(tenure: Tenure, sent: float, now: float) -> Tenure:
    """MASTER answered what was sent at ``sent``."""
    if tenure.confirmed is not None and sent <= tenure.confirmed:
        return tenure
    return _renewed(msgspec.structs.replace(tenure, confirmed=sent), now)


def settled(tenure: Tenure, now: float) -> Tenure:
    """MASTER's plan of this connection is carried out."""
    return _renewed(msgspec.structs.replace(tenure, settled=True), now)


def parted(tenure: Tenure) -> Tenure:
    """The connection to MASTER is lost."""
    return msgspec.structs.replace(tenure, settled=False)


def unattended(tenure: Tenure) -> Tenure:
    """MASTER knows that CONTROL stops on purpose."""
    return msgspec.structs.replace(tenure, lease=Lease(until=None, then=tenure.when_isolated))


def turned_away(tenure: Tenure, now: float) -> Tenure:
    """MASTER keeps this host out, and so gives its shards to others: as good as cut off. The
    clusters stop when the lease ends, whatever is set for machines that nobody can tell about.
    """
    lease = tenure.lease
    until = now if lease.until is None else lease.until
    return msgspec.structs.replace(tenure, lease=Lease(until=until, then="stop"), cut_off=now)


def patience(tenure: Tenure) -> float:
    """Seconds for which the witnesses' answers are waited for: the first round leaves time for a
    second one.
    """
    return tenure.length / 5


def next_round(tenure: Tenure, last: float | None) -> float | None:
    """When the witnesses are to be asked; None: not at all. ``last``: when the last round began."""
    if tenure.lease.until is None:
        return None
    first = 0.0 if tenure.confirmed is None else tenure.confirmed + tenure.length * 2 / 3
    if last is None:
        return first
    # While MASTER is down all hosts of a fleet ask the same few: no more often than need be.
    is_down = tenure.finding is not None and tenure.finding.verdict == "down"
    return max(first, last + tenure.length / (5 if is_down else 10))


def judged(tenure: Tenure, round_: Round, *, host: str, generation: int, now: float) -> Tenure:
    """A round of ``host``'s is over; ``generation``: of the plan in force here.

    One that began before MASTER's last answer says nothing any more.
    """
    lease, since = tenure.lease, tenure.confirmed
    if lease.until is None or (since is not None and round_.began <= since):
        return tenure
    found = find(tenure, round_, host=host, generation=generation, now=now)
    cut_off = round_.began if found.verdict in ("cut off", "late") else tenure.cut_off
    keeps = found.verdict == "isolated" and tenure.when_isolated == "keep" and cut_off is None
    if found.verdict == "down" or keeps:
        cut_off = None
        until = max(lease.until, round_.began + tenure.length / 2)
        lease = Lease(until=until, then=tenure.when_isolated)
    elif cut_off is not None:
        lease = Lease(until=lease.until, then="stop")
    return msgspec.structs.replace(tenure, lease=lease, cut_off=cut_off, finding=found)


def decided(tenure: Tenure, round_: Round, *, host: str, now: float) -> bool:
    """Whether those that have not answered yet cannot change what is found."""
    return not is_over(tenure.lease, now) and 2 * len(_deaf(round_, host)) > len(round_.panel)


def find(tenure: Tenure, round_: Round, *, host: str, generation: int, now: float) -> Finding:
    """What ``round_`` says. This host, where it is of the panel, is one that does not hear."""
    panel, answers, deaf = round_.panel, round_.answers, _deaf(round_, host)
    hearing = [name for name in panel if name in answers and answers[name].hears]
    majority, over = 2 * len(deaf) > len(panel), is_over(tenure.lease, now)
    if hearing and not majority:
        told = f"{_names(hearing)} hear{'s' if len(hearing) == 1 else ''} it"
        return Finding(verdict="cut off", sentence=f"{told}: this machine is cut off")
    if over and (doubt := _newer(round_, generation)):
        return Finding(verdict="late", sentence=doubt)
    if not majority:
        return Finding(verdict="isolated", sentence=f"{_silence(round_)}: this machine is isolated")
    if over and (doubt := _planless(round_, deaf, host)):
        return Finding(verdict="late", sentence=doubt)
    told = f"{len(deaf)} of {len(panel)} witnesses do not hear it"
    alone = "nobody else is in the fleet"
    return Finding(verdict="down", sentence=alone if panel == (host,) else told)


def words(tenure: Tenure, now: float) -> str:
    """How it stands, for a person; empty if all is well."""
    if tenure.lease.until is None:
        return "MASTER keeps this machine's shards for it"
    if tenure.in_touch(now):
        over = not holds(tenure.lease, now)
        return "the clusters wait until MASTER's plan is carried out here" if over else ""
    told = "not in touch with MASTER since this machine was started"
    if tenure.confirmed is not None:
        told = f"out of touch with MASTER for {in_words(now - tenure.confirmed)}"
    found = f"; {tenure.finding.sentence}" if tenure.finding else ""
    return f"{told}{found}, {_fate(tenure, tenure.lease.until, now)}"


def _renewed(tenure: Tenure, now: float) -> Tenure:
    lease, since = tenure.lease, tenure.confirmed
    ended = is_over(lease, now) and not tenure.settled
    if since is None or lease.until is None or ended:
        return tenure
    cut_off = tenure.cut_off if tenure.cut_off is not None and tenure.cut_off > since else None
    renewed = Lease(
        until=max(lease.until, since + tenure.length),
        then="stop" if cut_off is not None else tenure.when_isolated,
    )
    finding = tenure.finding if cut_off is not None else None
    return msgspec.structs.replace(tenure, lease=renewed, cut_off=cut_off, finding=finding)


def _deaf(round_: Round, host: str) -> list[str]:
    answers = round_.answers
    return [n for n in round_.panel if n == host or (n in answers and answers[n].hears is False)]


def _newer(round_: Round, generation: int) -> str | None:
    """That others may have this host's shards although MASTER is away, in words."""
    newer = sorted(n for n, answer in round_.answers.items() if answer.generation > generation)
    if not newer:
        return None
    follow = f"{_names(newer)} follow{'s' if len(newer) == 1 else ''}"
    return f"{follow} a newer plan: MASTER may have given the shards of this machine to others"


def _planless(round_: Round, deaf: list[str], host: str) -> str | None:
    """That nobody can tell, since those that do not hear MASTER have no plan, in words."""
    know = [name for name in deaf if name == host or round_.answers[name].generation > 0]
    if 2 * len(know) > len(round_.panel):
        return None
    return "too few witnesses have a plan to tell whether others have the shards of this machine"


def _fate(tenure: Tenure, until: float, now: float) -> str:
    if not holds(tenure.lease, now):
        return "its clusters run no shards"
    verdict = tenure.finding.verdict if tenure.finding else None
    if tenure.lease.then == "keep" and verdict != "down":
        return "its clusters run on (when_isolated: keep)"
    if verdict == "down":
        return "its clusters run on"
    why = f" (when_isolated: {tenure.when_isolated})" if verdict == "isolated" else ""
    return f"its clusters stop in {in_words(until - now)}{why}"


def _silence(round_: Round) -> str:
    if not round_.panel:
        return "MASTER has named no witnesses"
    asked = len(round_.panel)
    some = "; ".join(f"{name}: {why}" for name, why in sorted(round_.failures.items())[:2])
    able = sum(answer.hears is not None for answer in round_.answers.values())
    return f"{able or 'none'} of {asked} witnesses can tell" + (f" ({some})" if some else "")


def _names(names: list[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} others"
