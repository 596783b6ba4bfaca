# SPDX-License-Identifier: Apache-2.0
"""Ownership by exhaustion: every order of events up to a depth, and proof that it would show."""

import os
from collections.abc import Callable, Collection, Mapping
from random import Random

import msgspec
import pytest

from discluster.master.hosts.lost import EVERY_GENERATION
from discluster.master.ownership import Advance, advance
from discluster.master.records.checkpoints import Checkpointed
from discluster.messages import HostReport
from discluster.plan import FleetPlan, Grant
from tests.unit.master.ownership_model import Decide, explore, wander

MOST = int(os.environ.get("OWNERSHIP_STATES", "100000"))
Reports = Mapping[str, HostReport]
Changed = Callable[[HostReport, FleetPlan], HostReport]
replace = msgspec.structs.replace


@pytest.mark.timeout(600)
def test_no_order_of_events_breaks_an_invariant(record_property: Callable[..., None]) -> None:
    """From every state of a move: another plan, and two faults, in any order."""
    found = explore(advance, plans=1, faults=2, depth=12, most=MOST, settle_every=50, leases=False)
    record_property("ownership", repr(found))
    print(found)
    assert found.trace == (), "\n".join(found.trace)
    assert found.states >= min(MOST, 50_000)
    assert found.depth >= 3
    assert found.settled > 100


def test_master_that_is_restored_from_an_older_backup_gives_no_shard_to_two() -> None:
    found = explore(
        advance,
        plans=0,
        faults=1,
        depth=4,
        most=20_000,
        settle_every=50,
        backup=True,
        leases=False,
    )
    assert found.trace == (), "\n".join(found.trace)


@pytest.mark.parametrize(("faults", "depth"), [(1, 15), (2, 7)])
def test_host_that_is_lost_never_runs_beside_those_that_have_its_shards(
    faults: int, depth: int
) -> None:
    """A fleet at rest, in which a host is cut off, and anything else happens."""
    found = explore(
        advance, plans=0, faults=faults, depth=30, most=30_000, settle_every=50, moving=False
    )
    print(found)
    assert found.trace == (), "\n".join(found.trace)
    assert found.depth >= depth


@pytest.mark.parametrize("seed", range(8))
def test_no_long_way_breaks_an_invariant(seed: int) -> None:
    """Hosts are cut off, lost and back, MASTER restarts and plans anew, again and again."""
    rng = Random(seed)
    for _ in range(40):
        trace = wander(advance, rng, plans=3, faults=8, steps_=120)
        assert trace == (), "\n".join(trace)


def test_lease_that_ends_in_the_middle_of_a_move_breaks_nothing() -> None:
    found = explore(advance, plans=0, faults=1, depth=20, most=40_000, settle_every=50)
    print(found)
    assert found.trace == (), "\n".join(found.trace)
    assert found.depth >= 3


def hearing(changed: Changed, *, stale: bool = False) -> Decide:
    """Takes every report for another. ``stale``: and has old checkpoints only."""

    def decide(
        fleet: FleetPlan,
        reports: Reports,
        checkpoints: Mapping[int, Checkpointed],
        /,
        *,
        connected: Collection[str],
        lost: Mapping[str, int],
    ) -> Advance:
        heard = {name: changed(told, fleet) for name, told in reports.items()}
        if stale:
            checkpoints = {shard: _older(kept) for shard, kept in checkpoints.items()}
        return advance(fleet, heard, checkpoints, connected=connected, lost=lost)

    return decide


def deciding(changed: Callable[[FleetPlan, FleetPlan], FleetPlan]) -> Decide:
    """Makes something else of what it decided; ``changed`` gets the plan before and after."""

    def decide(
        fleet: FleetPlan,
        reports: Reports,
        checkpoints: Mapping[int, Checkpointed],
        /,
        *,
        connected: Collection[str],
        lost: Mapping[str, int],
    ) -> Advance:
        step = advance(fleet, reports, checkpoints, connected=connected, lost=lost)
        return replace(step, fleet=changed(fleet, step.fleet))

    return decide


