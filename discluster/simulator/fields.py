# SPDX-License-Identifier: Apache-2.0
"""Changes to an answer, as a script asks for. Pure."""

from __future__ import annotations

from typing import Any

from discluster.simulator.deeds import Fields


def changed(body: dict[str, Any], deed: Fields) -> dict[str, Any]:
    """A copy with fields set and removed; what a path names on its way is made if it lacks."""
    for path in deed.remove:
        body = _without(body, path.split("."))
    for path, value in deed.set.items():
        body = _with(body, path.split("."), value)
    return body


def _with(body: Any, path: list[str], value: object) -> dict[str, Any]:
    name, *rest = path
    body = body if isinstance(body, dict) else {}
    return {**body, name: _with(body.get(name), rest, value) if rest else value}


def _without(body: dict[str, Any], path: list[str]) -> dict[str, Any]:
    name, *rest = path
    if name not in body:
        return body
    if not rest:
        return {key: value for key, value in body.items() if key != name}
    inner = body[name]
    return {**body, name: _without(inner, rest)} if isinstance(inner, dict) else body


def touches(deed: Fields, name: str) -> bool:
    """Whether the field of this name is set or removed."""
    return name in deed.set or name in deed.remove
