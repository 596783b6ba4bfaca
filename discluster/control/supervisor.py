# SPDX-License-Identifier: Apache-2.0
"""The one interface between CONTROL and whoever runs the cluster processes."""

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from discluster.messages import UnitState


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a unit's processes use, as read ``at``, monotonic seconds. ``cpu_seconds``: since the
    unit was started. ``memory``: bytes. None: the supervisor does not know.
    """

    at: float
    cpu_seconds: float | None = None
    memory: int | None = None


class UnitView(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster's unit. ``detail``: why it is in that state, in words; ``restarts``: after
    crashes in a row, since CONTROL or an operator started it. ``usage``: None if this look did not
    read it.
    """

    state: UnitState
    detail: str = ""
    pid: int | None = None
    restarts: int = 0
    usage: Usage | None = None

    @property
    def may_run(self) -> bool:
        """Whether a process may exist or come back without our doing."""
        return self.state not in ("inactive", "failed")


class Supervisor(Protocol):
    """Runs ``discluster-cluster N`` for any N, restarts what crashes, says what runs.

    All calls raise SupervisorError when the supervisor refuses or cannot be reached.
    """

    @property
    def clusters_outlive_control(self) -> bool:
        """Whether :meth:`close` leaves the clusters running."""
        ...

    async def open(self, on_change: Callable[[], None]) -> None:
        """Connects; from now on ``on_change`` is called whenever a unit may have changed."""
        ...

    async def units(self) -> Mapping[int, UnitView]:
        """All cluster units that are known here; one that is absent is inactive."""
        ...

    async def runs(self, cluster: int, pid: int) -> bool:
        """Whether the process ``pid`` is one of this cluster's."""
        ...

    async def going_down(self) -> bool:
        """Whether the machine is being shut down or restarted, and so all its units stopped."""
        ...

    async def start(self, cluster: int) -> None:
        """Starts the unit and waits until it is up."""
        ...

    async def stop(self, cluster: int) -> None:
        """Stops the unit in an orderly way and waits until it is gone."""
        ...

    async def close(self) -> None:
        """Disconnects; does not stop any unit unless that is the supervisor's setting."""
        ...
