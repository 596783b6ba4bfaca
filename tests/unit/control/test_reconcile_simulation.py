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
from discluster.messages import Assignment, ClusterReport, Held, ShardView, UnitState
from discluster.plan import ClusterPlan, HostPlan, Session

SHARDS = 3
CLUSTERS = (1, 2, 3)


@dataclass
class Record:
    """One shard in a cluster's session file."""

    session: Session
    released: bool = False


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
    files: dict[int, dict[int, Record]] = field(default_factory=dict)
    truth: dict[int, Session] = field(default_factory=dict)
    identified: int = 0

    def spawn(self, cluster: int) -> None:
        held = msgspec.json.decode(self.disk[cluster], type=Held) if cluster in self.disk else None
        process = self.processes[cluster] = Process(held.assignment if held else None)
        wanted = process.assignment.shards if process.assignment else ()
        for shard, record in self.files.setdefault(cluster, {}).items():
            record.released = record.released or shard not in wanted
        self.open_wanted(cluster)

    def open_wanted(self, cluster: int) -> None:
        process = self.processes[cluster]
        if process.assignment is None:
            return
        for shard in process.assignment.shards:
            if shard not in process.open:
                self.take_over(cluster, shard, process.assignment.handover.get(shard))
                process.open.add(shard)

    def take_over(self, cluster: int, shard: int, handed: Session | None) -> None:
        file = self.files.setdefault(cluster, {})
        record = file.get(shard)
        if handed is not None and (record is None or record.released):
            same = record is not None and record.session.session_id == handed.session_id
            if record is None or not (same and record.session.seq >= handed.seq):
                file[shard] = record = Record(handed)
        if record is not None:
            record.released = False
        assert (record.session if record else None) == self.truth.get(shard), (
            f"shard {shard} opens in cluster {cluster} with a session that is not its newest"
        )

    def close(self, cluster: int, shard: int) -> None:
        self.processes[cluster].open.discard(shard)
        if record := self.files[cluster].get(shard):
            record.released = True

    def end(self, cluster: int, state: UnitState) -> None:
        self.units[cluster] = state
        self.processes.pop(cluster, None)

    def identify(self, cluster: int, shard: int) -> None:
        self.identified += 1
        session = Session(session_id=f"s{self.identified}", resume_url="wss://e", seq=1)
        self.truth[shard] = session
        self.files[cluster][shard] = Record(session)

    def event(self, cluster: int, shard: int, number: int) -> None:
        if shard in self.truth:
            session = msgspec.structs.replace(self.truth[shard], seq=self.truth[shard].seq + number)
            self.truth[shard] = self.files[cluster][shard].session = session


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

    # --- CONTROL ---

    def held(self) -> dict[int, Held]:
        return {c: msgspec.json.decode(d, type=Held) for c, d in self.machine.disk.items()}

    def observed(self) -> Observed:
        return Observed(
            units={c: UnitView(state=state) for c, state in self.seen.items()},
            reports=dict(self.reports),
            held=self.held(),
            sessions={
                c: {s: record.session for s, record in file.items()}
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
        """0: the shard is on another host."""
        self.generation += 1
        clusters = {
            c: ClusterPlan(shards=tuple(s for s, o in enumerate(owners) if o == c))
            for c in CLUSTERS
            if c in owners
        }
        # Only once nobody here holds it can it have been elsewhere; here it never comes back
        # from there, so its newest session is always one that this host knows.
        self.plan = HostPlan(
            generation=self.generation,
            shard_count=SHARDS,
            host="alpha",
            gateway_url="wss://gateway.example",
            clusters=clusters,
        )

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
        """As with a handler that cannot be imported. A record of an earlier time in its file would
        pass for one that it made now: then a session is lost, and one identify is spent.
        """
        never_ran = not self.machine.files.get(cluster) and cluster not in self.machine.processes
        if self.busy.get(cluster) == "start" and never_ran:
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
        report = build_report(
            plan=self.plan, observed=self.observed(), troubles={}, host_trouble=None, sentence=""
        )
        planned = set(self.plan.shards())
        for shard in set(range(SHARDS)) - planned - set(report.holding):
            for cluster, process in self.machine.processes.items():
                assert shard not in process.open, f"cluster {cluster} still runs {shard}"
            for cluster, held in self.held().items():
                assert shard not in held.assignment.shards, f"{cluster} would run {shard}"
            assert report.released.get(shard) == self.machine.truth.get(shard)

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

TestHost.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


_OWNERS = st.lists(st.sampled_from((0, *CLUSTERS)), min_size=SHARDS, max_size=SHARDS)


@given(
    st.lists(st.tuples(_OWNERS, st.booleans(), st.integers(1, 40)), min_size=2, max_size=6),
)
@settings(max_examples=150, deadline=None)
def test_session_follows_its_shard_through_regroupings(
    moves: list[tuple[list[int], bool, int]],
) -> None:
    host = Host()
    host.begin()
    for owners, identifies, number in moves:
        host.new_plan(owners)
        for _ in range(8):
            host.calm_pass()  # asserts the session that every shard opens with
            host.what_is_told_released_is_released()
        host.discord_sends(identifies, number)
        host.discord_sends(False, number)
    host.teardown()
