# SPDX-License-Identifier: Apache-2.0
"""One tries for all: at one level, and at three levels that are stacked."""

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.clearance import CANARY_LIMIT, Clearing, rejection
from discluster.messages import CaseState, ShardView


class Level:
    """One level with what it said: to whom, and to the level above."""

    def __init__(self, *askers: int) -> None:
        self.now = 0.0
        self.cleared: list[int] = []
        self.released: list[int] = []
        self.told: list[tuple[int, CaseState]] = []
        self.clearing = Clearing[int](clear=self.cleared.append, release=self._release)
        for who in askers:
            self.clearing.ask(who)

    def _release(self, everybody: Sequence[int]) -> None:
        self.released.extend(everybody)

    def connect(self) -> None:
        self.clearing.connect(lambda who, state: self.told.append((who, state)))

    def after(self, seconds: float = 0.0) -> float | None:
        self.now += seconds
        return self.clearing.step(self.now)


@pytest.mark.covers("T-58")
def test_one_of_all_that_ask_is_cleared() -> None:
    level = Level(3, 1, 2)
    assert level.after() == CANARY_LIMIT
    assert level.cleared == [3]
    level.after(CANARY_LIMIT - 1)
    assert level.cleared == [3]


def test_the_only_one_that_asks_waits_for_nobody() -> None:
    level = Level(7)
    level.after()
    assert level.cleared == [7]


@pytest.mark.covers("T-58")
def test_acceptance_releases_everybody_else() -> None:
    level = Level(3, 1, 2)
    level.after()
    level.clearing.accepted(3)
    assert level.released == [1, 2]
    assert level.after() is None
    level.clearing.ask(9)
    level.after()
    assert level.cleared == [3, 9], "the next 4003 is a new case"


@pytest.mark.covers("T-58")
def test_canary_that_says_nothing_more_keeps_the_others_where_they_are_for_its_time() -> None:
    """So it is when Discord rejected it: the halt comes within that time."""
    level = Level(3, 1, 2)
    level.after()
    level.after(59.9)
    assert (level.cleared, level.released) == ([3], [])


def test_canary_that_takes_too_long_gives_way_and_may_still_succeed() -> None:
    level = Level(3, 1, 2)
    level.after()
    level.after(60.0)
    assert level.cleared == [3, 1]
    level.clearing.accepted(3)
    assert level.released == [1, 2]


def test_failed_canaries_give_way_ever_more_slowly() -> None:
    level = Level(*range(20))
    times = []
    for turn in range(10):
        while len(level.cleared) == turn:
            level.after(0.25)
        times.append(level.now)
        level.clearing.failed(level.cleared[-1], level.now)
    gaps = [late - early for early, late in itertools.pairwise(times)]
    assert gaps == [1, 2, 4, 8, 16, 30, 30, 30, 30]
    level.clearing.released()
    level.clearing.ask(50)
    level.after()
    assert level.cleared[-1] == 50, "an acceptance ends the caution"


def test_canary_that_leaves_makes_room_at_once() -> None:
    level = Level(3, 1)
    level.after()
    level.clearing.leave(3)
    level.after()
    assert level.cleared == [3, 1]


def test_only_the_canary_is_sent_upwards_and_waits_for_the_answer() -> None:
    level = Level(3, 1)
    level.connect()
    assert level.after() is None
    assert level.told == [(3, "asks")]
    assert not level.clearing.is_cleared(3)
    level.clearing.cleared(3, level.now)
    assert level.cleared == [3]
    level.clearing.accepted(3)
    assert level.told == [(3, "asks"), (3, "accepted")]
    assert level.released == [1]


def test_change_of_canary_is_told_upwards() -> None:
    level = Level(3, 1)
    level.connect()
    level.after()
    level.clearing.cleared(3, level.now)
    level.clearing.failed(3, level.now)
    level.after(1.0)
    assert level.told == [(3, "asks"), (3, "failed"), (1, "asks")]
    level.clearing.cleared(3, level.now)
    assert level.told[-1] == (3, "failed"), "what came too late is given back"
    assert level.cleared == [3]


