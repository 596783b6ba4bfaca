# SPDX-License-Identifier: Apache-2.0
import os
import time
from pathlib import Path

import pytest

from discluster.control.store import ControlStore
from discluster.errors import StateError
from discluster.messages import Assignment, Held
from discluster.plan import ClusterPlan, HostPlan, Session, host_plan_to_yaml
from discluster.sessions import SessionFile
from discluster.stays import Stay


def held(cluster: int = 3, generation: int = 1) -> Held:
    return Held(
        assignment=Assignment(
            cluster=cluster,
            generation=generation,
            shard_count=4,
            gateway_url="wss://gateway.example",
            shards=(1, 2),
            handover={1: Session(session_id="s", resume_url="wss://e", seq=9)},
        ),
        leaving=(3,),
        left=(0,),
    )


PLAN = HostPlan(
    generation=7,
    shard_count=4,
    host="alpha",
    gateway_url="wss://gateway.example",
    clusters={3: ClusterPlan(shards=(1, 2))},
)


@pytest.fixture
def store(tmp_path: Path) -> ControlStore:
    return ControlStore(own=tmp_path / "control", clusters=tmp_path / "clusters")


def age(directory: Path, seconds: float) -> None:
    for path in directory.iterdir():
        os.utime(path, (time.time() - seconds,) * 2)


def test_plan_and_assignments_survive(store: ControlStore) -> None:
    assert store.load_plan() is None
    assert store.load_held() == {}
    store.save_plan(host_plan_to_yaml(PLAN))
    store.save_held(held())
    assert store.load_plan() == PLAN
    assert store.load_held() == {3: held()}


@pytest.mark.parametrize("text", ["", "generation: 0", "{", "generation: 7\nhost: [1]\n"])
def test_damaged_plan_is_told_and_counts_as_none(
    store: ControlStore, tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "plan.yaml").write_text(text)
    assert store.load_plan() is None
    assert "plan.yaml" in caplog.text
    assert "waiting for MASTER's" in caplog.text


def test_plan_that_cannot_be_read_is_an_error(store: ControlStore, tmp_path: Path) -> None:
    (tmp_path / "control" / "plan.yaml").mkdir(parents=True)
    with pytest.raises(StateError, match=r"plan\.yaml: cannot be read"):
        store.load_plan()


@pytest.mark.parametrize("content", [b"", b"{", b'{"assignment": 1}', b"\xff"])
def test_damaged_assignment_is_told_and_spares_the_others(
    store: ControlStore, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store.save_held(held(3))
    store.save_held(held(4))
    (tmp_path / "clusters" / "4" / "assignment.json").write_bytes(content)
    assert store.load_held() == {3: held(3)}
    assert "4/assignment.json cannot be used" in caplog.text


def test_strange_directories_are_no_clusters(store: ControlStore, tmp_path: Path) -> None:
    (tmp_path / "clusters" / "lost+found").mkdir(parents=True)
    (tmp_path / "clusters" / "lost+found" / "assignment.json").write_text("{}")
    assert store.load_held() == {}


def test_stays_in_a_dead_cluster_are_read(
    store: ControlStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session = Session(session_id="s", resume_url="wss://e", seq=9)
    file = SessionFile(tmp_path / "clusters" / "3" / "sessions")
    slot = file.slot(1, 4)
    slot.save(session)
    slot.stamp(7)
    file.close()
    (tmp_path / "clusters" / "5").mkdir()
    (tmp_path / "clusters" / "5" / "sessions").write_bytes(b"damaged")
    for _ in range(2):
        stays = store.stays({3, 4, 5})
        assert {cluster: dict(found) for cluster, found in stays.items() if found} == {
            3: {(1, 4): Stay(entered=7, session=session)}
        }
    told = [record.message for record in caplog.records]
    assert len(told) == 1, "a fault is told once"
    assert "clusters/5/sessions: not a session file of this version" in told[0]


def test_cluster_is_forgotten_once_its_sessions_are_of_no_use(
    store: ControlStore, tmp_path: Path
) -> None:
    store.save_held(held())
    assert not store.forget(3)
    directory = tmp_path / "clusters" / "3"
    (directory / "sessions").write_bytes(b"x")
    age(directory, 1000)
    (directory / "sessions").touch()
    assert not store.forget(3)
    age(directory, 1000)
    assert store.forget(3)
    assert not directory.exists()
    assert store.forget(3), "what is gone is forgotten"
