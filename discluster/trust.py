# SPDX-License-Identifier: Apache-2.0
"""What operators ask MASTER about certificates, and order: ``GET /v1/authority`` is answered by
:class:`AuthorityStatus`; ``POST /v1/authority/rotate`` takes :class:`RotateRequest`, and
``POST /v1/hosts/revoke`` :class:`RevokeRequest`; both answer :class:`TrustAnswer`.
"""

from typing import Literal

import msgspec

from discluster.messages import Message


class CertificateView(msgspec.Struct, frozen=True, kw_only=True):
    """One certificate. ``name``: of the host; of an authority what it is there for. ``age``,
    ``expires_in``, ``renew_in``: seconds; the last is None where nobody renews it by itself.
    ``state``: late is what should have been renewed long ago. ``authority``: the one that signed
    it. ``present``: the host is in touch.
    """

    kind: Literal["authority", "master", "host"]
    name: str
    serial: str
    age: float
    expires_in: float
    state: Literal["valid", "due", "late", "expired", "revoked"]
    authority: str
    renew_in: float | None = None
    present: bool = True


class RotationView(msgspec.Struct, frozen=True, kw_only=True):
    """A rotation under way. Announced: hosts learn to trust the new authority; replacing: their
    certificates are made anew by it. ``age``: seconds. ``lacks``: hosts that are waited for;
    ``left_behind``: those that are not.
    """

    phase: Literal["announced", "replacing"]
    age: float
    lacks: tuple[str, ...] = ()
    left_behind: tuple[str, ...] = ()


class AuthorityStatus(Message, frozen=True, kw_only=True):
    """What ``disclusterctl ca status`` shows. ``fingerprint``: of the authority that signs.
    ``unknown``: hosts that have not told their certificate yet. ``revoked``: seconds since then, by
    host.
    """

    fingerprint: str
    certificates: tuple[CertificateView, ...]
    unknown: tuple[str, ...] = ()
    revoked: dict[str, float] = msgspec.field(default_factory=dict)
    rotation: RotationView | None = None


class RotateRequest(Message, frozen=True, kw_only=True):
    """Replace the authority. ``finish``: do not wait for hosts that are away any longer."""

    finish: bool = False


class RevokeRequest(Message, frozen=True, kw_only=True):
    """Keep ``host`` out until it joins again."""

    host: str


class TrustAnswer(Message, frozen=True, kw_only=True):
    """``done``: what is in force from now on, in sentences."""

    done: tuple[str, ...]