def test_level_that_loses_the_one_above_decides_for_itself() -> None:
    level = Level(3, 1)
    level.connect()
    level.after()
    level.clearing.disconnect(level.now)
    assert level.cleared == [3]
    level.connect()
    assert level.told[-1] == (3, "asks"), "and tells of it later"


def test_release_from_above_includes_the_canary() -> None:
    level = Level(3, 1, 2)
    level.connect()
    level.after()
    level.clearing.released()
    assert level.released == [3, 1, 2]


def test_rejection_is_told_in_words() -> None:
    ready = ShardView(shard=1, state="ready")
    fatal = ShardView(shard=3, state="fatal", fatal=4004, problem="Discord rejected the bot token")
    assert rejection([ready]) is None
    assert rejection([ready, fatal]) == "shard 3 was rejected: Discord rejected the bot token"


class Tower:
    """MASTER, two CONTROLs, four clusters, and shards that have been closed with 4003."""

    def __init__(self, shards: Sequence[int], *, master: bool, controls: bool) -> None:
        self.now = 0.0
        self.trying: list[int] = []
        self.free: set[int] = set()
        self.master = Clearing[int](clear=self._to_control, release=self._all_controls)
        self.controls = [
            Clearing[int](clear=self._to_cluster, release=self._all_clusters) for _ in range(2)
        ]
        self.clusters = [
            Clearing[int](clear=self.trying.append, release=self.free.update) for _ in range(4)
        ]
        for number, cluster in enumerate(self.clusters):
            if controls:
                cluster.connect(self._upwards(self.controls[number // 2]))
        for control in self.controls:
            if master:
                control.connect(self._upwards(self.master))
        for shard in shards:
            self.clusters[shard % 4].ask(shard)

    def _upwards(self, above: Clearing[int]):  # type: ignore[no-untyped-def]
        def tell(shard: int, state: CaseState) -> None:
            match state:
                case "asks":
                    above.ask(shard)
                case "accepted":
                    above.accepted(shard)
                case "failed":
                    above.failed(shard, self.now)

        return tell

    def _to_control(self, shard: int) -> None:
        self.controls[shard % 4 // 2].cleared(shard, self.now)

    def _all_controls(self, shards: Sequence[int]) -> None:
        for shard in shards:
            self.controls[shard % 4 // 2].released()

    def _to_cluster(self, shard: int) -> None:
        self.clusters[shard % 4].cleared(shard, self.now)

    def _all_clusters(self, shards: Sequence[int]) -> None:
        for shard in shards:
            self.clusters[shard % 4].released()

    def after(self, seconds: float = 0.0) -> None:
        self.now += seconds
        for level in (*self.clusters, *self.controls, self.master):
            level.step(self.now)


@pytest.mark.covers("T-58", "F12")
@pytest.mark.parametrize(
    ("master", "controls", "canaries"), [(True, True, 1), (False, True, 2), (False, False, 4)]
)
def test_fleet_has_one_canary_for_each_part_that_has_lost_touch(
    master: bool, controls: bool, canaries: int
) -> None:
    tower = Tower(range(40), master=master, controls=controls)
    tower.after()
    tower.after(30.0)
    assert len(tower.trying) == canaries


@pytest.mark.covers("T-58", "F12")
@given(st.sets(st.integers(0, 39), min_size=1), st.integers(0, 3), st.randoms())
def test_one_acceptance_sets_the_whole_fleet_free(
    shards: set[int], failures: int, rng: random.Random
) -> None:
    order = sorted(shards, key=lambda _: rng.random())
    tower = Tower(order, master=True, controls=True)
    tower.after()
    for _ in range(failures):
        (canary,) = tower.trying
        tower.trying.clear()
        tower.clusters[canary % 4].failed(canary, tower.now)
        tower.clusters[canary % 4].ask(canary)
        for _ in range(200):
            tower.after(0.5)
            if tower.trying:
                break
        assert len(tower.trying) == 1, "never two at once"
    tower.clusters[tower.trying[0] % 4].accepted(tower.trying[0])
    assert tower.free | {tower.trying[0]} == shards
