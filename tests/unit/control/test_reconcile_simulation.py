# SPDX-License-Identifier: Apache-2.0
"""A host in which everything may happen between any two steps of CONTROL."""

from dataclasses import dataclass, field

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from discluster.control.reconcile import Assign, Decision, Observed, Settle, Start, decide
from discluster.control.reports import build_report
from discluster.control.supervisor import UnitView
from discluster.messages import (
    Assignment,
    ClusterReport,
    Held,
    HostReport,
    ShardView,
    UnitState,
)
from discluster.plan import ClusterPlan, HostPlan, Session
from discluster.stays import Stay, newest

SHARDS = 3
CLUSTERS = (1, 2, 3)


@dataclass
class Process:
    """A cluster that runs. ``open``: shards with a socket, those that are being closed included."""

    assignment: Assignment | None
    open: set[int] = field(default_factory=set)
    connected: bool = False
    inbox: list[Assignment] = field(default_factory=list)


@dataclass
class Machine:
    """What is on disk, what runs, and what each shard's newest session truly is."""

    disk: dict[int, bytes] = field(default_factory=dict)
    units: dict[int, UnitState] = field(default_factory=dict)
    processes: dict[int, Process] = field(default_factory=dict)
    files: dict[int, dict[int, Stay]] = field(default_factory=dict)
    truth: dict[int, Session] = field(default_factory=dict)
    identified: int = 0

    def spawn(self, cluster: int) -> None:
        held = msgspec.json.decode(self.disk[cluster], type=Held) if cluster in self.disk else None
        self.processes[cluster] = Process(held.assignment if held else None)
        self.open_wanted(cluster)

    def open_wanted(self, cluster: int) -> None:
        process = self.processes[cluster]
        if process.assignment is None:
            return
        for shard in process.assignment.shards:
            if shard not in process.open:
                self.take_over(cluster, shard, process.assignment)
                process.open.add(shard)

    def take_over(self, cluster: int, shard: int, assignment: Assignment) -> None:
        """As SessionSlot.take_over; then the shard resumes, or Discord says that it cannot."""
        file = self.files.setdefault(cluster, {})
        entered = assignment.entered[shard]
        session = newest(file.get(shard), assignment.handover.get(shard), entered)
        if (truth := self.truth.get(shard)) is not None:
            assert session == truth, (
                f"shard {shard} opens in cluster {cluster} with a session that is not its newest"
            )
        file[shard] = Stay(entered=entered, session=truth)

    def close(self, cluster: int, shard: int) -> None:
        self.processes[cluster].open.discard(shard)

    def end(self, cluster: int, state: UnitState) -> None:
        self.units[cluster] = state
        self.processes.pop(cluster, None)

    def new_session(self, shard: int) -> Session:
        self.identified += 1
        self.truth[shard] = Session(
            session_id=f"s{self.identified}", resume_url="wss://e", seq=self.identified % 3
        )
        return self.truth[shard]

    def moves_on(self, shard: int, number: int) -> Session:
        session = self.truth[shard]
        self.truth[shard] = msgspec.structs.replace(session, seq=session.seq + number)
        return self.truth[shard]

    def identify(self, cluster: int, shard: int) -> None:
        self.keep(cluster, shard, self.new_session(shard))

    def event(self, cluster: int, shard: int, number: int) -> None:
        if shard in self.truth:
            self.keep(cluster, shard, self.moves_on(shard, number))

    def dies(self, cluster: int, shard: int) -> None:
        self.truth.pop(shard, None)
        self.keep(cluster, shard, None)

    def keep(self, cluster: int, shard: int, session: Session | None) -> None:
        """As SessionSlot.save and clear: the stamp stays."""
        stay = self.files[cluster][shard]
        self.files[cluster][shard] = msgspec.structs.replace(stay, session=session)


@dataclass
class Owned:
    """A shard that MASTER gave to this host: since when, and the session it came with, until a
    cluster here was seen to run it.
    """

    since: int
    known: Session | None = None


