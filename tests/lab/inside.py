# SPDX-License-Identifier: Apache-2.0
"""Doing things as a process of a cluster: in its unit, its sandbox, with its user."""

from pathlib import Path
from typing import Final

from tests.lab import intruder
from tests.lab.commands import Completed, wait_until
from tests.lab.machines import Machine

MODULE: Final = Path("/usr/lib/python3/dist-packages/intruder.py")


def let_in(machine: Machine, handler: str) -> None:
    """Make ``handler``, of :mod:`tests.lab.intruder`, the packet handler of the machine."""
    machine.write(str(MODULE), Path(intruder.__file__).read_text())
    machine.write("/etc/discluster/cluster.yaml", f"handler: intruder:{handler}\n")


def inside(machine: Machine, cluster: int, script: str) -> Completed:
    """Run ``script`` with sh as a process of a cluster; both outputs are in ``stdout``."""
    place = machine.disk / str(intruder.PLACE / str(cluster)).lstrip("/")
    (place / "order.new").write_text(script)
    (place / "order.new").rename(place / "order")
    answer = place / "answer"
    wait_until(answer.exists, timeout=30, what=f"cluster {cluster} did what it was told")
    status, _, said = answer.read_text().partition("\n")
    answer.unlink()
    return Completed(int(status), said, "")
