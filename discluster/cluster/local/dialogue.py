# SPDX-License-Identifier: Apache-2.0
"""One connection as a conversation: what a client says in, what is to be done out. Pure.

It knows the protocol, not the events: who feeds the client is told by :class:`Begin` and
:class:`Continue`.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from discluster.cluster.local import payloads
from discluster.cluster.local.judging import WRONG_TOKEN, Facts, judge, known_token
from discluster.cluster.local.requests import Beat, Identify, Order, Refusal, Resume, read
from discluster.gateway.commands import Command
from discluster.secret import Secret

MISSED: Final = 3
"""Heartbeat intervals without a heartbeat, after which a client counts as gone."""

_MANY: Final = 500  # events to be acknowledged, after which a heartbeat is asked for
_AFTER: Final = 2.0  # seconds, if they are fewer
# A library sends 120 payloads a minute at most, and counts the answers to these.
_NOT_BEFORE: Final = 1.0  # seconds after the one before
# Twice as many as Discord takes.
_MESSAGES: Final = 240
_WINDOW: Final = 60.0  # seconds


class Say(msgspec.Struct, frozen=True):
    """A payload for the client."""

    payload: bytes


class Close(msgspec.Struct, frozen=True):
    """The connection is to be closed, with a code and words."""

    code: int
    reason: str


class Begin(msgspec.Struct, frozen=True):
    """An IDENTIFY that is right: to be answered when its shard is there."""

    identify: Identify


class Continue(msgspec.Struct, frozen=True):
    """A RESUME with a right token."""

    resume: Resume


class Acknowledge(msgspec.Struct, frozen=True):
    """The client has everything up to ``seq``."""

    seq: int


class Send(msgspec.Struct, frozen=True):
    """Something for Discord."""

    command: Command


Act = Say | Close | Begin | Continue | Acknowledge | Send


class Dialogue:
    """Of one connection. ``authenticated``: the client has identified or resumed."""

    def __init__(
        self,
        *,
        tokens: Sequence[Secret],
        facts: Callable[[], Facts],
        interval: float,
        now: float,
    ) -> None:
        """``tokens``: each of them opens. ``interval``: seconds between heartbeats. ``now``, here
        and below: monotonic seconds."""
        self.authenticated = False
        self._tokens = tokens
        self._facts = facts
        self._interval = interval
        self._heard = now
        self._window = now  # when it began
        self._messages = 0  # in it
        self._asked: float | None = None  # and no heartbeat came since
        self._asked_last = float("-inf")

    def greeting(self) -> Say:
        """HELLO."""
        return Say(payloads.hello(self._interval))

    def hear(self, payload: bytes, now: float) -> list[Act]:
        """What is to be done about a message."""
        if now - self._window >= _WINDOW:
            self._window, self._messages = now, 0
        self._messages += 1
        if self._messages > _MESSAGES:
            return [Close(4008, f"Rate limited: more than {_MESSAGES} messages in a minute")]
        match read(payload, authenticated=self.authenticated):
            case Refusal(code, reason):
                return [Close(code, reason)]
            case Beat(seq):
                self._heard, self._asked = now, None
                ack = Say(payloads.ACK)
                return [ack] if seq is None or not self.authenticated else [ack, Acknowledge(seq)]
            case Identify() as identify:
                return [self._identified(identify)]
            case Resume() as resume:
                if not known_token(resume.token, self._tokens):
                    return [Close(WRONG_TOKEN.code, WRONG_TOKEN.reason)]
                self.authenticated = True
                return [Continue(resume)]
            case Order(command):
                return [Send(command)]
        raise AssertionError("read() has no other answers")

    def _identified(self, identify: Identify) -> Act:
        refusal: Refusal | None = WRONG_TOKEN
        if known_token(identify.token, self._tokens):
            refusal = judge(identify, self._facts())
        if refusal is not None:
            return Close(refusal.code, refusal.reason)
        self.authenticated = True
        return Begin(identify)

    def invalid(self) -> Say:
        """The client's session is over; it may identify, here or on another connection."""
        self.authenticated = False
        return Say(payloads.INVALID)

    def tick(self, now: float, *, owed: int, since: float) -> Act | None:
        """What time has brought. ``owed``: events that were sent and not acknowledged. ``since``:
        when the oldest of them was sent, or one was acknowledged last.
        """
        if now - self._heard > MISSED * self._interval:
            return Close(4000, f"No heartbeat within {MISSED * self._interval:g} seconds")
        if not owed or (self._asked is not None and now - self._asked < self._interval):
            return None
        waited = now - since
        return self.ask(now) if waited >= (_NOT_BEFORE if owed >= _MANY else _AFTER) else None

    def ask(self, now: float, *, urgent: bool = False) -> Say | None:
        """For a heartbeat at once; None: that was asked just now, and it is not ``urgent``."""
        if not urgent and now - self._asked_last < _NOT_BEFORE:
            return None
        self._asked = self._asked_last = now
        return Say(payloads.ASK)
