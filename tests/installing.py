# SPDX-License-Identifier: Apache-2.0
"""What the installers of things that are not ours have in common."""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tests.lab.prerequisites import required

_SECONDS: Final = 600


class InstallError(Exception):
    """Something cannot be installed; the message says what, and what the tool said."""


def run(argv: Sequence[str | Path], *, directory: Path) -> None:
    """Runs a tool to its end.

    Raises:
        InstallError: it failed, or takes too long.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=_SECONDS, cwd=directory, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InstallError(f"{' '.join(words)}: not done after {_SECONDS} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout)[-2000:].strip()
        raise InstallError(f"{' '.join(words)}: exit status {done.returncode}\n{said}")


def make_environment(python: Path, pins: Path, *, directory: Path) -> None:
    """A virtual environment anew, with what ``pins`` names, by its hashes. ``python``: its own.

    Raises:
        InstallError: it cannot be had here.
    """
    environment = python.parent.parent
    shutil.rmtree(environment, ignore_errors=True)
    run([sys.executable, "-m", "venv", environment], directory=directory)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", pins], directory=directory)


def install_or_say_why(install: Callable[[], bool], *, title: str, told: str, about: str) -> int:
    """The program around ``install``, which returns whether anything was missing. Returns the exit
    status. ``told``: what was installed then; ``about``: the program, in a sentence.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument(
        "--if-possible", action="store_true", help="where it cannot be done: say why, and succeed"
    )
    arguments = parser.parse_args()
    started = time.monotonic()
    try:
        installed = install()
    except InstallError as error:
        if arguments.if_possible and not required():
            print(f"{title}: skipped: {error}")
            return 0
        print(f"error: {error}", file=sys.stderr)
        return 1
    what = f"installed {told}" if installed else "everything is there"
    print(f"{title}: {what}; ready after {time.monotonic() - started:.0f} s")
    return 0
