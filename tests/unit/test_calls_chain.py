# SPDX-License-Identifier: Apache-2.0
"""Calls through all that they pass: clusters, CONTROLs and MASTER, over wires that lose, repeat and
delay what they like.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from discluster.cluster.calls import ClusterCalls
from discluster.cluster.handlers import CallAnswers
from discluster.control.calls import HostCalls
from discluster.master.calls import FleetCalls
from discluster.messages import (
    CallAsked,
    Message,
    cluster_to_control,
    control_to_cluster,
    control_to_master,
    decode,
    encode,
    master_to_control,
)
from discluster.plan import ClusterPlan, FleetPlan, HostEntry
from tests.clock import ManualClock, settle

HOSTS: Final = {"alpha": (1, 2), "beta": (3, 4)}
PLACES: Final = {cluster: host for host, clusters in HOSTS.items() for cluster in clusters}
LONGEST: Final = 10.0
FATES: Final = ("arrives", "arrives", "arrives", "lost", "twice", "late")
Deliver = Callable[[Any], object]


class Wires:
    """Each message meets the next of ``fates``; then all arrive."""

    def __init__(self, clock: ManualClock, fates: list[str]) -> None:
        self._clock = clock
        self._fates = list(fates)
        self._later: set[asyncio.Task[None]] = set()

    def to(self, decoder: msgspec.json.Decoder[Any], deliver: Deliver) -> Callable[[Message], bool]:
        """Sends over one wire. As on a real one, a message is read from its bytes."""

        def send(message: Message) -> bool:
            wire = encode(message)
            assert b"\n" not in wire
            # Connections keep their order: whom others asked is not lost alone, or overtaken.
            told = isinstance(message, CallAsked) and message.more
            fate = self._fates.pop(0) if self._fates and not told else "arrives"
            for _ in range({"lost": 0, "twice": 2}.get(fate, 1)):
                pause = 3.0 if fate == "late" else 0.0
                task = asyncio.create_task(self._carry(pause, decoder, wire, deliver))
                self._later.add(task)
                task.add_done_callback(self._later.discard)
            return True

        return send

    async def _carry(
        self, pause: float, decoder: msgspec.json.Decoder[Any], wire: bytes, deliver: Deliver
    ) -> None:
        if pause:
            await self._clock.sleep(pause)
        deliver(decode(decoder, wire, peer="the other end"))


class End:
    """One end of a connection, with what the hops want to know of it."""

    def __init__(
        self, send: Callable[[Message], bool], *, cluster: int = 0, host: str = ""
    ) -> None:
        self.send_call = send
        self.cluster = cluster
        self.host = host


class Chain:
    """Two hosts with two clusters each, and MASTER."""

    def __init__(self, fates: list[str]) -> None:
        self.clock = ManualClock()
        self.wires = Wires(self.clock, fates)
        entries = {
            host: HostEntry(clusters={c: ClusterPlan(shards=(c,)) for c in clusters})
            for host, clusters in HOSTS.items()
        }
        self.fleet: FleetPlan | None = FleetPlan(
            generation=1, shard_count=8, gateway_url="wss://gateway.discord.gg", hosts=entries
        )
        self.master = FleetCalls(self, clock=self.clock)
        self.clusters: dict[int, ClusterCalls] = {}
        self.controls = {host: self._control(host) for host in HOSTS}
        parts = [
            self.master.run(),
            *(control.run() for control in self.controls.values()),
            *(cluster.run() for cluster in self.clusters.values()),
        ]
        self.running = [asyncio.create_task(part) for part in parts]

    def _control(self, host: str) -> HostCalls:
        ends: dict[int, End] = {}
        control = HostCalls(
            host=host,
            clusters=lambda: HOSTS[host],
            connection=ends.get,  # type: ignore[arg-type]
            clock=self.clock,
        )
        at_master = End(self.wires.to(master_to_control, control.master_said), host=host)
        self.master.connected(at_master)  # type: ignore[arg-type]

        def to_master(message: Any) -> None:
            self.master.said(at_master, message)  # type: ignore[arg-type]

        control.master_connected(self.wires.to(control_to_master, to_master))
        for number in HOSTS[host]:
            self._cluster(number, control, ends)
        return control

    def _cluster(self, number: int, control: HostCalls, ends: dict[int, End]) -> None:
        cluster = ClusterCalls(
            cluster=number, methods={"who": lambda args: [number, args]}, clock=self.clock
        )
        end = End(self.wires.to(control_to_cluster, cluster.control_said), cluster=number)

        def to_control(message: Any) -> None:
            control.cluster_said(end, message)  # type: ignore[arg-type]

        cluster.control_connected(self.wires.to(cluster_to_control, to_control))
        self.clusters[number], ends[number] = cluster, end

    async def call(self, wanted: set[int] | None) -> CallAnswers:
        """Of cluster 1; it must be over in time."""
        asking = asyncio.create_task(
            self.clusters[1].call("who", "x", clusters=wanted, timeout=LONGEST)
        )
        await settle(200)
        for _ in range(int(LONGEST)):
            await self.clock.advance(1.0)
        assert asking.done()
        return await asking

    async def close(self) -> None:
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)


async def _outcome(fates: list[str], wanted: set[int] | None) -> CallAnswers:
    chain = Chain(fates)
    try:
        return await chain.call(wanted)
    finally:
        await chain.close()


@given(
    fates=st.lists(st.sampled_from(FATES), max_size=40),
    wanted=st.none() | st.sets(st.sampled_from([*PLACES, 77]), max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_call_is_over_in_time_with_one_true_entry_of_each_cluster(
    fates: list[str], wanted: set[int] | None
) -> None:
    found = asyncio.run(_outcome(fates, wanted))
    numbers = [answer.cluster for answer in found.answers]
    assert len(numbers) == len(set(numbers))
    if wanted is not None:
        assert set(numbers) == wanted
    elif set(numbers) != PLACES.keys():
        # It was lost whom others had asked: then that is said.
        assert set(numbers) < PLACES.keys()
        assert found.unasked is not None
    for cluster, value in found.values.items():
        assert value == [cluster, "x"]
    for answer in found.answers:
        assert answer.host in (PLACES.get(answer.cluster), None)


def test_on_sound_wires_all_answer() -> None:
    found = asyncio.run(_outcome([], None))
    assert found.values == {cluster: [cluster, "x"] for cluster in PLACES}
    assert {answer.cluster: answer.host for answer in found.answers} == PLACES
    assert (found.faults, found.unasked) == ({}, None)
    found = asyncio.run(_outcome([], {2, 3, 77}))
    assert found.values == {2: [2, "x"], 3: [3, "x"]}
    assert {n: fault.code for n, fault in found.faults.items()} == {77: "no-such-cluster"}
