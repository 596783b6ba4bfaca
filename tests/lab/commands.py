# SPDX-License-Identifier: Apache-2.0
"""Running commands, and the lab's one exception."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

# Debian's tools, whatever the caller's PATH puts in front of them.
ENVIRONMENT: Final = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
    "TERM": "dumb",
}


class LabError(Exception):
    """The lab itself failed; the message says at what, and what the command said."""


class Completed(NamedTuple):
    """A command that ended."""

    returncode: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str = "",
    timeout: float = 60.0,
    check: bool = True,
    cwd: Path | None = None,
    environment: Mapping[str, str] = ENVIRONMENT,
) -> Completed:
    """Run ``argv`` to its end.

    Raises:
        LabError: it could not be started, took longer than ``timeout`` seconds, or (with ``check``)
            ended with another status than 0.
    """
    words = [str(word) for word in argv]
    try:
        ended = subprocess.run(  # noqa: PLW1510 - checked below, with both outputs in the message
            words,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            cwd=cwd,
            env=dict(environment),
        )
    except FileNotFoundError as error:
        raise LabError(f"{words[0]}: not found ({error})") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(words)}: not done after {timeout:g} s") from error
    done = Completed(ended.returncode, ended.stdout, ended.stderr)
    if check and done.returncode:
        raise LabError(describe(words, done))
    return done


def describe(argv: Sequence[str], done: Completed) -> str:
    """The command, its status and the ends of its outputs, for a message."""
    outputs = "".join(text[-3000:] for text in (done.stdout, done.stderr))
    return f"{' '.join(argv)}: exit status {done.returncode}\n{outputs}".rstrip()


def wait_until(
    predicate: Callable[[], bool], *, timeout: float, what: str, interval: float = 0.02
) -> None:
    """Return as soon as ``predicate()`` holds.

    Raises:
        LabError: it did not within ``timeout`` seconds; ``what`` names it in the message.
    """
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise LabError(f"not so after {timeout:g} s: {what}")
        time.sleep(interval)
