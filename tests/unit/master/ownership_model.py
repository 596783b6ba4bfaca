# SPDX-License-Identifier: Apache-2.0
"""The protocol between MASTER and its hosts, small enough to try every order of events.

Three hosts and four shards. Each plan turns the fleet by one host, so every shard moves. MASTER's
decisions are made by the real ``advance`` and ``host_plan``, or by a broken one. States are frozen;
:func:`explore` goes through all that can be reached, breadth first.

A host runs its shards only while it has a lease. What time and pings decide in reality may happen
here at any instant: the lease of a host that is cut off ends, MASTER gives such a host up while it
is in touch with both others, and a host takes its lease up again: with MASTER, once it took and
carried out a plan on this connection; without, if another host does not hear MASTER either and
follows no newer plan.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from hashlib import sha256
from random import Random
from types import MappingProxyType
from typing import Final, Protocol

import msgspec

from discluster.master.ownership import Advance, retarget
from discluster.master.parts import host_plan
from discluster.master.records.checkpoints import Checkpointed
from discluster.messages import ClusterView, HostReport, ShardView
from discluster.plan import ClusterPlan, FleetPlan, HostEntry, HostPlan, Session
from discluster.stays import Stay, newest
from tests.unit.master.fleets import GATEWAY, session

HOSTS: Final = ("a", "b", "c")
SHARDS: Final = 4
GROUPS: Final = ((0, 1), (2,), (3,))
ROUNDS: Final = 8  # of everybody, in which a fleet without faults must be done
LONGEST: Final = 200  # steps of an orderly move; it takes some fifty


class Decide(Protocol):
    """As :func:`discluster.master.ownership.advance`."""

    def __call__(
        self,
        fleet: FleetPlan,
        reports: Mapping[str, HostReport],
        checkpoints: Mapping[int, Checkpointed],
        /,
        *,
        connected: Collection[str],
        lost: Mapping[str, int],
    ) -> Advance: ...


class BrokenError(Exception):
    """An invariant does not hold."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a host says at one instant: its report, and the checkpoint of its sessions."""

    report: HostReport
    files: dict[int, Stay] = {}


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """One connection: what is under way, each direction in order. ``taken``: the host took a plan
    that came over it.
    """

    to_master: tuple[Told, ...] = ()
    to_host: tuple[HostPlan, ...] = ()
    pushed: int = 0
    taken: bool = False


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A CONTROL and its cluster. ``entered``, ``given``: the cluster's assignment, by shard, with
    the sessions that it was handed; ``left``: stamps of shards that it had; ``files``: its session
    file.
    """

    plan: HostPlan | None = None
    entered: dict[int, int] = {}
    given: dict[int, Session] = {}
    left: dict[int, int] = {}
    files: dict[int, Stay] = {}
    opened: tuple[int, ...] = ()
    up: bool = True
    leased: bool = True
    wire: Wire | None = None

    def planned(self) -> frozenset[int]:
        return frozenset(self.plan.shards()) if self.plan else frozenset()

    def holding(self) -> frozenset[int]:
        return frozenset(self.entered) if self.up else frozenset(self.entered) - self.planned()


class State(msgspec.Struct, frozen=True, kw_only=True):
    """``fleet``, ``checkpoints``: as MASTER has them on disk. ``reports``: in its memory.
    ``truth``: the newest session of each shard. ``given_up``: shards that passed on from a host
    that was lost: what it did last nobody can know. ``plans``, ``faults``: how many more there may
    be. ``backup``: of MASTER's disk, that it may be restored from. ``leases``: whether they end.
    """

    fleet: FleetPlan
    turned: int = 0
    reports: dict[str, HostReport] = {}
    checkpoints: dict[int, Checkpointed] = {}
    given_up: tuple[int, ...] = ()
    hosts: dict[str, Host]
    truth: dict[int, Session] = {}
    plans: int
    faults: int
    backup: FleetPlan | None = None
    leases: bool = True


def change(state: State, name: str, **what: object) -> State:
    """``state`` with a host that is changed."""
    host = msgspec.structs.replace(state.hosts[name], **what)
    return msgspec.structs.replace(state, hosts=state.hosts | {name: host})


# --- hosts ----------------------------------------------------------------------------------------


def last_stay(host: Host, shard: int, entered: int) -> Stay:
    """As Observed.last_stay in CONTROL."""
    stored = host.files.get(shard)
    if stored is not None and stored.entered >= entered:
        return stored
    return Stay(entered=entered, session=newest(stored, host.given.get(shard), entered))


def report_of(host: Host) -> HostReport:
    holding = host.holding()
    left = {s: last_stay(host, s, e) for s, e in host.left.items() if s not in holding}
    views = tuple(ShardView(shard=s, state="ready") for s in host.opened)
    return HostReport(
        plan_generation=host.plan.generation if host.plan else 0,
        holding=tuple(sorted(holding)),
        released={s: stay.session for s, stay in left.items() if stay.session is not None},
        entered={s: stay.entered for s, stay in left.items()},
        shard_count=SHARDS if host.plan else 0,
        clusters=(ClusterView(cluster=0, unit="active", shards=views),) if host.up else (),
        slots=host.plan.identify if host.plan else None,
    )


def told_by(host: Host) -> Told:
    return Told(report=report_of(host), files=host.files)


def reconcile(state: State, name: str) -> State:
    """The cluster is up, and its assignment follows the plan; what leaves it has closed. If the
    plan came over this connection, MASTER renews the lease now.
    """
    host = state.hosts[name]
    plan, planned = host.plan, host.planned()
    left = host.left | {s: e for s, e in host.entered.items() if s not in planned}
    entered = {s: e for s, e in host.entered.items() if s in planned}
    given = dict(host.given)
    for shard in sorted(planned - entered.keys()):
        assert plan is not None
        here = last_stay(host, shard, left[shard]) if shard in left else host.files.get(shard)
        handed = newest(here, plan.handover.get(shard), plan.since.get(shard, 1))
        given = {s: x for s, x in given.items() if s != shard}
        given |= {shard: handed} if handed is not None else {}
        entered[shard] = plan.generation
        left.pop(shard, None)
    opened = tuple(s for s in host.opened if s in planned)
    leased = host.leased or (host.wire is not None and host.wire.taken)
    return change(
        state, name, entered=entered, given=given, left=left, opened=opened, up=True, leased=leased
    )


def run(state: State, name: str) -> State:
    """The cluster opens what it is assigned, and every shard of it has an event."""
    host = state.hosts[name]
    if not host.leased:
        return state
    files, truth = dict(host.files), dict(state.truth)
    loose = set(state.given_up)
    for shard, entered in sorted(host.entered.items()):
        if shard not in host.opened:
            found = newest(files.get(shard), host.given.get(shard), entered)
            if shard in loose:
                if found is None and shard in state.checkpoints:
                    raise BrokenError(f"shard {shard} identifies on {name} after its host was lost")
                # Events that nobody knows to be handled come again.
                truth = {s: x for s, x in truth.items() if s != shard}
                truth |= {shard: found} if found is not None else {}
                loose.discard(shard)
            elif found != truth.get(shard):
                raise BrokenError(
                    f"shard {shard} opens on {name} with {found}, not {truth.get(shard)}"
                )
        before = truth.get(shard) or session(f"of-{shard}", 0)
        truth[shard] = msgspec.structs.replace(before, seq=before.seq + 1)
        files[shard] = Stay(entered=entered, session=truth[shard])
    state = msgspec.structs.replace(state, truth=truth, given_up=tuple(sorted(loose)))
    return change(state, name, files=files, opened=tuple(sorted(host.entered)))


# --- MASTER ---------------------------------------------------------------------------------------


def turned(by: int) -> dict[str, HostEntry]:
    """Every shard of the fleet ``by`` hosts further on."""
    return {
        name: HostEntry(clusters={at: ClusterPlan(shards=GROUPS[(at - by) % len(HOSTS)])})
        for at, name in enumerate(HOSTS)
    }


def think(state: State, decide: Decide, lost: Mapping[str, int] = MappingProxyType({})) -> State:
    """MASTER takes in what it was told, and pushes what is new. ``lost``: hosts that it gives up,
    with the generation that both others have reported.
    """
    there = {name for name, host in state.hosts.items() if host.wire is not None}
    step = decide(state.fleet, state.reports, state.checkpoints, connected=there, lost=lost)
    passed = {
        shard
        for shard, grant in step.fleet.granted.items()
        if (before := state.fleet.granted.get(shard)) is not None
        and before.host in lost
        and grant.host != before.host
    }
    given_up = tuple(sorted(passed.union(state.given_up)))
    state = msgspec.structs.replace(state, fleet=step.fleet, given_up=given_up)
    for name, host in state.hosts.items():
        wire = host.wire
        if wire is None or name not in state.reports or wire.pushed >= step.fleet.generation:
            continue
        plan = host_plan(step.fleet, name)
        wire = Wire(
            to_master=wire.to_master,
            to_host=(*wire.to_host, plan),
            pushed=step.fleet.generation,
            taken=wire.taken,
        )
        state = change(state, name, wire=wire)
    return state


def replan(state: State, decide: Decide) -> State:
    by = state.turned + 1
    fleet = msgspec.structs.replace(
        state.fleet, hosts=turned(by), generation=state.fleet.generation + 1
    )
    return think(msgspec.structs.replace(state, fleet=fleet, turned=by), decide)


# --- what may happen ------------------------------------------------------------------------------


def connect(state: State, name: str) -> State:
    """A new connection replaces an older one, with all that was under way on it."""
    return change(state, name, wire=Wire(to_master=(told_by(state.hosts[name]),)))


def tell(state: State, name: str) -> State:
    host = state.hosts[name]
    assert host.wire is not None
    told = (*host.wire.to_master, told_by(host))
    return change(state, name, wire=msgspec.structs.replace(host.wire, to_master=told))


def hear(state: State, name: str) -> State:
    """MASTER gets the next report."""
    wire = state.hosts[name].wire
    assert wire is not None
    told = wire.to_master[0]
    known = state.checkpoints
    newer = {
        shard: Checkpointed(host=name, stay=stay)
        for shard, stay in told.files.items()
        if shard not in known or known[shard].stay.entered <= stay.entered
    }
    state = msgspec.structs.replace(
        state, reports=state.reports | {name: told.report}, checkpoints=known | newer
    )
    rest = msgspec.structs.replace(wire, to_master=wire.to_master[1:])
    return change(state, name, wire=rest)


def hear_and_think(state: State, name: str, decide: Decide) -> State:
    return think(hear(state, name), decide)


def obey(state: State, name: str) -> State:
    """A host gets the next plan; it refuses one that is older than its own."""
    host = state.hosts[name]
    assert host.wire is not None
    plan = host.wire.to_host[0]
    if host.plan is not None and plan.generation < host.plan.generation:
        plan = host.plan
    rest = msgspec.structs.replace(host.wire, to_host=host.wire.to_host[1:], taken=True)
    return change(state, name, plan=plan, wire=rest)


def give_up(state: State, name: str, decide: Decide) -> State:
    """MASTER takes a host for lost that is silent, plans without it, and passes on what its
    witnesses know of.
    """
    others = (report for host, report in state.reports.items() if host != name)
    assured = min(report.plan_generation for report in others)
    hosts = without(state.fleet.hosts, name)
    fleet = msgspec.structs.replace(state.fleet, hosts=hosts, granted=retarget(state.fleet, hosts))
    return think(msgspec.structs.replace(state, fleet=fleet), decide, {name: assured})


def without(hosts: Mapping[str, HostEntry], name: str) -> dict[str, HostEntry]:
    """What a host has goes to the next one."""
    heir = HOSTS[(HOSTS.index(name) + 1) % len(HOSTS)]
    clusters = hosts[name].clusters | hosts[heir].clusters
    return {**hosts, name: HostEntry(), heir: HostEntry(clusters=clusters)}


def may_be_given_up(state: State, name: str) -> bool:
    """Its lease has ended, and both others are in touch: two of three witnesses."""
    host = state.hosts[name]
    others = [other for other in HOSTS if other != name]
    in_touch = all(state.hosts[o].wire is not None and o in state.reports for o in others)
    return host.wire is None and not host.leased and in_touch


def may_go_on(state: State, name: str) -> bool:
    """Without MASTER: another does not hear it either, and follows no newer plan. Two of three."""
    host = state.hosts[name]
    if host.wire is not None or host.leased or host.plan is None:
        return False
    return any(
        other.wire is None and other.plan is not None
        for other_name, other in state.hosts.items()
        if other_name != name and _generation(other) <= host.plan.generation
    )


def _generation(host: Host) -> int:
    return host.plan.generation if host.plan is not None else 0


def restart_master(state: State) -> State:
    for name in HOSTS:
        state = change(state, name, wire=None)
    return msgspec.structs.replace(state, reports={})


def steps(state: State, decide: Decide) -> Iterator[tuple[str, Callable[[], State]]]:
    """Everything that may happen next: its name, and what becomes of it."""
    for name, host in state.hosts.items():
        if (wire := host.wire) is None:
            yield f"{name} connects", partial(connect, state, name)
        else:
            if wire.to_master:
                yield f"MASTER hears {name}", partial(hear_and_think, state, name, decide)
            if _has_news(state, name):
                yield f"{name} reports", partial(tell, state, name)
            if wire.to_host:
                yield f"{name} gets a plan", partial(obey, state, name)
        renewed = not host.leased and host.wire is not None and host.wire.taken
        if not host.up or host.entered.keys() != host.planned() or renewed:
            yield f"{name} reconciles", partial(reconcile, state, name)
        if may_be_given_up(state, name) and (passed := give_up(state, name, decide)) != state:
            yield f"MASTER gives {name} up", partial(_same, passed)
        if may_go_on(state, name):
            yield f"{name} goes on without MASTER", partial(change, state, name, leased=True)
        if host.up and host.leased and host.opened != tuple(sorted(host.entered)):
            yield f"{name} runs its shards", partial(run, state, name)
    if (decided := think(state, decide)) != state:
        yield "MASTER decides", lambda: decided
    if state.plans:
        fewer = msgspec.structs.replace(state, plans=state.plans - 1)
        yield "MASTER plans anew", partial(replan, fewer, decide)
    if state.faults:
        yield from _faults(msgspec.structs.replace(state, faults=state.faults - 1))


def restore(state: State, backup: FleetPlan) -> State:
    """MASTER's disk is lost, and an older copy takes its place."""
    return msgspec.structs.replace(restart_master(state), fleet=backup, turned=0)


