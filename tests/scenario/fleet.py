# SPDX-License-Identifier: Apache-2.0
"""A whole fleet as a scenario sees it: the same on loopback and on lab machines."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from discluster.simulator.client import SimulatorClient
from tests.scenario.network import Network


class Completed(Protocol):
    """What a command did."""

    @property
    def returncode(self) -> int: ...

    @property
    def stdout(self) -> str: ...

    @property
    def stderr(self) -> str: ...


class Fleet(Protocol):
    """Simulated Discord, MASTER, and a CONTROL with its clusters on every host."""

    hosts: tuple[str, ...]

    @property
    def simulator(self) -> SimulatorClient: ...

    async def start(
        self,
        *,
        shards: int,
        hosts: Mapping[str, float],
        max_concurrency: int = 8,
        shards_per_cluster: int = 4,
        simulator: Mapping[str, object] | None = None,
        recording: bool = False,
        master: Mapping[str, object] | None = None,
        control: Mapping[str, object] | None = None,
        wired: bool = False,
        delay: float = 0.0,
    ) -> None:
        """Starts everything; ``hosts``: name to weight. ``recording``: the clusters' handler is
        the one of tests.chaos.recorder. ``master``, ``control``: settings beside the usual ones.
        ``wired``: the scenario wants to break the network. ``delay``: seconds for which all that
        hosts say to others, and hear, is on its way, if it is ``wired``.
        """
        ...

    @property
    def network(self) -> Network:
        """Of a fleet that was started with ``wired``."""
        ...

    async def status(self) -> dict[str, Any]:
        """What ``disclusterctl status --json`` prints."""
        ...

    async def ctl(self, *arguments: str, host: str | None = None) -> Completed:
        """``disclusterctl`` on MASTER's machine, or on a host's."""
        ...

    async def elsewhere(self, home: str, *arguments: str) -> Completed:
        """``disclusterctl`` where neither MASTER nor a socket of it is; logins are kept below
        ``home``, a name.
        """
        ...

    async def start_master(self) -> None: ...

    async def stop_master(self) -> None: ...

    async def restart_master(self) -> None: ...

    async def kill_master(self) -> None: ...

    async def start_control(self, host: str) -> None: ...

    async def stop_control(self, host: str) -> None: ...

    async def restart_control(self, host: str) -> None: ...

    async def kill_control(self, host: str) -> None: ...

    async def add_host(self, name: str, weight: float) -> None:
        """It joins, as a new one or, while its CONTROL is stopped, once more."""
        ...

    async def join_again(self, host: str) -> Completed:
        """With a new token for its name; its CONTROL is started anew."""
        ...

    async def configure(
        self,
        *,
        shards_per_cluster: int | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        """Changes MASTER's settings and restarts it."""
        ...

    async def edit_master(self, changes: Mapping[str, object]) -> None:
        """Changes MASTER's settings on disk, and tells nobody."""
        ...

    async def set_cluster_setting(self, host: str, name: str, value: str) -> None:
        """For clusters of ``host`` that start from now on."""
        ...

    async def shut_down(self, host: str) -> None:
        """The whole machine, in an orderly way; returns when it is off."""
        ...

    async def boot(self, host: str) -> None:
        """Switches a machine on that was shut down."""
        ...

    async def cut_power(self, host: str) -> None:
        """Gone from one instant to the next; only in a ``wired`` fleet does nobody hear of it."""
        ...

    async def power_on(self, host: str) -> None:
        """Undoes :meth:`cut_power`; what was on disk is still there."""
        ...

    async def freeze(self, host: str) -> None:
        """Every process of the host stands still from now on."""
        ...

    async def thaw(self, host: str) -> None: ...

    async def back_up_master(self) -> None:
        """Copies all of MASTER's files; it is not running."""
        ...

    async def restore_master(self) -> None:
        """MASTER's files are as they were at :meth:`back_up_master`; it is not running."""
        ...

    async def wipe_master(self) -> None:
        """All of MASTER's files are lost but for its certificate authority; it is not running."""
        ...

    async def kill_cluster(self, cluster: int) -> None: ...

    async def restart_cluster(self, cluster: int) -> None: ...

    async def kill_clusters(self, host: str) -> None:
        """SIGKILL of all clusters of a host at once."""
        ...

    async def kill_host(self, host: str) -> None:
        """SIGKILL of a host's CONTROL and of all its clusters; they are started again."""
        ...

    def recordings(self) -> tuple[Path, ...]:
        """The directories that the recording handlers write to."""
        ...

    async def units(self, host: str) -> dict[int, str]:
        """Cluster number to the unit's state, as the supervisor says."""
        ...

    async def diagnostics(self) -> str: ...

    async def close(self) -> None: ...


FleetMaker = Callable[[], Fleet]


def change_settings(
    master: dict[str, Any], shards_per_cluster: int | None, weights: Mapping[str, float]
) -> None:
    """What an operator edits in master.yaml; ``weights``: of hosts."""
    if shards_per_cluster is not None:
        master["shards_per_cluster"] = shards_per_cluster
    for name, weight in weights.items():
        master["hosts"][name] = {"weight": weight}
