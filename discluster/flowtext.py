# SPDX-License-Identifier: Apache-2.0
"""Structs as YAML that a person can read and diff: one line for each entry of a mapping, and what
stands in it in flow style.

Fields that are None are left out; of a struct with ``omit_defaults`` also those with their default.
"""

import json
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from discluster import documents

Key = TypeVar("Key", int, str)


def section(name: str, entries: Mapping[Key, object], indent: str = "") -> list[str]:
    """The mapping under ``name``, sorted, so that a diff shows one line for each change."""
    if not entries:
        return [f"{indent}{name}: {{}}"]
    # Of 65,536 grants most are alike: writing each out would take a third of a second.
    texts: dict[object, str] = {}
    rows: list[str] = []
    for key in sorted(entries):
        value = entries[key]
        try:
            text = texts.get(value)
            if text is None:
                text = texts[value] = flow(value)
        except TypeError:  # it has a mapping in it
            text = flow(value)
        rows.append(f"{indent}  {_key(key)}: {text}")
    return [f"{indent}{name}:", *rows]


def flow(value: object) -> str:
    """The value in one line."""
    if type(value) is int:
        return str(value)
    if isinstance(value, msgspec.Struct):
        return "{" + ", ".join(f"{k}: {flow(v)}" for k, v in _fields(value)) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def plain(name: str) -> str:
    """A host name without quotes, unless YAML would take it for a number or for ``null``."""
    return name if isinstance(documents.scalar(name), str) else _quoted(name)


def _fields(value: msgspec.Struct) -> Iterable[tuple[str, object]]:
    pairs = [(name, getattr(value, name)) for name in value.__struct_fields__]
    if value.__struct_config__.omit_defaults:
        # Aligned at the end; msgspec.structs.fields() would evaluate all annotations anew.
        names, given = value.__struct_fields__, value.__struct_defaults__
        defaults = dict(zip(names[len(names) - len(given) :], given, strict=True))
        pairs = [(k, v) for k, v in pairs if k not in defaults or v != defaults[k]]
    return [(k, v) for k, v in pairs if v is not None]


def _key(key: int | str) -> str:
    return plain(key) if isinstance(key, str) else str(key)


def _quoted(text: str) -> str:
    if text.isascii() and text.isprintable():
        return json.dumps(text)
    # YAML knows neither JSON's surrogate pairs nor control characters as they are.
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if " " <= character <= "~":
        return "\\" + character if character in '"\\' else character
    return f"\\U{ord(character):08x}"
