# SPDX-License-Identifier: Apache-2.0
"""What every reader owes: an error of ours in words, within its time and memory."""

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from discluster.errors import DisclusterError, DocumentError

LONGEST_MESSAGE: Final = 64 * 1024  # characters; a person reads it, a journal keeps it


def check_error(error: DisclusterError, *, names: str | None = None, hint: bool = False) -> None:
    """It can be shown to a person. ``names``: the place that the message must tell. ``hint``: it
    must say what to do.
    """
    assert error.hint or not hint
    assert error.code
    assert error.message.strip()
    assert len(error.render()) <= LONGEST_MESSAGE
    assert printable(error.render()), ascii(error.render())
    if names is not None:
        assert names in error.message
    if isinstance(error, DocumentError):
        assert error.problems
        for problem in error.problems:
            assert problem.file
            assert problem.message


def printable(text: str) -> bool:
    """Nothing in it steers a terminal or breaks a line of a log, but for newlines of ours."""
    return all(line.isprintable() for line in text.split("\n"))


@contextmanager
def within(*, cpu: float, mebibytes: float | None = None) -> Iterator[None]:
    """Takes no more of this thread's time, in seconds, and of Python's memory at its height."""
    if mebibytes is not None:
        tracemalloc.start()
    began = time.thread_time()
    try:
        yield
        took = time.thread_time() - began
        height = tracemalloc.get_traced_memory()[1] if mebibytes is not None else 0
    finally:
        if mebibytes is not None:
            tracemalloc.stop()
    assert took <= cpu, f"took {took:.1f} s"
    assert mebibytes is None or height <= mebibytes * 2**20, f"took {height >> 20} MiB"
