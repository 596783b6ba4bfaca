# SPDX-License-Identifier: Apache-2.0
"""Inputs with a shape: what our types describe, with something odd in it here and there.

Bytes alone are refused at the first of them. These get further: JSON and YAML of valid structs
whose leaves are now and then of another type, huge, negative, or full of control characters.
"""

import json
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec
from hypothesis import strategies as st

ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 255, 65_535, 65_536, 2**31, 2**53, 2**63 - 1, 2**63, 2**64),
    *(10**19, 10**21, 10**30, -(2**63), -(2**63) - 1, -(10**30)),
    *(0.0, -0.5, 1e-320, 1e300, -1e308, float("nan"), float("inf"), float("-inf")),
    *("", " ", "\x00", "\x1b[2J\x1b[31m", "a\r\nb", "\u202egnp", "\ufeff", "\U0010ffff", "½²"),
    *("..", "../../etc/passwd", "null", "no", "12:30", "0x10", "!!python/object:os.system"),
    *("wss://user@host", "file:///etc/shadow", "http://169.254.169.254/", "wss://[::1", "a" * 300),
    *([], {}, [[[[[[]]]]]], {"": {"": {}}}, ["a", 1, None]),
)
odd: Final[st.SearchStrategy[Any]] = st.sampled_from(ODD)
small: Final = st.integers(0, 7)
numbers: Final = st.one_of(small, st.integers(0, 300), st.sampled_from([2**31, 2**40, 2**63 - 1]))
words: Final = st.one_of(
    st.sampled_from(["alpha", "beta", "a", "wss://gateway.example", "s", "127.0.0.1:7", "1"]),
    st.text(max_size=20),
)


def struct(shape: type[msgspec.Struct], *, oddness: int = 24) -> st.SearchStrategy[Any]:
    """The plain values of ``shape``, as JSON has them. One leaf in ``oddness`` is :data:`odd`."""
    return _Shapes(oddness).of(shape)


def any_of(*shapes: type[msgspec.Struct], oddness: int = 24) -> st.SearchStrategy[Any]:
    return st.one_of([struct(shape, oddness=oddness) for shape in shapes])


def as_json(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Python's JSON: also NaN and numbers of any size, which are not JSON."""
    return values.map(lambda value: json.dumps(value).encode())


def damaged(whole: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Whole, cut off, with bytes changed, or with something put in."""
    return st.one_of(whole, st.builds(_damage, whole, small, st.integers(0), st.binary(max_size=8)))


def _damage(data: bytes, how: int, place: int, other: bytes) -> bytes:
    at = place % (len(data) + 1)
    if how < 2:
        return data[:at]
    if how < 5:
        return data[:at] + other + data[at + len(other) :]
    return data[:at] + other + data[at:]


class _Shapes:
    def __init__(self, oddness: int) -> None:
        self._dice = st.integers(1, oddness)

    def of(self, shape: Any) -> st.SearchStrategy[Any]:
        if get_origin(shape) is Annotated:
            return self.of(get_args(shape)[0])
        if isinstance(shape, type) and issubclass(shape, msgspec.Struct):
            return st.deferred(lambda: self._struct(shape))
        return self._dice.flatmap(lambda face: odd if face == 1 else self._sound(shape))

    def _sound(self, shape: Any) -> st.SearchStrategy[Any]:
        origin, inner = get_origin(shape), get_args(shape)
        if origin in (Union, types.UnionType):
            return st.one_of([self.of(option) for option in inner])
        if origin is Literal:
            return st.sampled_from(inner)
        if origin in (tuple, list, frozenset):
            return st.lists(self.of(inner[0]), max_size=4)
        if origin in (dict, Mapping):
            keys = st.one_of(small, numbers, words).map(str)
            return st.dictionaries(keys, self.of(inner[1]), max_size=4)
        plain: dict[Any, st.SearchStrategy[Any]] = {
            int: numbers,
            float: st.one_of(numbers, st.floats(-10, 1e6)),
            str: words,
            bool: st.booleans(),
            type(None): st.none(),
        }
        return plain.get(shape, odd)

    def _struct(self, shape: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
        hints = typing.get_type_hints(shape, include_extras=True)
        required: dict[str, st.SearchStrategy[Any]] = {}
        optional: dict[str, st.SearchStrategy[Any]] = {}
        for field in msgspec.structs.fields(shape):
            of_field = self.of(hints[field.name])
            (required if field.required else optional)[field.encode_name] = of_field
        told = shape.__struct_config__
        if told.tag_field:
            required[told.tag_field] = st.just(told.tag)
        return st.fixed_dictionaries(required, optional=optional)
