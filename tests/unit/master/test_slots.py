# SPDX-License-Identifier: Apache-2.0
"""Two hosts never follow plans that give both the same window, whatever plans got lost."""

from itertools import combinations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from discluster.master.identify.slots import Claims, identify_slots, paced_hosts, share_out
from discluster.messages import HostReport
from discluster.plan import (
    FleetPlan,
    Grant,
    IdentifySlots,
    SlotClaim,
    fleet_plan_from_yaml,
    fleet_plan_to_yaml,
    host_plan_from_yaml,
)
from tests.unit.master.fleets import GATEWAY, fleet

NAMES = [f"h{n}" for n in range(9)]


def report(generation: int, slots: IdentifySlots | None = None) -> HostReport:
    return HostReport(plan_generation=generation, slots=slots)


def told(claims: Claims) -> dict[str, tuple[int | None, int]]:
    return {host: (held[-1].slot, held[-1].slots) for host, held in claims.items() if held}


def following(claims: Claims, generation: int) -> dict[str, HostReport]:
    """Every host has the newest plan."""
    return {
        host: report(
            generation,
            IdentifySlots(slot=held[-1].slot, slots=held[-1].slots) if held else IdentifySlots(),
        )
        for host, held in claims.items()
    }


def windows(slot: int | None, slots: int) -> set[int]:
    """Of 64."""
    return set() if slot is None else set(range(slot, 64, slots))


def test_hosts_that_come_together_get_slots_at_once() -> None:
    claims = share_out({}, ["c", "a", "b"], {h: report(0) for h in "abc"}, 1)
    assert told(claims) == {"a": (0, 4), "b": (1, 4), "c": (2, 4)}


def test_one_host_has_all_windows() -> None:
    assert told(share_out({}, ["a"], {"a": report(0)}, 1)) == {"a": (0, 1)}


def test_a_newcomer_gets_a_slot_when_the_old_hosts_have_narrowed_theirs() -> None:
    two = share_out({}, ["a", "b"], {"a": report(0), "b": report(0)}, 1)
    reports = {**following(two, 1), "c": report(0)}
    three = share_out(two, ["a", "b", "c"], reports, 2)
    assert told(three) == {"a": (0, 4), "b": (1, 4)}
    assert three["c"] == ()
    reports["b"] = report(2, IdentifySlots(slot=1, slots=4))
    after = share_out(three, ["a", "b", "c"], reports, 3)
    assert told(after) == {"a": (0, 4), "b": (1, 4), "c": (3, 4)}, "a may still have window 2"


def test_a_slot_is_free_again_when_its_host_reported_that_it_gave_it_up() -> None:
    claims = share_out({}, ["a", "b"], {"a": report(0), "b": report(0)}, 1)
    reports = {**following(claims, 1), "c": report(0)}
    gone = share_out(claims, ["a", "c"], reports, 2)
    assert told(gone) == {"a": (0, 4), "b": (None, 1)}
    reports = {**following(gone, 2), "c": report(0)}
    assert told(share_out(gone, ["a", "c"], reports, 3)) == {"a": (0, 2), "c": (1, 2)}


def test_a_host_that_is_cut_off_keeps_its_windows_for_ever() -> None:
    claims = share_out({}, ["a", "b"], {"a": report(0), "b": report(0)}, 1)
    reports = following(claims, 1)
    for generation in range(2, 9):
        claims = share_out(claims, ["a"], {"a": reports["a"]}, generation)
        reports["a"] = following(claims, generation)["a"]
        assert windows(*told(claims)["a"]).isdisjoint(windows(1, 2))


def test_windows_of_a_host_that_has_stopped_are_free_for_others() -> None:
    claims = share_out({}, ["a"], {"a": report(0)}, 1)
    reports = {**following(claims, 1), "b": report(0)}
    assert share_out(claims, ["b"], reports, 2)["b"] == (), "a may have all windows"
    assert told(share_out(claims, ["b"], reports, 2, stopped={"a"})) == {"b": (0, 1)}


def test_host_that_had_stopped_and_returns_shares_what_it_says_it_follows() -> None:
    claims = {"b": (SlotClaim(slot=0, slots=1, since=2),)}
    reports = {"a": report(1, IdentifySlots(slot=0, slots=1)), "b": report(2)}
    after = share_out(claims, ["a", "b"], reports, 3)
    assert set(told(after).values()) == {(None, 1)}, "nobody has a window that may be another's"


