# SPDX-License-Identifier: Apache-2.0
"""Asks a person before something is done that cannot be taken back."""

import asyncio
from typing import TextIO

from discluster.ctl.screen import Screen


def can_be_asked(stdin: TextIO | None) -> bool:
    """Whether somebody sits there."""
    return stdin is not None and not stdin.closed and stdin.isatty()


async def confirmed(stdin: TextIO, screen: Screen, question: str) -> bool:
    """Whether the answer to ``question`` is yes; anything else, and no answer, is no."""
    screen.ask(f"{question} [y/N] ")
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    # Not read at once, or Ctrl-C would have to wait for the answer. A terminal has a whole line
    # when it has anything.
    loop.add_reader(stdin, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(stdin)
    return stdin.readline().strip().lower() in ("y", "yes")
