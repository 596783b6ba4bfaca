# SPDX-License-Identifier: Apache-2.0
"""What MASTER keeps on disk: the fleet's plan, its history, and the identify budget."""

import re
from pathlib import Path
from typing import Final

import msgspec

from discluster.errors import StateError
from discluster.files import read_if_there, write_atomically
from discluster.master.allowances import Allowances
from discluster.master.budget import Budget
from discluster.master.guard import GuardMemory
from discluster.plan import FleetPlan, fleet_plan_from_yaml, fleet_plan_to_yaml

_HISTORY_NAME: Final = re.compile(r"(\d+)\.yaml")


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """Small facts that must survive a restart. ``recommended``: shards, by Discord.
    ``reserve_until``: the operator lets the reserve be spent; wall clock, seconds.
    """

    budget: Budget | None = None
    recommended: int | None = None
    allowances: dict[str, Allowances] = {}
    guard: GuardMemory = GuardMemory()
    reserve_until: float | None = None


class MasterStore:
    """Files below ``directory``: ``fleet.yaml``, ``history/N.yaml``, ``identify.json``,
    ``checkpoints.msgpack``.
    """

    def __init__(self, directory: Path, *, keep: int) -> None:
        """``keep``: how many old plans stay in the history."""
        self._fleet = directory / "fleet.yaml"
        self._history = directory / "history"
        self._facts = directory / "identify.json"
        self._checkpoints = directory / "checkpoints.msgpack"
        self._keep = keep

    def load(self) -> FleetPlan | None:
        """The plan in force, or None before the first.

        Raises:
            DocumentError, StateError: the file is damaged. MASTER then must not start: it would
            give every shard to somebody else.
        """
        text = read_if_there(self._fleet)
        return None if text is None else fleet_plan_from_yaml(text, file=str(self._fleet))

    def save(self, fleet: FleetPlan) -> None:
        """Stores the plan, in the history first, before any host hears of it."""
        text = fleet_plan_to_yaml(fleet)
        write_atomically(self._history / f"{fleet.generation:09d}.yaml", text)
        write_atomically(self._fleet, text)
        for path in self._old_plans()[: -self._keep]:
            path.unlink(missing_ok=True)

    def remembered(self) -> Remembered:
        text = read_if_there(self._facts)
        try:
            return msgspec.json.decode(text, type=Remembered) if text else Remembered()
        except msgspec.DecodeError as error:
            raise StateError(
                f"{self._facts}: cannot be read: {error}",
                hint="remove it; MASTER then asks Discord how many identifies are left",
            ) from None

    def remember(self, facts: Remembered) -> None:
        write_atomically(self._facts, msgspec.json.encode(facts), mode=0o600)

    def load_checkpoints(self) -> bytes | None:
        """What was saved last, or None.

        Raises:
            StateError: the file is there and cannot be read.
        """
        try:
            return self._checkpoints.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{self._checkpoints}: cannot be read: {error.strerror}") from None

    def save_checkpoints(self, data: bytes) -> None:
        """Session ids are in it: with the bot's token they let somebody else resume."""
        write_atomically(self._checkpoints, data, mode=0o600)

    def _old_plans(self) -> list[Path]:
        return sorted(p for p in self._history.glob("*.yaml") if _HISTORY_NAME.fullmatch(p.name))
