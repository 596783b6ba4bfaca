# SPDX-License-Identifier: Apache-2.0
"""Ownership under every interleaving: a model of MASTER, three hosts and the wires between them.

Invariants (design, section 3): a shard is with at most one host, counting the plan in force there
and what may run there; and wherever a shard is opened, it has the session of its last stay.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from discluster.master.ownership import advance
from discluster.master.planner import HostNeed, plan_fleet
from discluster.master.records.checkpoints import Checkpointed
from discluster.messages import ClusterView, HostReport, ShardView
from discluster.plan import (
    FleetPlan,
    HostPlan,
    Session,
    fleet_plan_from_yaml,
    fleet_plan_to_yaml,
    host_plan_from_yaml,
    host_plan_to_yaml,
)
from discluster.stays import Stay
from tests.unit.master.fleets import GATEWAY, part_of, session

HOSTS = ("a", "b", "c")
SHARDS = 4


@dataclass(frozen=True)
class Told:
    """What a host says at one instant. ``stays``: its checkpoint."""

    report: HostReport
    stays: dict[int, Stay]


@dataclass
class Wire:
    """One connection: what is on its way, each direction in order."""

    to_master: deque["Told"] = field(default_factory=deque)
    to_host: deque[str] = field(default_factory=deque)
    pushed: int = 0


@dataclass
class Host:
    """A CONTROL and its clusters, as far as ownership goes; all but ``opened`` is on disk."""

    plan: HostPlan | None = None
    assigned: dict[int, Session | None] = field(default_factory=dict)
    opened: set[int] = field(default_factory=set)
    files: dict[int, Session] = field(default_factory=dict)
    released: set[int] = field(default_factory=set)
    entered: dict[int, int] = field(default_factory=dict)
    stamps: dict[int, int] = field(default_factory=dict)
    """``entered``: when each shard came here; ``stamps``: of the stay that its file is of."""
    up: bool = True
    wire: Wire | None = None

    def wanted(self) -> set[int]:
        return set(self.plan.shards()) if self.plan else set()

    def holding(self) -> set[int]:
        return set(self.assigned) if self.up else set()

    def report(self) -> HostReport:
        views = tuple(ShardView(shard=s, state="ready") for s in sorted(self.opened))
        return HostReport(
            plan_generation=self.plan.generation if self.plan else 0,
            holding=tuple(sorted(self.holding())),
            released={s: x for s, x in self.files.items() if s not in self.holding()},
            entered={s: e for s, e in self.stamps.items() if s not in self.holding()},
            clusters=(ClusterView(cluster=0, unit="active", shards=views),) if self.up else (),
        )

    def told(self) -> Told:
        stays = {s: Stay(entered=self.stamps[s], session=x) for s, x in self.files.items()}
        return Told(self.report(), stays)

    def assign(self) -> None:
        """The clusters' assignments follow the plan; what leaves was closed by its cluster."""
        for shard in set(self.assigned) - self.wanted():
            del self.assigned[shard]
            self.opened.discard(shard)
            self.released.add(shard)
        for shard in self.wanted() - set(self.assigned):
            assert self.plan is not None
            self.assigned[shard] = self.plan.handover.get(shard)
            self.entered[shard] = self.plan.generation

    def open(self, shard: int) -> Session | None:
        """As SessionSlot.take_over."""
        given, stored = self.assigned[shard], self.files.get(shard)
        returns = stored is None or shard in self.released
        same = given and stored and stored.session_id == given.session_id
        if given is not None and returns and not (same and stored and stored.seq >= given.seq):
            self.files[shard] = given
        self.released.discard(shard)
        self.opened.add(shard)
        self.stamps[shard] = self.entered[shard]
        return self.files.get(shard)


