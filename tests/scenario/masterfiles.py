# SPDX-License-Identifier: Apache-2.0
"""What can happen to MASTER's files while it is not running."""

import shutil
from pathlib import Path

_AUTHORITY = "ca"


def back_up(directory: Path) -> None:
    """Copies all of them."""
    shutil.copytree(directory, _backup(directory))


def restore(directory: Path) -> None:
    """They are as they were when they were backed up."""
    owner = directory.stat()
    shutil.rmtree(directory)
    shutil.copytree(_backup(directory), directory)
    for path in (directory, *directory.rglob("*")):
        shutil.chown(path, owner.st_uid, owner.st_gid)


def wipe(directory: Path) -> None:
    """All are gone but the certificate authority: without it no host could connect."""
    for path in directory.iterdir():
        if path.name != _AUTHORITY:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _backup(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.backup")
