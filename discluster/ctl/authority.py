# SPDX-License-Identifier: Apache-2.0
"""What ``disclusterctl ca`` and ``disclusterctl host revoke`` do and show."""

from collections.abc import Iterator
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from discluster.ctl import layout, words
from discluster.ctl.commands import NOT_WELL, WELL, Context
from discluster.ctl.tables import BAD, FAINT, UNDERWAY, Column, table
from discluster.trust import (
    AuthorityStatus,
    CertificateView,
    RevokeRequest,
    RotateRequest,
    RotationView,
    TrustAnswer,
)

_STYLES: Final = {"expired": BAD, "late": BAD, "due": UNDERWAY, "revoked": FAINT}
_ILL: Final = ("expired", "late")
_WORST_FIRST: Final = ("expired", "late", "due", "valid", "revoked")
_KINDS: Final = ("authority", "master", "host")
_SHORT: Final = 8


async def status(context: Context, *, json: bool) -> int:
    """``disclusterctl ca status``."""
    found = await context.master.authority()
    if json:
        context.screen.json(found)
    else:
        context.screen.show(rendered(found, width=context.screen.width))
    return NOT_WELL if any(view.state in _ILL for view in found.certificates) else WELL


async def rotate(context: Context, *, finish: bool) -> int:
    """``disclusterctl ca rotate``."""
    _tell(context, await context.master.rotate(RotateRequest(finish=finish)))
    context.screen.note("look at it: disclusterctl ca status")
    return WELL


async def revoke(context: Context, *, host: str) -> int:
    """``disclusterctl host revoke``."""
    _tell(context, await context.master.revoke(RevokeRequest(host=host)))
    return WELL


def rendered(found: AuthorityStatus, *, width: int) -> RenderableType:
    """The sentence, the rotation if there is one, and all certificates, the worst first. Pure."""
    ordered = sorted(found.certificates, key=_rank)
    return layout.spaced(
        Group(_sentence(found), layout.facts(_facts(found))),
        layout.titled("Certificates", table(ordered, _COLUMNS, width)),
    )


def _rank(view: CertificateView) -> tuple[int, int, str]:
    return (_WORST_FIRST.index(view.state), _KINDS.index(view.kind), view.name)


def _sentence(found: AuthorityStatus) -> Text:
    ill = [view for view in found.certificates if view.state in _ILL]
    if not ill:
        return Text("All certificates are valid and renewed in time", style="bold green")
    expired = sum(view.state == "expired" for view in ill)
    parts = [f"{words.count(expired, 'certificate')} expired"] if expired else []
    if late := len(ill) - expired:
        parts.append(f"{words.count(late, 'certificate')} not renewed in time")
    return Text("; ".join(parts), style=f"bold {BAD}")


def _facts(found: AuthorityStatus) -> Iterator[tuple[str, str]]:
    yield "Authority", found.fingerprint
    if found.rotation is not None:
        yield "Rotation", _rotation(found.rotation)
    if found.unknown:
        yield "Not told yet", ", ".join(found.unknown)
    if found.revoked:
        since = (f"{host} ({words.duration(age)} ago)" for host, age in found.revoked.items())
        yield "Revoked", ", ".join(since)


def _rotation(rotation: RotationView) -> str:
    does = {
        "announced": "hosts learn to trust the new authority",
        "replacing": "certificates are made anew by it",
    }[rotation.phase]
    told = f"{does}, for {words.duration(rotation.age)}"
    if rotation.lacks:
        told += f"; waiting for {', '.join(rotation.lacks)}"
    if rotation.left_behind:
        told += f"; not waiting for {', '.join(rotation.left_behind)}, which must join again"
    return told


def _tell(context: Context, answer: TrustAnswer) -> None:
    for sentence in answer.done:
        context.screen.text(words.one_line(sentence) + "\n")


def _whose(view: CertificateView) -> str:
    return f"authority: {view.name}" if view.kind == "authority" else view.name


def _left(view: CertificateView) -> str:
    return "over" if view.expires_in <= 0 else words.duration(view.expires_in)


def _renewed(view: CertificateView) -> str:
    if view.renew_in is None:
        return words.NOTHING
    return "now" if view.renew_in <= 0 else f"in {words.duration(view.renew_in)}"


def _touch(view: CertificateView) -> Text:
    return Text("") if view.present else Text("out of touch", style=UNDERWAY)


_COLUMNS: Final = (
    Column[CertificateView]("WHOSE", _whose, fold=True),
    Column[CertificateView]("STATE", lambda v: Text(v.state, style=_STYLES.get(v.state, ""))),
    Column[CertificateView]("SERIAL", lambda v: v.serial[:_SHORT]),
    Column[CertificateView]("ISSUED", lambda v: f"{words.duration(v.age)} ago", right=True),
    Column[CertificateView]("EXPIRES IN", _left, right=True),
    Column[CertificateView]("RENEWED", _renewed, right=True),
    Column[CertificateView]("SIGNED BY", lambda v: v.authority[:_SHORT], width=100),
    Column[CertificateView]("HOST IS", _touch, width=90, known=True),
)