def test_slots_become_fewer_when_hosts_leave() -> None:
    claims = share_out({}, NAMES[:8], {h: report(0) for h in NAMES[:8]}, 1)
    generation = 1
    for _ in range(4):
        reports = following(claims, generation)
        generation += 1
        claims = share_out(claims, ["h6", "h7"], reports, generation)
    assert sorted(told(claims)) == ["h6", "h7"]
    assert {slots for _, slots in told(claims).values()} == {2}


def test_nothing_changes_when_nothing_has_changed() -> None:
    claims = share_out({}, ["a", "b"], {"a": report(0), "b": report(0)}, 1)
    assert share_out(claims, ["a", "b"], following(claims, 1), 2) == claims
    assert share_out(claims, ["a", "b"], {}, 2) == claims


def test_beside_a_host_of_which_no_claim_was_written_down_nobody_has_a_slot() -> None:
    """The plan is of a version that kept none. It may follow whatever that said."""
    claims = share_out({}, ["a", "b"], {}, 7)
    assert told(claims) == {"a": (None, 1), "b": (None, 1)}
    reports = {"a": report(7, IdentifySlots())}
    later = share_out(claims, ["a", "b"], reports, 8)
    assert told(later) == {"a": (None, 1), "b": (0, 2)}, "it is the only one that may have windows"
    reports["b"] = report(8, IdentifySlots(slot=0, slots=2))
    assert told(share_out(later, ["a", "b"], reports, 9)) == {"a": (1, 2), "b": (0, 2)}


def test_what_a_host_says_it_follows_counts_more_than_what_is_written_here() -> None:
    """MASTER's files came from a backup."""
    claims = {"a": (SlotClaim(slot=0, slots=2, since=1),), "b": ()}
    reports = {"a": report(40, IdentifySlots(slot=1, slots=2)), "b": report(0)}
    after = share_out(claims, ["a", "b"], reports, 41)
    assert told(after) == {"a": (1, 2), "b": (0, 2)}


@pytest.mark.parametrize(
    "slots", [IdentifySlots(slot=1, slots=3), IdentifySlots(slot=0, slots=2**40)]
)
def test_a_host_that_numbers_its_windows_in_another_way_may_have_any(slots: IdentifySlots) -> None:
    """As versions did that counted the hosts."""
    reports = {"a": report(7, slots), "b": report(0)}
    claims = share_out({}, ["a", "b"], reports, 8)
    assert told(claims) == {"a": (0, 2)}
    assert claims["b"] == ()


def test_hosts_with_shards_and_those_yet_to_let_go_have_slots() -> None:
    leaving = fleet(
        {"a": {0: [0]}, "b": {1: [1]}, "c": {}},
        granted={0: Grant(host="a"), 1: Grant(host="c", withdrawn=4)},
    )
    assert paced_hosts(leaving) == {"a", "b", "c"}


def test_claims_are_kept_in_the_fleets_plan_one_line_a_host() -> None:
    held = {
        "a": (SlotClaim(slot=0, slots=2, since=3), SlotClaim(slot=0, slots=4, since=5)),
        "b": (),
    }
    plan = FleetPlan(
        generation=5, shard_count=1, gateway_url=GATEWAY, slots=held, max_concurrency=16
    )
    text = fleet_plan_to_yaml(plan)
    assert "  a: [{slot: 0, slots: 2, since: 3}, {slot: 0, slots: 4, since: 5}]\n" in text
    assert fleet_plan_from_yaml(text, file="fleet.yaml") == plan
    assert identify_slots(plan, "a") == IdentifySlots(max_concurrency=16, slot=0, slots=4)
    assert identify_slots(plan, "b").slot is None
    assert identify_slots(plan, "unheard-of").slot is None


def test_plans_of_older_versions_are_read() -> None:
    old = 'generation: 1\nshard_count: 1\ngateway_url: "wss://x"\n'
    assert fleet_plan_from_yaml(old, file="fleet.yaml").slots == {}
    host = old + "host: a\nidentify: {max_concurrency: 1, slot: 2, slots: 3, after: 40.25}\n"
    assert host_plan_from_yaml(host, file="plan.yaml").identify.slot == 2


