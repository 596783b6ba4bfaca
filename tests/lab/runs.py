# SPDX-License-Identifier: Apache-2.0
"""One use of the lab: everything it makes carries its id, so that all of it can be found again.

A run that ended without cleaning up (SIGKILL, crash) is recognised by its lock, which the kernel
let go of, and swept by the next one.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self, final

from tests.lab.cache import mounts_below, remove_tree
from tests.lab.cgroups import Cgroup
from tests.lab.commands import ENVIRONMENT, Completed, LabError, run, wait_until

RUNS: Final = Path("/run/discluster-lab")
NETNS: Final = Path("/run/netns")
NSPAWN: Final = Path("/run/systemd/nspawn")


@final
class Run:
    """A tmpfs, a control group, and a prefix for the names of namespaces and machines."""

    def __init__(self) -> None:
        sweep()
        self.id = secrets.token_hex(3)
        self.directory = RUNS / self.id
        self._lock = _lock(self.id)
        self._count = 0
        self.directory.mkdir(parents=True)
        # Overlays write here: fast, gone with the run, and every kernel takes tmpfs as an upper.
        options = "mode=0755,size=60%"
        run(["mount", "-t", "tmpfs", "-o", options, "discluster-lab", self.directory])
        Cgroup(group_of(self.id)).create()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def name(self, name: str) -> str:
        """``name`` as namespaces and machines of this run are called."""
        return f"{prefix_of(self.id)}{name}"

    def cgroup(self, name: str) -> Cgroup:
        """A new control group below the run's."""
        cgroup = Cgroup(f"{group_of(self.id)}/{name}")
        cgroup.create()
        return cgroup

    def unique(self, word: str) -> str:
        """``word`` with a number that this run has not used."""
        self._count += 1
        return f"{word}{self._count}"

    def overlay(self, lower: Sequence[Path], *, upper: Path | None = None) -> Path:
        """Mount ``lower`` (the topmost first) below ``upper``; the mount point.

        Without ``upper``, what is written goes to the run's tmpfs. The directory beside ``upper``
        takes overlayfs' scratch space.
        """
        base = self.directory / self.unique("overlay")
        target = base / "root"
        target.mkdir(parents=True)
        upper = upper or base / "upper"
        work = upper.with_name(upper.name + ".work")
        for directory in (upper, work):
            directory.mkdir(exist_ok=True)
        upper.chmod(0o755)
        options = f"lowerdir={':'.join(map(str, lower))},upperdir={upper},workdir={work}"
        done = run(["mount", "-t", "overlay", "-o", options, "overlay", target], check=False)
        if done.returncode:
            raise LabError(
                f"cannot mount an overlay with {upper} on top: {done.stderr.strip()}\n"
                "(set DISCLUSTER_LAB_CACHE to a directory on ext4, xfs, btrfs or tmpfs)"
            )
        return target

    def discard(self, target: Path) -> None:
        """Unmount an overlay; what was written to the run's tmpfs is gone."""
        run(["umount", target])
        remove_tree(target.parent)

    def in_root(
        self,
        root: Path,
        argv: Sequence[str],
        *,
        binds: Mapping[Path, str] | None = None,
        environment: Mapping[str, str] | None = None,
        network: bool = False,
        timeout: float = 60.0,
        check: bool = True,
    ) -> Completed:
        """Run ``argv`` as root inside ``root`` without booting it; ``network``: the host's."""
        name = self.unique("command")
        command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--as-pid2"]
        command += ["--pipe", f"--machine={self.name(name)}", f"--directory={root}"]
        command += [f"--bind={host}:{inside}" for host, inside in (binds or {}).items()]
        command += [f"--setenv={key}={value}" for key, value in (environment or {}).items()]
        command += ["--resolv-conf=copy-host"] if network else ["--private-network"]
        cgroup = self.cgroup(name)
        try:
            return run(
                cgroup.enter([*command, "--", *argv]),
                timeout=timeout,
                check=check,
                environment=NSPAWN_ENVIRONMENT,
            )
        finally:
            cgroup.remove()

    def close(self) -> None:
        teardown(self.id)
        os.close(self._lock)


# A hybrid host (cgroup v1 with v2 beside it) would otherwise hand v1 to Debian 13, which needs v2.
NSPAWN_ENVIRONMENT: Final = {**ENVIRONMENT, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}


def group_of(run_id: str) -> str:
    """The run's control group."""
    return f"discluster-lab-{run_id}"


def prefix_of(run_id: str) -> str:
    """What the names of the run's namespaces and machines begin with."""
    return f"dl-{run_id}-"


def sweep() -> list[str]:
    """Tear down the runs whose process is gone; their ids."""
    swept = []
    for lock in sorted(RUNS.glob("*.lock")):
        try:
            descriptor = _lock(lock.stem)
        except LabError:
            continue  # alive
        teardown(lock.stem)
        os.close(descriptor)
        swept.append(lock.stem)
    return swept


def teardown(run_id: str) -> None:
    """End and remove everything that the run made, whatever of it there still is."""
    directory, prefix = RUNS / run_id, prefix_of(run_id)
    Cgroup(group_of(run_id)).remove()
    for point in mounts_below(directory):
        _unmount(point)
    for namespace in NETNS.glob(f"{prefix}*"):
        run(["ip", "netns", "delete", namespace.name])
    for left_over in (*NSPAWN.glob(f"propagate/{prefix}*"), *NSPAWN.glob(f"unix-export/{prefix}*")):
        with contextlib.suppress(OSError):
            left_over.rmdir()
    remove_tree(directory)
    (RUNS / f"{run_id}.lock").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        RUNS.rmdir()  # the last one out


def _unmount(point: Path) -> None:
    """Processes that were just killed may hold it for a moment."""
    wait_until(
        lambda: run(["umount", point], check=False).returncode == 0,
        timeout=10,
        what=f"{point}: unmounted",
        interval=0.1,
    )


def _lock(run_id: str) -> int:
    path = RUNS / f"{run_id}.lock"
    while True:
        RUNS.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another run just removed the directory
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            break
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise LabError(f"{path}: in use") from None
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor
