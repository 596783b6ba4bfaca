# SPDX-License-Identifier: Apache-2.0
"""YAML documents read into typed structs; each fault is told as ``file:line: path: message``.

PyYAML parses; what it would let pass is refused here: duplicate keys (it keeps the last one),
anchors and aliases (they can explode), tags, several documents, and YAML 1.1 surprises such as
``no`` meaning false or ``12:30`` meaning 750. Only ``true``, ``false``, ``null``, decimal numbers
and text are told apart.
"""

import functools
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, Union, get_args, get_origin

import msgspec
import yaml

from discluster.errors import DocumentError, Problem
from discluster.rules import Rule as Rule
from discluster.rules import below, quoted, unique, unknown

MAXIMUM_SIZE: Final = 16 * 1024 * 1024
MAXIMUM_DEPTH: Final = 16
# Of values; the plan of the largest fleet has some 700,000, each of which costs memory and time.
MAXIMUM_NODES: Final = 1_000_000
MAXIMUM_PROBLEMS: Final = 100

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[-+]?[0-9]+\.[0-9]*([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+")
_NULLS: Final = frozenset({"", "~", "null"})
_KIND_NAMES: Final[Mapping[type, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
}

Scalar = str | int | float | bool | None
T = typing.TypeVar("T")
_shapes: Final = functools.cache(functools.partial(typing.get_type_hints, include_extras=True))


class Node(msgspec.Struct, frozen=True):
    """A parsed value with the line (from 1) on which it begins."""

    value: "Scalar | list[Node] | dict[str, tuple[int, Node]]"
    line: int

    def describe(self) -> str:
        """What stands there, for a message: ``the text 'x'``, ``a list``."""
        if isinstance(self.value, list):
            return "a list"
        if isinstance(self.value, dict):
            return "a mapping"
        if self.value is None:
            return "nothing"
        if isinstance(self.value, str):
            return f"the text {quoted(self.value)}"
        return f"{self.value!r}".lower()


def parse(text: str, *, file: str) -> Node:
    """The document's tree.

    Raises:
        DocumentError: not YAML, or one of the refused constructs; all duplicate keys at once.
    """
    if len(text) > MAXIMUM_SIZE:
        raise DocumentError([Problem(file, 0, "", f"larger than {MAXIMUM_SIZE} characters")])
    try:
        text.encode()
    except UnicodeEncodeError as error:  # what a command line makes of bytes that are not UTF-8
        line = text.count("\n", 0, error.start) + 1
        raise DocumentError([Problem(file, line, "", "holds what is not Unicode text")]) from None
    composer = _Composer(file)
    try:
        return composer.compose(yaml.parse(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark if error.problem_mark is not None else error.context_mark
        line = 0 if mark is None else mark.line + 1
        said = error.problem or error.context or "not valid YAML"
        if error.context_mark is not None and error.context_mark.line + 1 < line:
            # What is not closed is noticed at the end of the file only.
            said += f" ({error.context}, which begins on line {error.context_mark.line + 1})"
        raise DocumentError([Problem(file, line, "", said)]) from None
    except yaml.YAMLError as error:
        said = str(error).splitlines()[0]
        raise DocumentError([Problem(file, 0, "", f"not valid YAML: {said}")]) from None


def read(text: str, shape: type[T], *, file: str) -> T:
    """``text`` as a struct of type ``shape``.

    Raises:
        DocumentError: with every fault of the document, not only the first.
    """
    root = parse(text, file=file)
    reader = _Reader(file)
    result = reader.read(root, shape, "")
    if reader.problems:
        raise DocumentError(sorted(reader.problems, key=lambda problem: problem.line))
    return typing.cast("T", result)


def read_value(value: Scalar, shape: Any, *, what: str) -> Any:
    """A single value, from a command line or the system, against its declaration.

    Raises:
        DocumentError: it does not fit.
    """
    reader = _Reader(what)
    result = reader.read(Node(value, 0), shape, "")
    if reader.problems:
        raise DocumentError(reader.problems)
    return result


def fits(value: Scalar, shape: Any) -> bool:
    """Whether a document could hold ``value`` where ``shape`` is declared."""
    reader = _Reader("")
    reader.read(Node(value, 0), shape, "")
    return not reader.problems


def satisfies(value: msgspec.Struct) -> bool:
    """Whether a flat struct of plain values keeps the rules of its own declaration."""
    return all(fits(getattr(value, name), shape) for name, shape in _shapes(type(value)).items())


def scalar(text: str) -> Scalar:
    """What ``text`` means where it stands without quotes."""
    if text in _NULLS:
        return None
    if text in ("true", "false"):
        return text == "true"
    if _INT.fullmatch(text):
        # int() refuses thousands of digits; no number of ours has more than 20.
        return int(text) if len(text) <= 20 else text
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


class _Composer:
    """Builds nodes from parser events; its own loop, so that depth and aliases are bounded."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._problems: list[Problem] = []
        self._nodes = 0

    def compose(self, events: Iterator[Any]) -> Node:
        root = Node(None, 1)
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._refuse(event, "a second document begins here; only one is allowed")
            elif isinstance(event, yaml.NodeEvent):
                root = self._node(event, events, "", depth=0)
        if self._problems:
            raise DocumentError(self._problems)
        # An empty file is an empty mapping: every setting has its default.
        return Node({}, 1) if root.value is None else root

    def _refuse(self, event: Any, message: str) -> typing.NoReturn:
        raise DocumentError([Problem(self._file, _line(event), "", message)])

    def _node(self, event: Any, events: Iterator[Any], path: str, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            self._refuse(event, "anchors and aliases (& and *) are not allowed; write it out")
        self._nodes += 1
        if self._nodes > MAXIMUM_NODES:
            self._refuse(event, f"more than {MAXIMUM_NODES:,} values")
        if depth > MAXIMUM_DEPTH:
            self._refuse(event, f"nested deeper than {MAXIMUM_DEPTH} levels")
        line = _line(event)
        if isinstance(event, yaml.ScalarEvent):
            return Node(self._scalar(event), line)
        if event.tag:
            self._refuse(event, f"tags are not allowed: {event.tag}")
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(event := next(events), yaml.SequenceEndEvent):
                items.append(self._node(event, events, below(path, len(items)), depth + 1))
            return Node(items, line)
        return Node(self._mapping(events, path, depth), line)

    def _mapping(self, events: Iterator[Any], path: str, depth: int) -> dict[str, tuple[int, Node]]:
        entries: dict[str, tuple[int, Node]] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._refuse(event, "a key must be plain text or a number")
            if event.anchor or event.tag:
                self._refuse(event, "anchors and tags (& and !) are not allowed on a key")
            line, key = _line(event), event.value
            here = below(path, key)
            value = self._node(next(events), events, here, depth + 1)
            if key in entries:
                said = f"duplicate key (first on line {entries[key][0]}); keep one of the two"
                _add(self._problems, Problem(self._file, line, here, said))
            entries[key] = (line, value)
        return entries

    def _scalar(self, event: Any) -> Scalar:
        if event.tag and event.tag != "tag:yaml.org,2002:str" and not event.implicit[1]:
            self._refuse(event, f"tags are not allowed: {event.tag}")
        text: str = event.value
        if not event.implicit[0]:
            return text
        return scalar(text)


class _Reader:
    """Turns nodes into typed values; collects problems instead of stopping at the first."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.problems: list[Problem] = []
        self._declarations: dict[type, tuple[dict[str, Any], dict[str, Any]]] = {}

    def _declared(self, shape: type[msgspec.Struct]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Fields and types of ``shape``, looked up once: a plan holds thousands of the same."""
        if shape not in self._declarations:
            fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
            hints = typing.get_type_hints(shape, include_extras=True)
            self._declarations[shape] = fields, hints
        return self._declarations[shape]

    def complain(self, line: int, path: str, message: str) -> None:
        _add(self.problems, Problem(self._file, line, path, message))

    def read(self, node: Node, shape: Any, path: str) -> Any:
        if get_origin(shape) is typing.Annotated:
            inner, *rules = get_args(shape)
            return self._ruled(node, inner, [r for r in rules if isinstance(r, Rule)], path)
        if isinstance(shape, type) and issubclass(shape, msgspec.Struct):
            return self._struct(node, shape, path)
        origin = get_origin(shape)
        if origin in (Union, types.UnionType):
            return self._union(node, get_args(shape), path)
        if origin is Literal:
            return self._literal(node, get_args(shape), path)
        if origin in (list, tuple):
            return self._list(node, origin, get_args(shape)[0], path)
        if origin is dict:
            key, item = get_args(shape)
            return self._dict(node, key, item, path)
        return self._plain(node, shape, path)

    def _ruled(self, node: Node, inner: Any, rules: list[Rule], path: str) -> Any:
        before = len(self.problems)
        value = self.read(node, inner, path)
        if len(self.problems) == before:
            for rule in rules:
                if complaint := rule.check(value):
                    self.complain(node.line, path, complaint)
        return value

    def _plain(self, node: Node, shape: type, path: str) -> Any:
        value = node.value
        fits = isinstance(value, shape) and not (isinstance(value, bool) and shape is not bool)
        if fits:
            return value
        if shape is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        hint = ""
        if shape is str and isinstance(value, (int, float)):
            hint = "; put it into quotes"
        self.complain(node.line, path, f"must be {_KIND_NAMES[shape]}, not {node.describe()}{hint}")
        return None

    def _union(self, node: Node, options: tuple[Any, ...], path: str) -> Any:
        if node.value is None and type(None) in options:
            return None
        options = tuple(option for option in options if option is not type(None))
        complaints: list[Problem] = []
        for option in options:
            attempt = _Reader(self._file)
            value = attempt.read(node, option, path)
            if not attempt.problems:
                return value
            complaints.append(attempt.problems[0])
        self.complain(node.line, path, " or ".join(unique(c.message for c in complaints)))
        return None

    def _literal(self, node: Node, choices: tuple[Any, ...], path: str) -> Any:
        if node.value in choices and not isinstance(node.value, bool):
            return node.value
        listed = ", ".join(map(str, choices))
        one_of = f"must be {listed}" if len(choices) == 1 else f"must be one of {listed}"
        self.complain(node.line, path, f"{one_of}, not {node.describe()}")
        return None

    def _list(self, node: Node, container: Any, item: Any, path: str) -> Any:
        if not isinstance(node.value, list):
            self.complain(node.line, path, f"must be a list, not {node.describe()}")
            return container()
        return container(
            self.read(child, item, below(path, index)) for index, child in enumerate(node.value)
        )

    def _dict(self, node: Node, key_shape: Any, item: Any, path: str) -> Any:
        if not isinstance(node.value, dict):
            self.complain(node.line, path, f"must be a mapping, not {node.describe()}")
            return {}
        result = {}
        for text, (line, child) in node.value.items():
            here = below(path, text)
            key = self._key(text, key_shape, line, here)
            if key in result:
                self.complain(line, here, f"duplicate key: {key} was written in another way before")
            result[key] = self.read(child, item, here)
        return result

    def _key(self, text: str, shape: Any, line: int, path: str) -> Any:
        rules: list[Any] = []
        if get_origin(shape) is typing.Annotated:
            shape, *rules = get_args(shape)
        key: Any = text
        if shape is int:
            if not _INT.fullmatch(text) or len(text) > 20:
                self.complain(line, path, f"the key must be a whole number, not {quoted(text)}")
                return text
            key = int(text)
        for rule in rules:
            if isinstance(rule, Rule) and (complaint := rule.check(key)):
                self.complain(line, path, f"the key {complaint}")
        return key

    def _struct(self, node: Node, shape: type[msgspec.Struct], path: str) -> Any:
        if not isinstance(node.value, dict):
            self.complain(node.line, path, f"must be a mapping, not {node.describe()}")
            return None
        fields, hints = self._declared(shape)
        before = len(self.problems)
        values = {}
        for text, (line, child) in node.value.items():
            here = below(path, text)
            if text not in fields:
                self.complain(line, here, unknown(text, list(fields)))
                continue
            field = fields[text]
            values[field.name] = self.read(child, hints[field.name], here)
        for name, field in fields.items():
            if field.required and name not in node.value:
                self.complain(node.line, path, f"the key {name!r} is missing")
        if len(self.problems) > before:
            return None
        try:
            return shape(**values)
        except ValueError as error:
            self.complain(node.line, path, str(error))
            return None


def _add(problems: list[Problem], problem: Problem) -> None:
    """Raises DocumentError with the first of them when there are more than a person reads."""
    problems.append(problem)
    if len(problems) > MAXIMUM_PROBLEMS:
        said = f"more is wrong; the first {MAXIMUM_PROBLEMS} faults are listed"
        raise DocumentError([*problems[:-1], Problem(problem.file, 0, "", said)])


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
