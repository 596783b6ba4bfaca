# SPDX-License-Identifier: Apache-2.0
"""What each command does: ask, show, and the exit status that follows."""

import time
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from rich.console import Group, RenderableType
from rich.text import Text

from discluster import messages
from discluster.clock import Clock
from discluster.console import FleetStatus, HostStatus, ResumeRequest, TokenRequest
from discluster.ctl import changes, identify, problems, render, words
from discluster.ctl.client import Master, control_status
from discluster.ctl.logins import Logins
from discluster.ctl.screen import Screen
from discluster.errors import UnavailableError

WELL: Final = 0
NOT_WELL: Final = 3
"""Exit status of ``status``: it could be asked for, and not all is well."""


class Context(NamedTuple):
    """What a command works with. ``stdin``: where a person can be asked, if it is a terminal.
    ``logins``: of this user, at MASTERs elsewhere.
    """

    master: Master
    control_socket: Path
    screen: Screen
    clock: Clock
    stdin: TextIO | None = None
    logins: Logins = Logins(None)


class View(NamedTuple):
    """An answer to ``status``: the fleet, or one host because MASTER was away."""

    snapshot: FleetStatus | HostStatus
    because: str | None

    @property
    def exit_status(self) -> int:
        """0 if all is well."""
        if isinstance(self.snapshot, HostStatus):
            return NOT_WELL
        return WELL if problems.fleet_is_well(self.snapshot) else NOT_WELL

    def rendered(self, *, width: int, everything: bool) -> RenderableType:
        """For a person."""
        if isinstance(self.snapshot, FleetStatus):
            return render.fleet(self.snapshot, width=width, everything=everything)
        return render.host(self.snapshot, width=width, because=self.because, everything=everything)


async def status(context: Context, *, json: bool, everything: bool) -> int:
    """``disclusterctl status``, once. Returns the exit status."""
    view = await _look(context)
    if json:
        if view.because:
            context.screen.note(words.clean(view.because))
        context.screen.json(view.snapshot)
    else:
        width = context.screen.width
        context.screen.show(view.rendered(width=width, everything=everything))
    return view.exit_status


async def watch(context: Context, *, json: bool, everything: bool, interval: float) -> None:
    """``disclusterctl status --watch``: again every ``interval`` seconds, until cancelled.

    With ``json`` one object a line. MASTER and CONTROL may come and go meanwhile.
    """
    if json:
        await _watch_json(context, interval)
    with context.screen.watching() as show:
        while True:
            head = Text(_watch_head(context.clock, interval), style="dim")
            show(Group(head, Text(""), await _body(context, everything)))
            await context.clock.sleep(interval)


async def _watch_json(context: Context, interval: float) -> None:
    while True:
        try:
            view = await _look(context)
        except UnavailableError as error:
            context.screen.note(f"error: {words.clean(error.render())}")
        else:
            context.screen.json_line(view.snapshot)
        await context.clock.sleep(interval)


async def _body(context: Context, everything: bool) -> RenderableType:
    try:
        view = await _look(context)
    except UnavailableError as error:
        return Text(f"error: {words.clean(error.render())}", style="red")
    return view.rendered(width=context.screen.width, everything=everything)


def _watch_head(clock: Clock, interval: float) -> str:
    now = time.strftime("%H:%M:%S", time.localtime(clock.wall()))
    return f"{now}, every {interval:g}s; Ctrl-C ends"


async def _look(context: Context) -> View:
    """The fleet; or, with MASTER away, this machine.

    Raises:
        UnavailableError: neither answers.
    """
    try:
        return View(await context.master.status(), None)
    except UnavailableError as error:
        away = error
    try:
        host = await control_status(context.control_socket)
    except UnavailableError as error:
        raise UnavailableError(f"{away.message}; {error.message}", hint=away.hint) from None
    return View(host, f"{away.message}; this is what CONTROL on {host.host} knows")


async def hosts(context: Context, *, json: bool) -> int:
    """``disclusterctl hosts``. As JSON one object a line."""
    fleet = await context.master.status()
    if json:
        context.screen.text("".join(messages.encode(host).decode() + "\n" for host in fleet.hosts))
        return WELL
    context.screen.show(render.hosts(fleet, width=context.screen.width))
    return WELL


async def plan_show(context: Context, *, host: str | None, generation: int | None) -> int:
    """``disclusterctl plan show``: exactly MASTER's text, so that it can be kept and diffed."""
    ask = context.master.plan(host) if generation is None else context.master.old_plan(generation)
    context.screen.text(await ask)
    return WELL


async def plan_diff(context: Context, *, json: bool) -> int:
    """``disclusterctl plan diff``."""
    diff = await context.master.diff()
    if json:
        context.screen.json(diff)
    else:
        context.screen.show(changes.diff(diff, width=context.screen.width))
    return WELL


async def plan_history(context: Context, *, json: bool) -> int:
    """``disclusterctl plan history``."""
    history = await context.master.history()
    if json:
        context.screen.json(history)
    else:
        context.screen.show(changes.history(history, width=context.screen.width))
    return WELL


async def identify_status(context: Context, *, json: bool) -> int:
    """``disclusterctl identify status``. Returns 3 while the guard or the budget stops anybody."""
    overview = await context.master.identify()
    if json:
        context.screen.json(overview)
    else:
        context.screen.show(identify.rendered(overview, width=context.screen.width))
    return NOT_WELL if overview.identify.blocked or overview.identify.stopped else WELL


async def identify_resume(context: Context, *, shards: list[int] | None, reserve: bool) -> int:
    """``disclusterctl identify resume``."""
    wanted = ResumeRequest(shards=None if shards is None else tuple(shards), reserve=reserve)
    answer = await context.master.resume_identify(wanted)
    for sentence in answer.done or ("The guard held back nothing of that; nothing was changed.",):
        context.screen.text(words.clean(sentence) + "\n")
    return WELL


async def token_create(context: Context, *, host: str | None, ttl: float) -> int:
    """``disclusterctl token create``. ``ttl``: seconds. Only the command goes to stdout."""
    token = await context.master.create_token(TokenRequest(host=host, ttl=ttl))
    whom = f"a machine named {token.host}" if token.host else "one new machine"
    context.screen.note(
        f"Run this line as root on the new machine. It enrols {whom}, once, within the next "
        f"{words.duration(token.expires_in)}; then: systemctl start discluster-control"
    )
    context.screen.text(words.one_line(token.command) + "\n")
    return WELL
