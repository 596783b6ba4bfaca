# SPDX-License-Identifier: Apache-2.0
"""Gives MASTER an order, then shows how its shards move until it is over.

MASTER does the work: neither Ctrl-C nor a terminal that is closed stops it.
"""

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

from rich.console import RenderableType

from discluster.ctl import changes, confirm, moves, progress, words
from discluster.ctl.commands import WELL, Context
from discluster.errors import DisclusterError, UnavailableError
from discluster.messages import encode
from discluster.orders import Drain, MovesStatus, Order, Ordered, RemoveHost

REFUSED: Final = 1
_NO_MOVES: Final = "no-moves"


class Wait(NamedTuple):
    """Whether to wait until all is moved, and for how many seconds at the longest."""

    wait: bool = True
    timeout: float | None = None


async def give(
    context: Context, order: Order, wait: Wait, *, json: bool = False, assume_yes: bool = False
) -> int:
    """Gives ``order``, or with ``dry_run`` tells what it would do. Returns the exit status. As JSON
    one object a line: MASTER's answer, and in the end how far it is. ``assume_yes``: asks nobody.
    """
    if order.dry_run:
        return await _try(context, order, json=json)
    if not assume_yes and not await _is_wished(context, order):
        context.screen.note("nothing was changed")
        return REFUSED

    async def follow(answer: Ordered) -> int:
        _taken(context, answer, json=json)
        if not answer.serial:
            return WELL
        if not wait.wait:
            context.screen.note(f"its shards move now; look at it: {moves.LOOK}")
            return WELL
        return await _followed(context, answer.serial, wait, json=json)

    async def interrupted(answer: Ordered) -> None:
        if answer.serial:
            context.screen.note(_goes_on(order))

    return await progress.carried_out(context.master.order(order), follow, interrupted)


async def _try(context: Context, order: Order, *, json: bool) -> int:
    answer = await context.master.order(order)
    if json:
        context.screen.json(answer)
    else:
        context.screen.show(changes.would_be(answer, width=context.screen.width))
    return WELL


async def look(context: Context, wait: Wait, *, json: bool = False) -> int:
    """``disclusterctl moves``: of the newest order. Returns the exit status."""
    status = await context.master.moves()
    if status.state == "done" and not json:
        context.screen.text(moves.was_done(status) + "\n")
        return WELL
    if wait.wait or status.state != "running":
        return await _followed(context, status.serial, wait, json=json)
    if json:
        context.screen.text(encode(status).decode() + "\n")
    else:
        context.screen.show(moves.bar(status, width=context.screen.width))
    return WELL


async def _is_wished(context: Context, order: Order) -> bool:
    """Asks a person whether a lost machine is off: MASTER cannot know. True for other orders."""
    if not isinstance(order, RemoveHost) or not order.lost:
        return True
    host, stdin = order.host, context.stdin
    if stdin is None or not confirm.can_be_asked(stdin):
        raise DisclusterError(
            f"nobody can be asked here whether the machine of {host} is off",
            hint="look that it is, then add --yes",
            code="not-confirmed",
        )
    tried = await context.master.order(RemoveHost(host=host, lost=True, dry_run=True))
    context.screen.note(_warning(host, tried))
    question = f"Is the machine of {host} off, and will it stay so?"
    return await confirm.confirmed(stdin, context.screen, question)


def _warning(host: str, tried: Ordered) -> str:
    told = " ".join(words.one_line(sentence) for sentence in (*tried.done, *tried.diff.notes))
    return (
        f"{told}\nThe shards of {host} start elsewhere at once: if it still runs, they run twice,"
        " and Discord ends the sessions of one of them."
    )


def _taken(context: Context, answer: Ordered, *, json: bool) -> None:
    """What is in force from now on."""
    if json:
        context.screen.text(encode(answer).decode() + "\n")
        return
    if (table := changes.settings(answer.settings, width=context.screen.width)) is not None:
        context.screen.show(table)
        context.screen.text("\n")
    for sentence in (*answer.done, *answer.diff.notes):
        context.screen.text(words.one_line(sentence) + "\n")


def _goes_on(order: Order) -> str:
    undo = f"; to end it: disclusterctl undrain {order.host}" if isinstance(order, Drain) else ""
    return f"it goes on without this view; look at it: {moves.LOOK}{undo}"


async def _followed(context: Context, serial: int, wait: Wait, *, json: bool) -> int:
    patience = math.inf if wait.timeout is None else wait.timeout
    work = _Moving(context, serial, until=context.clock.monotonic() + patience)
    try:
        status = await progress.watched(context, await work.look(), work, quiet=json)
    except UnavailableError as error:
        raise UnavailableError(error.message, hint=work.goes_on) from None
    except DisclusterError as error:
        if error.code != _NO_MOVES:
            raise
        context.screen.note("error: MASTER does not know of this order any more; it lost its files")
        return progress.UNFINISHED
    if json:
        context.screen.text(encode(status).decode() + "\n")
    return _told(context, status, serial, wait, quiet=json)


def _told(context: Context, status: MovesStatus, serial: int, wait: Wait, *, quiet: bool) -> int:
    """The last line, and the exit status."""
    if status.serial != serial:
        other = f"overtaken by another order, {status.order}"
        return _failed(context, f"{other}; look at it: {moves.LOOK}")
    if status.state == "done":
        if not quiet:
            context.screen.text(moves.done(status) + "\n")
        return WELL
    if status.state == "running":
        reason = f": {moves.why(status)}" if status.problem else ""
        goes_on = f"it goes on, look at it: {moves.LOOK}"
        after = words.duration(wait.timeout)
        return _failed(context, f"{moves.counts(status)} within {after}{reason}; {goes_on}")
    return _failed(context, f"{moves.counts(status)}; {moves.why(status)}")


def _failed(context: Context, reason: str) -> int:
    context.screen.note(f"error: {words.one_line(reason)}")
    return progress.UNFINISHED


class _Moving:
    """The moves of one order as something to watch."""

    goes_on = f"it goes on when MASTER is back; look at it: {moves.LOOK}"

    def __init__(self, context: Context, serial: int, *, until: float) -> None:
        """``until``: monotonic seconds; nobody waits any longer."""
        self._context = context
        self._serial = serial
        self._until = until
        self._news = moves.News()

    async def look(self) -> MovesStatus:
        return await self._context.master.moves()

    def is_over(self, status: MovesStatus) -> bool:
        ended = status.state != "running" or status.serial != self._serial
        return ended or self._context.clock.monotonic() >= self._until

    def bar(self, status: MovesStatus, *, width: int, away: str | None) -> RenderableType:
        return moves.bar(status, width=width, away=away)

    def news(self, status: MovesStatus) -> Iterator[str]:
        if status.serial == self._serial:
            yield from self._news.of(status)
