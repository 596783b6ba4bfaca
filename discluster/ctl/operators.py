# SPDX-License-Identifier: Apache-2.0
"""``disclusterctl operator``, ``login``, ``logout``, ``whoami``."""

import sys
from functools import partial
from pathlib import Path
from typing import Final

from rich.text import Text

from discluster import messages
from discluster.ctl import tables, words
from discluster.ctl.client import TIMEOUT
from discluster.ctl.commands import WELL, Context
from discluster.ctl.logins import key_of
from discluster.errors import ConfigurationError, DisclusterError
from discluster.operators import OperatorRequest, OperatorView
from discluster.secret import Secret

_KINDS: Final = {"login": "login not used yet", "token": "token", "certificate": "certificate"}


async def create(context: Context, request: OperatorRequest) -> int:
    """``operator create``. Only what is secret, and to be carried, goes to stdout."""
    made = await context.master.create_operator(request)
    while_ = words.duration(made.expires_in)
    if made.kind == "login":
        context.screen.note(
            f"For {made.name}, role {made.role}: run this line on the machine to log in from. It is"
            f" good for one login within the next {while_}:"
        )
        context.screen.text(words.one_line(made.command) + "\n")
        return WELL
    context.screen.note(
        f"This is the token of {made.name}, role {made.role}, for {while_}. It is not shown again."
        f" A script sends it as 'Authorization: Bearer TOKEN' to {made.url}/v1/operator/…;"
        f" disclusterctl takes it with: {words.one_line(made.command)}"
    )
    context.screen.text(words.one_line(made.token) + "\n")
    return WELL


async def show(context: Context, *, json: bool) -> int:
    """``operator list``."""
    found = await context.master.operators()
    if json:
        context.screen.json(found)
    elif not found.operators:
        context.screen.text("Nobody has a login; MASTER serves its own machine only.\n")
    else:
        columns = (
            tables.Column[OperatorView]("OPERATOR", lambda view: view.name),
            tables.Column[OperatorView]("ROLE", lambda view: view.role),
            tables.Column[OperatorView]("HOLDS", partial(_holds, now=found.now), fold=True),
            tables.Column[OperatorView]("LAST CALL", _last_call, fold=True),
        )
        width = context.screen.width
        context.screen.show(tables.table(found.operators, columns, width))
    return WELL


def _holds(view: OperatorView, *, now: float) -> Text:
    held = [
        f"{_KINDS[held.kind]} for {words.duration(held.expires - now)}" for held in view.credentials
    ]
    return Text(", ".join(held) or "nothing any more", style="" if held else tables.FAINT)


def _last_call(view: OperatorView) -> str:
    if view.seen is None:
        return words.NOTHING
    return f"{words.moment(view.seen)} from {view.address}"


async def revoke(context: Context, name: str) -> int:
    """``operator revoke``."""
    changed = await context.master.revoke_operator(name)
    context.screen.text(words.clean(changed.done) + "\n")
    return WELL


async def log_in(
    context: Context, master: str, fingerprint: str, *, token: str | None, token_file: str | None
) -> int:
    """``login``: exchanges ``token``, or takes the one for calls in ``token_file`` (``-``: of
    standard input).
    """
    from discluster.ctl import enrolment  # needs cryptography, which takes long to load

    key_of(master)
    master = master.rstrip("/")
    if token is not None:
        login, pem = await enrolment.exchanged(master, Secret(token), fingerprint, timeout=TIMEOUT)
        context.logins.store(login, pem=pem)
    else:
        secret = _read(token_file or "-")
        login = await enrolment.adopted(master, secret, fingerprint, timeout=TIMEOUT)
        context.logins.store(login, token=secret)
    context.screen.text(
        words.one_line(f"Logged in at {login.key} as {login.name}, role {login.role}.") + "\n"
    )
    return WELL


def _read(file: str) -> Secret:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: the token cannot be read: {error}") from None
    if not text.strip().isprintable() or not text.strip():
        raise ConfigurationError(f"{file}: this is no token")
    return Secret(text.strip())


async def log_out(context: Context, master: str | None) -> int:
    """``logout``: ends the certificate at MASTER if it can be reached, and here in any case."""
    from discluster.ctl.client import Master
    from discluster.ctl.remote import RemoteTransport

    login = context.logins.chosen(master)
    if login.kind == "certificate":
        there = Master(RemoteTransport(login, context.logins, clock=context.clock))
        try:
            await there.log_out()
        except DisclusterError as error:
            told = words.clean(error.render())
            context.screen.note(f"MASTER was not told, the login ends by itself: {told}")
    context.logins.forget(login)
    context.screen.text(words.one_line(f"Logged out at {login.key}.") + "\n")
    return WELL


async def who(context: Context, *, json: bool) -> int:
    """``whoami``."""
    found = await context.master.whoami()
    if json:
        context.screen.text(messages.encode(found).decode() + "\n")
        return WELL
    until = "" if found.expires is None else f", until {words.moment(found.expires)}"
    told = f"{found.name}, role {found.role}, by {found.how}{until}"
    context.screen.text(words.one_line(told) + "\n")
    return WELL
