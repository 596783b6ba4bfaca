# SPDX-License-Identifier: Apache-2.0
"""Who is lost, and who is only silent, case by case."""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec
import pytest

from discluster.errors import ConfigurationError
from discluster.master.hosts.lost import (
    EVERY_GENERATION,
    Circumstances,
    HostSight,
    away_after,
    forgotten,
    losses,
    owners,
)
from discluster.master.settings import MasterSettings
from discluster.plan import Away, FleetPlan, Grant, Recovery
from discluster.settings import parse
from tests.unit.master.fleets import fleet, report

PANEL = ("a", "b", "c")
PLAN = msgspec.structs.replace(
    fleet(
        {"a": {0: [0]}, "b": {1: [1]}, "c": {2: [2]}},
        generation=7,
        granted={0: Grant(host="a"), 1: Grant(host="b"), 2: Grant(host="c")},
    ),
    witnesses={name: f"192.0.2.{at}:7444" for at, name in enumerate(PANEL)},
)
THERE = HostSight(connected=True, quiet=1.0, steady=100.0, generation=7, panel=PANEL)
GONE = HostSight(connected=False, quiet=40.0, generation=7, panel=PANEL)


def case(
    *,
    plan: FleetPlan = PLAN,
    uptime: float = 1000.0,
    asserted: tuple[str, ...] = (),
    others: Mapping[str, HostSight] = MappingProxyType({}),
    **hosts: HostSight,
) -> Circumstances:
    """Lease 30, margin 2, start 45."""
    sights = {"a": THERE, "b": THERE, "c": THERE, **others, **hosts}
    return Circumstances(
        fleet=plan,
        owners=owners(plan),
        reports={h: report(s.generation) for h, s in sights.items()},
        hosts=sights,
        lease=30.0,
        margin=2.0,
        grace=45.0,
        uptime=uptime,
        return_wait=60.0,
        asserted=asserted,
    )


def with_away(**away: Away) -> FleetPlan:
    return msgspec.structs.replace(PLAN, away=away)


def test_all_are_there() -> None:
    found = losses(case())
    assert (found.lost, found.due, found.stuck, found.returning, found.back) == ({}, {}, {}, {}, ())


@pytest.mark.parametrize(("quiet", "left"), [(0.0, 32.0), (29.0, 3.0), (31.9, 0.1)])
def test_host_is_lost_no_earlier_than_a_lease_and_the_margin_after_its_last_word(
    quiet: float, left: float
) -> None:
    silent = msgspec.structs.replace(GONE, quiet=quiet)
    found = losses(case(c=silent))
    assert found.lost == {}
    assert found.due["c"] == pytest.approx(left)


def test_silent_host_is_lost_when_half_of_the_panel_heard_master_all_the_time() -> None:
    """Two of three answer; of the lost one's shards those pass on that generation 7 withdrew."""
    assert losses(case(c=GONE)).lost == {"c": 7}


def test_host_that_is_connected_is_never_lost() -> None:
    quiet = msgspec.structs.replace(THERE, quiet=500.0)
    assert losses(case(c=quiet)).lost == {}


def test_nothing_is_given_away_in_the_grace_after_the_start_of_master() -> None:
    found = losses(case(c=GONE, uptime=40.0))
    assert (found.lost, found.due) == ({}, {"c": 5.0})


@pytest.mark.parametrize(
    ("b", "why"),
    [
        (GONE, "out of touch"),
        (msgspec.structs.replace(THERE, steady=29.0), "not for a whole lease yet"),
        (msgspec.structs.replace(THERE, steady=0.0), "it misses pings"),
    ],
)
def test_host_stays_silent_while_less_than_half_of_the_panel_is_steady(
    b: HostSight, why: str
) -> None:
    found = losses(case(b=b, c=GONE))
    assert "c" not in found.lost, why
    assert "only 1 of 3 witnesses" in found.stuck["c"]
    assert "(not b, c)" in found.stuck["c"]


def test_half_of_an_even_panel_is_enough() -> None:
    pair = msgspec.structs.replace(PLAN, witnesses={"a": "192.0.2.1:1", "c": "192.0.2.2:1"})
    both = {"a": THERE, "c": GONE}
    sights = {h: msgspec.structs.replace(s, panel=("a", "c")) for h, s in both.items()}
    assert losses(case(plan=pair, others=sights)).lost == {"c": 7}


def test_last_host_of_a_fleet_is_never_lost() -> None:
    """It is its own panel, and carries on by itself."""
    alone = msgspec.structs.replace(PLAN, witnesses={"c": "192.0.2.1:1"})
    gone = msgspec.structs.replace(GONE, panel=("c",))
    assert "only 0 of 1 witnesses" in losses(case(plan=alone, c=gone)).stuck["c"]


def test_every_panel_counts_that_the_host_may_go_by() -> None:
    """The one that it reported, the newest, and the one before that."""
    others = {h: msgspec.structs.replace(THERE, steady=0.0) for h in ("d", "e", "f")}
    reported = msgspec.structs.replace(GONE, panel=("d", "e", "f"))
    assert losses(case(c=reported, others=others)).stuck.keys() == {"c"}
    former = msgspec.structs.replace(PLAN, panel_before=("d", "e", "f"))
    assert losses(case(plan=former, c=GONE, others=others)).stuck.keys() == {"c"}
    newest = msgspec.structs.replace(PLAN, witnesses={"d": "192.0.2.9:1", "a": "192.0.2.8:1"})
    assert losses(case(plan=newest, c=GONE, others=others)).lost == {"c": 7}