def _same(state: State) -> State:
    return state


def _has_news(state: State, name: str) -> bool:
    """A report that says nothing new changes nothing, unless it comes late: that is a fault."""
    wire = state.hosts[name].wire
    report = report_of(state.hosts[name])
    if wire and wire.to_master:
        return report != wire.to_master[-1].report
    waited_for = state.hosts[name].files.keys() & state.fleet.sessions.keys()
    fresh = all(_is_known(state, name, shard) for shard in waited_for)
    return report != state.reports.get(name) or not fresh


def _is_known(state: State, name: str, shard: int) -> bool:
    """A later event of the same stay is no news, or there would be no end of states."""
    known, stay = state.checkpoints.get(shard), state.hosts[name].files[shard]
    if known is None or known.stay.entered < stay.entered:
        return False
    return known.host == name or known.stay.entered > stay.entered


def _faults(state: State) -> Iterator[tuple[str, Callable[[], State]]]:
    for name, host in state.hosts.items():
        if host.wire is not None:
            yield f"{name} loses its connection, and connects", partial(connect, state, name)
            yield f"{name} reports once more", partial(tell, state, name)
            if state.leases:
                cut = partial(change, state, name, opened=(), leased=False, wire=None)
                yield f"{name} is cut off, and its lease ends", cut
        if host.up:
            down = partial(change, state, name, opened=())
            yield f"{name} reboots", partial(down, up=False, wire=None, leased=not state.leases)
            if host.opened:
                yield f"the cluster of {name} is killed", down
    yield "MASTER restarts from its disk", partial(restart_master, state)
    if state.backup is not None:
        yield "MASTER restarts from a backup", partial(restore, state, state.backup)


