# SPDX-License-Identifier: Apache-2.0
"""Calls under way at one place: every call ends once, with one entry for each cluster."""

from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.calls import MOST_TOGETHER, Calls, shortened
from discluster.messages import NOTHING, CallFault

NOWHERE = CallFault(code="no-such-cluster", text="nowhere")


class Told:
    """A receiver that believes nothing: what comes must come once, and in order."""

    def __init__(self) -> None:
        self.expected: set[int] = set()
        self.answers: dict[int, tuple[bytes, str | None]] = {}
        self.unasked: str | None = None
        self.named = self.ended = False

    def asked(self, hosts: Mapping[str, tuple[int, ...]]) -> None:
        assert not self.named
        for clusters in hosts.values():
            assert not self.expected.intersection(clusters)
            self.expected.update(clusters)

    def all_asked(self, unasked: str | None, missing: CallFault) -> None:
        assert not self.named
        self.named, self.unasked, self.missing = True, unasked, missing

    def answered(self, cluster: int, value: msgspec.Raw, fault: CallFault | None) -> None:
        assert not self.ended
        if cluster not in self.expected:
            assert self.named
            assert fault == self.missing
            self.expected.add(cluster)
        assert cluster not in self.answers
        self.answers[cluster] = (bytes(value), fault.code if fault else None)

    def over(self) -> None:
        assert not self.ended
        assert self.named
        assert self.answers.keys() == self.expected
        self.ended = True


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def begun(calls: Calls, told: Told, wanted: set[int] | None = None, *, until: float = 10.0) -> int:
    return calls.begin("us", told, until=until, namer="master", wanted=wanted)


def close(calls: Calls, number: int, **more: str) -> None:
    calls.all_asked(number, "master", missing=NOWHERE, **more)


def test_call_is_over_when_all_that_were_asked_have_answered() -> None:
    calls, told = Calls(most=9), Told()
    number = begun(calls, told)
    calls.asked(number, "master", {"alpha": {1: "a"}, "beta": {2: "b"}})
    calls.answered(number, "a", 1, raw([1]))
    close(calls, number, unasked="because")
    assert len(calls) == 1
    calls.answered(number, "b", 2, raw([2]))
    assert (told.ended, told.unasked) == (True, "because")
    assert told.answers == {1: (b"[1]", None), 2: (b"[2]", None)}
    assert len(calls) == 0


def test_nobody_answers_for_another_and_nobody_twice() -> None:
    calls, told = Calls(most=9), Told()
    number = begun(calls, told)
    calls.asked(number, "master", {"alpha": {1: "a", 2: "a2"}})
    calls.answered(number, "a2", 1, raw("forged"))
    calls.answered(number, "a", 2, raw("forged"))
    calls.answered(number + 1, "a", 1, raw("of another call"))
    calls.answered(number, "a", 1, raw("true"))
    calls.answered(number, "a", 1, raw("again"))
    assert told.answers == {1: (b'"true"', None)}


def test_only_the_namer_says_who_is_asked() -> None:
    calls, told = Calls(most=9), Told()
    number = begun(calls, told)
    calls.asked(number, "a", {"alpha": {1: "a"}})
    calls.all_asked(number, "a", missing=NOWHERE)
    assert not told.expected
    assert not told.named


def test_cluster_that_is_wanted_and_on_no_host_has_an_entry() -> None:
    calls, told = Calls(most=9), Told()
    number = begun(calls, told, {1, 7})
    calls.asked(number, "master", {"alpha": {1: "a", 3: "a"}})
    close(calls, number)
    calls.answered(number, "a", 1)
    assert told.answers == {1: (b"null", None), 7: (b"null", "no-such-cluster")}
    assert told.ended


def test_who_is_silent_is_out_of_time_and_the_others_keep_their_answers() -> None:
    calls, told = Calls(most=9), Told()
    number = begun(calls, told, {1, 2, 3}, until=5.0)
    calls.asked(number, "master", {"alpha": {1: "a", 2: "b"}})
    calls.answered(number, "a", 1, raw(1))
    calls.expire(4.9, "late")
    assert not told.ended
    assert calls.next_deadline == 5.0
    calls.expire(5.0, "late")
    assert told.answers == {1: (b"1", None), 2: (b"null", "time-out"), 3: (b"null", "time-out")}
    assert (told.ended, told.unasked) == (True, "late")
    calls.answered(number, "b", 2, raw("late"))
    assert calls.next_deadline is None


