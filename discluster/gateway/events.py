# SPDX-License-Identifier: Apache-2.0
"""An event as it is handed over, and what takes it."""

import builtins
import enum
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, overload

import msgspec

T = TypeVar("T")


class Event(msgspec.Struct, gc=False):
    """One dispatch (op 0).

    ``seq``: its sequence number in the session. ``type``: Discord's event name. ``body``: the ``d``
    of the payload as raw JSON, not looked at; it supports the buffer protocol, and
    ``msgspec.json.decode`` takes it as it is. It refers to what it came in, a message or all that
    was read with it: keep ``bytes(body)`` rather than the event to hold on to it.
    """

    shard: int
    seq: int
    type: str
    body: msgspec.Raw
    session_id: str

    @overload
    def parsed(self) -> Any: ...

    @overload
    def parsed(self, shape: builtins.type[T]) -> T: ...

    def parsed(self, shape: Any = Any) -> Any:
        """The body as Python objects; with ``shape``, say a msgspec.Struct, only what that has.
        Decoded at each call: keep what you get.

        Raises:
            msgspec.DecodeError: it is no JSON, or (ValidationError) not of that shape.
        """
        return msgspec.json.decode(self.body, type=shape)


class Later(enum.Enum):
    """The type of :data:`LATER`."""

    LATER = "later"


LATER: Final = Later.LATER
"""What a handler returns that has the event, but has not taken it yet: it will acknowledge it, or a
later one of the same shard."""

Handler = Callable[[Event], Awaitable[Later | None] | Later | None]
"""Takes an event. It is taken once the call, or the awaitable that it returns, is done; after
``LATER`` once it was acknowledged."""
