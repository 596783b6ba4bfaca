# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from discluster.cluster.progress import ProgressWatch
from discluster.cluster.reconcile import Decision, Running, decide
from discluster.messages import Assignment

URL = "wss://g.example"


def assignment(*shards: int, count: int = 8) -> Assignment:
    return Assignment(cluster=3, generation=4, shard_count=count, gateway_url=URL, shards=shards)


def test_without_an_assignment_nothing_is_touched() -> None:
    assert decide(None, {5: Running(8, URL)}) == Decision(sentence="no assignment yet")


def test_shards_are_opened_and_closed_in_one_sentence() -> None:
    assert decide(assignment(1, 2, 3), {5: Running(8, URL), 7: Running(8, URL)}) == Decision(
        open=(1, 2, 3),
        close=(5, 7),
        sentence="assignment 4: opening shards 1 to 3, closing shards 5, 7",
    )


def test_what_runs_as_assigned_is_left_alone() -> None:
    assert decide(assignment(5), {5: Running(8, URL)}) == Decision(
        sentence="nothing to do: 1 shards run assignment 4"
    )


def test_closing_shard_is_opened_again_only_when_it_is_gone() -> None:
    closing = {5: Running(8, URL, "closing")}
    assert decide(assignment(5), closing).open == ()
    assert decide(assignment(), closing).close == ()
    assert decide(assignment(5), {}).open == (5,)


def test_changed_gateway_closes_nothing_but_a_changed_count_does() -> None:
    assert decide(assignment(5), {5: Running(8, "wss://other")}).close == ()
    assert decide(assignment(5), {5: Running(4, URL)}).close == (5,)
    assert decide(assignment(5), {5: Running(4, URL)}).open == ()


def test_without_a_lease_all_are_closed_and_none_is_opened() -> None:
    running = {5: Running(8, URL), 6: Running(8, URL, "closing"), 7: Running(8, URL)}
    assert decide(assignment(4, 5, 6), running, unleased="the lease ended: x") == Decision(
        close=(5, 7), sentence="closing shards 5, 7: the lease ended: x"
    )
    assert decide(assignment(4), {}, unleased="no lease yet: x") == Decision(
        sentence="no shard runs: no lease yet: x"
    )
    assert decide(assignment(4, 5), {}).open == (4, 5), "and all come back with one"


def test_rejected_shard_stays_without_a_lease_so_that_discord_is_not_asked_again() -> None:
    over = {5: Running(8, URL, "over")}
    assert decide(assignment(5), over, unleased="no lease").close == ()
    assert decide(assignment(5), over) == Decision(
        sentence="nothing to do: 1 shards run assignment 4"
    )
    assert decide(assignment(), over).close == (5,)


@given(
    wanted=st.sets(st.integers(0, 7)),
    running=st.dictionaries(
        st.integers(0, 7),
        st.builds(
            Running,
            st.sampled_from([4, 8]),
            st.just(URL),
            st.sampled_from(["open", "closing", "over"]),
        ),
    ),
)
def test_steps_lead_to_the_assignment(wanted: set[int], running: dict[int, Running]) -> None:
    now = dict(running)
    for _ in range(3):
        decision = decide(assignment(*sorted(wanted)), now)
        assert not set(decision.open) & now.keys(), "never two tasks for one shard"
        for shard in decision.open:
            now[shard] = Running(8, URL)
        for shard in decision.close:
            assert now[shard].state != "closing"
            now[shard] = Running(now[shard].shard_count, URL, "closing")
        now = {shard: state for shard, state in now.items() if state.state != "closing"}
    assert now.keys() == wanted
    assert all(state.shard_count == 8 for state in now.values())


def test_shard_without_growth_for_longer_than_the_limit_is_stalled() -> None:
    watch = ProgressWatch(limit=10)
    assert watch.stalled({1: 5, 2: 5}, 100) == []
    assert watch.stalled({1: 6, 2: 5}, 110) == []
    assert watch.stalled({1: 6, 2: 5}, 110.1) == [2]
    assert watch.stalled({1: 6, 2: 5}, 120.1) == [1, 2]
    assert watch.stalled({1: 7, 2: 1}, 121) == [], "any change is a sign of life"


def test_shard_that_left_is_forgotten() -> None:
    watch = ProgressWatch(limit=10)
    watch.stalled({1: 5}, 0)
    watch.stalled({}, 5)
    assert watch.stalled({1: 5}, 20) == []
    assert watch.stalled({1: 5}, 31) == [1]
