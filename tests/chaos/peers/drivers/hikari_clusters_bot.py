# SPDX-License-Identifier: Apache-2.0
"""hikari-clusters as its README has it: ``brain`` and ``server`` are two programs."""

import logging
import sys
from typing import Any

import hikari
from hikari_clusters import Brain, Cluster, ClusterLauncher, Server

from tests.chaos.peers.drivers.recording import Recording
from tests.clients.drivers.report import settings

WANTED = settings()
IPC: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": WANTED["ipc_port"],
    "token": "between the brain and its servers",
}


class Bot(hikari.GatewayBot):  # type: ignore[misc]
    """One for each cluster process, which the Server forks."""

    cluster: Cluster

    def __init__(self) -> None:
        super().__init__(
            WANTED["token"],
            rest_url=WANTED["api"],
            intents=hikari.Intents(WANTED["intents"]),
            auto_chunk_members=False,
            banner=None,
        )
        self.subscribe(hikari.StartingEvent, self.on_starting)
        self.subscribe(hikari.ShardPayloadEvent, self.on_payload)

    async def on_starting(self, event: hikari.StartingEvent) -> None:
        first = self.cluster.shard_ids[0]
        self.recording = Recording(WANTED["recordings"], first=first, shards=WANTED["shards"])

    async def on_payload(self, event: hikari.ShardPayloadEvent) -> None:
        # hikari does not tell an event's sequence.
        self.recording.dispatch(event.name, event.payload, 0)


def brain() -> None:
    processes = WANTED["processes"]
    shape = {"total_servers": 1, "clusters_per_server": processes}
    Brain(**IPC, **shape, shards_per_cluster=WANTED["shards"] // processes).run()


def server() -> None:
    launcher = ClusterLauncher(Bot, bot_start_kwargs={"check_for_updates": False})
    Server(**IPC, cluster_launcher=launcher).run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    # What a cluster process logs tells which one it is.
    logging.getLogger().handlers[0].setFormatter(
        logging.Formatter("%(process)d %(levelname)s %(name)s: %(message)s")
    )
    {"brain": brain, "server": server}[sys.argv[-1]]()
