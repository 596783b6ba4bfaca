# SPDX-License-Identifier: Apache-2.0
"""What a script can make the simulated Discord do, as data. Times are simulated seconds.

Written in JSON with the name of the deed in `kind`: `{"kind": "close", "code": 4000}`.
"""

from typing import Annotated, Literal

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Order = Literal[
    "in-order", "nothing", "resumed-first", "resumed-only", "interleaved", "doubled", "reversed"
]


class Deed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """One act of a script."""


# Answers over HTTP: at the points "http" and "upgrade"


class Status(Deed, frozen=True, kw_only=True, tag="status"):
    """Answer with this status.

    `html`: a page as Cloudflare sends it, without Via, instead of Discord's JSON. `retry_after`
    is the header's value as it stands, in whatever unit the client takes it for; null leaves
    the header out.
    """

    code: Annotated[int, msgspec.Meta(ge=200, le=599)]
    html: bool = False
    retry_after: str | None = None


class Hang(Deed, frozen=True, kw_only=True, tag="hang"):
    """Take the request and never answer; the connection stays open."""


class Body(Deed, frozen=True, kw_only=True, tag="body"):
    """Answer 200 with this text. `cut`: say the whole length, send half of it, and hang up."""

    text: str
    content_type: str = "application/json"
    cut: bool = False


class SlowBody(Deed, frozen=True, kw_only=True, tag="slow-body"):
    """Send the true answer byte by byte, `seconds` apart."""

    seconds: Seconds = 1.0


class Fields(Deed, frozen=True, kw_only=True, tag="fields"):
    """Change the answer to GET /gateway/bot, or READY's `d`: keys are paths as in "a.b"."""

    set: dict[str, object] = {}
    remove: tuple[str, ...] = ()


# How a connection ends


class Close(Deed, frozen=True, kw_only=True, tag="close"):
    """A close frame; `code` null leaves it empty."""

    code: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None = 1000
    reason: str = ""


class Reset(Deed, frozen=True, kw_only=True, tag="rst"):
    """Reset the TCP connection."""


class Fin(Deed, frozen=True, kw_only=True, tag="fin"):
    """End the TCP connection in order, but without a close frame."""


# Payloads


class Reconnect(Deed, frozen=True, kw_only=True, tag="op7"):
    """RECONNECT."""


class Invalidate(Deed, frozen=True, kw_only=True, tag="op9"):
    """INVALID_SESSION with `d` true, false, null or without `d`.

    With true the session is cut loose and can be resumed; otherwise it ends.
    """

    d: Literal["true", "false", "null", "missing"] = "false"


class HeartbeatRequest(Deed, frozen=True, kw_only=True, tag="op1"):
    """Ask for a heartbeat, `times` over."""

    times: Count = 1


class Acknowledge(Deed, frozen=True, kw_only=True, tag="op11"):
    """Acknowledge heartbeats, whether there were any or not."""

    times: Count = 1


class Hello(Deed, frozen=True, kw_only=True, tag="hello"):
    """At the point "hello": what stands in heartbeat_interval, in JSON as it is.

    `missing` leaves it out.
    """

    interval: object = None
    missing: bool = False


class Raw(Deed, frozen=True, kw_only=True, tag="raw"):
    """A payload of the tester's choice, through the connection's compression.

    `text`, or `data` (base64 in JSON) for what is not UTF-8. With `consume` it takes the
    session's next sequence and is replayed by RESUME; `$S` in it stands for that sequence, or
    without `consume` for the last one.
    """

    text: str = ""
    data: bytes | None = None
    consume: bool = False
    times: Count = 1


class Dispatch(Deed, frozen=True, kw_only=True, tag="dispatch"):
    """A dispatch with a wrong sequence, which it does not consume.

    `s` as it stands, or else the session's last sequence plus `shift`.
    """

    t: str = "TYPING_START"
    d: dict[str, object] = {}
    s: int | float | str | None = None
    shift: int = 0


class Gap(Deed, frozen=True, kw_only=True, tag="gap"):
    """The session loses so many sequences that are never sent."""

    sequences: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1


class Big(Deed, frozen=True, kw_only=True, tag="big"):
    """A dispatch of `bytes` that compresses `ratio` to 1 or nearly so (zlib: up to 1000)."""

    bytes: Annotated[int, msgspec.Meta(ge=1, le=1 << 28)]
    ratio: Annotated[float, msgspec.Meta(ge=2)] = 4.0
    t: str = "GUILD_MEMBERS_CHUNK"


class Replay(Deed, frozen=True, kw_only=True, tag="replay"):
    """At the point "resume": in which order the missed events and RESUMED come.

    "resumed-only" skips what was missed, "nothing" skips it and RESUMED, too.
    """

    order: Order


# How it is written


class Frames(Deed, frozen=True, kw_only=True, tag="frames"):
    """From now on, on this connection.

    split: WebSocket messages for each payload; suffix: the last two bytes of a compressed
    payload come in a message of their own; false_suffix: the compressor is flushed in the middle
    of a payload, and its halves are messages of their own; join: payloads in one message (only
    those that are sent in one go); fragments: WebSocket frames for each message; text: text
    frames though the payload is compressed.
    """

    split: Count = 1
    suffix: bool = False
    false_suffix: bool = False
    join: Count = 1
    fragments: Count = 1
    text: bool = False


class Corrupt(Deed, frozen=True, kw_only=True, tag="corrupt"):
    """One byte in the middle of the next payload is flipped on the wire."""


class Truncate(Deed, frozen=True, kw_only=True, tag="truncate"):
    """Of the next payload only half is sent, and then no payload at all any more."""


class Throttle(Deed, frozen=True, kw_only=True, tag="throttle"):
    """From now on, the bytes of this connection leave slowly.

    chunk: bytes in one write, so at most in one TCP segment; 0 for any number. delay, jitter:
    seconds that every write is late, order kept. Nulls and zeros leave things as they are.
    """

    bytes_per_second: Annotated[float, msgspec.Meta(gt=0)] | None = None
    chunk: Annotated[int, msgspec.Meta(ge=0)] = 0
    delay: Seconds = 0.0
    jitter: Seconds = 0.0


class StopReading(Deed, frozen=True, kw_only=True, tag="stop-reading"):
    """Read nothing for so long, null for ever; writing goes on."""

    seconds: Seconds | None = None


class Mute(Deed, frozen=True, kw_only=True, tag="mute"):
    """Half-open: neither read nor write for so long, null for ever."""

    seconds: Seconds | None = None


class IgnoreClose(Deed, frozen=True, kw_only=True, tag="ignore-close"):
    """Never answer a close frame, nor hang up after it."""


class Delay(Deed, frozen=True, kw_only=True, tag="delay"):
    """What stands behind it in the script comes later, and so does the usual course."""

    seconds: Seconds


HttpDeed = Status | Hang | Body | SlowBody | Fields
Ending = Close | Reset | Fin
PayloadDeed = Reconnect | Invalidate | HeartbeatRequest | Acknowledge | Raw | Dispatch | Gap | Big
WireDeed = Frames | Corrupt | Truncate | Throttle | StopReading | Mute | IgnoreClose
AnyDeed = HttpDeed | Ending | PayloadDeed | Hello | Replay | WireDeed | Delay


def name_of(deed: type[Deed]) -> str:
    """The deed's name in JSON."""
    return str(deed.__struct_config__.tag)
