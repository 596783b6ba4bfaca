# SPDX-License-Identifier: Apache-2.0
"""A file and a terminal in memory."""

import io

from rich.console import RenderableType

from discluster.ctl.screen import Screen


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def plain(renderable: RenderableType, *, width: int) -> str:
    """What a file or a pipe gets of ``renderable``."""
    return _shown(renderable, io.StringIO(), width=width)


def on_terminal(renderable: RenderableType, *, width: int = 80, no_color: bool = False) -> str:
    """What a terminal gets of it."""
    return _shown(renderable, Terminal(), width=width, no_color=no_color)


def _shown(
    renderable: RenderableType, out: io.StringIO, *, width: int, no_color: bool = False
) -> str:
    Screen(out=out, err=io.StringIO(), width=width, no_color=no_color).show(renderable)
    return out.getvalue()