# --- what must hold -------------------------------------------------------------------------------


def check(state: State) -> None:
    """At most one owner, of those with a lease: plans in force and under way, and what may run."""
    for shard in range(SHARDS):
        owners = {name for name, host in state.hosts.items() if _may_run(host, shard)}
        if len(owners) > 1:
            raise BrokenError(f"shard {shard} is with {sorted(owners)}")


def _may_run(host: Host, shard: int) -> bool:
    newer = host.wire.to_host if host.wire else ()
    return host.leased and (
        shard in host.planned()
        or (host.up and shard in host.entered)
        or any(shard in plan.shards() for plan in newer)
    )


def settle(state: State, decide: Decide) -> None:
    """Messages flow, and no faults come: every shard ends up where it shall be, and runs there."""
    for _ in range(ROUNDS):
        for name in HOSTS:
            if state.hosts[name].wire is None:
                state = connect(state, name)
            state = tell(run(reconcile(state, name), name), name)
            while (wire := state.hosts[name].wire) is not None and wire.to_master:
                state = hear(state, name)
        state = think(state, decide)
        for name in HOSTS:
            while (wire := state.hosts[name].wire) is not None and wire.to_host:
                state = obey(state, name)
        check(state)
    for name, entry in state.fleet.hosts.items():
        target = {shard for cluster in entry.clusters.values() for shard in cluster.shards}
        if set(state.hosts[name].opened) != target:
            raise BrokenError(f"{name} never runs {sorted(target)}: {state.hosts[name].opened}")
    if state.fleet.sessions:
        raise BrokenError(f"sessions stay in the plan: {sorted(state.fleet.sessions)}")


