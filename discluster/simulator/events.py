# SPDX-License-Identifier: Apache-2.0
"""The mix of streamed events: templates by type and intent, drawn from a seeded deck.

The shares are estimates anchored on public figures: presences, where a bot gets them, are nine
events of ten.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from discluster.simulator import bodies
from discluster.simulator.chatter import chatter
from discluster.simulator.intents import Intent
from discluster.simulator.templates import GuildTemplate, Template

Body = Callable[[random.Random], dict[str, Any]]

VARIANTS: Final = 32
DECK_SIZE: Final = 2000


@dataclass(frozen=True)
class EventType:
    """One event type: `share` of the stream without presences, in tenths of a percent."""

    name: str
    share: int
    intent: int
    body: Body


def _created(rng: random.Random) -> dict[str, Any]:
    return bodies.message(rng, edited=False)


def _edited(rng: random.Random) -> dict[str, Any]:
    return bodies.message(rng, edited=True)


def _reacted(rng: random.Random) -> dict[str, Any]:
    return bodies.reaction(rng, added=True)


def _unreacted(rng: random.Random) -> dict[str, Any]:
    return bodies.reaction(rng, added=False)


EVENT_TYPES: Final = (
    EventType("MESSAGE_CREATE", 300, Intent.GUILD_MESSAGES, _created),
    EventType("MESSAGE_UPDATE", 140, Intent.GUILD_MESSAGES, _edited),
    EventType("TYPING_START", 140, Intent.GUILD_MESSAGE_TYPING, bodies.typing),
    EventType("VOICE_STATE_UPDATE", 100, Intent.GUILD_VOICE_STATES, bodies.voice_state),
    EventType("MESSAGE_REACTION_ADD", 80, Intent.GUILD_MESSAGE_REACTIONS, _reacted),
    EventType("GUILD_MEMBER_UPDATE", 80, Intent.GUILD_MEMBERS, bodies.member_change),
    EventType("MESSAGE_DELETE", 40, Intent.GUILD_MESSAGES, bodies.message_delete),
    EventType("INTERACTION_CREATE", 30, 0, bodies.interaction),
    EventType("GUILD_MEMBER_ADD", 25, Intent.GUILD_MEMBERS, bodies.member_change),
    EventType("GUILD_MEMBER_REMOVE", 25, Intent.GUILD_MEMBERS, bodies.member_remove),
    EventType("MESSAGE_REACTION_REMOVE", 20, Intent.GUILD_MESSAGE_REACTIONS, _unreacted),
    EventType("CHANNEL_UPDATE", 20, Intent.GUILDS, bodies.channel),
)
# Ten times all the others together, so that nine events of ten are presences.
PRESENCE: Final = EventType("PRESENCE_UPDATE", 9000, Intent.GUILD_PRESENCES, bodies.presence)


class Catalogue:
    """All templates of one simulator, made from its seed when they are first needed."""

    def __init__(self, seed: int) -> None:
        self.intents = {event.name: event.intent for event in (*EVENT_TYPES, PRESENCE)}
        self._seed = seed
        self._decks: dict[int, list[Template]] = {}

    @cached_property
    def guild_create(self) -> list[GuildTemplate]:
        """Variants of GUILD_CREATE."""
        rng = random.Random(f"{self._seed}/guilds")
        return [GuildTemplate("GUILD_CREATE", bodies.guild_create(rng)) for _ in range(VARIANTS)]

    @cached_property
    def chatter(self) -> list[Template]:
        """MESSAGE_CREATEs that are all different, for bursts."""
        return chatter(random.Random(f"{self._seed}/chatter"))

    @cached_property
    def _types(self) -> list[tuple[EventType, list[Template]]]:
        rng = random.Random(f"{self._seed}/bodies")
        return [
            (event, [_template(event, rng) for _ in range(VARIANTS)])
            for event in (*EVENT_TYPES, PRESENCE)
        ]

    def deck(self, intents: int) -> list[Template]:
        """DECK_SIZE templates that a session with these intents may get, in random order.

        Dealing from a shuffled deck costs nothing for each event, and keeps the shares exact.
        Never empty: interactions need no intent.
        """
        allowed = [pair for pair in self._types if pair[0].intent & intents == pair[0].intent]
        key = sum(1 << index for index, pair in enumerate(self._types) if pair in allowed)
        if key not in self._decks:
            self._decks[key] = self._shuffle(allowed, key)
        return self._decks[key]

    def _shuffle(self, allowed: list[tuple[EventType, list[Template]]], key: int) -> list[Template]:
        total = sum(event.share for event, _ in allowed)
        rng = random.Random(f"{self._seed}/deck/{key}")
        deck: list[Template] = []
        for event, variants in allowed:
            copies = max(1, round(DECK_SIZE * event.share / total))
            deck += [variants[number % VARIANTS] for number in range(copies)]
        rng.shuffle(deck)
        return deck


def _template(event: EventType, rng: random.Random) -> Template:
    body = event.body(rng)
    if event.name in ("MESSAGE_CREATE", "MESSAGE_UPDATE"):
        stripped = bodies.counted(bodies.without_content(body))
        return Template(event.name, bodies.counted(body), stripped)
    return Template(event.name, bodies.counted(body))