def test_shards_pass_on_only_under_a_generation_that_half_of_the_panel_reported() -> None:
    behind = msgspec.structs.replace(THERE, generation=5)
    ahead = msgspec.structs.replace(THERE, generation=9)
    assert losses(case(a=ahead, b=behind, c=GONE)).lost == {"c": 5}
    assert losses(case(a=ahead, b=ahead, c=GONE)).lost == {"c": 9}


def test_fleet_without_witnesses_goes_by_the_lease_alone() -> None:
    bare = msgspec.structs.replace(PLAN, witnesses={})
    gone = msgspec.structs.replace(GONE, panel=())
    assert losses(case(plan=bare, c=gone)).lost == {"c": EVERY_GENERATION}


def test_unattended_host_keeps_its_shards_for_as_long_as_it_takes() -> None:
    found = losses(case(plan=with_away(c=Away(state="unattended", at=1.0)), c=GONE))
    assert "c" not in {**found.lost, **found.due, **found.stuck}


def test_host_that_master_never_heard_is_lost_after_the_grace() -> None:
    never = HostSight(connected=False, quiet=46.0)
    assert losses(case(c=never, uptime=46.0)).lost == {"c": 7}


def test_operator_says_that_a_host_is_off() -> None:
    """Then nobody is asked, and nothing is waited for."""
    silent = msgspec.structs.replace(GONE, quiet=1.0)
    sights = {"a": msgspec.structs.replace(THERE, steady=0.0), "c": silent}
    found = losses(case(uptime=1.0, asserted=("c",), others=sights))
    assert found.lost == {"c": EVERY_GENERATION}
    assert losses(case(asserted=("c",))).lost == {}, "it is connected"


def test_host_that_restored_files_do_not_know_enough_of_is_not_lost() -> None:
    recovering = msgspec.structs.replace(PLAN, recovery=Recovery(generation=9, hosts=PANEL))
    found = losses(case(plan=recovering, c=GONE))
    assert "files were older" in found.stuck["c"]


def test_lost_host_that_is_back_must_be_steady_before_it_counts_again() -> None:
    lost = with_away(c=Away(state="lost", at=1.0))
    fresh = msgspec.structs.replace(THERE, steady=20.0)
    assert losses(case(plan=lost, c=fresh)).returning == {"c": 40.0}
    found = losses(case(plan=lost))
    assert (found.returning, found.back) == ({}, ("c",))
    after = away_after(lost, found, connected={"a", "b", "c"}, wall=5.0)
    assert after == {}


def test_what_is_written_down_of_a_lost_host() -> None:
    found = losses(case(c=GONE))
    after = away_after(PLAN, found, connected={"a", "b"}, wall=5.0)
    assert after == {"c": Away(state="lost", at=5.0, shards=(2,))}
    lost = msgspec.structs.replace(PLAN, away=after)
    assert away_after(lost, found, connected={"a", "b"}, wall=9.0) == after, "once"
    assert forgotten(lost, "c").away == {}


def test_unattended_host_counts_as_gone_until_it_says_hello_again() -> None:
    plan = with_away(c=Away(state="unattended", at=1.0))
    kept = away_after(plan, losses(case(plan=plan, c=GONE)), connected={"a", "b"}, wall=5.0)
    assert kept.keys() == {"c"}
    assert away_after(plan, losses(case(plan=plan)), connected=set(PANEL), wall=5.0) == {}


def test_lost_host_without_a_shard_stays_lost_whoever_is_out_of_touch() -> None:
    """All that it had has passed on: nothing is its own, and its windows stay others'."""
    plan = msgspec.structs.replace(
        fleet({"a": {0: [0, 1, 2]}, "c": {}}, granted={n: Grant(host="a") for n in range(3)}),
        witnesses=PLAN.witnesses,
        away={"c": Away(state="lost", at=1.0)},
    )
    lonely = {"a": msgspec.structs.replace(THERE, steady=0.0), "b": GONE}
    found = losses(case(plan=plan, c=GONE, others=lonely))
    assert (found.lost, found.stuck) == ({"c": 0}, {})


def test_lost_host_that_left_the_fleet_is_forgotten() -> None:
    gone = fleet({"a": {0: [0, 1, 2]}}, granted={n: Grant(host="a") for n in range(3)})
    gone = msgspec.structs.replace(gone, away={"c": Away(state="lost", at=1.0)})
    for asserted in ((), ("c",)):
        found = losses(case(plan=gone, asserted=asserted, c=GONE))
        assert away_after(gone, found, connected={"a"}, wall=5.0) == {}


def test_pings_must_be_five_to_a_lease_or_no_host_could_be_steady() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse("lease: 20\nping_interval: 5\n", MasterSettings, file="master.yaml")
    told = caught.value.render()
    assert "master.yaml:1" in told
    assert "ping_interval, 5 s, must be at most a fifth of lease, 20 s: make it 4 or less" in told
    parse("lease: 25\nping_interval: 5\n", MasterSettings, file="master.yaml")
