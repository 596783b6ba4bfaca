# SPDX-License-Identifier: Apache-2.0
"""Messages: every type survives the wire, and nothing else passes."""

import json
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discluster import console, messages, trust
from discluster.certificates import Certificate
from discluster.errors import ProtocolError
from discluster.messages import (
    ClusterToControl,
    ControlToCluster,
    ControlToMaster,
    MasterToControl,
    Message,
    Ping,
    ShardView,
    decode,
    encode,
)
from discluster.plan import IdentifySlots

DECODERS: list[tuple[msgspec.json.Decoder[Any], tuple[type[Message], ...]]] = [
    (messages.control_to_master, get_args(ControlToMaster)),
    (messages.master_to_control, get_args(MasterToControl)),
    (messages.cluster_to_control, get_args(ClusterToControl)),
    (messages.control_to_cluster, get_args(ControlToCluster)),
]
PAIRS = [(decoder, kind) for decoder, kinds in DECODERS for kind in kinds]
ALL = sorted(
    {
        kind
        for kind in (*vars(messages).values(), *vars(console).values(), *vars(trust).values())
        if isinstance(kind, type) and issubclass(kind, Message)
    }
    - {Message},
    key=lambda kind: kind.__name__,
)
FOR_OPERATORS = [kind for kind in ALL if kind not in {kind for _, kind in PAIRS}]
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    # What JSON can carry: whole numbers of 64 bits.
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(max_size=20),
    type(None): st.none(),
    msgspec.Raw: st.sampled_from([b"null", b'{"a":[1,"\\n"]}', b"1.50"]).map(msgspec.Raw),
    # It checks itself.
    IdentifySlots: st.builds(IdentifySlots, slot=st.integers(0, 3), slots=st.integers(4, 99)),
    Certificate: st.builds(
        Certificate,
        serial=st.text("0123456789abcdef", min_size=1, max_size=40),
        issued=st.floats(0, 1e11),
        expires=st.floats(0, 1e11),
        authority=st.just("00ff"),
        host=st.none() | st.just("alpha"),
    ),
}


def within(shape: type, bounds: msgspec.Meta) -> st.SearchStrategy[Any]:
    """Values that a peer may send."""
    if shape is str:
        return st.sampled_from(["alpha", "b-2.example"])  # fits every pattern that there is
    assert bounds.ge is not None
    assert bounds.le is not None
    if shape is int:
        return st.integers(int(bounds.ge), int(bounds.le))
    return st.floats(bounds.ge, bounds.le)


def values(shape: Any) -> st.SearchStrategy[Any]:
    """Any value of the declared type; collections are small."""
    origin, arguments = get_origin(shape), get_args(shape)
    if origin is Annotated:
        bounds = next((a for a in arguments if isinstance(a, msgspec.Meta)), None)
        plain = arguments[0] in (int, float, str)
        return within(arguments[0], bounds) if plain and bounds else values(arguments[0])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, UnionType):
        return st.one_of(*map(values, arguments))
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, arguments))
    if origin is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=2)
    if shape not in PLAIN and issubclass(shape, msgspec.Struct):
        hints = get_type_hints(shape, include_extras=True)
        return st.builds(shape, **{name: values(hint) for name, hint in hints.items()})
    return PLAIN[shape]


def test_every_message_is_known() -> None:
    assert {kind for _, kinds in DECODERS for kind in kinds} <= set(ALL)
    tags = [kind.__struct_config__.tag for kind in ALL]
    assert len(tags) == len(set(tags))


@pytest.mark.parametrize(
    ("decoder", "kind"), PAIRS, ids=lambda value: getattr(value, "__name__", "via")
)
def test_a_message_arrives_as_it_was_sent(decoder: Any, kind: type[Message]) -> None:
    @settings(max_examples=12, deadline=None)
    @given(values(kind))
    def travels(message: Message) -> None:
        wire = encode(message)
        assert b"\n" not in wire, "one message is one line"
        assert decode(decoder, wire, peer="p") == message
        assert decode(decoder, wire.decode(), peer="p") == message

    travels()


@pytest.mark.parametrize("kind", FOR_OPERATORS, ids=lambda kind: kind.__name__)
def test_what_operators_read_survives_json_too(kind: type[Message]) -> None:
    @settings(max_examples=5, deadline=None)
    @given(values(kind))
    def travels(message: Message) -> None:
        assert msgspec.json.decode(encode(message), type=kind) == message
        assert json.loads(encode(message))["type"] == kind.__struct_config__.tag

    travels()


@pytest.mark.parametrize(
    "garbled",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"type": "ping"}',
        b'{"type": "ping", "number": "1"}',
        b'{"type": "ping", "number": 1.5}',
        b'{"type": "pong", "number": 1}]',
        b'{"type": "unheard_of"}',
        b'{"number": 1}',
        b'{"type": "permit", "shard": 1',
        b'{"type": "rejected", "code": 1, "reason": "x"}',
    ],
)
def test_a_garbled_message_is_a_protocol_error_that_names_the_peer(garbled: bytes) -> None:
    with pytest.raises(ProtocolError, match="alpha sent a message") as caught:
        decode(messages.master_to_control, garbled, peer="alpha")
    assert caught.value.exit_status == 76
    assert caught.value.hint


@given(st.binary(max_size=100))
def test_no_bytes_at_all_make_it_raise_anything_else(data: bytes) -> None:
    for decoder, _ in DECODERS:
        try:
            decode(decoder, data, peer="p")
        except ProtocolError:
            pass


def test_a_message_of_the_other_direction_is_refused() -> None:
    with pytest.raises(ProtocolError):
        decode(messages.control_to_master, encode(messages.GoodbyeSeen()), peer="p")


def test_a_field_of_a_newer_version_is_passed_over() -> None:
    wire = b'{"type": "ping", "number": 3, "colour": "blue"}'
    assert decode(messages.control_to_master, wire, peer="p") == Ping(number=3)


def test_messages_are_values() -> None:
    view = ShardView(shard=1, state="ready")
    with pytest.raises(AttributeError):
        view.shard = 2  # type: ignore[misc]
    assert hash(view) == hash(ShardView(shard=1, state="ready"))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b'[1,\n{"type":"halt","reason":null}\n]', "more than one line"),
        (b"[1,\r2]", "more than one line"),
        (b'"' + b"x" * messages.LONGEST_VALUE + b'"', "131074 bytes, of at most 131072"),
    ],
    ids=["another message in it", "carriage return", "too long"],
)
def test_what_a_cluster_answers_cannot_be_another_message_on_its_way(
    value: bytes, told: str
) -> None:
    wire = b'{"type":"call_answer","number":1,"cluster":3,"value":%s}' % value
    decoders: list[Any] = [messages.cluster_to_control, messages.control_to_master]
    for decoder in decoders:
        with pytest.raises(ProtocolError, match=told):
            decode(decoder, wire, peer="alpha")
    with pytest.raises(ValueError, match=told):
        messages.CallAnswer(number=1, cluster=3, value=msgspec.Raw(value))


def test_arguments_of_a_call_are_bounded() -> None:
    args = msgspec.Raw(b'"' + b"x" * messages.LONGEST_ARGUMENTS + b'"')
    with pytest.raises(ValueError, match="of at most 32768"):
        messages.CallRequest(number=1, name="a", args=args, timeout=1)
    with pytest.raises(ValueError, match="of at most 32768"):
        messages.Call(number=1, name="a", args=args, timeout=1, clusters=(1,))
