# SPDX-License-Identifier: Apache-2.0
import os
import socket
import time
from collections.abc import Callable
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
    return ControlStore(tmp_path)


def age(seconds: float, *paths: Path) -> None:
    for path in paths:
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
    (tmp_path / "assignments" / "4.json").write_bytes(content)
    assert store.load_held() == {3: held(3)}
    assert "4.json cannot be used" in caplog.text


def test_strange_files_are_no_assignments(store: ControlStore, tmp_path: Path) -> None:
    (tmp_path / "assignments").mkdir(parents=True)
    (tmp_path / "assignments" / "notes.json").write_text("{}")
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
    (tmp_path / "clusters" / "5").mkdir(parents=True)
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
    assignment = tmp_path / "assignments" / "3.json"
    sessions = tmp_path / "clusters" / "3" / "sessions"
    sessions.write_bytes(b"x")
    age(1000, assignment, sessions)
    sessions.touch()
    assert not store.forget(3)
    age(1000, sessions)
    assert store.forget(3)
    assert not assignment.exists()
    assert not sessions.parent.exists()
    assert store.forget(3), "what is gone is forgotten"


def test_cluster_has_a_place_to_write_before_it_is_started(
    store: ControlStore, tmp_path: Path
) -> None:
    """Its unit may write nowhere else, and CONTROL's umask lets nobody in."""
    old = os.umask(0o077)
    try:
        store.save_held(held())
    finally:
        os.umask(old)
    directory = tmp_path / "clusters" / "3"
    assert directory.stat().st_mode & 0o777 == 0o770
    directory.rmdir()
    assert ControlStore(tmp_path).load_held() == {3: held()}
    assert directory.exists(), "lost, and made again"


def test_place_that_cannot_be_made_is_told(store: ControlStore, tmp_path: Path) -> None:
    (tmp_path / "clusters").write_text("in the way")
    with pytest.raises(StateError, match=r"clusters/3: cannot be made: Not a directory"):
        store.save_held(held())


# --- what a cluster may put in CONTROL's way ------------------------------------------------------


def secret_sessions(directory: Path) -> Path:
    """A session file that the cluster cannot read itself, as MASTER's or another host's."""
    path = directory / "elsewhere"
    file = SessionFile(path)
    file.slot(1, 4).save(Session(session_id="secret", resume_url="wss://e", seq=9))
    file.close()
    return path


def put_link(path: Path, elsewhere: Path) -> None:
    path.symlink_to(elsewhere)


def put_fifo(path: Path, _elsewhere: Path) -> None:
    os.mkfifo(path)


def put_directory(path: Path, _elsewhere: Path) -> None:
    path.mkdir()


def put_socket(path: Path, _elsewhere: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def put_much(path: Path, _elsewhere: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize("put", [put_link, put_fifo, put_directory, put_socket, put_much])
def test_what_is_no_session_file_is_neither_followed_nor_waited_for(
    store: ControlStore,
    tmp_path: Path,
    put: Callable[[Path, Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    store.save_held(held())
    put(tmp_path / "clusters" / "3" / "sessions", secret_sessions(tmp_path))
    assert store.read_stays(3) == {}
    assert "clusters/3/sessions: " in caplog.text


def test_what_a_cluster_left_does_not_keep_its_assignment(
    store: ControlStore, tmp_path: Path
) -> None:
    """Nor is anything removed that is elsewhere."""
    store.save_held(held())
    elsewhere = secret_sessions(tmp_path)
    own = tmp_path / "clusters" / "3"
    put_link(own / "sessions", elsewhere)
    put_link(own / "tree", tmp_path)
    (own / "full").mkdir()
    (own / "full" / "file").touch()
    age(1000, tmp_path / "assignments" / "3.json")
    os.utime(own / "sessions", (1, 1), follow_symlinks=False)
    assert store.forget(3)
    assert store.load_held() == {}
    assert elsewhere.exists()
    assert [path.name for path in own.iterdir()] == ["full"]
