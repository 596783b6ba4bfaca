# SPDX-License-Identifier: Apache-2.0
"""A real CONTROL under attack: its witness and its socket serve whom they are for."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from discluster import places
from discluster.console import HostStatus, control_to_operator
from discluster.control.identity import Identity
from discluster.control.panel import WitnessPanel
from discluster.master.access.authority import Authority
from discluster.messages import StatusQuery, WitnessAnswer, decode, encode
from tests.bench.processes import Program, cores, program
from tests.ports import free_port
from tests.siege.crowd import Attack
from tests.siege.scene import Crowd, crowd, memory
from tests.unit.control.masters import NOW, joined_identity
from tests.waiting import wait_for

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

MOST = 60.0  # MB; see docs/limits.md.
PATIENCE = 5.0


class Scene:
    """CONTROL ``beta``, which hears no MASTER; ``alpha`` asks it."""

    def __init__(self, directory: Path, control: Program, crowd: Crowd, port: int) -> None:
        self.control = control
        self.port = port
        self.socket = places.control_socket(directory / "run")
        self.clusters = places.clusters_socket(directory / "run")
        self.panel = WitnessPanel(Identity(directory / "alpha"), host="alpha", wall=time.time)
        self.crowd = crowd
        self.slowest = self.peak = 0.0
        self.answers = 0

    async def ask_witness(self) -> bool:
        said = await self.panel.ask({"beta": f"127.0.0.1:{self.port}"}, PATIENCE, bool)
        return isinstance(said["beta"], WitnessAnswer)

    async def ask_status(self) -> bool:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_unix_connection(self.socket, limit=2**20)
            writer.write(encode(StatusQuery()) + b"\n")
            answer = decode(control_to_operator, await reader.readline(), peer="CONTROL")
            writer.close()
            return isinstance(answer, HostStatus)

    async def besiege(self, attack: Attack) -> None:
        """Both ends are asked all the while."""
        before = memory(self.control.pid)
        attacking = asyncio.create_task(self.crowd.attack(attack))
        self.peak = self.slowest = 0.0
        self.answers = 0
        while not attacking.done():
            began = time.monotonic()
            assert await self.ask_witness()
            assert await self.ask_status()
            self.answers += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.peak = max(self.peak, memory(self.control.pid))
            await asyncio.sleep(0.1)
        came = await attacking
        print(
            f"{attack.kind}: {came.attempts} connections, {came.refused} ended; memory"
            f" {before:.0f} -> {self.peak:.0f} MB, {self.answers} answers, the slowest"
            f" {self.slowest:.2f} s"
        )
        assert self.answers >= 3
        assert self.peak - before < MOST


@asynccontextmanager
async def _scene(directory: Path) -> AsyncIterator[Scene]:
    authority = Authority(directory / "ca", now=NOW)
    joined_identity(directory / "alpha", authority, host="alpha")
    nobody = f"https://127.0.0.1:{free_port()}"
    joined_identity(
        directory / "state" / "control" / "identity", authority, host="beta", url=nobody
    )
    port = free_port()
    (directory / "control.yaml").write_text(
        f"host: beta\nsupervisor: embedded\nwitness_listen: 127.0.0.1:{port}\n"
        f"state_directory: {directory / 'state'}\nruntime_directory: {directory / 'run'}\n"
    )
    command = [sys.executable, "-m", "discluster.control.main"]
    async with (
        program(
            [*command, "--config", str(directory / "control.yaml")],
            name="control",
            directory=directory,
            core=cores().client,
            extra={},
        ) as control,
        crowd(directory) as attackers,
    ):
        made = Scene(directory, control, attackers, port)
        await wait_for(made.socket.exists, 20, what="CONTROL's socket")
        await wait_for(made.ask_witness, 20, what="the witness")
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def besieged(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with _scene(tmp_path_factory.mktemp("control")) as made:
        yield made


@pytest.mark.parametrize(
    ("kind", "connections"), [("tcp-silent", 3000), ("tcp-half-hello", 3000), ("tls-silent", 500)]
)
async def test_strangers_keep_no_host_from_the_witness(
    besieged: Scene, kind: str, connections: int
) -> None:
    await besieged.besiege(
        Attack(
            kind=kind,
            port=besieged.port,
            connections=connections,
            addresses=40,
            attempts=connections,
            seconds=3.0,
        )
    )


@pytest.mark.parametrize(
    ("kind", "connections"),
    [("unix-silent", 3000), ("unix-half-line", 3000), ("unix-endless-line", 50)],
)
async def test_processes_on_the_clusters_socket_keep_no_operator_out(
    besieged: Scene, kind: str, connections: int
) -> None:
    await besieged.besiege(
        Attack(
            kind=kind,
            path=str(besieged.clusters),
            connections=connections,
            attempts=connections,
            seconds=3.0,
        )
    )


async def test_operators_that_take_no_answer_cost_little(besieged: Scene) -> None:
    await besieged.besiege(
        Attack(
            kind="unix-deaf-operator",
            path=str(besieged.socket),
            connections=30,
            attempts=30,
            seconds=3.0,
        )
    )
