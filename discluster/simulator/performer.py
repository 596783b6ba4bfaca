# SPDX-License-Identifier: Apache-2.0
"""Carries out the script on WebSocket connections: finds the rules of a point, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from discluster.simulator import deeds, ledger
from discluster.simulator.acting import Acting, Target
from discluster.simulator.connection import Connection
from discluster.simulator.deeds import AnyDeed, name_of
from discluster.simulator.frames import refuse_handshake
from discluster.simulator.pages import refusal_page
from discluster.simulator.peer import About, Peer
from discluster.simulator.script import Point, Rule, Scene, Script, covers, stops
from discluster.simulator.sessions import Session
from discluster.simulator.world import World


@dataclass(frozen=True, slots=True)
class Course:
    """Rules that are carried out at one point, and what they leave of the usual course."""

    rules: tuple[tuple[int, Rule], ...] = ()

    @property
    def stopped(self) -> bool:
        """The usual course does not follow."""
        return any(stops(rule) for _, rule in self.rules)

    @property
    def deeds(self) -> list[AnyDeed]:
        """All of them in order."""
        return [deed for _, rule in self.rules for deed in rule.do]


USUAL = Course()


_NOBODY: Final = About(connection=None, bot=None, shard=None, session=None)


class Performer:
    """One for the gateway; `peers` are its living connections."""

    def __init__(self, world: World, script: Script, peers: Mapping[int, Peer]) -> None:
        self.script = script
        self._world = world
        self._peers = peers
        self._acting = Acting(world)

    # Rules

    def add(self, rule: Rule) -> int:
        """A new rule, which living connections may meet at once. Raises ScriptError."""
        ident = self.script.add(rule, self._world.timing.now())
        if rule.at.point in ("now", "dispatch"):
            start = partial(self._begin, ident, rule)
            if rule.at.after:
                self._world.timing.later(rule.at.after, start)
            else:
                start()
        return ident

    def _begin(self, ident: int, rule: Rule) -> None:
        for peer in list(self._peers.values()):
            if not _matches(rule, scene_of(peer)) or self.script.rule(ident) is None:
                continue
            if rule.at.point == "now":
                self.script.hit(ident)
                self.perform(Course(((ident, rule),)), "now", peer)
            elif peer.session is not None and peer.session.seq:
                self._mark(peer, ident, rule, peer.cursor + rule.at.count)
                peer.flush()

    # Points

    def cast(self, point: Point, scene: Scene) -> Course:
        """The rules that apply now; they count as carried out."""
        if not self.script:
            return USUAL
        return Course(tuple(self.script.take(point, scene, self._world.timing.now())))

    def act(self, point: Point, peer: Peer, then: Callable[[Course], None]) -> None:
        """Carry out what applies to this connection; `then` is the usual course."""
        course = self.cast(point, scene_of(peer))
        self.perform(course, point, peer, then=lambda: then(course))

    def perform(
        self,
        course: Course,
        point: Point,
        peer: Peer,
        *,
        session: Session | None = None,
        about: About | None = None,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Carry out a course. `session`, `about`: of a connection that has none yet."""
        target = Target(peer, session or peer.session, about or peer.about)
        self._note(course, point, about=target.about, edge=peer.edge)
        self._run(target, iter(course.deeds), lambda: self._follow(course, peer, then))

    def http(self, bot: int | None) -> Course:
        """What applies to a request to GET /gateway/bot."""
        course = self.cast("http", Scene(bot=bot))
        self._note(course, "http", about={**_NOBODY, "bot": bot}, edge=None)
        return course

    def upgrade(self, connection: Connection) -> None:
        """Answer an upgrade request."""
        course = self.cast("upgrade", Scene(edge=connection.edge))
        self._note(course, "upgrade", about=None, edge=connection.edge)
        self._upgrade(connection, iter(course.deeds), stopped=course.stopped)

    def watch(self, point: Point, peer: Peer, begin: int, end: int | None = None) -> None:
        """Rules of "replay" and "dispatch" from now on, counted from sequence `begin`."""
        if not self.script:
            return
        now, scene = self._world.timing.now(), scene_of(peer)
        for ident, rule in self.script.candidates(point, scene, now):
            seq = begin + rule.at.count
            if end is None or seq <= end:
                self._mark(peer, ident, rule, seq)

    def hold_up(self, course: Course, point: Point, peer: Peer) -> None:
        """Carry out a course between two dispatches, which wait for it."""
        peer.held = True
        self.perform(course, point, peer, then=partial(_release, peer))
        if peer.held:
            peer.excused = True

    # Inside

    def _mark(self, peer: Peer, ident: int, rule: Rule, seq: int) -> None:
        peer.mark(seq, partial(self._reached, peer, ident, rule.at.point))

    def _reached(self, peer: Peer, ident: int, point: Point) -> None:
        rule = self.script.take_one(ident, scene_of(peer), self._world.timing.now())
        if rule is not None:
            self.hold_up(Course(((ident, rule),)), point, peer)
        if point == "dispatch" and peer.connection.open:
            self._again(peer, ident)

    def _again(self, peer: Peer, ident: int) -> None:
        """A rule of "dispatch" may apply to every `count`-th one."""
        now, scene = self._world.timing.now(), scene_of(peer)
        for living, rule in self.script.candidates("dispatch", scene, now):
            if living == ident and rule.at.count:
                self._mark(peer, ident, rule, peer.cursor + rule.at.count)

    def _run(self, target: Target, rest: Iterable[AnyDeed], finish: Callable[[], None]) -> None:
        for deed in rest:
            if isinstance(deed, deeds.Delay):
                again = partial(self._run, target, rest, finish)
                self._world.timing.later(deed.seconds, again)
                return
            self._acting.do(deed, target)
        finish()

    def _follow(self, course: Course, peer: Peer, then: Callable[[], None]) -> None:
        if not course.stopped and (peer.connection.open or not course.rules):
            then()
        elif peer.held:
            _release(peer)

    def _upgrade(self, connection: Connection, rest: Iterable[AnyDeed], *, stopped: bool) -> None:
        for deed in rest:
            if isinstance(deed, deeds.Delay):
                again = partial(self._upgrade, connection, rest, stopped=stopped)
                self._world.timing.later(deed.seconds, again)
                return
            _answer(connection, deed)
        if stopped:
            connection.hold()
        else:
            connection.accept()

    def _note(self, course: Course, point: Point, *, about: About | None, edge: str | None) -> None:
        for ident, rule in course.rules:
            self._world.ledger.append(
                ledger.Scripted(
                    **(about or _NOBODY),
                    rule=ident,
                    point=point,
                    deeds=tuple(name_of(type(deed)) for deed in rule.do),
                    edge=edge,
                )
            )


def scene_of(peer: Peer) -> Scene:
    """Where a connection stands."""
    if peer.session is None:
        return Scene(edge=peer.edge)
    facts = peer.session.facts
    return Scene(edge=peer.edge, shard=facts.shard, bot=facts.bot)


def _matches(rule: Rule, scene: Scene) -> bool:
    at = rule.at
    return (
        covers(at.shard, scene.shard)
        and at.edge in (None, scene.edge)
        and at.bot in (None, scene.bot)
    )


def _release(peer: Peer) -> None:
    peer.held = False
    peer.flush_soon()


def _answer(connection: Connection, deed: AnyDeed) -> None:
    if isinstance(deed, deeds.Status):
        connection.refuse(refuse_handshake(deed.code, *refusal_page(deed)))
    elif isinstance(deed, deeds.Reset):
        connection.drop()
    elif isinstance(deed, deeds.Fin):
        connection.hang_up()