class Ownership(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.hosts = {name: Host() for name in HOSTS}
        self.disk: str | None = None
        self.fleet: FleetPlan | None = None
        self.reports: dict[str, HostReport] = {}
        self.checkpoints: dict[int, Checkpointed] = {}
        self.last: dict[int, Session] = {}
        """By shard: its session where it ran last."""
        self.backups: list[str] = []
        self.files_were_lost = False

    @initialize(running=st.booleans())
    def begin(self, running: bool) -> None:
        """Most of what is interesting happens to a fleet that runs already."""
        for name in HOSTS:
            self.connect(name)
            self.report_arrives(name, then_pass=False)
        if running:
            self.plan(dict.fromkeys(HOSTS, 1.0))
            self.all_is_done_once_messages_flow()

    # --- MASTER ---

    def adopt(self, fleet: FleetPlan) -> None:
        self.disk = fleet_plan_to_yaml(fleet)
        self.fleet = fleet
        if fleet.hosts.keys() == {*HOSTS}:
            # Of hosts that a backup does not know nobody can know.
            self.backups.append(self.disk)

    @rule(weights=st.fixed_dictionaries({h: st.sampled_from([0.0, 1.0, 2.0]) for h in HOSTS}))
    def plan(self, weights: Mapping[str, float]) -> None:
        """As MasterDaemon: for all who are connected or have shards."""
        current = self.fleet.hosts if self.fleet else {}
        names = {name for name, host in self.hosts.items() if host.wire and name in self.reports}
        if self.fleet is None and self.files_were_lost and names != {*HOSTS}:
            return  # MASTER waits for the hosts that its settings name
        names |= {name for name, entry in current.items() if entry.clusters}
        needs = {n: HostNeed(weight=weights[n], shards_per_cluster=2) for n in names}
        if not any(need.weight for need in needs.values()):
            return
        fleet = FleetPlan(
            generation=self.fleet.generation if self.fleet else 0,
            shard_count=SHARDS,
            gateway_url=GATEWAY,
            hosts=plan_fleet(SHARDS, needs, current).hosts,
            granted=self.fleet.granted if self.fleet else {},
            sessions=self.fleet.sessions if self.fleet else {},
            slots=self.fleet.slots if self.fleet else {},
            recovery=self.fleet.recovery if self.fleet else None,
        )
        step = advance(fleet, self.reports, self.checkpoints)
        generation = max(step.fleet.generation, fleet.generation + 1)
        self.adopt(msgspec.structs.replace(step.fleet, generation=generation))
        self.pass_of_master()

    def pass_of_master(self) -> None:
        if self.fleet is None:
            return
        step = advance(self.fleet, self.reports, self.checkpoints)
        if step.changed:
            self.adopt(step.fleet)
        assert self.fleet is not None
        for name, host in self.hosts.items():
            known = host.wire is not None and name in self.reports
            if known and host.wire and host.wire.pushed < self.fleet.generation:
                host.wire.to_host.append(host_plan_to_yaml(part_of(self.fleet, name)))
                host.wire.pushed = self.fleet.generation

    def master_restarts(self) -> None:
        self.fleet = fleet_plan_from_yaml(self.disk, file="fleet.yaml") if self.disk else None
        self.reports = {}
        for host in self.hosts.values():
            host.wire = None

    def master_loses_its_files(self, backup: int | None, come: Sequence[str]) -> None:
        """Or gets them back as they were some plans ago. A session that was on its way may be lost
        with them; a shard never gets a second owner.
        """
        self.files_were_lost = True
        if backup is None:
            # What was kept from before a fleet that began anew is no backup of it.
            self.backups.clear()
        kept = self.backups
        self.checkpoints = {}
        self.disk = kept[-1 - (backup or 0) % len(kept)] if kept else None
        self.master_restarts()
        # Whoever comes first is what MASTER goes by.
        for name in come:
            self.connect(name)
            self.report_arrives(name, then_pass=True)
            self.plan_arrives(name)

    # --- the wires ---

    def connect(self, name: str) -> None:
        """A new connection replaces an older one, with all that was under way on it."""
        self.hosts[name].wire = Wire(to_master=deque([self.hosts[name].told()]))

    def lose_connection(self, name: str) -> None:
        self.hosts[name].wire = None

    def send_report(self, name: str, copies: int) -> None:
        wire = self.hosts[name].wire
        if wire is not None:
            wire.to_master.extend([self.hosts[name].told()] * copies)

    def report_arrives(self, name: str, then_pass: bool) -> None:
        wire = self.hosts[name].wire
        if wire is not None and wire.to_master:
            told = wire.to_master.popleft()
            self.reports[name] = told.report
            for shard, stay in told.stays.items():
                before = self.checkpoints.get(shard)
                if before is None or before.stay.entered <= stay.entered:
                    self.checkpoints[shard] = Checkpointed(host=name, stay=stay)
        if then_pass:
            self.pass_of_master()

    def plan_arrives(self, name: str) -> None:
        host = self.hosts[name]
        if host.wire is None or not host.wire.to_host:
            return
        plan = host_plan_from_yaml(host.wire.to_host.popleft(), file="plan")
        assert host.plan is None or plan.generation >= host.plan.generation
        host.plan = plan

    # --- hosts ---

    def host_reconciles(self, name: str) -> None:
        self.hosts[name].up = True
        self.hosts[name].assign()

    def shard_opens(self, name: str, shard: int) -> None:
        host = self.hosts[name]
        if not host.up or shard not in host.assigned or shard in host.opened:
            return
        found = host.open(shard)
        if self.files_were_lost and found is not None:
            self.last[shard] = found
        else:
            kept = found == self.last.get(shard) or self.files_were_lost
            assert kept, "the session did not follow its shard"
        if found is None:
            host.files[shard] = self.last[shard] = session(f"of-{shard}", 1)

    def events_are_handled(self, name: str) -> None:
        host = self.hosts[name]
        for shard in host.opened:
            moved_on = msgspec.structs.replace(host.files[shard], seq=host.files[shard].seq + 1)
            host.files[shard] = self.last[shard] = moved_on

    def machine_reboots(self, name: str) -> None:
        host = self.hosts[name]
        host.up, host.wire, host.opened = False, None, set()

    def cluster_restarts(self, name: str) -> None:
        self.hosts[name].opened = set()

    # --- what happens; few rules, each with much in it, so that chance gets far ---

    @rule(
        name=st.sampled_from(HOSTS),
        plans=st.integers(0, 2),
        reconciles=st.booleans(),
        opens=st.booleans(),
        reports=st.integers(0, 2),
    )
    def host_turn(self, name: str, plans: int, reconciles: bool, opens: bool, reports: int) -> None:
        """Between any two steps of a host there may be one of everybody else."""
        for _ in range(plans):
            self.plan_arrives(name)
        if reconciles:
            self.host_reconciles(name)
        if opens:
            for shard in range(SHARDS):
                self.shard_opens(name, shard)
            self.events_are_handled(name)
        self.send_report(name, reports)

    @rule(name=st.sampled_from(HOSTS), reports=st.integers(0, 3), then_pass=st.booleans())
    def master_turn(self, name: str, reports: int, then_pass: bool) -> None:
        for _ in range(reports):
            self.report_arrives(name, then_pass=False)
        if then_pass:
            self.pass_of_master()

    @rule(
        name=st.sampled_from(HOSTS),
        kind=st.sampled_from(["new connection", "lost", "reboot", "cluster", "master"]),
    )
    def trouble(self, name: str, kind: str) -> None:
        if kind == "new connection":
            self.connect(name)
        elif kind == "lost":
            self.lose_connection(name)
        elif kind == "reboot":
            self.machine_reboots(name)
        elif kind == "cluster":
            self.cluster_restarts(name)
        else:
            self.master_restarts()

    @rule(
        moves=st.booleans(),
        weights=st.fixed_dictionaries({h: st.sampled_from([0.0, 1.0, 2.0]) for h in HOSTS}),
        backup=st.none() | st.integers(0, 30),
        come=st.lists(st.sampled_from(HOSTS), unique=True),
    )
    def disaster(
        self, moves: bool, weights: Mapping[str, float], backup: int | None, come: list[str]
    ) -> None:
        """MASTER's disk is lost, perhaps after the fleet has moved on from what a backup knows."""
        if moves and self.fleet is not None:
            self.plan(weights)
            self.all_is_done_once_messages_flow()
        self.master_loses_its_files(backup, come)

    # --- what must hold ---

    @invariant()
    def at_most_one_owner(self) -> None:
        for shard in range(SHARDS):
            owners = [
                name
                for name, host in self.hosts.items()
                if shard in host.wanted() or (shard in host.assigned and host.up)
            ]
            assert len(owners) <= 1, f"shard {shard} is with {owners}"

    @precondition(lambda self: self.fleet is not None)
    @rule()
    def all_is_done_once_messages_flow(self) -> None:
        for _ in range(8):
            for name, host in self.hosts.items():
                if host.wire is None:
                    self.connect(name)
                self.host_reconciles(name)
                for shard in sorted(host.assigned):
                    self.shard_opens(name, shard)
                self.send_report(name, 1)
                while host.wire and host.wire.to_master:
                    self.report_arrives(name, then_pass=False)
            self.pass_of_master()
            for name, host in self.hosts.items():
                while host.wire and host.wire.to_host:
                    self.plan_arrives(name)
        assert self.fleet is not None
        assert self.fleet.sessions == {}
        targets = {shard: host for shard, (host, _) in self.fleet.targets().items()}
        assert {s: g.host for s, g in self.fleet.granted.items()} == targets
        for name, host in self.hosts.items():
            assert host.opened == {s for s, target in targets.items() if target == name}


Ownership.TestCase.settings = settings(
    max_examples=150, stateful_step_count=50, deadline=None, print_blob=True
)
TestOwnership = Ownership.TestCase
