# SPDX-License-Identifier: Apache-2.0
"""A control group of our own for what the lab starts: to find it, freeze it and end it whole."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

from tests.lab.commands import wait_until

# Joins the groups named before "--", then becomes the command after it.
_ENTER: Final = (
    'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@"'
)


def hierarchies(mounts: str) -> list[Path]:
    """Mount points of cgroup2 (first) and of systemd's named v1 hierarchy, from /proc/mounts."""
    fields = [line.split() for line in mounts.splitlines()]
    unified = [Path(f[1]) for f in fields if f[2] == "cgroup2"]
    named = [Path(f[1]) for f in fields if f[2] == "cgroup" and "name=systemd" in f[3].split(",")]
    # Others may be mounted further down, by containers; the host's own comes first.
    return unified[:1] + named[:1]


@final
class Cgroup:
    """The group ``name`` (a relative path) in every hierarchy that systemd-nspawn makes use of."""

    def __init__(self, name: str) -> None:
        roots = hierarchies(Path("/proc/mounts").read_text())
        self._paths = [root / name for root in roots]

    @property
    def path(self) -> Path:
        """The group in the cgroup2 hierarchy."""
        return self._paths[0]

    def create(self) -> None:
        for path in self._paths:
            path.mkdir(parents=True, exist_ok=True)

    def enter(self, argv: Sequence[str]) -> list[str]:
        """``argv`` changed so that it runs in this group."""
        return ["/bin/sh", "-c", _ENTER, "enter", *map(str, self._paths), "--", *argv]

    def freeze(self, frozen: bool) -> None:
        """Stop every process in the group at once, or let them go on."""
        (self.path / "cgroup.freeze").write_text("1" if frozen else "0")
        expected = f"frozen {int(frozen)}"
        wait_until(
            lambda: expected in (self.path / "cgroup.events").read_text(),
            timeout=10,
            what=f"{self.path}: {expected}",
        )

    def populated(self) -> bool:
        """Whether a process is left in the group or below it."""
        try:
            return "populated 1" in (self.path / "cgroup.events").read_text()
        except FileNotFoundError:
            return False

    def remove(self) -> None:
        """SIGKILL everything in the group and remove it."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / "cgroup.kill").write_text("1")
        wait_until(lambda: not self.populated(), timeout=30, what=f"{self.path}: empty")
        for path in self._paths:
            for directory, _, _ in os.walk(path, topdown=False):
                Path(directory).rmdir()