class Host(RuleBasedStateMachine):
    """CONTROL's own memory is ``reports``, ``busy`` and the snapshot; the rest survives it."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine()
        self.plan: HostPlan | None = None
        self.generation = 0
        self.reports: dict[int, ClusterReport] = {}
        self.busy: dict[int, str] = {}
        self.seen: dict[int, UnitState] = {}
        self.busy_then: frozenset[int] = frozenset()
        self.looked = False
        self.owned: dict[int, Owned] = {}
        """MASTER's; a shard that is not in it may run on another host."""

    # --- CONTROL ---

    def held(self) -> dict[int, Held]:
        return {c: msgspec.json.decode(d, type=Held) for c, d in self.machine.disk.items()}

    def observed(self) -> Observed:
        return Observed(
            units={c: UnitView(state=state) for c, state in self.seen.items()},
            reports=dict(self.reports),
            held=self.held(),
            stays={
                c: {(s, SHARDS): stay for s, stay in file.items()}
                for c, file in self.machine.files.items()
            },
            busy=frozenset(self.busy) | self.busy_then,
        )

    def look(self) -> None:
        # As the daemon does: what was busy when the units were asked for counts as busy.
        self.busy_then = frozenset(self.busy)
        self.seen = dict(self.machine.units)
        self.looked = True

    def act(self, limit: int = 1000) -> Decision:
        self.looked = False  # it decides once on what it saw
        decision = decide(self.plan, self.observed())
        for step in decision.steps[:limit]:
            if isinstance(step, (Assign, Settle)):
                cluster = step.held.assignment.cluster
                self.machine.disk[cluster] = msgspec.json.encode(step.held)
                process = self.machine.processes.get(cluster)
                if isinstance(step, Assign) and cluster in self.reports and process:
                    process.inbox.append(step.held.assignment)
            else:
                assert step.cluster not in self.busy
                self.busy[step.cluster] = "start" if isinstance(step, Start) else "stop"
        return decision

    def finish(self, cluster: int) -> None:
        what = self.busy.pop(cluster)
        self.busy_then |= {cluster}
        if what == "stop":
            for shard in list(getattr(self.machine.processes.get(cluster), "open", ())):
                self.machine.close(cluster, shard)
            self.machine.end(cluster, "inactive")
            self.reports.pop(cluster, None)
        elif cluster not in self.machine.processes and self.machine.units.get(cluster) != "failed":
            self.machine.units[cluster] = "active"
            self.machine.spawn(cluster)

    def report(self, cluster: int) -> None:
        process = self.machine.processes[cluster]
        introduces = not process.connected
        process.connected = True
        generation = process.assignment.generation if process.assignment else 0
        self.reports[cluster] = ClusterReport(
            cluster=cluster,
            pid=1,
            generation=generation,
            uptime=1.0,
            handler="",
            shards=tuple(ShardView(shard=s, state="ready") for s in sorted(process.open)),
        )
        held = self.held().get(cluster)
        if introduces and held and held.assignment.generation != generation:
            process.inbox.append(held.assignment)

    # --- what happens ---

    @initialize()
    def begin(self) -> None:
        self.machine.units = dict.fromkeys(CLUSTERS, "inactive")

    @rule(owners=st.lists(st.sampled_from((0, *CLUSTERS)), min_size=SHARDS, max_size=SHARDS))
    def new_plan(self, owners: list[int]) -> None:
        """0: the shard shall be on another host."""
        self.generation += 1
        clusters = {
            c: ClusterPlan(shards=tuple(s for s, o in enumerate(owners) if o == c))
            for c in CLUSTERS
            if c in owners
        }
        for shard in (s for s, owner in enumerate(owners) if owner):
            if shard not in self.owned:
                self.owned[shard] = Owned(self.generation, self.machine.truth.get(shard))
        came = {s: owned for s, owned in self.owned.items() if owned.known and owners[s]}
        self.plan = HostPlan(
            generation=self.generation,
            shard_count=SHARDS,
            host="alpha",
            gateway_url="wss://gateway.example",
            clusters=clusters,
            handover={s: owned.known for s, owned in came.items() if owned.known},
            since={s: owned.since for s, owned in came.items()},
        )

    @rule()
    def master_hears_what_runs(self) -> None:
        """As ownership: a session stays in the plan until a cluster reports its shard."""
        report = self.report_to_master()
        running = {view.shard for cluster in report.clusters for view in cluster.shards}
        for shard in running & {*report.holding} & self.owned.keys():
            if self.plan and shard in {*self.plan.shards()}:
                self.owned[shard].known = None

    @rule(
        shard=st.integers(0, SHARDS - 1),
        what=st.lists(st.sampled_from(["identifies", "events", "session ends"]), max_size=3),
    )
    def shard_runs_elsewhere(self, shard: int, what: list[str]) -> None:
        """Once this host released it."""
        if self.plan is None or shard in {*self.plan.shards()}:
            return
        if shard in self.owned:
            report = self.report_to_master()
            if shard in report.holding:
                return
            self.check_what_is_handed_on(shard, report)
            del self.owned[shard]
        for event in what:
            if event == "identifies":
                self.machine.new_session(shard)
            elif event == "session ends":
                self.machine.truth.pop(shard, None)
            elif shard in self.machine.truth:
                self.machine.moves_on(shard, 5)

    @rule()
    def control_looks(self) -> None:
        self.look()

    @precondition(lambda self: self.looked)
    @rule(limit=st.one_of(st.just(1000), st.integers(0, 4)), dies=st.booleans())
    def control_acts(self, limit: int, dies: bool) -> None:
        self.act(limit)
        if dies or limit < 1000:
            self.control_is_killed()

    @rule()
    def control_passes(self) -> None:
        self.look()
        self.act()

    @rule()
    def control_is_killed(self) -> None:
        # systemd goes on with its jobs.
        for cluster in list(self.busy):
            self.finish(cluster)
        self.reports, self.busy = {}, {}
        for process in self.machine.processes.values():
            process.connected, process.inbox = False, []
        self.look()

    @rule(cluster=st.sampled_from(CLUSTERS))
    def job_ends(self, cluster: int) -> None:
        if cluster in self.busy:
            self.finish(cluster)

    @rule(cluster=st.sampled_from(CLUSTERS), state=st.sampled_from(["activating", "failed"]))
    def cluster_crashes(self, cluster: int, state: UnitState) -> None:
        if cluster in self.machine.processes:
            self.machine.end(cluster, state)
            self.reports.pop(cluster, None)

    @rule(cluster=st.sampled_from(CLUSTERS))
    def cluster_comes_back(self, cluster: int) -> None:
        if self.machine.units[cluster] == "activating":
            self.machine.units[cluster] = "active"
            self.machine.spawn(cluster)

    @rule(cluster=st.sampled_from(CLUSTERS))
    def start_fails_before_the_cluster_runs(self, cluster: int) -> None:
        """As with a handler that cannot be imported."""
        if self.busy.get(cluster) == "start" and cluster not in self.machine.processes:
            del self.busy[cluster]
            self.busy_then |= {cluster}
            self.machine.units[cluster] = "failed"

    @rule(cluster=st.sampled_from(CLUSTERS))
    def somebody_starts_the_unit(self, cluster: int) -> None:
        if self.machine.units[cluster] in ("inactive", "failed"):
            self.machine.units[cluster] = "active"
            self.machine.spawn(cluster)

    @rule(cluster=st.sampled_from(CLUSTERS))
    def connection_is_lost(self, cluster: int) -> None:
        if process := self.machine.processes.get(cluster):
            process.connected, process.inbox = False, []
            self.reports.pop(cluster, None)

    @rule(cluster=st.sampled_from(CLUSTERS))
    def cluster_reports(self, cluster: int) -> None:
        if cluster in self.machine.processes:
            self.report(cluster)

    @rule(cluster=st.sampled_from(CLUSTERS))
    def cluster_is_told(self, cluster: int) -> None:
        process = self.machine.processes.get(cluster)
        if process and process.inbox:
            message = process.inbox.pop(0)
            if process.assignment is None or message.generation >= process.assignment.generation:
                process.assignment = message

    @rule(cluster=st.sampled_from(CLUSTERS), closes=st.booleans())
    def cluster_works(self, cluster: int, closes: bool) -> None:
        process = self.machine.processes.get(cluster)
        if process and process.assignment:
            if closes:
                for shard in process.open - set(process.assignment.shards):
                    self.machine.close(cluster, shard)
            self.machine.open_wanted(cluster)

    @precondition(lambda self: any(p.open for p in self.machine.processes.values()))
    @rule(identifies=st.booleans(), number=st.integers(1, 40))
    def discord_sends(self, identifies: bool, number: int) -> None:
        for cluster, process in self.machine.processes.items():
            for shard in process.open:
                if identifies:
                    self.machine.identify(cluster, shard)
                else:
                    self.machine.event(cluster, shard, number)

    @precondition(lambda self: any(p.open for p in self.machine.processes.values()))
    @rule(shard=st.integers(0, SHARDS - 1))
    def discord_ends_a_session(self, shard: int) -> None:
        for cluster, process in self.machine.processes.items():
            if shard in process.open:
                self.machine.dies(cluster, shard)

    @rule(passes=st.integers(1, 12))
    def nothing_special_happens_for_a_while(self, passes: int) -> None:
        for _ in range(passes):
            self.calm_pass()

    # --- what must hold ---

    @invariant()
    def no_shard_is_open_twice(self) -> None:
        seen: dict[int, int] = {}
        for cluster, process in self.machine.processes.items():
            for shard in process.open:
                assert shard not in seen, f"shard {shard} in {seen[shard]} and {cluster}"
                seen[shard] = cluster

    @invariant()
    def what_is_told_released_is_released(self) -> None:
        """MASTER may give a shard away once it is neither planned here nor reported held."""
        if self.plan is None:
            return
        report = self.report_to_master()
        planned = set(self.plan.shards())
        for shard in self.owned.keys() - planned - set(report.holding):
            for cluster, process in self.machine.processes.items():
                assert shard not in process.open, f"cluster {cluster} still runs {shard}"
            for cluster, held in self.held().items():
                assert shard not in held.assignment.shards, f"{cluster} would run {shard}"
            self.check_what_is_handed_on(shard, report)

    def report_to_master(self) -> HostReport:
        return build_report(plan=self.plan, observed=self.observed(), troubles={}, sentence="")

    def check_what_is_handed_on(self, shard: int, report: HostReport) -> None:
        """As master/ownership: to the host that gets it next."""
        owned, session = self.owned[shard], report.released.get(shard)
        told = None
        if session is not None or shard in report.entered:
            told = Stay(entered=report.entered[shard], session=session)
        handed_on = newest(told, owned.known, owned.since)
        if (truth := self.machine.truth.get(shard)) is not None:
            assert handed_on == truth, f"shard {shard} leaves without its newest session"

    def teardown(self) -> None:
        """Left alone, the host comes to run the plan, whatever happened before."""
        if self.plan is None:
            assert decide(None, self.observed()).steps == ()
            return
        for _ in range(40):
            self.calm_pass()
        for cluster in CLUSTERS:
            planned = self.plan.clusters.get(cluster)
            process = self.machine.processes.get(cluster)
            if self.machine.units[cluster] == "failed":
                assert process is None
            elif planned is None:
                assert process is None, f"cluster {cluster} is not planned"
            else:
                assert process is not None
                assert process.open == set(planned.shards)
        self.look()
        assert decide(self.plan, self.observed()).steps == ()

    def calm_pass(self) -> None:
        self.look()
        self.act()
        for cluster in list(self.busy):
            self.finish(cluster)
        for cluster in CLUSTERS:
            self.cluster_comes_back(cluster)
            for _ in range(3):
                self.cluster_is_told(cluster)
            self.cluster_works(cluster, True)
            self.cluster_reports(cluster)
        self.no_shard_is_open_twice()


