# SPDX-License-Identifier: Apache-2.0
"""The terminal, or the file or pipe in its place."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import msgspec
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from discluster.ctl import words
from discluster.messages import Message, encode

Show = Callable[[RenderableType], None]


class Screen:
    """Where a command's answer goes (``out``) and what is said beside it (``err``).

    Colour and escape codes only on a terminal; NO_COLOR, FORCE_COLOR, TERM=dumb and COLUMNS are
    respected (by rich). ``width``: in characters, instead of the terminal's.
    """

    def __init__(
        self, *, out: TextIO, err: TextIO, no_color: bool = False, width: int | None = None
    ) -> None:
        self._out = out
        self._err = err
        self._console = Console(
            file=out,
            width=width,
            no_color=True if no_color else None,
            highlight=False,
            markup=False,
            emoji=False,
        )

    @property
    def width(self) -> int:
        """In characters, now: a terminal can be resized."""
        return self._console.width

    @property
    def is_terminal(self) -> bool:
        return self._console.is_terminal

    def text(self, text: str) -> None:
        """``text`` as it is."""
        self._out.write(text)
        self._out.flush()

    def json(self, message: Message) -> None:
        """``message`` for a machine, and for a person who looks at it."""
        self.text(words.ascii_json(msgspec.json.format(encode(message), indent=2).decode()) + "\n")

    def json_line(self, message: Message) -> None:
        """As :meth:`json`, in one line."""
        self.text(words.ascii_json(encode(message).decode()) + "\n")

    def note(self, text: str) -> None:
        """A line that is not part of the answer."""
        self._err.write(text + "\n")
        self._err.flush()

    def ask(self, question: str) -> None:
        """A question, with the cursor behind it; not part of the answer."""
        self._err.write(question)
        self._err.flush()

    def show(self, renderable: RenderableType) -> None:
        """``renderable``, in a file or pipe without the blanks that fill lines up."""
        with self._console.capture() as capture:
            self._console.print(renderable)
        lines = capture.get()
        if not self._console.is_terminal:
            lines = "".join(line.rstrip() + "\n" for line in lines.splitlines())
        self.text(lines)

    @contextmanager
    def watching(self) -> Iterator[Show]:
        """A function that replaces what it showed before; in a file or pipe it is added below."""
        if not self._is_live():
            yield self._append
            return
        with Live(console=self._console, screen=True, auto_refresh=False) as live:
            yield lambda renderable: live.update(Cropped(renderable), refresh=True)

    @contextmanager
    def updating(self) -> Iterator[Show | None]:
        """A function that draws in place and leaves nothing behind; None in a file or pipe."""
        if not self._is_live():
            yield None
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            yield lambda renderable: live.update(renderable, refresh=True)

    def _is_live(self) -> bool:
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def _append(self, renderable: RenderableType) -> None:
        self.show(renderable)
        self.text("\n")


class Cropped:
    """A renderable cut to the terminal's height; the last line says how much is missing."""

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or options.max_height
        lines = console.render_lines(self._renderable, options.reset_height(), pad=False)
        hidden = len(lines) - height + 1
        for line in lines if hidden <= 1 else lines[: height - 1]:
            yield from line
            yield Segment.line()
        if hidden > 1:
            yield Text(f"{hidden} more lines; without --watch they can be scrolled", style="dim")
