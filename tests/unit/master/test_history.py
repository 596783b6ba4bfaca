# SPDX-License-Identifier: Apache-2.0
"""Which plans are kept, and what is told of them."""

from pathlib import Path

import msgspec
import pytest

from discluster.errors import DisclusterError, DocumentError
from discluster.master.records.history import NO_SUCH_GENERATION, History
from discluster.plan import ClusterPlan, FleetPlan, Grant, HostEntry
from tests.clock import ManualClock
from tests.unit.master.fleets import fleet, session

BEFORE = fleet({"a": {0: [0, 1, 2, 3]}, "b": {}}, generation=4)


def after(generation: int, *on_b: int) -> FleetPlan:
    on_a = [shard for shard in range(4) if shard not in on_b]
    targets = {"a": {0: on_a}, "b": {1: list(on_b)} if on_b else {}}
    plan = fleet(targets, generation=generation)
    return msgspec.structs.replace(plan, reason=f"reason {generation}")


def open_history(directory: Path, keep: int = 3) -> History:
    return History(directory / "history", keep=keep, clock=ManualClock(wall=1_700_000_000))


def test_what_moved_shards_is_kept_with_its_time_and_reason(tmp_path: Path) -> None:
    open_history(tmp_path).record(BEFORE, after(5, 3), moves="1 from a to b")
    (entry,) = open_history(tmp_path).told(after(5, 3)).entries
    assert (entry.generation, entry.at, entry.reason) == (5, 1_700_000_000, "reason 5")
    assert (entry.hosts, entry.clusters, entry.shards) == (2, 2, 4)
    assert entry.moves == "1 from a to b"
    assert entry.current


def test_a_step_of_a_move_or_a_restart_pushes_nothing_out(tmp_path: Path) -> None:
    history = open_history(tmp_path)
    history.record(BEFORE, after(5, 3), moves="")
    plan = after(5, 3)
    for generation in range(6, 20):
        grant = Grant(host="a", withdrawn=generation)
        runs = {1: ClusterPlan(shards=(3,), run=generation)}
        hosts = plan.hosts | {"b": HostEntry(clusters=runs)}
        step = msgspec.structs.replace(plan, generation=generation, granted={3: grant}, hosts=hosts)
        history.record(plan, step, moves="")
        plan = step
    (entry,) = history.told(plan).entries
    assert entry.generation == 5
    assert entry.current, "its targets are in force"


def test_the_history_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    history = open_history(tmp_path)
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "notes.yaml").write_text("an operator's")
    plan = BEFORE
    for generation in range(5, 11):
        step = after(generation, generation % 4)
        history.record(plan, step, moves="")
        plan = step
    names = sorted(path.name for path in (tmp_path / "history").iterdir())
    assert names == [
        "000000008.yaml",
        "000000009.yaml",
        "000000010.yaml",
        "index.json",
        "notes.yaml",
    ]
    assert [e.generation for e in history.told(plan).entries] == [8, 9, 10]
    assert [e.current for e in history.told(plan).entries] == [False, False, True]


def test_what_is_kept_can_be_read_again_and_holds_no_session(tmp_path: Path) -> None:
    history = open_history(tmp_path)
    plan = msgspec.structs.replace(
        after(5, 3), sessions={3: session("secret")}, granted={3: Grant(host="a")}
    )
    history.record(BEFORE, plan, moves="")
    assert history.plan(5).hosts == plan.hosts
    assert "secret" not in (tmp_path / "history" / "000000005.yaml").read_text()


def test_a_generation_that_is_not_kept_is_told_with_those_that_are(tmp_path: Path) -> None:
    history = open_history(tmp_path)
    history.record(BEFORE, after(5, 3), moves="")
    with pytest.raises(DisclusterError) as caught:
        history.plan(4)
    assert caught.value.code == NO_SUCH_GENERATION
    assert caught.value.hint == "those that moved shards are kept: 5"


def test_a_damaged_file_is_refused_whole(tmp_path: Path) -> None:
    history = open_history(tmp_path)
    history.record(BEFORE, after(5, 3), moves="")
    (tmp_path / "history" / "000000005.yaml").write_text("generation: 5\n")
    with pytest.raises(DocumentError, match=r"000000005\.yaml"):
        history.plan(5)


def test_a_damaged_index_is_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    history = open_history(tmp_path)
    history.record(BEFORE, after(5, 3), moves="")
    (tmp_path / "history" / "index.json").write_text('[{"generation"')
    assert history.told(after(5, 3)).entries == ()
    assert "index.json: cannot be read" in caplog.text
    history.record(after(5, 3), after(6, 2), moves="")
    assert [e.generation for e in history.told(after(6, 2)).entries] == [6]


def test_plans_beyond_a_restored_backup_are_not_told_as_current(tmp_path: Path) -> None:
    """MASTER's plan came from a backup, its history did not."""
    history = open_history(tmp_path)
    history.record(BEFORE, after(5, 3), moves="")
    history.record(after(5, 3), after(9, 2), moves="")
    (entry,) = history.told(after(6, 3)).entries
    assert (entry.generation, entry.current) == (5, True)
