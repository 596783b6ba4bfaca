# SPDX-License-Identifier: Apache-2.0
"""Bots that no cluster can feed. A program: says in JSON what each of them is told.

Its arguments are the library's virtual environment and its name for `import`.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from discluster.cluster.environment import use_virtual_environment
from discluster.errors import DisclusterError


def main(environment: str, name: str) -> None:
    use_virtual_environment(Path(environment))
    library: Any = importlib.import_module(name)
    adapter = {
        "discord": ("discluster.cluster.handlers.discord_py", "DiscordPy"),
        "hikari": ("discluster.cluster.handlers.hikari", "Hikari"),
    }[name]
    adapt = getattr(importlib.import_module(adapter[0]), adapter[1])
    told = {"another kind": _told(adapt, object())}
    bot = _bot(library)
    if name == "discord":
        parsers = bot._connection.parsers
        told["another inside"] = _told(adapt, bot, parsers.pop, "GUILD_CREATE")
    else:
        del bot._shards
        told["another inside"] = _told(adapt, bot)
    library.__version__ = "99.0"
    told["another version"] = _told(adapt, bot)
    print(json.dumps(told))


def _told(adapt: Any, bot: object, before: Any = None, *arguments: object) -> str:
    if before is not None:
        before(*arguments)
    try:
        adapt(bot)
    except DisclusterError as error:
        return error.render()
    return "nothing"


def _bot(library: Any) -> Any:
    if library.__name__ == "discord":
        return library.Client(intents=library.Intents.none())
    return library.GatewayBot("MTAw.simulated.token", banner=None, logs=None)


if __name__ == "__main__":
    main(*sys.argv[1:])
