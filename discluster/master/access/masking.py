# SPDX-License-Identifier: Apache-2.0
"""What of a call's body may be kept: no secret, and not more than a person reads."""

import re
from typing import Any, Final

import msgspec

MASK: Final = "***"
_SECRET: Final = re.compile(r"token|secret|password|csr|key|certificate|credential", re.IGNORECASE)
_LONGEST_TEXT: Final = 200
_LONGEST_BODY: Final = 2048
_DEEPEST: Final = 4
_WIDEST: Final = 64


def essence(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``, shortened, with ``***`` in place of what its name says is a
    secret. Of a body that is none only the size is told: it may hold anything.
    """
    if not body:
        return {}
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {"unreadable": f"{len(body)} bytes"}
    if not isinstance(found, dict):
        return {"unreadable": f"{len(body)} bytes"}
    kept: dict[str, Any] = _shortened(found, 0)
    if len(msgspec.json.encode(kept)) > _LONGEST_BODY:
        kind = {"type": kept["type"]} if isinstance(kept.get("type"), str) else {}
        return {**kind, "too_long": f"{len(body)} bytes"}
    return kept


def _shortened(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_TEXT else value[:_LONGEST_TEXT] + "…"
    if not isinstance(value, (dict, list)):
        return value
    if depth >= _DEEPEST:
        return "…"
    if isinstance(value, list):
        rest = ["…"] if len(value) > _WIDEST else []
        return [_shortened(item, depth + 1) for item in value[:_WIDEST]] + rest
    return {
        name[:_LONGEST_TEXT]: _kept(name, item, depth)
        for name, item in list(value.items())[:_WIDEST]
    }


def _kept(name: str, value: Any, depth: int) -> Any:
    # A count or a flag is no secret, whatever its name: only what could hold one is masked.
    if _SECRET.search(name) and not isinstance(value, (bool, int, float, type(None))):
        return MASK
    return _shortened(value, depth + 1)
