# SPDX-License-Identifier: Apache-2.0
"""Ownership by exhaustion: every order of events up to a depth, and proof that it would show."""

import os
from collections.abc import Callable, Mapping

import msgspec
import pytest

from discluster.master.ownership import Advance, advance
from discluster.messages import HostReport
from discluster.plan import FleetPlan, Grant
from tests.unit.master.ownership_model import Decide, explore

MOST = int(os.environ.get("OWNERSHIP_STATES", "100000"))
Reports = Mapping[str, HostReport]
Changed = Callable[[HostReport, FleetPlan], HostReport]
replace = msgspec.structs.replace


@pytest.mark.timeout(600)
def test_no_order_of_events_breaks_an_invariant(record_property: Callable[..., None]) -> None:
    """From every state of a move: another plan, and two faults, in any order."""
    found = explore(advance, plans=1, faults=2, depth=12, most=MOST, settle_every=50)
    record_property("ownership", repr(found))
    print(found)
    assert found.trace == (), "\n".join(found.trace)
    assert found.states >= min(MOST, 50_000)
    assert found.depth >= 3
    assert found.settled > 100


def test_master_that_is_restored_from_an_older_backup_gives_no_shard_to_two() -> None:
    found = explore(advance, plans=0, faults=1, depth=4, most=20_000, settle_every=50, backup=True)
    assert found.trace == (), "\n".join(found.trace)


def hearing(changed: Changed) -> Decide:
    """Takes every report for another."""

    def decide(fleet: FleetPlan, reports: Reports) -> Advance:
        return advance(fleet, {name: changed(told, fleet) for name, told in reports.items()})

    return decide


def deciding(changed: Callable[[FleetPlan, FleetPlan], FleetPlan]) -> Decide:
    """Makes something else of what it decided; ``changed`` gets the plan before and after."""

    def decide(fleet: FleetPlan, reports: Reports) -> Advance:
        step = advance(fleet, reports)
        return replace(step, fleet=changed(fleet, step.fleet))

    return decide


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
        lambda told, fleet: replace(told, released={}, entered={})
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
    found = explore(MUTANTS[mutant], plans=1, faults=2, depth=12, most=15_000, settle_every=50)
    print(mutant, found.states, *found.trace, sep="\n  ")
    assert found.trace, f"not in {found.states} states"
