# SPDX-License-Identifier: Apache-2.0
"""Scripted faults: rules that say where in the life of a connection what goes wrong. No I/O.

A rule matches a point, and a shard, a bot, an edge, a span of time, if it names them. Before
IDENTIFY or RESUME a connection has no shard: there only edge, count and time select.
"""

from collections import defaultdict
from typing import Annotated, Final, Literal, get_args

import msgspec

from discluster.simulator import deeds
from discluster.simulator.deeds import AnyDeed, Delay, Seconds, name_of
from discluster.simulator.ledger import Shard

Which = int | tuple[int, int] | Literal["all"]
"""Shard id (of any shard count), `[shard_id, num_shards]`, or all."""

Point = Literal[
    "http",
    "upgrade",
    "accepted",
    "hello",
    "identify",
    "resume",
    "ready",
    "replay",
    "resumed",
    "dispatch",
    "heartbeat",
    "command",
    "now",
]
"""http: a request to GET /gateway/bot. upgrade: a WebSocket handshake. accepted: it succeeded.
hello, ready, resumed: just before they are sent. identify, resume: they came and are right.
replay, dispatch: after the `count`-th replayed or live event of a connection. heartbeat: before
its acknowledgement. command: before the answer to op 4 or 8. now: at once (or `after` so long),
on the connections there are."""


