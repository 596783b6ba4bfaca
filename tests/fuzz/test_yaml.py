# SPDX-License-Identifier: Apache-2.0
"""Plans and settings of somebody who means harm: refused in words, soon, and in little memory."""

from collections.abc import Callable

import pytest

from discluster.control.settings import ControlSettings
from discluster.documents import MAXIMUM_NODES, MAXIMUM_SIZE, read
from discluster.errors import DocumentError
from discluster.master.settings import MasterSettings
from discluster.plan import HostPlan
from discluster.settings import override
from tests.fuzz.contract import check_error, within

LAUGHS = "a: &a [x, x, x]\n" + "".join(
    f"{chr(97 + n)}: &{chr(97 + n)} [*{chr(96 + n)}, *{chr(96 + n)}, *{chr(96 + n)}]\n"
    for n in range(1, 20)
)
GATEWAY = "generation: 1\nshard_count: 1\nhost: a\ngateway_url: "
BOMBS: dict[str, tuple[Callable[[], str], str]] = {
    "aliases that explode": (lambda: LAUGHS, "anchors and aliases"),
    "a merge": (lambda: "a: &a {b: 1}\nc: {<<: *a}", "anchors and aliases"),
    "an alias to itself": (lambda: "&a [*a]", "anchors and aliases"),
    "a tag that makes an object": (
        lambda: 'host: !!python/object/apply:os.system ["true"]',
        "tags are not allowed",
    ),
    "a tag by a directive": (lambda: "%TAG ! tag:x,2000:\n---\na: !y 1", "tags are not allowed"),
    "a tag on a key": (lambda: "!!str host: a", "tags"),
    "lists in lists": (lambda: "a: " + "[" * 200_000, "nest"),
    "mappings in mappings": (lambda: "{a: " * 200_000, "nested deeper"),
    "dashes": (lambda: "- " * 200_000, "nested deeper"),
    "keys that are mappings": (lambda: "? " * 200_000, "a key must be"),
    "the same key again and again": (lambda: "a: 1\n" * 100_000, "the first 100 faults"),
    "thousands of unknown keys": (
        lambda: "".join(f"generatio{n}: 1\n" for n in range(20_000)),
        "the first 100 faults",
    ),
    "a key of a megabyte": (lambda: "? " + "shard_count" * 90_000 + "\n: 1", "unknown key"),
    "text of ten megabytes": (lambda: "host: " + "a" * 10_000_000, "at most 253 characters"),
    "ten million digits": (lambda: "generation: " + "9" * 10_000_000, "must be a whole number"),
    "a list of many wrong items": (
        lambda: GATEWAY + "ws://a\nclusters: {1: {shards: [" + "x," * 50_000 + "1]}}",
        "the first 100 faults",
    ),
    # [^x]+[^y]* looks at each way to divide a text between the two.
    "an address that takes the square of its length": (
        lambda: GATEWAY + '"ws://' + "a" * 1_000_000 + ' "',
        "at most 256 characters",
    ),
    "too much": (lambda: "#" * (MAXIMUM_SIZE + 1), "larger than"),
    "not Unicode": (lambda: "host: \ud800", "not Unicode"),
    "a null byte": (lambda: "host: a\x00b", "control characters"),
    "UTF-16": (lambda: "host: a".encode("utf-16").decode("latin-1"), "control characters"),
    "two documents": (lambda: "a: 1\n---\nb: 1", "a second document"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bomb_is_refused_in_words_soon_and_in_little_memory(name: str) -> None:
    make, words = BOMBS[name]
    text = make()
    with within(cpu=20, mebibytes=400), pytest.raises(DocumentError, match=words) as refused:
        read(text, HostPlan, file="plan.yaml")
    check_error(refused.value, names="plan.yaml")


def test_more_values_than_any_plan_has_are_refused() -> None:
    """Sixteen megabytes of brackets would be minutes of work, and gigabytes."""
    text = "generation: [" + "[]," * (MAXIMUM_NODES + 1) + "]"
    with within(cpu=60), pytest.raises(DocumentError, match="more than 1,000,000 values"):
        read(text, HostPlan, file="plan.yaml")


@pytest.mark.parametrize("shape", [HostPlan, MasterSettings, ControlSettings])
@pytest.mark.parametrize("key", ["\\e[2J", "a\\nb", "\\u202etxt", "\\x00", "x" * 500])
def test_key_from_a_document_steers_no_terminal_and_breaks_no_line(key: str, shape: type) -> None:
    with pytest.raises(DocumentError) as refused:
        read(f'"{key}": 1', shape, file="f.yaml")
    check_error(refused.value, names="f.yaml:1: ")


def test_number_that_json_cannot_carry_is_refused_in_a_plan() -> None:
    text = "shard_count: 1\nhost: a\ngateway_url: ws://a\nclusters: {}\ngeneration: "
    assert read(text + str(2**63 - 1), HostPlan, file="p").generation == 2**63 - 1
    with pytest.raises(DocumentError, match="must be at most"):
        read(text + str(2**63), HostPlan, file="p")


def test_argument_that_is_not_unicode_is_refused_in_words() -> None:
    """What Python makes of a byte that is not UTF-8 in argv."""
    with pytest.raises(DocumentError, match="not Unicode"):
        override(ControlSettings(), ["state_directory=\udcff"])


@pytest.mark.parametrize(
    "argument", ["\x1b[2J", "\x1b[2J=1", "=\x00", "log_level.\r=1", "a" * 9999]
)
def test_argument_that_is_none_is_told_in_one_line(argument: str) -> None:
    with pytest.raises(DocumentError) as refused:
        override(ControlSettings(), [argument])
    check_error(refused.value, names="--set: ")
