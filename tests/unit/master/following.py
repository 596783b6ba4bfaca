# SPDX-License-Identifier: Apache-2.0
"""A CONTROL that does what its plan says, for the tests of MASTER."""

from discluster.messages import ClusterView, HostReport, PlanPush, ShardState, ShardView, UnitState
from discluster.plan import HostPlan, host_plan_from_yaml
from tests.unit.master.fakes import Control, Running


class Host:
    """A CONTROL that follows its plan: a cluster runs under the run that it is given. ``states``:
    of shards that are not ready; ``guilds``: on each shard.
    """

    def __init__(self, run: Running, name: str) -> None:
        self.name = name
        self._run = run
        self.plan: HostPlan | None = None
        self.states: dict[int, ShardState] = {}
        self.guilds: dict[int, int] = {}
        self.control = Control(run.master, name, self._report(None))

    def follow(self, *, but: int | None = None, unit: UnitState = "active") -> None:
        """Takes the last plan that was pushed, and reports. ``but``: this cluster's unit is
        ``unit`` instead.
        """
        for push in [m for m in self.control.heard() if isinstance(m, PlanPush)]:
            self.plan = host_plan_from_yaml(push.text, file="pushed")
        self.control.say(self._report(self.plan, but, unit))

    @property
    def runs(self) -> dict[int, int]:
        """Of the plan that was pushed last."""
        self.follow()
        assert self.plan is not None
        return {number: cluster.run for number, cluster in self.plan.clusters.items()}

    def _report(
        self, plan: HostPlan | None, but: int | None = None, unit: UnitState = "active"
    ) -> HostReport:
        clusters = plan.clusters if plan is not None else {}
        return HostReport(
            plan_generation=plan.generation if plan is not None else 0,
            holding=tuple(s for cluster in clusters.values() for s in cluster.shards),
            clusters=tuple(
                ClusterView(
                    cluster=number,
                    unit=unit if number == but else "active",
                    run=cluster.run,
                    connected=number != but,
                    shards=tuple(self._view(s) for s in cluster.shards) if number != but else (),
                )
                for number, cluster in clusters.items()
            ),
        )

    def _view(self, shard: int) -> ShardView:
        state = self.states.get(shard, "ready")
        return ShardView(shard=shard, state=state, guilds=self.guilds.get(shard, 0))

    @property
    def shards(self) -> list[int]:
        """Of the plan that was pushed last."""
        return sorted(self.plan.shards()) if self.plan is not None else []

    def leave(self) -> None:
        self.control.leave()

    def follow_master(self, run: Running) -> None:
        """Another MASTER, as after a restart."""
        self._run = run
        self.come_back()

    def come_back(self) -> None:
        """With what it ran when it left."""
        self.control = Control(self._run.master, self.name, self._report(self.plan))


async def settle(run: Running, *hosts: Host, rounds: int = 8) -> None:
    """Until the hosts run what they shall."""
    for _ in range(rounds):
        for host in hosts:
            host.follow()
        await run.after(0.6)
