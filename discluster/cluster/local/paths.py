# SPDX-License-Identifier: Apache-2.0
"""What the path of a request asks for."""

import re
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

_VERSION: Final = re.compile(r"v\d{1,2}")

Asked = Literal["socket", "gateway", "gateway/bot"]


class Place(msgspec.Struct, frozen=True):
    """``client``: the declared name of who asks."""

    client: str
    asked: Asked


def place(path: str, clients: Sequence[str]) -> Place | None:
    """``/[NAME]``, ``/[NAME/][api/][v10/]gateway[/bot]``; None: nothing is there. Without a name it
    is the first client's.
    """
    parts = [part for part in path.split("/") if part]
    client = clients[0]
    if parts and parts[0] in clients:
        client = parts.pop(0)
    if parts and parts[0] == "api":
        parts.pop(0)
    if parts and _VERSION.fullmatch(parts[0]):
        parts.pop(0)
    match parts:
        case []:
            return Place(client, "socket")
        case ["gateway"]:
            return Place(client, "gateway")
        case ["gateway", "bot"]:
            return Place(client, "gateway/bot")
    return None
