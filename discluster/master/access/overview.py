# SPDX-License-Identifier: Apache-2.0
"""How it stands with all certificates, for an operator. Pure."""

from collections.abc import Collection, Iterator, Mapping
from typing import Final, Literal

import msgspec
from cryptography import x509

from discluster import pem
from discluster.certificates import BACKDATED, Certificate, is_revoked, renewal_due, standing
from discluster.clock import DAY, in_words
from discluster.console import Trouble
from discluster.master.access.authority import Phase
from discluster.master.access.rotation import HostRecord, lacking
from discluster.trust import AuthorityStatus, CertificateView, RotationView

_ROTATE_BEFORE: Final = 180 * DAY
_SKEWED: Final = 10.0
_ROLES: Final[Mapping[Phase, tuple[str, str]]] = {
    "settled": ("signs", ""),
    "announced": ("signs", "comes next"),
    "replacing": ("signs", "is being replaced"),
}


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What it is made from. ``hosts``: all that are no strangers, None where nothing is known of
    one's certificate. ``trusted``: the authorities, the one that signs first. ``skews``: seconds by
    which a host's clock is ahead of MASTER's. ``now``: wall clock.
    """

    now: float
    phase: Phase
    trusted: tuple[x509.Certificate, ...]
    newest: str
    master: Certificate
    hosts: Mapping[str, HostRecord | None]
    revoked: Mapping[str, float] = {}
    present: Collection[str] = ()
    began: float | None = None
    left_behind: frozenset[str] = frozenset()
    skews: Mapping[str, float] = {}
    trouble: str | None = None


def counted(sight: Sight) -> dict[str, HostRecord | None]:
    """The hosts that a rotation is about: those that are not revoked."""
    return {name: record for name, record in sight.hosts.items() if not _is_out(sight, name)}


def overview(sight: Sight) -> AuthorityStatus:
    """Everything that there is."""
    views = [
        *(_authority(sight, one, role) for one, role in _roles(sight)),
        _view(sight, "master", "MASTER", sight.master),
    ]
    unknown = []
    for name, record in sorted(sight.hosts.items()):
        if record is None:
            unknown.append(name)
        else:
            views.append(_view(sight, "host", name, record.certificate))
    return AuthorityStatus(
        fingerprint=pem.fingerprint(sight.trusted[0]),
        certificates=tuple(views),
        unknown=tuple(unknown),
        revoked={host: sight.now - sight.revoked[host] for host in _kept_out(sight)},
        rotation=_rotation(sight),
    )


def troubles(sight: Sight) -> Iterator[Trouble]:
    """What a person should know without asking for it."""
    if sight.trouble is not None:
        yield Trouble(severity="error", text=f"certificates: {sight.trouble}")
    for view in overview(sight).certificates:
        if view.state in ("late", "expired"):
            yield _expiring(view)
    for host, skew in sorted(sight.skews.items()):
        if abs(skew) > _SKEWED and host in sight.present:
            yield _skewed(host, skew)
    for host in _kept_out(sight):
        hint = f"to forget it: disclusterctl host remove {host}; to let it in: {_anew(host)}"
        yield Trouble(severity="notice", text="revoked: kept out", hint=hint, host=host)
    if (rotation := _rotation(sight)) is not None:
        lacks = f": waiting for {', '.join(rotation.lacks[:8])}" if rotation.lacks else ""
        text = f"the authority is being replaced ({rotation.phase}){lacks}"
        yield Trouble(severity="notice", text=text, hint="look at it: disclusterctl ca status")


def _expiring(view: CertificateView) -> Trouble:
    over = view.state == "expired"
    when = f"expired {in_words(-view.expires_in)} ago" if over else ""
    when = when or f"expires in {in_words(view.expires_in)}"
    if view.kind == "authority":
        text = f"the certificate authority that {view.name} {when}"
        return Trouble(severity="warning", text=text, hint="replace it: disclusterctl ca rotate")
    if view.kind == "master":
        hint = "journalctl -u discluster-master"
        text = f"MASTER's certificate {when} and was not renewed"
        return Trouble(severity="error", text=text, hint=hint)
    if over:
        text = f"its certificate {when}: it cannot connect"
        return Trouble(severity="error", text=text, hint=_anew(view.name), host=view.name)
    text = f"its certificate {when} and was not renewed"
    hint = f"on {view.name}: systemctl status discluster-control"
    return Trouble(severity="warning", text=text, hint=hint, host=view.name)


def _skewed(host: str, skew: float) -> Trouble:
    text = f"its clock is {in_words(abs(skew))} {'ahead of' if skew > 0 else 'behind'} MASTER's"
    hint = f"on {host}: timedatectl set-ntp true"
    return Trouble(severity="warning", text=text, hint=hint, host=host)


def _anew(host: str) -> str:
    return f"disclusterctl token create --host {host}, and run there what it prints"


def _kept_out(sight: Sight) -> list[str]:
    """Hosts that are revoked, and were not removed since."""
    return [host for host in sorted(sight.revoked) if host in sight.hosts and _is_out(sight, host)]


def _is_out(sight: Sight, host: str) -> bool:
    record = sight.hosts.get(host)
    if record is None:
        return host in sight.revoked
    certificate = msgspec.structs.replace(record.certificate, host=host)
    return is_revoked(certificate, sight.revoked)


def _rotation(sight: Sight) -> RotationView | None:
    if sight.phase == "settled":
        return None
    lacks = list(lacking(sight.phase, sight.newest, counted(sight)))
    return RotationView(
        phase=sight.phase,
        age=sight.now - (sight.now if sight.began is None else sight.began),
        lacks=tuple(host for host in lacks if host not in sight.left_behind),
        left_behind=tuple(host for host in lacks if host in sight.left_behind),
    )


def _roles(sight: Sight) -> Iterator[tuple[x509.Certificate, str]]:
    return zip(sight.trusted, _ROLES[sight.phase], strict=False)


def _authority(sight: Sight, certificate: x509.Certificate, role: str) -> CertificateView:
    expires = certificate.not_valid_after_utc.timestamp() - sight.now
    early = role == "signs" and expires < _ROTATE_BEFORE and sight.phase == "settled"
    return CertificateView(
        kind="authority",
        name=role,
        serial=f"{certificate.serial_number:x}",
        age=sight.now - certificate.not_valid_before_utc.timestamp() - BACKDATED,
        expires_in=expires,
        state="expired" if expires <= 0 else "late" if early else "valid",
        authority=pem.authority_id(certificate),
    )


def _view(
    sight: Sight, kind: Literal["master", "host"], name: str, certificate: Certificate
) -> CertificateView:
    out = kind == "host" and _is_out(sight, name)
    return CertificateView(
        kind=kind,
        name=name,
        serial=certificate.serial,
        age=sight.now - certificate.issued,
        expires_in=certificate.expires - sight.now,
        renew_in=None if out else renewal_due(certificate, jitter=0.0) - sight.now,
        state="revoked" if out else standing(certificate, sight.now),
        authority=certificate.authority,
        present=kind == "master" or name in sight.present,
    )
