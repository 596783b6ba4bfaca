# SPDX-License-Identifier: Apache-2.0
"""Does the single deeds of a script to a connection."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import singledispatchmethod
from typing import Final

from discluster.simulator import deeds, payloads
from discluster.simulator.pacing import Pace
from discluster.simulator.peer import About, Peer
from discluster.simulator.sessions import Session
from discluster.simulator.shape import Shape
from discluster.simulator.templates import Literal, Verbatim, dump
from discluster.simulator.validate import SESSION_ENDING_CODES
from discluster.simulator.world import World

# What runs of one letter compress to, roughly, with either method; and hexadecimal digits.
_BEST_RATIO: Final = 1000.0
_HEX_RATIO: Final = 1.75


@dataclass(frozen=True, slots=True)
class Target:
    """A connection; its session, or the one that it is about to get; what records say of it."""

    peer: Peer
    session: Session | None
    about: About


class Acting:
    """`do` does what a deed says; those that only change the usual course do nothing here."""

    def __init__(self, world: World) -> None:
        self._world = world

    @singledispatchmethod
    def do(self, deed: deeds.Deed, target: Target) -> None:
        """Do one deed, at once."""

    # How a connection ends

    @do.register
    def _(self, deed: deeds.Close, target: Target) -> None:
        target.peer.connection.close(deed.code, deed.reason)
        if target.session is not None and deed.code in SESSION_ENDING_CODES:
            self._world.end(target.session, f"closed-{deed.code}")

    @do.register
    def _(self, deed: deeds.Reset, target: Target) -> None:
        target.peer.connection.drop()

    @do.register
    def _(self, deed: deeds.Fin, target: Target) -> None:
        target.peer.connection.hang_up()

    # Payloads

    @do.register
    def _(self, deed: deeds.Reconnect, target: Target) -> None:
        target.peer.reconnect()

    @do.register
    def _(self, deed: deeds.Invalidate, target: Target) -> None:
        peer, session, resumable = target.peer, target.session, deed.d == "true"
        if session is not None and not resumable:
            self._world.end(session, "invalidated")
        elif session is not None and session.connection == peer.number:
            self._world.detach(session)
        peer.invalidate(resumable=resumable, about=target.about, d=deed.d)

    @do.register
    def _(self, deed: deeds.HeartbeatRequest, target: Target) -> None:
        for _ in range(deed.times):
            target.peer.request_heartbeat(self._world.timing.now())

    @do.register
    def _(self, deed: deeds.Acknowledge, target: Target) -> None:
        for _ in range(deed.times):
            target.peer.send(payloads.HEARTBEAT_ACK)

    @do.register
    def _(self, deed: deeds.Raw, target: Target) -> None:
        text = deed.text.encode() if deed.data is None else deed.data
        peer, session = target.peer, target.session
        for _ in range(deed.times):
            if deed.consume and session is not None:
                session.append(Verbatim(text))
                peer.flush_soon()
            else:
                last = 0 if session is None else session.seq
                peer.send(text.replace(b"$S", b"%d" % last))

    @do.register
    def _(self, deed: deeds.Dispatch, target: Target) -> None:
        session = target.session
        last = 0 if session is None else session.seq
        seq = last + deed.shift if deed.s is None else deed.s
        if session is not None and isinstance(seq, int):
            session.claimed = max(session.claimed, seq)
        target.peer.send(dump({"t": deed.t, "s": seq, "op": 0, "d": deed.d}))

    @do.register
    def _(self, deed: deeds.Gap, target: Target) -> None:
        if target.session is not None:
            target.session.skip(deed.sequences)
            target.peer.flush_soon()

    @do.register
    def _(self, deed: deeds.Big, target: Target) -> None:
        if target.session is not None:
            rng = self._world.draw("big", target.session.facts.id, target.session.seq)
            target.session.append(Literal(deed.t, dump(filler(deed.bytes, deed.ratio, rng))))
            target.peer.flush_soon()

    # How it is written

    @do.register
    def _(self, deed: deeds.Frames, target: Target) -> None:
        _shape(target.peer).frames = deed

    @do.register
    def _(self, deed: deeds.Corrupt, target: Target) -> None:
        _shape(target.peer).corrupt += 1

    @do.register
    def _(self, deed: deeds.Truncate, target: Target) -> None:
        _shape(target.peer).truncate = True

    @do.register
    def _(self, deed: deeds.Throttle, target: Target) -> None:
        timing, rate = self._world.timing, deed.bytes_per_second
        pace = Pace(
            bytes_per_second=None if rate is None else rate / timing.real(1.0),
            chunk=deed.chunk,
            delay=timing.real(deed.delay),
            jitter=timing.real(deed.jitter),
        )
        target.peer.excused = True
        target.peer.connection.pace(pace, self._world.draw("pace", target.peer.number))

    @do.register
    def _(self, deed: deeds.StopReading, target: Target) -> None:
        connection = target.peer.connection
        target.peer.excused = True
        connection.stall(True)
        if deed.seconds is not None:
            self._world.timing.later(deed.seconds, lambda: connection.stall(False))

    @do.register
    def _(self, deed: deeds.Mute, target: Target) -> None:
        connection = target.peer.connection
        target.peer.excused = True
        connection.mute(True)
        if deed.seconds is not None:
            self._world.timing.later(deed.seconds, lambda: connection.mute(False))

    @do.register
    def _(self, deed: deeds.IgnoreClose, target: Target) -> None:
        target.peer.connection.ignores_close = True


def _shape(peer: Peer) -> Shape:
    if peer.shape is None:
        peer.shape = Shape()
    return peer.shape


def filler(size: int, ratio: float, rng: random.Random) -> dict[str, str]:
    """A body of about `size` bytes that compresses to about a `ratio`-th of it."""
    share = max(0.0, (1 / ratio - 1 / _BEST_RATIO) * _HEX_RATIO)
    noisy = min(size, int(size * share))
    noise = rng.randbytes((noisy + 1) // 2).hex()[:noisy]
    return {"noise": noise, "text": "a" * (size - noisy)}
