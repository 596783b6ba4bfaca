# SPDX-License-Identifier: Apache-2.0
"""Commands about operators: operator, login, logout, whoami, audit."""

import argparse
from typing import TYPE_CHECKING, Any, Final, get_args

from discluster.ctl.parsers.base import add_command, add_group, add_json, duration, number, since

if TYPE_CHECKING:
    from discluster.ctl.commands import Context

_CREATE: Final = (
    "view: all that only looks, and dry runs. operate: all else, but for what makes identities"
    " (operators, join tokens, authorities): that is done on MASTER's machine, so that nothing"
    " outlives the revocation of a login. An operator who is there already gets another credential."
)
_LOGIN: Final = (
    "The line is printed by 'disclusterctl operator create' on MASTER's machine. A key is made"
    " here, and never leaves; the certificate for it is kept with it in"
    " ~/.config/discluster/logins (XDG_CONFIG_HOME is respected), for this user alone, and is"
    " renewed by itself when it is used at two thirds of its life. Exit status: 77 if the token or"
    " the fingerprint is not accepted, 69 if MASTER does not answer."
)
_AUDIT: Final = (
    "What changes something is on MASTER's disk before it is done, also what was refused, with"
    " secrets masked; the setting audit_kept says how much is kept. It is in the journal, too:"
    " 'journalctl -u discluster-master OPERATOR=alice'. Exit status: as of 'events'."
)
_SHOWN: Final = 50


def add(commands: Any) -> None:
    """Adds them to the command line."""
    _add_operator(commands)
    _add_login(commands)
    text = "end the login here, and at MASTER if it can be reached"
    add_command(commands, "logout", _logout, text)
    add_json(add_command(commands, "whoami", _whoami, "who you are to MASTER, and your role"))
    _add_audit(commands)


def _add_operator(commands: Any) -> None:
    inner = add_group(commands, "operator", "people and scripts that use MASTER from elsewhere")
    text = "print the line that logs an operator in on another machine, or a token for a script"
    create = add_command(inner, "create", _create, text, epilog=_CREATE)
    create.add_argument("name", type=_name, metavar="NAME")
    create.add_argument("--role", choices=("view", "operate"), required=True)
    create.add_argument(
        "--api-token", action="store_true", help="a token to be sent with each call, for a script"
    )
    create.add_argument(
        "--ttl",
        type=duration,
        metavar="TIME",
        help="how long it is valid (default: 1h, within which to log in; a script's token 90d)",
    )
    add_json(add_command(inner, "list", _list, "who has a login, and what was seen of it"))
    text = "end all logins and tokens of an operator, at once"
    revoke = add_command(inner, "revoke", _revoke, text)
    revoke.add_argument("name", type=_name, metavar="NAME")


def _add_login(commands: Any) -> None:
    text = "use a MASTER on another machine from now on"
    login = add_command(commands, "login", _login, text, epilog=_LOGIN)
    login.add_argument("url", metavar="URL", help="such as https://master.example.net:7443")
    login.add_argument(
        "--ca-fingerprint", required=True, metavar="sha256:HEX", help="of MASTER's authority"
    )
    which = login.add_mutually_exclusive_group(required=True)
    which.add_argument("--token", metavar="TOKEN", help="good for one login")
    which.add_argument(
        "--api-token-file", metavar="FILE", help="a script's token; '-' reads standard input"
    )


def _add_audit(commands: Any) -> None:
    text = "who changed what, from where, and what came of it; the newest last"
    audit = add_command(commands, "audit", _audit, text, epilog=_AUDIT)
    add_json(audit, "as JSON, one object a line")
    audit.add_argument(
        "-f", "--follow", action="store_true", help="and those that come, until Ctrl-C"
    )
    audit.add_argument("--who", metavar="NAME", help="only this operator's")
    audit.add_argument(
        "--since",
        type=since,
        metavar="TIME",
        help="from then on: so long ago (90s, 30min, 2d), or 'YYYY-MM-DD HH:MM[:SS]' local time",
    )
    audit.add_argument(
        "-n",
        "--lines",
        type=number,
        metavar="N",
        help="of those only the newest N (default: 50, with --since all)",
    )


def _name(text: str) -> str:
    from discluster.operators import OperatorName

    if complaint := get_args(OperatorName)[1].check(text):
        raise argparse.ArgumentTypeError(complaint)
    return text


async def _create(context: "Context", options: argparse.Namespace) -> int:
    from discluster.clock import DAY
    from discluster.ctl import operators
    from discluster.operators import OperatorRequest

    usual = 90 * DAY if options.api_token else 3600.0
    request = OperatorRequest(
        name=options.name,
        role=options.role,
        kind="token" if options.api_token else "login",
        ttl=options.ttl or usual,
    )
    return await operators.create(context, request)


async def _list(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import operators

    return await operators.show(context, json=options.json)


async def _revoke(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import operators

    return await operators.revoke(context, options.name)


async def _login(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import operators

    return await operators.log_in(
        context,
        options.url,
        options.ca_fingerprint,
        token=options.token,
        token_file=options.api_token_file,
    )


async def _logout(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import operators

    return await operators.log_out(context, options.master)


async def _whoami(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import operators

    return await operators.who(context, json=options.json)


async def _audit(context: "Context", options: argparse.Namespace) -> int:
    import asyncio

    from discluster.ctl import audit
    from discluster.operators import AuditQuery

    last = options.lines or (None if options.since is not None else _SHOWN)
    query = AuditQuery(last=last, who=options.who, since=options.since or 0.0)
    try:
        return await audit.show(context, query, follow=options.follow, json=options.json)
    except asyncio.CancelledError:
        if options.follow:
            return 0  # Ctrl-C, the way to end it
        raise
