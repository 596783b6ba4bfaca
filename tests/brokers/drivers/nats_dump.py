# SPDX-License-Identifier: Apache-2.0
"""Prints every message of a stream as a line of JSON: ``nats_dump.py PORT STREAM``."""

import asyncio
import json
import sys

import nats


async def main(port: str, stream: str) -> None:
    client = await nats.connect(f"nats://127.0.0.1:{port}", allow_reconnect=False)
    jetstream = client.jetstream()
    there = (await jetstream.stream_info(stream)).state.messages
    ordered = await jetstream.subscribe("", stream=stream, ordered_consumer=True)
    for _ in range(there):
        message = await ordered.next_msg(timeout=10)
        headers = message.headers or {}
        body = json.loads(message.data) if message.data else {}
        told = {
            "place": message.subject,
            "id": headers["Nats-Msg-Id"],
            "shard": int(headers["Discluster-Shard"]),
            "seq": int(headers["Discluster-Sequence"]),
            "type": headers["Discluster-Type"],
            "left_out": headers.get("Discluster-Left-Out"),
            "guild": body.get("guild_id"),
            "count": body.get("_count"),
        }
        print(json.dumps(told))
    await client.close()


asyncio.run(main(*sys.argv[1:]))