class Windows(RuleBasedStateMachine):
    """MASTER against hosts whose plans get lost, are late, or never come."""

    @initialize()
    def begin(self) -> None:
        self.generation = 0
        self.claims: Claims = {}
        self.wanted: set[str] = set()
        self.plans: dict[int, dict[str, IdentifySlots]] = {}
        self.in_force = {host: (0, IdentifySlots()) for host in NAMES}
        self.reports: dict[str, HostReport] = {}
        # Their leases have ended, and they get others by MASTER's newest plan alone.
        self.lost: set[str] = set()
        self.returning: set[str] = set()

    @rule(host=st.sampled_from(NAMES))
    def comes_or_goes(self, host: str) -> None:
        if host in self.lost:
            return
        self.wanted ^= {host}
        self.reports.setdefault(host, report(0))

    @rule()
    def plans_anew(self) -> None:
        after = share_out(
            self.claims, self.wanted, self.reports, self.generation + 1, stopped=self.lost
        )
        if after != self.claims:
            self.generation += 1
            self.claims = after
            self.plans[self.generation] = {
                host: IdentifySlots(slot=held[-1].slot, slots=held[-1].slots)
                for host, held in after.items()
                if held
            }

    @rule(host=st.sampled_from(NAMES), behind=st.integers(0, 3))
    def takes_a_plan(self, host: str, behind: int) -> None:
        """One that is on its way, not always the newest."""
        generation = self.generation - behind
        if host in self.lost or (host in self.returning and behind):
            return
        self.returning.discard(host)
        if generation > self.in_force[host][0]:
            self.in_force[host] = generation, self.plans[generation].get(host, IdentifySlots())

    @rule(host=st.sampled_from(NAMES), says_slots=st.booleans())
    def reports_in(self, host: str, says_slots: bool) -> None:
        if host in self.lost:
            return
        generation, slots = self.in_force[host]
        self.reports[host] = report(generation, slots if says_slots or generation == 0 else None)

    @rule(host=st.sampled_from(NAMES[:3]))
    def joins(self, host: str) -> None:
        if host not in self.wanted | self.lost:
            self.comes_or_goes(host)
            self.plans_anew()
            self.takes_a_plan(host, 0)
            self.reports_in(host, True)

    @rule(host=st.sampled_from(NAMES[:3]))
    def is_lost(self, host: str) -> None:
        self.wanted.discard(host)
        self.lost.add(host)
        self.plans_anew()

    @rule(host=st.sampled_from(NAMES[:3]))
    def returns(self, host: str) -> None:
        if host in self.lost:
            self.lost.discard(host)
            self.returning.add(host)
            self.reports_in(host, True)

    @rule()
    def master_restarts(self) -> None:
        plan = FleetPlan(
            generation=max(1, self.generation),
            shard_count=1,
            gateway_url=GATEWAY,
            slots=dict(self.claims),
        )
        self.claims = fleet_plan_from_yaml(fleet_plan_to_yaml(plan), file="fleet.yaml").slots
        # A host that does not connect again is not heard of any more.
        self.reports = {h: r for h, r in self.reports.items() if r.plan_generation == 0}

    @rule()
    def all_goes_well(self) -> None:
        """Then everybody who is wanted ends up with a slot, of few enough."""
        for host in NAMES:
            self.returns(host)
        for _ in range(12):
            for host in NAMES:
                self.takes_a_plan(host, 0)
                self.reports_in(host, True)
            self.plans_anew()
        now = told(self.claims)
        assert {host for host, (slot, _) in now.items() if slot is not None} == self.wanted
        assert all(slots < 2 * max(1, len(self.wanted)) for _, slots in now.values())

    @invariant()
    def no_window_has_two_hosts(self) -> None:
        current = [
            (host, windows(slots.slot, slots.slots))
            for host, (_, slots) in self.in_force.items()
            if host not in self.lost | self.returning
        ]
        for (one, first), (other, second) in combinations(current, 2):
            assert first.isdisjoint(second), f"{one} and {other}"


TestWindows = Windows.TestCase
TestWindows.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_the_windows_of_the_state_machine_are_told_apart() -> None:
    """That its check can fail."""
    machine = Windows()
    machine.begin()
    machine.in_force |= {"h0": (1, IdentifySlots(slot=1, slots=2))}
    machine.in_force |= {"h1": (1, IdentifySlots(slot=3, slots=4))}
    with pytest.raises(AssertionError, match="h0 and h1"):
        machine.no_window_has_two_hosts()
