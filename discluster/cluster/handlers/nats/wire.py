# SPDX-License-Identifier: Apache-2.0
"""NATS's client protocol, as its documentation has it (Reference, NATS Protocols, Client
Protocol). No I/O.

Of what a server sends: INFO, MSG, HMSG, PING, PONG, +OK and -ERR. Of what a client sends: CONNECT,
SUB, PUB, HPUB, PING and PONG.
"""

from typing import Final

import msgspec

from discluster.decoding import DECODE_ERRORS, legible, reason_of
from discluster.errors import ProtocolError

PING: Final = b"PING\r\n"
PONG: Final = b"PONG\r\n"
LONGEST_LINE: Final = 64 * 1024  # bytes; INFO lists a whole fleet of servers
LONGEST_PAYLOAD: Final = 64 * 1024  # bytes; answers of JetStream are far smaller
NO_RESPONDERS: Final = 503
"""The status of an answer that nobody was there to give."""

_END: Final = b"\r\n"


class NatsProtocolError(ProtocolError):
    """This is not what a NATS server says."""

    code = "nats-protocol"


class Info(msgspec.Struct, frozen=True):
    """What is of interest of INFO. ``max_payload``: bytes of headers and body together."""

    max_payload: int = 1024 * 1024
    tls_required: bool = False
    tls_available: bool = False
    headers: bool = False
    jetstream: bool = False
    auth_required: bool = False
    nonce: str | None = None


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """A message to us. ``status``: of its headers, 0 without."""

    subject: bytes
    payload: bytes
    status: int = 0


class Ping(msgspec.Struct, frozen=True):
    """To be answered with a PONG."""


class Pong(msgspec.Struct, frozen=True):
    """The answer to a PING."""


class Failed(msgspec.Struct, frozen=True):
    """-ERR; the server closes the connection after most of them."""

    reason: str


Frame = Delivery | Info | Ping | Pong | Failed

_info: Final = msgspec.json.Decoder(Info).decode
_PING: Final = Ping()
_PONG: Final = Pong()


class Reader:
    """Bytes in, frames out."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that ``data`` completes.

        Raises:
            NatsProtocolError: what was completed before is lost too; only a new connection helps.
        """
        if self._rest:
            data = self._rest + data
        found: list[Frame] = []
        position = 0
        while (end := data.find(_END, position)) >= 0:
            line = data[position:end]
            after = end + 2
            if (plain := line[:4] == b"MSG ") or line[:5] == b"HMSG ":
                words = line.split()
                stop = after + _size(words)
                if len(data) < stop + 2:
                    break
                if data[stop : stop + 2] != _END:
                    raise NatsProtocolError("a message does not end where it should")
                body = data[after:stop]
                found.append(Delivery(words[1], body) if plain else _with_headers(words, body))
                position = stop + 2
            else:
                frame = _control(line)
                if frame is not None:
                    found.append(frame)
                position = after
        self._rest = data[position:]
        if end < 0 and len(self._rest) > LONGEST_LINE:
            raise NatsProtocolError("a line does not end")
        return found


def _size(words: list[bytes]) -> int:
    """Of headers and body: ``MSG subject sid [reply] size``, ``HMSG subject sid [reply] headers
    size``.
    """
    if len(words) not in (4, 5, 6):
        raise NatsProtocolError("the line of a message is malformed")
    return _number(words[-1])


def _number(word: bytes) -> int:
    if not word.isdigit() or len(word) > 9 or (number := int(word)) > LONGEST_PAYLOAD:
        raise NatsProtocolError("a message has no usable size")
    return number


def _with_headers(words: list[bytes], data: bytes) -> Delivery:
    size = _number(words[-2])
    if size > len(data):
        raise NatsProtocolError("the headers of a message are larger than the message")
    version, _, status = data[:size].partition(_END)[0].partition(b" ")
    if version != b"NATS/1.0":
        raise NatsProtocolError("a message has headers of an unknown version")
    code = status[:3]
    return Delivery(words[1], data[size:], int(code) if code.isdigit() else 0)


def _control(line: bytes) -> Frame | None:
    word, _, rest = line.partition(b" ")
    match word.upper():
        case b"PING":
            return _PING
        case b"PONG":
            return _PONG
        case b"+OK":
            return None
        case b"-ERR":
            return Failed(legible(rest.decode(errors="replace").strip().strip("'")))
        case b"INFO":
            try:
                return _info(rest)
            except DECODE_ERRORS as error:
                raise NatsProtocolError(f"INFO cannot be read: {reason_of(error)}") from None
    raise NatsProtocolError("an unknown line")


# --- what a client sends -------------------------------------------------------------------------


class Connect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The options of CONNECT. Those of who we are come from the credential."""

    verbose: bool
    pedantic: bool
    headers: bool
    no_responders: bool
    tls_required: bool
    lang: str
    version: str
    name: str
    protocol: int = 0
    user: str | None = None
    password: str | None = msgspec.field(default=None, name="pass")
    auth_token: str | None = None


def connect(options: Connect) -> bytes:
    """Holds what is secret in ``options``."""
    return b"CONNECT %b\r\n" % msgspec.json.encode(options)


def subscribe(subject: bytes) -> bytes:
    """The only subscription of a connection."""
    return b"SUB %b 1\r\n" % subject


def request(subject: bytes, reply: bytes, payload: bytes) -> bytes:
    """A PUB that wants an answer at ``reply``."""
    return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(payload), payload)


def publish(subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> bytes:
    """An HPUB. ``headers``: from ``NATS/1.0`` to the empty line."""
    size = len(headers)
    return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (
        *(subject, reply, size, size + len(payload)),
        *(headers, payload),
    )


def payload_size(message: bytes) -> int:
    """Headers and body of an HPUB, as ``max_payload`` counts them."""
    return int(message[: message.index(_END)].rpartition(b" ")[2])


def without_body(message: bytes, header: bytes) -> bytes:
    """An HPUB with ``header: SIZE``, the size of its body, in place of the body."""
    line, _, rest = message.partition(_END)
    _, subject, reply, headers, total = line.split(b" ")
    size = int(headers)
    if size == int(total):
        return message
    told = b"%b%b: %d\r\n\r\n" % (rest[: size - 2], header, int(total) - size)
    return publish(subject, reply, told, b"")
