# SPDX-License-Identifier: Apache-2.0
"""Orders and their moves as MASTER would tell of them."""

import msgspec

from discluster.console import PlanEntry, PlanHistory
from discluster.orders import MovesStatus, Ordered, Route
from discluster.settings import SettingChange
from tests.unit.ctl import fleets


def drained() -> Ordered:
    """What ``drain beta`` would do."""
    return Ordered(
        diff=msgspec.structs.replace(
            fleets.some_changes(),
            pending=(),
            notes=("gamma carries 13 shards of at most 14 (max_shards of gamma in master.yaml)",),
        ),
        done=("beta gets no shards until 'disclusterctl undrain beta'.",),
        generation=42,
    )


def reloaded() -> Ordered:
    """What ``reload`` would do after three settings were edited."""
    return Ordered(
        diff=fleets.nothing_to_do(),
        done=(),
        generation=42,
        settings=(
            SettingChange(path="hosts.beta.weight", old="1.0", new="2.0", reloads=True),
            SettingChange(path="hosts.delta", old=None, new="{standby: true}", reloads=True),
            SettingChange(path="listen", old='"[::]:7443"', new='"[::]:8443"', reloads=False),
        ),
    )


def moving(
    state: str = "running",
    *,
    moved: int = 9,
    serial: int = 7,
    problem: str | None = None,
    deadline: float | None = None,
) -> MovesStatus:
    """The order to drain beta: 24 shards, in two ways."""
    first = min(moved, 12)
    return MovesStatus(
        serial=serial,
        order="drain beta",
        state=state,  # type: ignore[arg-type]
        age=18.0,
        total=24,
        moved=moved,
        deadline=deadline,
        routes=(
            Route(source="beta", target="alpha", total=12, moved=first),
            Route(
                source="beta",
                target="gamma",
                total=12,
                moved=moved - first,
                waits="beta has not released shard 33 yet",
            ),
        ),
        problem=problem,
        hint="on gamma: systemctl status discluster-control" if problem else None,
    )


def stuck() -> MovesStatus:
    """gamma is gone meanwhile, and there is a deadline."""
    return moving(moved=12, problem="gamma, which shall get 12 shards, is silent", deadline=310.0)


def history() -> PlanHistory:
    """Three plans; the last but one is in force again."""

    def entry(generation: int, at: float, reason: str, moves: str, **more: bool) -> PlanEntry:
        return PlanEntry(
            generation=generation,
            at=1_800_000_000.0 + at,
            reason=reason,
            moves=moves,
            hosts=3,
            clusters=6,
            shards=24,
            **more,
        )

    return PlanHistory(
        entries=(
            entry(1, 0.0, "first plan, for alpha, beta, gamma", "24 shards placed"),
            entry(
                9,
                8_040.0,
                "drain beta",
                "8 shards moved: 4 from beta to alpha, 4 from beta to gamma",
            ),
            entry(
                17,
                9_120.0,
                "rollback to generation 1",
                "8 shards moved: 4 from alpha to beta, 4 from gamma to beta",
                current=True,
            ),
        )
    )
