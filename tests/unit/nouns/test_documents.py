# SPDX-License-Identifier: Apache-2.0
"""Documents: what is refused, and with which words."""

import contextlib
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.documents import MAXIMUM_DEPTH, MAXIMUM_SIZE, Node, Rule, parse, read, read_value
from discluster.errors import DocumentError


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    weight: Annotated[float, Rule(minimum=0, maximum=1_000_000)] = 1.0
    size: Annotated[int, Rule(minimum=1)] | None = None


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    port: Annotated[int, Rule(minimum=0, maximum=65_535)] = 7443
    name: Annotated[str, Rule(pattern="[a-z]+", pattern_says="letters")] = "x"
    level: Literal["debug", "info"] = "info"
    only: Literal["auto"] = "auto"
    count: Literal["auto"] | Annotated[int, Rule(minimum=1)] = "auto"
    ready: bool = False
    names: tuple[str, ...] = ()
    hosts: dict[Annotated[str, Rule(pattern="[a-z]+", pattern_says="letters")], Inner] = {}
    shards: dict[Annotated[int, Rule(minimum=0)], int] = {}

    def __post_init__(self) -> None:
        if self.port == 13:
            raise ValueError("13 brings bad luck")


class Needy(msgspec.Struct, frozen=True, kw_only=True):
    a: int
    b: str


def complaints(text: str, shape: type[msgspec.Struct] = Shape) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        read(text, shape, file="f.yaml")
    assert caught.value.exit_status == 78
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot: 1", "f.yaml:1: prot: unknown key; did you mean 'port'?"),
        (
            "zzz: 1",
            (
                "f.yaml:1: zzz: unknown key; known are count, hosts, level, name, names, only,"
                " port, ready, shards"
            ),
        ),
        ("port: x", "f.yaml:1: port: must be a whole number, not the text 'x'"),
        ("\nport: 1.5", "f.yaml:2: port: must be a whole number, not 1.5"),
        ("port: true", "f.yaml:1: port: must be a whole number, not true"),
        ("port:", "f.yaml:1: port: must be a whole number, not nothing"),
        ("port: [1]", "f.yaml:1: port: must be a whole number, not a list"),
        ("port: {a: 1}", "f.yaml:1: port: must be a whole number, not a mapping"),
        ("port: -1", "f.yaml:1: port: must be at least 0, not -1"),
        ("port: 1234567", "f.yaml:1: port: must be at most 65535, not 1234567"),
        ("name: A", "f.yaml:1: name: must be letters, not 'A'"),
        ("name: 12", "f.yaml:1: name: must be text, not 12; put it into quotes"),
        ("name: true", "f.yaml:1: name: must be text, not true; put it into quotes"),
        ("name: null", "f.yaml:1: name: must be text, not nothing"),
        ("level: trace", "f.yaml:1: level: must be one of debug, info, not the text 'trace'"),
        ("only: 1", "f.yaml:1: only: must be auto, not 1"),
        ("count: 0", "f.yaml:1: count: must be auto, not 0 or must be at least 1, not 0"),
        ("names: x", "f.yaml:1: names: must be a list, not the text 'x'"),
        ("names:\n- a\n- 7", "f.yaml:3: names[1]: must be text, not 7; put it into quotes"),
        ("hosts: []", "f.yaml:1: hosts: must be a mapping, not a list"),
        ("hosts:\n  a:\n    weight: -1", "f.yaml:3: hosts.a.weight: must be at least 0, not -1"),
        ("hosts: {a: {size: 0}}", "f.yaml:1: hosts.a.size: must be at least 1, not 0"),
        ("hosts: {a: }", "f.yaml:1: hosts.a: must be a mapping, not nothing"),
        ("hosts: {A: {}}", "f.yaml:1: hosts.A: the key must be letters, not 'A'"),
        (
            "hosts: {a: {wieght: 1}}",
            "f.yaml:1: hosts.a.wieght: unknown key; did you mean 'weight'?",
        ),
        ("shards: {x: 1}", "f.yaml:1: shards.x: the key must be a whole number, not 'x'"),
        ("shards: {-1: 1}", "f.yaml:1: shards.-1: the key must be at least 0, not -1"),
        ("port: 13", "f.yaml:1: 13 brings bad luck"),
        ("[1, 2]", "f.yaml:1: must be a mapping, not a list"),
        ("hello", "f.yaml:1: must be a mapping, not the text 'hello'"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_place(text: str, said: str) -> None:
    assert complaints(text) == [said]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "hosts:\n  a: {b: 1}\n  a: {b: 2}",
            "f.yaml:3: hosts.a: duplicate key (first on line 2); keep one of the two",
        ),
        (
            "a:\n- {b: 1}\n- {b: 1, b: 2}",
            "f.yaml:3: a[1].b: duplicate key (first on line 3); keep one of the two",
        ),
        ("a: 1\nb: 2\na: 3", "f.yaml:3: a: duplicate key (first on line 1); keep one of the two"),
        ("a: &x 1", "f.yaml:1: anchors and aliases (& and *) are not allowed; write it out"),
        ("a: *x", "f.yaml:1: anchors and aliases (& and *) are not allowed; write it out"),
        ("&x a: 1", "f.yaml:1: anchors and tags (& and !) are not allowed on a key"),
        ("!!str a: 1", "f.yaml:1: anchors and tags (& and !) are not allowed on a key"),
        ("a: !!python/object:os.system x", "f.yaml:1: tags are not allowed: tag:yaml.org,2002:"),
        ("a: !!int 3", "f.yaml:1: tags are not allowed: tag:yaml.org,2002:int"),
        ("a: !own {}", "f.yaml:1: tags are not allowed: !own"),
        ("a: 1\n---\nb: 2", "f.yaml:2: a second document begins here; only one is allowed"),
        ("? [1]\n: 2", "f.yaml:1: a key must be plain text or a number"),
        (
            "a: [1, 2\nb: 3\n",
            (
                "f.yaml:2: did not find expected ',' or ']' (while parsing a flow sequence, which"
                " begins on line 1)"
            ),
        ),
        ("a: b: c", "f.yaml:1: mapping values are not allowed in this context"),
        ("a: 1\n\tb: 2", "f.yaml:2: "),
        ("a: \x00", "f.yaml: "),
        ("a: 'x", "f.yaml:1: "),
        ("[" * 40, f"f.yaml:1: nested deeper than {MAXIMUM_DEPTH} levels"),
        ("a" * (MAXIMUM_SIZE + 1), f"f.yaml: larger than {MAXIMUM_SIZE} characters"),
    ],
)
def test_a_construct_that_surprises_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(text, file="f.yaml")
    assert str(caught.value).startswith(said)


