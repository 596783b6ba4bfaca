# SPDX-License-Identifier: Apache-2.0
"""An event as it is handed over, and what takes it."""

from collections.abc import Awaitable, Callable

import msgspec


class Event(msgspec.Struct, gc=False):
    """One dispatch (op 0).

    ``seq``: its sequence number in the session. ``type``: Discord's event name. ``body``: the ``d``
    of the payload as raw JSON, not looked at; it supports the buffer protocol, and
    ``msgspec.json.decode`` takes it as it is. It refers to the message that it came in: keep
    ``bytes(body)`` rather than the event to hold on to it.
    """

    shard: int
    seq: int
    type: str
    body: msgspec.Raw
    session_id: str


Handler = Callable[[Event], Awaitable[None] | None]
"""Takes an event. It is taken once the call, or the awaitable that it returns, is done."""
