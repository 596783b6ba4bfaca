# SPDX-License-Identifier: Apache-2.0
"""How busy the clusters of this host are: from counters that are read now and then to rates. Pure.

The supervisor's figures count everything that runs in a unit, the handler's processes too. Where it
has none, as on kernels without a memory controller, what the cluster tells of its own process
stands in.
"""

from collections import deque
from collections.abc import Mapping
from typing import Final

import msgspec

from discluster.bounds import LARGEST_AMOUNT
from discluster.control.supervisor import UnitView
from discluster.messages import ClusterReport

_WINDOW: Final = 15.0  # seconds
_SHORTEST: Final = 3.0  # seconds; what fewer show is noise
_STALE: Final = 30.0  # seconds
_SPACING: Final = 1.0  # seconds


class ClusterLoad(msgspec.Struct, frozen=True, kw_only=True):
    """As in :class:`discluster.messages.ClusterView`."""

    cpu: float | None = None
    memory: int | None = None
    event_rate: float | None = None


UNKNOWN: Final = ClusterLoad()


class Meter:
    """A counter as a rate over the last seconds. It begins anew where its owner was restarted."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque()
        self._count = 0.0

    def read(self, at: float, count: float, *, anew: bool = False) -> None:
        """``anew``: the counter is known to have begun at 0 since it was read last; one that went
        back has, too.
        """
        if self._samples:
            begun = anew or count < self._count
            self.add(at, count if begun else count - self._count)
        else:
            self.add(at, 0.0)
        self._count = count

    def add(self, at: float, more: float) -> None:
        """So much was counted since the last time. The first call only begins the count."""
        samples = self._samples
        total = samples[-1][1] + more if samples else 0.0
        if len(samples) > 1 and at - samples[-2][0] < _SPACING:
            samples.pop()
        samples.append((at, total))
        while len(samples) > 2 and at - samples[1][0] >= _WINDOW:
            samples.popleft()

    def rate(self, now: float) -> float | None:
        """Per second, over 15 seconds or as far as is known; None if that is not far enough."""
        if not self._samples:
            return None
        (began, low), (ended, high) = self._samples[0], self._samples[-1]
        if ended - began < _SHORTEST or now - ended > _STALE:
            return None
        return (high - low) / (ended - began)


class _Cluster:
    """What is known of one cluster."""

    def __init__(self) -> None:
        self.unit_cpu, self.own_cpu, self.events = Meter(), Meter(), Meter()
        self.unit_memory: int | None = None
        self.report: ClusterReport | None = None

    def reported(self, report: ClusterReport, now: float) -> None:
        before = self.report
        anew = before is None or before.pid != report.pid
        if report.cpu_seconds is not None:
            self.own_cpu.read(now, report.cpu_seconds, anew=anew)
        had = {} if anew or before is None else {v.shard: v.events for v in before.shards}
        self.events.add(now, sum(_more(v.events, had.get(v.shard, 0)) for v in report.shards))
        self.report = report

    def load(self, now: float) -> ClusterLoad:
        cpu = self.unit_cpu.rate(now)
        cpu = cpu if cpu is not None else self.own_cpu.rate(now)
        own = self.report.memory if self.report is not None else None
        rate = self.events.rate(now)
        return ClusterLoad(
            cpu=_told(cpu, 3),
            memory=self.unit_memory if self.unit_memory is not None else own,
            event_rate=_told(rate, 1),
        )


class Load:
    """Of all clusters of this host. All instants are monotonic seconds."""

    def __init__(self) -> None:
        self._clusters: dict[int, _Cluster] = {}

    def reported(self, report: ClusterReport, now: float) -> None:
        """A cluster told of itself."""
        self._clusters.setdefault(report.cluster, _Cluster()).reported(report, now)

    def looked(self, units: Mapping[int, UnitView]) -> None:
        """The supervisor told of all units."""
        for cluster in [c for c in self._clusters if c not in units or not units[c].may_run]:
            del self._clusters[cluster]
        for cluster, unit in units.items():
            if unit.usage is None or not unit.may_run:
                continue
            known = self._clusters.setdefault(cluster, _Cluster())
            known.unit_memory = unit.usage.memory
            if unit.usage.cpu_seconds is not None:
                known.unit_cpu.read(unit.usage.at, unit.usage.cpu_seconds)

    def of(self, cluster: int, now: float) -> ClusterLoad:
        """What is known; nothing of a cluster that does not run."""
        known = self._clusters.get(cluster)
        return known.load(now) if known is not None else UNKNOWN

    def of_all(self, now: float) -> dict[int, ClusterLoad]:
        """The same of every cluster of which anything is known."""
        return {cluster: known.load(now) for cluster, known in self._clusters.items()}


def _told(rate: float | None, digits: int) -> float | None:
    """A cluster may say what it likes of itself; a report with it must still be taken."""
    return round(min(rate, LARGEST_AMOUNT), digits) if rate is not None else None


def _more(count: int, before: int) -> int:
    return count - before if count >= before else count
