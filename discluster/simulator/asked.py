# SPDX-License-Identifier: Apache-2.0
"""What a bot may ask for over HTTP, field by field. Pure.

(Discord: Message, Create Message; Application Commands, Application Command Structure.)
"""

from __future__ import annotations

import re
from typing import Any, Final

MAX_CONTENT: Final = 2000
MAX_EMBEDS: Final = 10
MAX_COMMANDS: Final = 100
MAX_DESCRIPTION: Final = 100
CHAT_INPUT: Final = 1

_COMMAND_NAME: Final = re.compile(r"[-_'\w]{1,32}")
_OPTIONAL: Final = type(None)
_MESSAGE: Final[dict[str, tuple[type, ...]]] = {
    "content": (str, _OPTIONAL),
    "nonce": (str, int),
    "enforce_nonce": (bool,),
    "tts": (bool,),
    "embeds": (list,),
    "allowed_mentions": (dict, _OPTIONAL),
    "message_reference": (dict, _OPTIONAL),
    "components": (list,),
    "sticker_ids": (list,),
    "attachments": (list,),
    "flags": (int,),
    "poll": (dict, _OPTIONAL),
}
_COMMAND: Final[dict[str, tuple[type, ...]]] = {
    "id": (str, int),
    "type": (int,),
    "name": (str,),
    "name_localizations": (dict, _OPTIONAL),
    "description": (str,),
    "description_localizations": (dict, _OPTIONAL),
    "options": (list,),
    "default_member_permissions": (str, int, _OPTIONAL),
    "dm_permission": (bool, _OPTIONAL),
    "integration_types": (list, _OPTIONAL),
    "contexts": (list, _OPTIONAL),
    "nsfw": (bool,),
}


class BadBodyError(Exception):
    """What Discord would answer with 400; `field`: of what."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def check_message(body: Any) -> dict[str, Any]:
    """A message to be made.

    Raises:
        BadBodyError: Discord would not make it.
    """
    asked = _object(body, _MESSAGE, "message")
    content = asked.get("content") or ""
    if len(content) > MAX_CONTENT:
        raise BadBodyError("message", f"content has {len(content)} characters, over {MAX_CONTENT}")
    if len(asked.get("embeds", [])) > MAX_EMBEDS:
        raise BadBodyError("message", f"there are more than {MAX_EMBEDS} embeds")
    if not any((content, *(asked.get(n) for n in ("embeds", "sticker_ids", "components", "poll")))):
        raise BadBodyError("message", "Cannot send an empty message")
    return asked


def check_commands(body: Any) -> list[dict[str, Any]]:
    """All commands of an application.

    Raises:
        BadBodyError: Discord would not take them.
    """
    if not isinstance(body, list) or len(body) > MAX_COMMANDS:
        raise BadBodyError("commands", f"it is no list of up to {MAX_COMMANDS} commands")
    asked = [_object(one, _COMMAND, "commands") for one in body]
    for one in asked:
        kind, name = one.get("type", CHAT_INPUT), one.get("name", "")
        if kind not in range(1, 5):
            raise BadBodyError("commands", f"there is no type {kind} of commands")
        if not _COMMAND_NAME.fullmatch(name) or (kind == CHAT_INPUT and name != name.lower()):
            raise BadBodyError("commands", f"{name!r} cannot be the name of a command")
        if kind == CHAT_INPUT and not 1 <= len(one.get("description", "")) <= MAX_DESCRIPTION:
            raise BadBodyError("commands", f"{name}: no description of 1 to {MAX_DESCRIPTION}")
    keys = [(one.get("type", CHAT_INPUT), one["name"]) for one in asked]
    if len(set(keys)) != len(keys):
        raise BadBodyError("commands", "Application command names must be unique")
    return asked


def _object(body: Any, shape: dict[str, tuple[type, ...]], field: str) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise BadBodyError(field, f"it is {type(body).__name__}, not an object")
    if unknown := sorted(body.keys() - shape.keys()):
        raise BadBodyError(field, f"unknown fields: {', '.join(unknown)}")
    for name, value in body.items():
        kinds = shape[name]
        # In JSON a truth value is no number.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise BadBodyError(field, f"{name} is {type(value).__name__}")
    return body
