# SPDX-License-Identifier: Apache-2.0
"""What orders mean for the plan, and how they are kept."""

from pathlib import Path

import pytest

from discluster.errors import StateError
from discluster.master.orders import orders as ordered
from discluster.master.orders.orders import Orders, Task, obeying
from discluster.master.planner import HostNeed
from discluster.master.store import MasterStore
from discluster.orders import MovesStatus

NEEDS = {host: HostNeed() for host in "abc"}
TASK = Task(order="drain b", began=5.0, moves={3: "b", 7: None}, deadline=65.0, drained="b")


def test_without_orders_nothing_changes() -> None:
    assert obeying(NEEDS, Orders()) == NEEDS


def test_a_drained_host_gets_no_shards_until_that_is_ended() -> None:
    orders = ordered.drained(Orders(), "b", now=5.0)
    assert obeying(NEEDS, orders)["b"].state == "draining"
    assert obeying(NEEDS, ordered.undrained(orders, "b")) == NEEDS


def test_draining_twice_keeps_the_time() -> None:
    once = ordered.drained(Orders(), "b", now=5.0)
    assert ordered.drained(once, "b", now=9.0) == once


def test_a_lost_host_stays_lost_when_it_is_drained() -> None:
    orders = ordered.drained(Orders(), "b", now=5.0)
    needs = NEEDS | {"b": HostNeed(state="lost")}
    assert obeying(needs, orders)["b"].state == "lost"


def test_a_removed_host_is_not_planned_for_and_loses_its_other_orders() -> None:
    orders = ordered.sized(ordered.drained(Orders(), "b", now=5.0), "b", 4)
    orders = ordered.removed(orders, "b", lost=True, now=7.0)
    assert obeying(NEEDS, orders).keys() == {"a", "c"}
    assert (orders.drained, orders.sizes, set(orders.lost)) == ({}, {}, {"b"})
    assert ordered.readmitted(orders, "b") == Orders()


def test_a_host_that_was_removed_in_peace_is_not_asserted_to_be_off() -> None:
    assert ordered.removed(Orders(), "b", lost=False, now=7.0).lost == frozenset()


def test_a_size_takes_precedence_until_it_is_ended() -> None:
    orders = ordered.sized(Orders(), "b", 4)
    assert obeying(NEEDS, orders)["b"].shards_per_cluster == 4
    assert ordered.sized(orders, "b", None) == Orders()


def test_each_task_has_a_number_of_its_own_and_keeps_how_it_ended() -> None:
    first = ordered.begun(Orders(), TASK)
    second = ordered.begun(first, TASK)
    assert (first.serial, second.serial) == (1, 2)
    status = MovesStatus(serial=2, order="drain b", state="done", age=3.0, total=2, moved=2)
    after = ordered.ended(second, status)
    assert after.task is not None
    assert after.task.ended == status
    assert after.serial == 2


def test_orders_survive_a_restart(tmp_path: Path) -> None:
    orders = ordered.removed(ordered.drained(Orders(), "b", now=5.0), "c", lost=True, now=7.0)
    orders = ordered.begun(ordered.sized(orders, "a", 4), TASK)
    status = MovesStatus(serial=1, order="drain b", state="failed", age=3.0, total=2, moved=1)
    for kept in (orders, ordered.ended(orders, status)):
        MasterStore(tmp_path).save_orders(kept)
        assert MasterStore(tmp_path).orders() == kept


@pytest.mark.parametrize(
    "text", ["", "{", '{"drained": ["b"]}', '{"sizes": {"b": 0}}', '{"sizes": {"b": 257}}']
)
def test_a_damaged_file_is_refused_with_words(tmp_path: Path, text: str) -> None:
    (tmp_path / "orders.json").write_text(text)
    with pytest.raises(StateError, match=r"orders\.json: cannot be read") as caught:
        MasterStore(tmp_path).orders()
    assert caught.value.hint is not None
    assert "no host is drained" in caught.value.hint