def test_lost_way_ends_what_was_to_come_by_it() -> None:
    calls, told = Calls(most=9), Told()
    number = begun(calls, told, {1, 2, 9})
    calls.asked(number, "master", {"alpha": {1: "a"}, "beta": {2: "master"}})
    calls.lost("master", "MASTER went away")
    assert told.answers == {2: (b"null", "away"), 9: (b"null", "away")}
    assert told.unasked == "MASTER went away"
    calls.answered(number, "a", 1, raw(1))
    assert told.ended


def test_values_of_one_call_are_bounded_together() -> None:
    calls, told = Calls(most=9), Told()
    number = begun(calls, told)
    calls.asked(number, "master", {"alpha": {1: "a", 2: "a", 3: "a"}})
    calls.answered(number, "a", 1, raw("x" * (MOST_TOGETHER - 10)))
    calls.answered(number, "a", 2, raw("x" * 10))
    calls.answered(number, "a", 3, raw(3))
    assert (told.answers[2], told.answers[3]) == ((b"null", "too-large"), (b"3", None))


def test_calls_are_bounded_for_each_asker_and_in_all() -> None:
    calls = Calls(most=3)
    for asker in ("a", "a", "b"):
        assert calls.busy(asker, 2) is None
        calls.begin(asker, Told(), until=1, namer="master")
        if asker == "a" and len(calls) == 2:
            assert calls.busy("a", 2) == "2 calls of this asker are under way already"
    assert calls.busy("c", 2) == "3 calls are under way already"
    calls.forget("a")
    assert len(calls) == 1


def test_who_is_gone_is_told_nothing() -> None:
    calls, told = Calls(most=9), Told()
    number = begun(calls, told)
    calls.asked(number, "master", {"alpha": {1: "a"}})
    calls.forget("us")
    calls.answered(number, "a", 1)
    calls.expire(100, "late")
    assert not told.answers


def test_a_part_of_a_long_message_does_not_keep_all_of_it() -> None:
    class Keeps(Told):
        def answered(self, cluster: int, value: msgspec.Raw, fault: CallFault | None) -> None:
            self.kept = memoryview(value).obj

    class Long(msgspec.Struct):
        value: msgspec.Raw

    calls, told = Calls(most=9), Keeps()
    number = begun(calls, told)
    calls.asked(number, "master", {"alpha": {1: "a"}})
    value = msgspec.json.decode(b'{"value":1,"rest":"%s"}' % (b"x" * 100_000), type=Long).value
    calls.answered(number, "a", 1, value)
    assert len(memoryview(told.kept)) < 100


@pytest.mark.parametrize("timeout", [0.0, 0.5, 10.0, 60.0])
def test_each_hop_has_less_time_than_the_one_before(timeout: float) -> None:
    assert 0.0 <= shortened(timeout) <= timeout
    assert timeout == 0 or timeout * 0.9 <= shortened(timeout) < timeout


CLUSTER = st.integers(0, 5)
NUMBER = st.integers(1, 4)
WAY = st.sampled_from(["a", "b", "master", "us"])
HOSTS = st.dictionaries(
    st.sampled_from(["alpha", "beta"]), st.dictionaries(CLUSTER, WAY, max_size=4), max_size=2
)
STEP = st.one_of(
    st.tuples(st.just("begin"), st.none() | st.sets(CLUSTER, max_size=4), st.floats(0, 20)),
    st.tuples(st.just("asked"), NUMBER, WAY, HOSTS),
    st.tuples(st.just("all_asked"), NUMBER, WAY),
    st.tuples(st.just("answered"), NUMBER, WAY, CLUSTER, st.booleans()),
    st.tuples(st.just("lost"), WAY),
    st.tuples(st.just("expire"), st.floats(0, 20)),
)


@given(st.lists(STEP, max_size=40))
def test_every_call_ends_once_with_one_entry_for_each_cluster(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    """Whatever is lost, late, repeated or forged; :class:`Told` looks at each word."""
    calls, all_told, wanted = Calls(most=99), list[Told](), list[set[int]]()
    for step in steps:
        match step:
            case ("begin", wants, until):
                all_told.append(Told())
                wanted.append(wants or set())
                begun(calls, all_told[-1], wants, until=until)
            case ("asked", number, way, hosts):
                calls.asked(number, way, hosts)
            case ("all_asked", number, way):
                calls.all_asked(number, way, missing=NOWHERE)
            case ("answered", number, way, cluster, well):
                calls.answered(number, way, cluster, NOTHING, None if well else NOWHERE)
            case ("lost", way):
                calls.lost(way, "gone")
            case ("expire", now):
                calls.expire(now, "late")
    calls.expire(20.0, "late")
    assert all(told.ended for told in all_told)
    assert all(wants <= told.answers.keys() for told, wants in zip(all_told, wanted, strict=True))
    assert len(calls) == 0
