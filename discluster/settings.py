# SPDX-License-Identifier: Apache-2.0
"""One declaration per setting.

A program declares its settings as a frozen struct whose fields are
``name: Annotated[type, Setting("help", unit="s")] = default``. From that one declaration come the
loader and its messages, the commented file in /etc/discluster, and the man page.
"""

import json
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from discluster import documents, rules
from discluster.errors import ConfigurationError, DocumentError, Problem

T = TypeVar("T", bound=msgspec.Struct)

_TYPE_NAMES: Final = {bool: "true or false", int: "whole number", float: "number", str: "text"}


class Setting(documents.Rule, frozen=True):
    """What a person needs to know about a setting, and the bounds of its value.

    ``reloads``: a changed value takes effect on reload; otherwise the program must be restarted.
    ``example``: shown in the shipped file where the default alone does not explain the form.
    """

    help: str
    unit: str | None = None
    reloads: bool = False
    example: str | None = None


# Settings that more than one program has.
StateDirectory = Annotated[
    str,
    Setting("Where state is kept: plans, identities, sessions; CONTROL and clusters share one"),
]
RuntimeDirectory = Annotated[
    str, Setting("Where the UNIX sockets are; CONTROL and clusters share one")
]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"], Setting("Least severity that is logged")
]


class SettingChange(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that differs from the one in force. ``path``: dotted; ``old``, ``new``: as YAML,
    None where there is no such entry. ``reloads``: False if the program must be restarted for it.
    """

    path: str
    old: str | None
    new: str | None
    reloads: bool


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One setting as a person sees it; ``default`` and ``example`` are YAML."""

    path: str
    type: str
    unit: str | None
    default: str
    help: str
    reloads: bool
    example: str | None = None


def load(path: Path, shape: type[T]) -> T:
    """The settings in the file ``path``.

    Raises:
        DocumentError: with every fault in the file.
        ConfigurationError: the file is missing or cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: the settings file does not exist",
            hint="name another one with --config, or reinstall the package's default",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None
    return parse(text, shape, file=str(path))


def parse(text: str, shape: type[T], *, file: str) -> T:
    """The settings in ``text``; ``file`` is what messages call it."""
    try:
        return documents.read(text, shape, file=file)
    except DocumentError as error:
        count = len(error.problems)
        correct = "correct this place" if count == 1 else f"correct these {count} places"
        raise DocumentError(error.problems, hint=f"{correct} and start again") from None


def override(base: T, assignments: Sequence[str], *, file: str = "--set") -> T:
    """``base`` with ``key=value`` assignments from a command line; values are YAML.

    Raises:
        DocumentError: an unknown key or a value that does not fit.
    """
    values: dict[str, object] = {}
    problems: list[Problem] = []
    known = {field.encode_name for field in msgspec.structs.fields(type(base))}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            problems.append(
                Problem(file, 0, rules.below("", text), "must be of the form key=value")
            )
            continue
        try:
            read = documents.read(f"{key}: {value}", type(base), file=file)
        except DocumentError as error:
            problems += [Problem(file, 0, p.path, p.message) for p in error.problems]
        else:
            name = key.strip()
            if name in known:
                values[name] = getattr(read, name)
            else:
                problems.append(
                    Problem(file, 0, rules.below("", key), "must be the plain name of a setting")
                )
    if not problems:
        try:
            return msgspec.structs.replace(base, **values)
        except ValueError as error:
            problems.append(Problem(file, 0, "", str(error)))
    raise DocumentError(problems, hint="'--help' and the shipped file list the settings")


def changes(old: T, new: T) -> list[SettingChange]:
    """The settings that differ; in a mapping of groups, each setting of each group."""
    told: list[SettingChange] = []
    for name, inner, setting, _ in _fields(type(old)):
        reloads = setting is not None and setting.reloads
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        if get_origin(inner) is dict and _nested(inner) is not None:
            told += _group_changes(name, before, after, reloads)
        else:
            told.append(
                SettingChange(path=name, old=_yaml(before), new=_yaml(after), reloads=reloads)
            )
    return told


def _group_changes(
    name: str, before: Mapping[str, object], after: Mapping[str, object], reloads: bool
) -> Iterator[SettingChange]:
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        path = f"{name}.{key}"
        if isinstance(old, msgspec.Struct) and isinstance(new, msgspec.Struct):
            for change in changes(old, new):
                yield msgspec.structs.replace(change, path=f"{path}.{change.path}", reloads=reloads)
        elif old != new:
            yield SettingChange(
                path=path,
                old=None if old is None else _yaml(old),
                new=None if new is None else _yaml(new),
                reloads=reloads,
            )


def reloaded(old: T, new: T) -> T:
    """``old`` with those settings of ``new`` that take effect on a reload."""
    names = [name for name, _, setting, _ in _fields(type(old)) if setting and setting.reloads]
    return msgspec.structs.replace(old, **{name: getattr(new, name) for name in names})


def explain(shape: type[msgspec.Struct], *, prefix: str = "") -> list[Row]:
    """A row for every setting, nested ones with a dotted path; ``*`` stands for a key."""
    rows: list[Row] = []
    for name, inner, setting, default in _fields(shape):
        path = prefix + name
        if setting is not None:
            rows.append(
                Row(
                    path=path,
                    type=_type_name(inner),
                    unit=setting.unit,
                    default=_yaml(default),
                    help=setting.help,
                    reloads=setting.reloads,
                    example=setting.example,
                )
            )
        nested = _nested(inner)
        if nested is not None:
            rows += explain(
                nested, prefix=f"{path}.*." if get_origin(inner) is dict else f"{path}."
            )
    return rows


def default_file(shape: type[msgspec.Struct], *, title: str) -> str:
    """The file as shipped in /etc: every setting commented out, with unit, default and help.

    Prose lines begin with ``# `` and a letter; taking the ``#`` off the other lines gives a valid
    file that says what the defaults say.
    """
    lines = _prose(title, "")
    lines.append("")
    for name, inner, setting, default in _fields(shape):
        lines += _entry(name, inner, setting, default, indent="")
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def _entry(
    name: str, inner: Any, setting: Setting | None, default: object, indent: str
) -> list[str]:
    lines: list[str] = []
    if setting is not None:
        lines += _prose(_facts(setting, inner, default), indent)
        if setting.example:
            lines += _prose("Example:", indent)
            lines += [f"#   | {indent}{line}" for line in setting.example.splitlines()]
    nested = _nested(inner) if get_origin(inner) is not dict else None
    if nested is None:
        lines.append(f"#{indent}{name}: {_yaml(default)}")
        return lines
    lines.append(f"#{indent}{name}:")
    for below, below_inner, below_setting, below_default in _fields(nested, default):
        lines += _entry(below, below_inner, below_setting, below_default, indent + "  ")
    return lines


def _facts(setting: Setting, inner: Any, default: object) -> str:
    """The help, and on a line of its own what the value may be."""
    help_text = setting.help.rstrip(".") + "."
    if _nested(inner) is not None and get_origin(inner) is not dict:
        return help_text
    facts = [f"Default: {_yaml(default)}" + (f" {setting.unit}" if setting.unit else "")]
    if setting.minimum is not None:
        facts.append(f"at least {setting.minimum:g}")
    if setting.maximum is not None:
        facts.append(f"at most {setting.maximum:g}")
    if get_origin(inner) is Literal:
        facts.append(f"one of {', '.join(map(str, get_args(inner)))}")
    if setting.reloads:
        facts.append("takes effect on reload")
    return f"{help_text}\n{'; '.join(facts)}."


def _prose(text: str, indent: str) -> list[str]:
    return [
        f"# {indent}{line}" if not indent else f"#{indent}# {line}"
        for paragraph in text.splitlines()
        for line in (textwrap.wrap(paragraph, 90 - len(indent)) or [""])
    ]


def _fields(
    shape: type[msgspec.Struct], instance: object | None = None
) -> Iterator[tuple[str, Any, Setting | None, object]]:
    hints = typing.get_type_hints(shape, include_extras=True)
    for field in msgspec.structs.fields(shape):
        inner, setting = hints[field.name], None
        if get_origin(inner) is typing.Annotated:
            inner, *metadata = get_args(inner)
            setting = next((m for m in metadata if isinstance(m, Setting)), None)
        if instance is not None:
            default = getattr(instance, field.name)
        elif field.default is not msgspec.NODEFAULT:
            default = field.default
        elif field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        else:
            default = None
        yield field.name, inner, setting, default


def _nested(inner: Any) -> type[msgspec.Struct] | None:
    if get_origin(inner) is dict:
        return _nested(get_args(inner)[1])
    if get_origin(inner) is typing.Annotated:
        return _nested(get_args(inner)[0])
    return inner if isinstance(inner, type) and issubclass(inner, msgspec.Struct) else None


def _type_name(inner: Any) -> str:
    origin = get_origin(inner)
    if origin is typing.Annotated:
        return _type_name(get_args(inner)[0])
    if origin is Literal:
        return " | ".join(map(str, get_args(inner)))
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(o) for o in get_args(inner) if o is not type(None))
    if origin in (list, tuple):
        return f"list of {_type_name(get_args(inner)[0])}"
    if origin is dict:
        return "mapping"
    return _TYPE_NAMES.get(inner, "group")


def _yaml(value: object) -> str:
    """A default as one line of YAML; JSON's quoting is valid YAML wherever quotes are needed."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    if isinstance(value, str):
        plain = (
            value
            and documents.parse(f"k: {value}", file="").value
            == {"k": (1, documents.Node(value, 1))}
            if _is_tame(value)
            else False
        )
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_yaml(k)}: {_yaml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, msgspec.Struct):
        return _yaml(msgspec.structs.asdict(value))
    return str(value)


def _is_tame(value: str) -> bool:
    return (
        bool(value)
        and all(c.isalnum() or c in "/._:-@+" for c in value)
        and (value[0].isalnum() or value[0] == "/")
        and not value.endswith(":")
    )
