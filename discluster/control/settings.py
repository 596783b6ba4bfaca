# SPDX-License-Identifier: Apache-2.0
"""The settings of CONTROL: /etc/discluster/control.yaml."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from discluster.documents import Rule
from discluster.plan import HostName
from discluster.settings import LogLevel, RuntimeDirectory, Setting, StateDirectory

MasterUrl = Annotated[
    str, Rule(pattern=r"https://[^\s/?#]+/?", pattern_says="of the form https://HOST:PORT")
]
TITLE = "Settings of CONTROL, the service that runs this machine's clusters."


class ControlSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See the help of each setting."""

    host: Annotated[
        HostName | None,
        Setting("Name of this machine in the fleet; null takes the machine's host name"),
    ] = None
    master: Annotated[
        MasterUrl | None,
        Setting("Address of MASTER; null takes the one that 'discluster-control join' stored"),
    ] = None
    supervisor: Annotated[
        Literal["systemd", "embedded"],
        Setting(
            "Who runs the cluster processes: systemd (units discluster-cluster@N), or CONTROL"
            " itself as child processes, for a laptop or a container"
        ),
    ] = "systemd"
    embedded_on_stop: Annotated[
        Literal["stop", "keep"],
        Setting(
            "With the embedded supervisor: what happens to the clusters when CONTROL is stopped."
            " With systemd they always run on"
        ),
    ] = "stop"
    cluster_config: Annotated[
        str, Setting("Settings file given to the clusters by the embedded supervisor")
    ] = "/etc/discluster/cluster.yaml"
    reconnect_maximum: Annotated[
        float,
        Setting("Longest pause between two attempts to reach MASTER", unit="seconds", minimum=0.1),
    ] = 15.0
    connect_timeout: Annotated[
        float, Setting("Time limit of one attempt to reach MASTER", unit="seconds", minimum=0.1)
    ] = 10.0
    identify_interval: Annotated[
        float,
        Setting(
            "Least time between two identifies of one bucket while MASTER is away, the same on all"
            " hosts; Discord wants 5. The clocks of the fleet may then differ by half of it, so"
            " they should be set by NTP or the like",
            unit="seconds",
            minimum=0.1,
        ),
    ] = 5.05
    checkpoint_interval: Annotated[
        float,
        Setting(
            "Pause between two checkpoints: MASTER is told how far each session of this machine is,"
            " should the machine be lost",
            unit="seconds",
            minimum=0.1,
        ),
    ] = 3.0
    state_directory: StateDirectory = "/var/lib/discluster"
    runtime_directory: RuntimeDirectory = "/run/discluster"
    log_level: LogLevel = "info"

    @property
    def own_state(self) -> Path:
        return Path(self.state_directory) / "control"

    @property
    def clusters_state(self) -> Path:
        return Path(self.state_directory) / "clusters"

    @property
    def socket(self) -> Path:
        return Path(self.runtime_directory) / "control.sock"