TestHost = Host.TestCase

TestHost.settings = settings(stateful_step_count=40, deadline=None)


@dataclass
class Move:
    """One plan, and what comes between it and the next."""

    owners: list[int]
    passes: int
    discord: list[str]
    crash: bool
    hears: bool
    elsewhere: list[str]


_MOVES = st.builds(
    Move,
    owners=st.lists(st.sampled_from((0, *CLUSTERS)), min_size=SHARDS, max_size=SHARDS),
    passes=st.sampled_from([0, 1, 2, 3, 8]),
    discord=st.lists(st.sampled_from(["identifies", "events", "session ends"]), max_size=3),
    crash=st.booleans(),
    hears=st.booleans(),
    elsewhere=st.lists(st.sampled_from(["identifies", "events", "session ends"]), max_size=2),
)


@given(st.lists(_MOVES, min_size=3, max_size=8))
@settings(deadline=None)
def test_session_follows_its_shard_through_regroupings_hosts_and_crashes(
    moves: list[Move],
) -> None:
    host = Host()
    host.begin()
    for move in moves:
        host.new_plan(move.owners)
        for _ in range(move.passes):
            host.calm_pass()  # asserts the session that every shard opens with
            host.what_is_told_released_is_released()
        for what in move.discord:
            if what == "session ends":
                host.discord_ends_a_session(0)
            else:
                host.discord_sends(what == "identifies", 3)
        for cluster in CLUSTERS:
            if move.crash:
                host.cluster_crashes(cluster, "activating")
                host.cluster_comes_back(cluster)
        if move.hears:
            host.master_hears_what_runs()
        for shard in range(SHARDS):
            host.shard_runs_elsewhere(shard, move.elsewhere)
    host.teardown()
