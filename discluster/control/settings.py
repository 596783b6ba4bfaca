# SPDX-License-Identifier: Apache-2.0
"""The settings of CONTROL: /etc/discluster/control.yaml."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from discluster import places
from discluster.documents import Rule
from discluster.plan import Address, HostName
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
    when_isolated: Annotated[
        Literal["stop", "keep"],
        Setting(
            "What the clusters do when neither MASTER nor enough of the witnesses can be reached,"
            " and so nobody can tell whether MASTER gives this machine's shards to others: stop"
            " (sessions kept; they come back by RESUME), or keep running, at the risk that shards"
            " run twice until the network is mended. Of two machines the one without MASTER is"
            " isolated when the other is off"
        ),
    ] = "stop"
    witness_listen: Annotated[
        Address | None,
        Setting(
            "Where other machines of the fleet can ask this one whether it hears MASTER, over"
            " mutual TLS. MASTER gives the shards of a lost machine to others only while half of"
            " these witnesses hear it, so the port should be open between the machines. If it"
            " is taken, CONTROL says so and tries again. null: nowhere; the machine is no witness"
            " then, not even for itself: alone in its fleet it is isolated whenever MASTER is away"
        ),
    ] = "0.0.0.0:7444"
    witness_address: Annotated[
        Address | None,
        Setting(
            "The same, as the other machines reach it; null takes witness_listen, and where that is"
            " 0.0.0.0 or [::] the address from which MASTER sees this machine",
            example="witness_address: 192.0.2.7:7444",
        ),
    ] = None
    state_directory: StateDirectory = "/var/lib/discluster"
    runtime_directory: RuntimeDirectory = "/run/discluster"
    log_level: LogLevel = "info"

    @property
    def own_state(self) -> Path:
        return places.own_state(Path(self.state_directory), "control")

    @property
    def own_runtime(self) -> Path:
        return places.own_runtime(Path(self.runtime_directory), "control")

    @property
    def socket(self) -> Path:
        return places.control_socket(Path(self.runtime_directory))

    @property
    def clusters_socket(self) -> Path:
        return places.clusters_socket(Path(self.runtime_directory))

    @property
    def lease_file(self) -> Path:
        return places.lease_file(Path(self.runtime_directory))
