# SPDX-License-Identifier: Apache-2.0
"""What matters of a certificate of the fleet, and when it is to be renewed. Pure."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec

# Machines' clocks differ; a certificate made this instant must not be "not yet valid" elsewhere.
BACKDATED: Final = 3600.0
"""Seconds from the beginning of a certificate's validity to the instant at which it was made."""

_RENEW_AFTER: Final = 2 / 3
_SPREAD: Final = 1 / 10
_LATE_AFTER: Final = 5 / 6

_Moment = Annotated[float, msgspec.Meta(ge=0, le=1e11)]
_Hex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{1,64}$")]
Standing = Literal["valid", "due", "late", "expired"]


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """``serial``: in hex. ``issued``: when it was made, ``expires``: wall clock, seconds.
    ``authority``: the id of the one that signed it (:func:`discluster.pem.authority_id`).
    ``host``: its only name, None if it is no host's.
    """

    serial: _Hex
    issued: _Moment
    expires: _Moment
    authority: _Hex
    host: str | None = None

    @property
    def life(self) -> float:
        """Seconds."""
        return self.expires - self.issued


def renewal_due(certificate: Certificate, *, jitter: float) -> float:
    """When it is to be renewed, wall clock: at two thirds of its life, and up to a tenth of it
    earlier, by ``jitter`` (0 to 1), so that a thousand hosts do not come at once.
    """
    return certificate.issued + certificate.life * (_RENEW_AFTER - _SPREAD * jitter)


def standing(certificate: Certificate, now: float) -> Standing:
    """How it stands with it at ``now``, wall clock. ``late``: it should have been renewed for so
    long that whoever should do it is away or fails.
    """
    if now >= certificate.expires or certificate.life <= 0:
        return "expired"
    passed = (now - certificate.issued) / certificate.life
    return "late" if passed > _LATE_AFTER else "due" if passed > _RENEW_AFTER else "valid"


def is_revoked(certificate: Certificate, revoked: Mapping[str, float]) -> bool:
    """``revoked``: host -> wall clock, whole seconds; what was made for it until then is void."""
    until = revoked.get(certificate.host or "")
    return until is not None and certificate.issued <= until
