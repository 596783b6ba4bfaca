# SPDX-License-Identifier: Apache-2.0
"""Runs a program of docs/pairing.md with the simulator for Discord's API: `start PROGRAM`.

start.mjs does the same for those in JavaScript.
"""

import logging
import runpy
import sys
from pathlib import Path

from tests.clients.drivers.report import settings


def main() -> None:
    wanted, program = settings(), Path(sys.argv[1])
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    if program.stem == "discord_py":
        if wanted["compress"] == "zlib-stream":
            # It takes zstd-stream wherever one of these can be imported.
            sys.modules["zstandard"] = None  # type: ignore[assignment]
            sys.modules["compression.zstd"] = None  # type: ignore[assignment]  # of Python 3.14
        import discord

        discord.http.Route.BASE = wanted["api"]
    else:
        import hikari

        hikari.urls.REST_API_URL = wanted["api"]
    sys.path.insert(0, str(program.parent))
    runpy.run_path(str(program), run_name="__main__")


if __name__ == "__main__":
    main()