def test_every_duplicate_key_is_told_at_once() -> None:
    assert len(complaints("port: 1\nport: 2\nname: a\nname: b\nport: 3")) == 3


def test_a_number_written_in_two_ways_is_a_duplicate_key() -> None:
    said = "f.yaml:1: shards.+1: duplicate key: 1 was written in another way before"
    assert complaints("shards: {1: 1, +1: 2}") == [said]


def test_all_problems_are_told_at_once_in_the_order_of_lines() -> None:
    said = complaints("name: A\nport: x\nhosts:\n  a: {weight: -1}\n  B: {}\nextra: 1\n")
    assert [line.split(": ")[0] for line in said] == [f"f.yaml:{n}" for n in (1, 2, 4, 5, 6)]


def test_a_missing_key_is_named() -> None:
    assert complaints("a: 1", Needy) == ["f.yaml:1: the key 'b' is missing"]


@pytest.mark.parametrize("text", ["", "\n# only a comment\n", "{}", "---\n", "~"])
def test_an_empty_file_says_what_the_defaults_say(text: str) -> None:
    assert read(text, Shape, file="f.yaml") == Shape()


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("True", "True"),
        ("12:30", "12:30"),
        ("0x1F", "0x1F"),
        ("010", "010"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1e999", "1e999"),
        ("9" * 21, "9" * 21),
        ("'true'", "true"),
        ('"12"', "12"),
        ("true", True),
        ("-3", -3),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("null", None),
        ("~", None),
    ],
)
def test_only_plain_numbers_true_false_and_null_are_not_text(written: str, value: object) -> None:
    assert parse(f"k: {written}", file="").value == {"k": (1, Node(value, 1))}  # type: ignore[arg-type]


def test_a_whole_number_will_do_for_a_number() -> None:
    weight = read("hosts: {a: {weight: 2}}", Shape, file="").hosts["a"].weight
    assert weight == 2.0
    assert isinstance(weight, float)


def test_a_very_long_value_is_shortened_in_the_message() -> None:
    (said,) = complaints("port: " + "9" * 100_000)
    assert len(said) < 150


def test_one_value_is_checked_like_a_file() -> None:
    assert read_value(3, Annotated[int, Rule(minimum=1)], what="--n") == 3
    with pytest.raises(DocumentError, match="--n: must be at least 1, not 0"):
        read_value(0, Annotated[int, Rule(minimum=1)], what="--n")


@given(st.text(max_size=200))
def test_no_text_at_all_makes_it_raise_anything_else(text: str) -> None:
    with contextlib.suppress(DocumentError):
        read(text, Shape, file="f.yaml")


@given(
    st.recursive(
        st.sampled_from(["1", "x", "&a", "*a", "!t", "'", '"', "- ", "? ", ": ", "|", ">", "~"]),
        lambda inner: st.builds(
            lambda a, b, c: f"{a}{b}{c}", inner, st.sampled_from("[]{},:\n #"), inner
        ),
    )
)
def test_no_pile_of_yaml_characters_makes_it_raise_anything_else(text: str) -> None:
    with contextlib.suppress(DocumentError):
        parse(text, file="f.yaml")
