# SPDX-License-Identifier: Apache-2.0
"""How the parts of a view are put together. Pure."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from discluster.ctl import tables, words


def spaced(*parts: RenderableType | None) -> Group:
    """The parts that are there with an empty line between them."""
    lines: list[RenderableType] = []
    for part in parts:
        if part is not None:
            lines += [Text(""), part] if lines else [part]
    return Group(*lines)


def titled(title: str, *body: RenderableType) -> Group:
    """A title, and below it ``body`` indented."""
    return Group(Text(title, style=tables.HEAD), *(Padding(part, (0, 0, 0, 2)) for part in body))


def grid(columns: int) -> Table:
    """Columns without lines or heads; the last one wraps."""
    made = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    for _ in range(columns - 1):
        made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    return made


def bullets(texts: Iterable[str]) -> Table:
    """One item each."""
    made = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
    for text in texts:
        made.add_row("-", Text(words.clean(text)))
    return made


def facts(pairs: Iterable[tuple[str, str]]) -> Group:
    """Labels and what is to be said of them."""
    made = grid(2)
    for label, text in pairs:
        made.add_row(Text(label, style=tables.FAINT), Text(words.clean(text)))
    return Group(made)