def _older(kept: Checkpointed) -> Checkpointed:
    session = kept.stay.session
    older = replace(session, seq=0) if session is not None else None
    return replace(kept, stay=replace(kept.stay, session=older))


def _granted(fleet: FleetPlan, **what: object) -> FleetPlan:
    return replace(fleet, granted={s: replace(g, **what) for s, g in fleet.granted.items()})


def _at_once(before: FleetPlan, after: FleetPlan) -> FleetPlan:
    granted = {s: Grant(host=host) for s, (host, _) in after.targets().items()}
    generation = before.generation + (granted != before.granted)
    return replace(after, granted=granted, generation=max(generation, after.generation))


def _forgetting(before: FleetPlan, after: FleetPlan) -> FleetPlan:
    """A grant that is withdrawn is forgotten, as by a MASTER that keeps it in memory only."""
    kept = {s: g for s, g in after.granted.items() if g.withdrawn is None}
    return replace(after, granted=kept)


def _withdrawn_before(before: FleetPlan, after: FleetPlan) -> FleetPlan:
    granted = {
        s: replace(g, withdrawn=max(1, g.withdrawn - 2))
        if g.withdrawn is not None and before.granted.get(s) != g
        else g
        for s, g in after.granted.items()
    }
    return replace(after, granted=granted)


def _hasty(
    fleet: FleetPlan,
    reports: Reports,
    checkpoints: Mapping[int, Checkpointed],
    /,
    *,
    connected: Collection[str],
    lost: Mapping[str, int],
) -> Advance:
    """Passes on what a lost host had before its witnesses know."""
    every = dict.fromkeys(lost, EVERY_GENERATION)
    return advance(fleet, reports, checkpoints, connected=connected, lost=every)


def _forgetful(
    fleet: FleetPlan,
    reports: Reports,
    checkpoints: Mapping[int, Checkpointed],
    /,
    *,
    connected: Collection[str],
    lost: Mapping[str, int],
) -> Advance:
    """Has no checkpoint of a host when it is lost."""
    kept = {shard: told for shard, told in checkpoints.items() if told.host not in lost}
    return advance(fleet, reports, kept, connected=connected, lost=lost)


LEASE_MUTANTS: dict[str, tuple[Decide, int]] = {
    "does not wait": (_hasty, 2),
    "has no checkpoints": (_forgetful, 1),
}
"""With how many faults it shows."""


MUTANTS: dict[str, Decide] = {
    "a report counts whatever plan it was made under": hearing(
        lambda told, fleet: replace(told, plan_generation=fleet.generation)
    ),
    "grants what is still held": hearing(lambda told, fleet: replace(told, holding=())),
    "grants at once": deciding(_at_once),
    "withdraws under a plan that gave it": deciding(_withdrawn_before),
    "forgets whom it withdrew from": deciding(_forgetting),
    "drops the sessions": deciding(lambda before, after: replace(after, sessions={})),
    "drops a session once its shard is granted": hearing(
        lambda told, fleet: replace(told, released={}, entered={}), stale=True
    ),
    "hands on the session that it knew": deciding(
        lambda before, after: replace(after, sessions={**after.sessions, **before.sessions})
    ),
    "never withdraws": deciding(lambda before, after: _granted(after, withdrawn=None)),
    "does not count on": deciding(
        lambda before, after: replace(after, generation=before.generation)
    ),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_broken_ownership_is_found(mutant: str) -> None:
    found = explore(
        MUTANTS[mutant],
        plans=1,
        faults=2,
        depth=12,
        most=15_000,
        settle_every=50,
        leases=False,
    )
    print(mutant, found.states, *found.trace, sep="\n  ")
    assert found.trace, f"not in {found.states} states"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mutant", LEASE_MUTANTS)
def test_broken_giving_away_is_found(mutant: str) -> None:
    decide, faults = LEASE_MUTANTS[mutant]
    found = explore(
        decide, plans=0, faults=faults, depth=20, most=30_000, settle_every=50, moving=False
    )
    print(mutant, found.states, *found.trace, sep="\n  ")
    assert found.trace, f"not in {found.states} states"