# --- the search -----------------------------------------------------------------------------------


def beginning() -> State:
    """A fleet in which nobody has said or done anything yet."""
    fleet = FleetPlan(generation=1, shard_count=SHARDS, gateway_url=GATEWAY, hosts=turned(0))
    return State(fleet=fleet, hosts={name: Host() for name in HOSTS}, plans=0, faults=0)


def orderly(state: State, decide: Decide, which: int) -> Iterator[State]:
    """What becomes of ``state`` without faults. ``which``: 0: the first of all that may happen
    happens next; -1: the last.
    """
    for _ in range(LONGEST):
        going = list(steps(state, decide))
        yield state
        if not going:
            return
        state = going[which][1]()
        check(state)
    raise BrokenError("the fleet never comes to rest")


def milestones(
    decide: Decide, *, plans: int, faults: int, backup: bool, moving: bool, leases: bool
) -> Iterator[State]:
    """A fleet that runs, and, if ``moving``, every state of two ways in which its shards may move:
    from there on there may be more ``plans``, and ``faults``.
    """
    *_, running = orderly(beginning(), decide, 0)
    turning = replan(running, decide)
    for which in (0, -1):
        for state in (running, *(orderly(turning, decide, which) if moving else ())):
            old = running.fleet if backup else None
            yield msgspec.structs.replace(
                state, plans=plans, faults=faults, backup=old, leases=leases
            )


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """``states``: different ones; ``ways``: steps that led to them. ``depth``: to which all were
    tried. ``trace``: how an invariant was broken, with what in the end.
    """

    states: int
    ways: int
    depth: int
    settled: int
    trace: tuple[str, ...] = ()


