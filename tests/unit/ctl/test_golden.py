# SPDX-License-Identifier: Apache-2.0
"""What a person sees, as files: at 80 columns and at 120."""

from typing import Final

import pytest
from rich.console import RenderableType

from discluster.console import FleetStatus, HostStatus, PlanDiff, PlanHistory
from discluster.ctl import changes, moves, render
from discluster.orders import MovesStatus, Ordered
from tests.unit.ctl import fleets, ordered
from tests.unit.ctl.conftest import GOLDEN, CompareGolden
from tests.unit.ctl.terminal import plain

AWAY: Final = "MASTER is not running here: /run/discluster/master/master.sock does not exist"
Snapshot = FleetStatus | HostStatus | PlanDiff | Ordered | MovesStatus | PlanHistory
SNAPSHOTS: Final[dict[str, Snapshot]] = {
    "healthy": fleets.healthy(),
    "starting": fleets.starting(),
    "token-rejected": fleets.token_rejected(),
    "silent-host": fleets.silent_host(),
    "loaded": fleets.loaded(),
    "failed-cluster": fleets.failed_cluster(),
    "no-hosts": fleets.no_hosts(),
    "many-shards": fleets.many_shards(),
    "budget-spent": fleets.budget_spent(),
    "local": fleets.local(),
    "diff-nothing": fleets.nothing_to_do(),
    "diff-changes": fleets.some_changes(),
    "drain-dry-run": ordered.drained(),
    "reload-dry-run": ordered.reloaded(),
    "moving": ordered.moving(),
    "moves-stuck": ordered.stuck(),
    "history": ordered.history(),
}

LOOKS_ELSEWHERE: Final = ("hosts", "rolling", "identify-held", "identify-blocked")


def rendered(snapshot: Snapshot, width: int) -> RenderableType:
    if isinstance(snapshot, FleetStatus):
        return render.fleet(snapshot, width=width)
    if isinstance(snapshot, HostStatus):
        return render.host(snapshot, width=width, because=AWAY)
    if isinstance(snapshot, Ordered):
        return changes.would_be(snapshot, width=width)
    if isinstance(snapshot, MovesStatus):
        return moves.bar(snapshot, width=width)
    if isinstance(snapshot, PlanHistory):
        return changes.history(snapshot, width=width)
    return changes.diff(snapshot, width=width)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", SNAPSHOTS)
def test_snapshot_looks_as_agreed(name: str, width: int, compare_golden: CompareGolden) -> None:
    text = plain(rendered(SNAPSHOTS[name], width), width=width)
    compare_golden(f"{name}-{width}", text)
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [80, 120])
def test_hosts_look_as_agreed(width: int, compare_golden: CompareGolden) -> None:
    text = plain(render.hosts(fleets.failed_cluster(), width=width), width=width)
    compare_golden(f"hosts-{width}", text)


def test_no_golden_file_is_left_over() -> None:
    names = {f"{name}-{width}" for name in [*SNAPSHOTS, *LOOKS_ELSEWHERE] for width in (80, 120)}
    assert {path.stem for path in GOLDEN.iterdir()} == names


@pytest.mark.parametrize("name", SNAPSHOTS)
@pytest.mark.parametrize("width", [40, 60, 79, 100, 250])
def test_no_width_loses_a_problem(name: str, width: int) -> None:
    snapshot = SNAPSHOTS[name]
    text = plain(rendered(snapshot, width), width=width)
    assert max(map(len, text.splitlines())) <= width
    if isinstance(snapshot, FleetStatus):
        words = set(text.split())
        for trouble in snapshot.troubles:
            assert set(trouble.text.split()) <= words
