# SPDX-License-Identifier: Apache-2.0
"""Leases for tests: CONTROL's own on a directory, and a contact that only writes down."""

from collections.abc import Callable, Mapping
from pathlib import Path

from discluster.clock import Clock, SystemClock
from discluster.control.lease import WhenIsolated
from discluster.control.leasing import Leasing, Said
from discluster.lease import boottime
from discluster.messages import WitnessAnswer

BOOT = "0123456789abcdef"


class ScriptedPanel:
    """Answers as :attr:`says`; others do not."""

    def __init__(self) -> None:
        self.says: dict[str, WitnessAnswer | str] = {}
        self.asked: list[tuple[dict[str, str], float]] = []

    async def ask(
        self, witnesses: Mapping[str, str], patience: float, enough: Callable[[Said], bool]
    ) -> Said:
        """One after the other, by name."""
        self.asked.append((dict(witnesses), patience))
        said: dict[str, WitnessAnswer | str] = {}
        for name in sorted(witnesses):
            if not enough(said):
                said[name] = self.says.get(name, "no answer")
        return said


def leasing(
    directory: Path,
    *,
    panel: ScriptedPanel | None = None,
    now: Callable[[], float] = boottime,
    clock: Clock | None = None,
    boot_id: str = BOOT,
    when_isolated: WhenIsolated = "stop",
) -> Leasing:
    """Of the host alpha."""
    return Leasing(
        host="alpha",
        file=directory / "lease.json",
        length_file=directory / "control" / "lease.json",
        boot_id=boot_id,
        boottime=now,
        clock=clock or SystemClock(),
        when_isolated=when_isolated,
        panel=panel or ScriptedPanel(),
    )


class Contacts:
    """What the link told."""

    def __init__(self, now: Callable[[], float] = boottime) -> None:
        self.told: list[str] = []
        self.sent: list[float] = []
        self.length = 0.0
        self.instant = now

    def greeting(self) -> None:
        self.told.append("greeting")

    def not_taken(self) -> None:
        self.told.append("not taken")

    def turned_away(self) -> None:
        self.told.append("turned away")

    def heard(self) -> None:
        self.told.append("heard")

    def welcomed(self, *, sent: float, length: float) -> None:
        self.told.append("welcomed")
        self.sent.append(sent)
        self.length = length

    def confirmed(self, sent: float) -> None:
        self.told.append("confirmed")
        self.sent.append(sent)
