# SPDX-License-Identifier: Apache-2.0
"""What MASTER keeps on disk: the fleet's plan, the operator's orders, and the identify budget."""

from pathlib import Path

import msgspec

from discluster.decoding import DECODE_ERRORS, reason_of
from discluster.errors import StateError
from discluster.files import read_if_there, write_atomically
from discluster.master.identify.allowances import Allowances
from discluster.master.identify.budget import Budget
from discluster.master.identify.guard import GuardMemory
from discluster.master.orders.orders import Orders
from discluster.plan import FleetPlan, fleet_plan_from_yaml, fleet_plan_to_yaml


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
    """Files below ``directory``: ``fleet.yaml``, ``orders.json``, ``identify.json``,
    ``checkpoints.msgpack``.
    """

    def __init__(self, directory: Path) -> None:
        self._fleet = directory / "fleet.yaml"
        self._orders = directory / "orders.json"
        self._facts = directory / "identify.json"
        self._checkpoints = directory / "checkpoints.msgpack"

    def load(self) -> FleetPlan | None:
        """The plan in force, or None before the first.

        Raises:
            DocumentError, StateError: the file is damaged. MASTER then must not start: it would
            give every shard to somebody else.
        """
        text = read_if_there(self._fleet)
        return None if text is None else fleet_plan_from_yaml(text, file=str(self._fleet))

    def save(self, fleet: FleetPlan) -> None:
        """Stores the plan, before any host hears of it."""
        write_atomically(self._fleet, fleet_plan_to_yaml(fleet))

    def orders(self) -> Orders:
        """What the operator ordered.

        Raises:
            StateError: the file is damaged. MASTER then must not start: it would give shards to
                hosts that are drained.
        """
        text = read_if_there(self._orders)
        try:
            return msgspec.json.decode(text, type=Orders) if text is not None else Orders()
        except DECODE_ERRORS as error:
            raise StateError(
                f"{self._orders}: cannot be read: {reason_of(error)}",
                hint="restore it from a backup, or remove it: then no host is drained or removed,"
                " and shards per cluster are those of master.yaml",
            ) from None

    def save_orders(self, orders: Orders) -> None:
        write_atomically(self._orders, msgspec.json.encode(orders))

    def remembered(self) -> Remembered:
        text = read_if_there(self._facts)
        try:
            return msgspec.json.decode(text, type=Remembered) if text else Remembered()
        except DECODE_ERRORS as error:
            raise StateError(
                f"{self._facts}: cannot be read: {reason_of(error)}",
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
