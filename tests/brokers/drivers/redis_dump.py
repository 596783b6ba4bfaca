# SPDX-License-Identifier: Apache-2.0
"""Prints every entry of the streams STREAM:* as a line of JSON: ``redis_dump.py PORT STREAM``."""

import json
import sys

import redis


def main(port: str, stream: str) -> None:
    client = redis.Redis(port=int(port), decode_responses=True)
    for key in sorted(client.scan_iter(f"{stream}:*")):
        for _, fields in client.xrange(key):
            body = json.loads(fields["d"])
            told = {
                "place": key,
                "id": fields["id"],
                "shard": int(fields["shard"]),
                "seq": int(fields["seq"]),
                "type": key.rpartition(":")[2],
                "left_out": None,
                "guild": body.get("guild_id"),
                "count": body.get("_count"),
            }
            print(json.dumps(told))


main(*sys.argv[1:])
