# SPDX-License-Identifier: Apache-2.0
"""A killed test leaves nothing running."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.scenario.guardian import processes_of
from tests.scenario.processes import REPOSITORY
from tests.waiting import wait_for

FLEET = """
import asyncio
from tests.scenario.loopback import LoopbackFleet
async def main():
    fleet = LoopbackFleet()
    await fleet.start(shards=2, hosts={"alpha": 1.0})
    await fleet.simulator.wait_for_connected(2, 30)
    print(fleet.directory, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_killed_test_leaves_no_process_of_its_fleet() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FLEET], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        directory = Path(process.stdout.readline().strip())
        # Simulator, MASTER, CONTROL, a cluster and the guardian.
        assert len(processes_of(directory)) >= 5
        process.send_signal(signal.SIGKILL)
    await wait_for(lambda: not processes_of(directory), 20, what="every process is gone")
    await wait_for(lambda: not directory.exists(), 5, what="its directory is gone")


async def test_guardian_leaves_alone_what_a_person_runs_beside_the_fleet(tmp_path: Path) -> None:
    """Such as the disclusterctl --watch that the demo proposes for another terminal."""
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    guardian = [sys.executable, "-m", "tests.scenario.guardian", str(tmp_path)]
    with (
        subprocess.Popen([*sleeper, "--socket", f"{tmp_path}/master.sock"]) as person,
        subprocess.Popen([*sleeper, "--config", f"{tmp_path}/alpha.yaml"]) as program,
    ):
        try:
            subprocess.run(guardian, cwd=REPOSITORY, input=b"", timeout=20, check=True)
            assert program.wait() == -signal.SIGKILL
            assert person.poll() is None
        finally:
            person.kill()
            program.kill()