def explore(
    decide: Decide,
    *,
    plans: int,
    faults: int,
    depth: int,
    most: int,
    settle_every: int,
    backup: bool = False,
    moving: bool = True,
    leases: bool = True,
) -> Found:
    """All states up to ``depth`` steps, but not more than ``most``; one in ``settle_every`` is let
    settle. Ends at the first that breaks an invariant.
    """
    came: dict[bytes, tuple[bytes, str]] = {}
    front = []
    try:
        for number, state in enumerate(
            milestones(
                decide, plans=plans, faults=faults, backup=backup, moving=moving, leases=leases
            )
        ):
            settle(state, decide)
            if (key := _key(state)) not in came:
                came[key] = (b"", f"an orderly move, milestone {number}")
                front.append((key, state))
    except BrokenError as broken:
        told = ("an orderly move", str(broken))
        return Found(states=len(came), ways=0, depth=0, settled=0, trace=told)
    ways = settled = 0
    for reached in range(depth):
        after = []
        for key, state in front:
            doing = ""
            try:
                if len(came) % settle_every == 0:
                    settled += 1
                    doing = "(then all is well)"
                    settle(state, decide)
                for doing, act in steps(state, decide):
                    new = act()
                    ways += 1
                    check(new)
                    new_key = _key(new)
                    if new_key not in came:
                        came[new_key] = (key, doing)
                        after.append((new_key, new))
            except BrokenError as broken:
                trace = (*_trace(came, key), doing, str(broken))
                return Found(
                    states=len(came), ways=ways, depth=reached, settled=settled, trace=trace
                )
            if len(came) >= most:
                return Found(states=len(came), ways=ways, depth=reached, settled=settled)
        front = after
    return Found(states=len(came), ways=ways, depth=depth, settled=settled)


def wander(decide: Decide, rng: Random, *, plans: int, faults: int, steps_: int) -> tuple[str, ...]:
    """A way from a fleet that runs, far beyond the depth to which all ways can be tried; then all
    is well. How an invariant was broken; empty if none was.
    """
    *_, state = orderly(beginning(), decide, 0)
    state = msgspec.structs.replace(state, plans=plans, faults=faults)
    trace: list[str] = []
    try:
        for _ in range(steps_):
            going = list(steps(state, decide))
            if not going:
                break
            doing, act = rng.choice(going)
            trace.append(doing)
            state = act()
            check(state)
        trace.append("(then all is well)")
        settle(state, decide)
    except BrokenError as broken:
        return (*trace, str(broken))
    return ()


def _key(state: State) -> bytes:
    plain = msgspec.to_builtins(state, str_keys=True)
    return sha256(msgspec.msgpack.encode(plain, order="sorted")).digest()


def _trace(came: Mapping[bytes, tuple[bytes, str]], key: bytes) -> tuple[str, ...]:
    told: list[str] = []
    while key:
        key, doing = came[key]
        told.append(doing)
    return tuple(reversed(told))
