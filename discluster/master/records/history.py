# SPDX-License-Identifier: Apache-2.0
"""The plans that moved shards: what ``disclusterctl plan history`` shows and ``plan rollback``
goes back to.

A generation that only took the next step of a move, or restarted a cluster, is none of them.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from discluster.clock import Clock
from discluster.console import PlanEntry, PlanHistory
from discluster.decoding import DECODE_ERRORS
from discluster.errors import DisclusterError, StateError
from discluster.files import read_if_there, write_atomically
from discluster.plan import FleetPlan, HostEntry, fleet_plan_from_yaml, fleet_plan_to_yaml

log = logging.getLogger(__name__)

NO_SUCH_GENERATION: Final = "no-such-generation"
_NAME: Final = re.compile(r"(\d{9,})\.yaml")


class History:
    """``directory``: ``N.yaml``, the targets of generation N, and ``index.json``."""

    def __init__(self, directory: Path, *, keep: int, clock: Clock) -> None:
        """``keep``: how many plans stay."""
        self._directory = directory
        self._index = directory / "index.json"
        self._clock = clock
        self.keep = keep

    def record(self, before: FleetPlan | None, after: FleetPlan, *, moves: str) -> None:
        """Keeps ``after`` if its targets are not those of ``before``. ``moves``: in words."""
        if before is not None and layout(before.hosts) == layout(after.hosts):
            return
        # Owners and sessions are those of the past at once, and sessions are secrets.
        kept = msgspec.structs.replace(
            after, granted={}, slots={}, sessions={}, recovery=None, rollout=None
        )
        write_atomically(self._path(after.generation), fleet_plan_to_yaml(kept))
        older = [e for e in self._entries() if e.generation < after.generation]
        entries = [*older, self._entry(after, moves)][-self.keep :]
        write_atomically(self._index, msgspec.json.encode(entries))
        for path in self._plans()[: -self.keep]:
            path.unlink(missing_ok=True)

    def told(self, current: FleetPlan | None) -> PlanHistory:
        """``current``: the plan in force."""
        generation = current.generation if current is not None else 0
        entries = [entry for entry in self._entries() if entry.generation <= generation]
        if entries:
            entries[-1] = msgspec.structs.replace(entries[-1], current=True)
        return PlanHistory(entries=tuple(entries))

    def plan(self, generation: int) -> FleetPlan:
        """The targets of ``generation``.

        Raises:
            DisclusterError: it is not kept.
            DocumentError, StateError: its file is damaged.
        """
        path = self._path(generation)
        text = read_if_there(path)
        if text is None:
            kept = ", ".join(str(entry.generation) for entry in self._entries()) or "none"
            raise DisclusterError(
                f"generation {generation} is not in the history",
                hint=f"those that moved shards are kept: {kept}",
                code=NO_SUCH_GENERATION,
            )
        return fleet_plan_from_yaml(text, file=str(path))

    def _entry(self, plan: FleetPlan, moves: str) -> PlanEntry:
        clusters = [c for entry in plan.hosts.values() for c in entry.clusters.values()]
        return PlanEntry(
            generation=plan.generation,
            at=self._clock.wall(),
            reason=plan.reason,
            moves=moves,
            hosts=sum(bool(entry.clusters) for entry in plan.hosts.values()),
            clusters=len(clusters),
            shards=sum(len(cluster.shards) for cluster in clusters),
        )

    def _entries(self) -> list[PlanEntry]:
        try:
            text = read_if_there(self._index)
            return msgspec.json.decode(text, type=list[PlanEntry]) if text else []
        except (*DECODE_ERRORS, StateError) as error:
            # Nothing is decided by it, so MASTER goes on without.
            log.warning("%s: cannot be read, the history begins anew: %s", self._index, error)
            return []

    def _path(self, generation: int) -> Path:
        return self._directory / f"{generation:09d}.yaml"

    def _plans(self) -> list[Path]:
        return sorted(p for p in self._directory.glob("*.yaml") if _NAME.fullmatch(p.name))


def layout(hosts: Mapping[str, HostEntry]) -> dict[tuple[str, int], tuple[int, ...]]:
    """(host, cluster) -> shards."""
    return {
        (host, number): cluster.shards
        for host, entry in hosts.items()
        for number, cluster in entry.clusters.items()
    }