class At(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where and when a rule applies.

    shard: null for connections with and without a shard, "all" for those with one. edge: "main",
    "edge-a", …. skip, times: leave out the first ones that match, and stop after so many;
    with each_shard both are counted for each shard by itself. after, lasts: seconds since the
    rule was made, null for ever. count: for "replay" and "dispatch", events; the latter since
    READY, RESUMED or the rule, whichever came last.
    """

    point: Point
    shard: Which | None = None
    bot: int | None = None
    edge: str | None = None
    skip: Annotated[int, msgspec.Meta(ge=0)] = 0
    times: Annotated[int, msgspec.Meta(ge=1)] | None = 1
    each_shard: bool = False
    after: Seconds = 0.0
    lasts: Seconds | None = None
    count: Annotated[int, msgspec.Meta(ge=0)] = 1


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Deeds at a point, in order, and in the same instant but for Delay.

    instead: the usual course (answer, HELLO, READY, acknowledgement, …) does not follow.
    """

    at: At
    do: tuple[AnyDeed, ...] = ()
    instead: bool = False


class RuleView(msgspec.Struct, frozen=True, kw_only=True):
    """A rule of the script. hits: how often it was carried out; since: when it was made."""

    id: int
    rule: Rule
    hits: int
    since: float


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """Where something is happening."""

    edge: str | None = None
    shard: Shard | None = None
    bot: int | None = None


class ScriptError(ValueError):
    """A rule that could never apply."""


_ANONYMOUS: Final = frozenset({"http", "upgrade", "accepted", "hello"})
_HTTP: Final = frozenset(name_of(deed) for deed in get_args(deeds.HttpDeed))
_UPGRADE: Final = frozenset({"status", "hang", "rst", "fin", "delay"})
_STREAM: Final = frozenset(
    name_of(deed) for deed in get_args(deeds.Ending | deeds.PayloadDeed | deeds.WireDeed | Delay)
)
_SPECIAL: Final = {"hello": "hello", "replay": "resume", "fields": "ready"}
_SEQUENCED: Final = frozenset({"dispatch", "gap", "big"})


def check(rule: Rule) -> None:
    """Raises ScriptError for what can never happen."""
    at = rule.at
    if at.shard is not None and at.point in _ANONYMOUS:
        raise ScriptError(f"a connection has no shard yet at the point {at.point!r}")
    if at.edge is not None and at.point == "http":
        raise ScriptError("an HTTP request has no edge")
    for deed in rule.do:
        name = name_of(type(deed))
        if not _fits(name, at.point):
            raise ScriptError(f"{name!r} makes no sense at the point {at.point!r}")


def _fits(deed: str, point: Point) -> bool:
    if point == "http":
        return deed in _HTTP | {"delay", "rst"}
    if point == "upgrade":
        return deed in _UPGRADE
    if deed in _SEQUENCED and point in _ANONYMOUS:
        return False
    return deed in _STREAM or _SPECIAL.get(deed) == point


def stops(rule: Rule) -> bool:
    """Whether the usual course cannot follow."""
    endings = (deeds.Close, deeds.Reset, deeds.Fin, deeds.Status, deeds.Hang, deeds.Body)
    return rule.instead or any(isinstance(deed, endings) for deed in rule.do)


class _Entry:
    """A rule and how often it matched, by shard if it counts for each."""

    def __init__(self, rule: Rule, since: float) -> None:
        self.rule = rule
        self.since = since
        self.hits = 0
        self._seen: dict[Shard | None, int] = defaultdict(int)

    def applies(self, point: Point, scene: Scene, now: float) -> bool:
        at, age = self.rule.at, now - self.since
        return (
            at.point == point
            and at.after <= age
            and (at.lasts is None or age <= at.after + at.lasts)
            and (at.edge is None or at.edge == scene.edge)
            and (at.bot is None or at.bot == scene.bot)
            and covers(at.shard, scene.shard)
            and not self._spent(scene)
        )

    def _spent(self, scene: Scene) -> bool:
        at = self.rule.at
        return at.times is not None and self._seen[self._key(scene)] >= at.skip + at.times

    def _key(self, scene: Scene) -> Shard | None:
        return scene.shard if self.rule.at.each_shard else None

    def count(self, scene: Scene) -> bool:
        """Count a match; False while it is one to skip."""
        key = self._key(scene)
        self._seen[key] += 1
        hit = self._seen[key] > self.rule.at.skip
        self.hits += hit
        return hit


def covers(which: Which | None, shard: Shard | None) -> bool:
    """Whether a choice of shards takes in this one; None is a connection without a shard."""
    if which is None:
        return True
    if shard is None:
        return False
    return which in ("all", shard, shard[0])


class Script:
    """The rules, in the order in which they were made."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._last = 0

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, rule: Rule, now: float) -> int:
        """A new rule; returns its id. Raises ScriptError."""
        check(rule)
        self._last += 1
        self._entries[self._last] = _Entry(rule, now)
        return self._last

    def hit(self, ident: int) -> None:
        """Count a rule that is carried out wherever it matches."""
        self._entries[ident].hits += 1

    def rule(self, ident: int) -> Rule | None:
        """This rule, if it is still there."""
        entry = self._entries.get(ident)
        return None if entry is None else entry.rule

    def remove(self, ident: int | None = None) -> int:
        """Forget one rule, or all; returns how many."""
        chosen = list(self._entries) if ident is None else [ident]
        return sum(self._entries.pop(one, None) is not None for one in chosen)

    def views(self) -> list[RuleView]:
        """All rules with their hits."""
        return [
            RuleView(id=ident, rule=entry.rule, hits=entry.hits, since=entry.since)
            for ident, entry in self._entries.items()
        ]

    def candidates(self, point: Point, scene: Scene, now: float) -> list[tuple[int, Rule]]:
        """Rules that would apply here; nothing is counted."""
        return [
            (ident, entry.rule)
            for ident, entry in self._entries.items()
            if entry.applies(point, scene, now)
        ]

    def take(self, point: Point, scene: Scene, now: float) -> list[tuple[int, Rule]]:
        """Rules that are to be carried out here, with their ids; this counts."""
        return [
            (ident, entry.rule)
            for ident, entry in self._entries.items()
            if entry.applies(point, scene, now) and entry.count(scene)
        ]

    def take_one(self, ident: int, scene: Scene, now: float) -> Rule | None:
        """This rule, if it is still there and applies; this counts."""
        entry = self._entries.get(ident)
        if entry is None or not entry.applies(entry.rule.at.point, scene, now):
            return None
        return entry.rule if entry.count(scene) else None
