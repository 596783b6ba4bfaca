# SPDX-License-Identifier: Apache-2.0
"""Operators: who they are, what they may do, how they log in, and the log of what they did.

A role holds what the roles before it hold. ``admin`` is nobody's who comes over the network: what
makes an identity (an operator, a join token, an authority) would outlive the revocation of whoever
made it.
"""

import hashlib
from typing import Annotated, Any, Final, Literal, get_args

import msgspec

from discluster.documents import Rule
from discluster.messages import Message

Role = Literal["view", "operate", "admin"]
RemoteRole = Literal["view", "operate"]
How = Literal["socket", "certificate", "token", "login"]
Outcome = Literal["begun", "done", "failed", "refused", "unknown"]

OPERATORS_PATH: Final = "/v1/operator"
"""What stands before the paths of MASTER's operator API over TLS, instead of ``/v1``."""
LOGIN_PATH: Final = "/v1/login"
AUTHORITY_PATH: Final = "/v1/ca"
TRUST_HEADER: Final = "Discluster-Trust"
"""In MASTER's answers over TLS: :func:`trust_mark` of what ``/v1/ca`` gives, so that a login learns
of a further authority while it still believes the one before.
"""

OperatorName = Annotated[
    str,
    Rule(
        pattern=r"[a-z0-9]([a-z0-9._-]{0,30}[a-z0-9])?",
        pattern_says="an operator's name: at most 32 of a-z, 0-9, '.', '_' and '-'",
    ),
]


def trust_mark(authorities: str) -> str:
    """``authorities``: PEM."""
    return hashlib.sha256(authorities.encode()).hexdigest()


def allows(role: Role, needed: Role) -> bool:
    """Whether who has ``role`` may do what needs ``needed``."""
    order = get_args(Role)
    return order.index(role) >= order.index(needed)


class OperatorRequest(Message, frozen=True, kw_only=True):
    """Makes an operator, or gives one that is there another credential. ``kind``: a login token
    that is exchanged for a certificate, once; or a token to be shown with each call. ``ttl``:
    seconds for which it is valid. Answered by :class:`OperatorCredential`.
    """

    name: str
    role: RemoteRole
    kind: Literal["login", "token"] = "login"
    ttl: float = 3600.0


class OperatorCredential(Message, frozen=True, kw_only=True):
    """``command``: what is run where the operator works. ``expires_in``: seconds."""

    name: str
    role: RemoteRole
    kind: Literal["login", "token"]
    token: str
    url: str
    ca_fingerprint: str
    command: str
    expires_in: float


class CredentialView(msgspec.Struct, frozen=True, kw_only=True):
    """``expires``: wall clock, seconds."""

    kind: Literal["login", "token", "certificate"]
    expires: float


class OperatorView(msgspec.Struct, frozen=True, kw_only=True):
    """``seen``: when the last call came, wall clock, and from which ``address``; None: not since
    MASTER started.
    """

    name: str
    role: RemoteRole
    created: float
    credentials: tuple[CredentialView, ...] = ()
    seen: float | None = None
    address: str | None = None


class OperatorList(Message, frozen=True, kw_only=True):
    """By name. ``now``: MASTER's wall clock."""

    now: float
    operators: tuple[OperatorView, ...] = ()


class RevokeOperator(Message, frozen=True, kw_only=True):
    """Ends all that ``name`` holds. Answered by :class:`Changed`."""

    name: str


class Changed(Message, frozen=True, kw_only=True):
    """``done``: in a sentence."""

    done: str


class LoginRequest(Message, frozen=True, kw_only=True):
    """Exchanges a login token for a certificate. ``csr``: PEM, made on the operator's machine."""

    token: str
    csr: str


class RenewLogin(Message, frozen=True, kw_only=True):
    """A further certificate for whoever asks with one. ``csr``: PEM."""

    csr: str


class LoginAnswer(Message, frozen=True, kw_only=True):
    """``certificate``, ``ca``: PEM."""

    name: str
    role: RemoteRole
    certificate: str
    ca: str


class WhoAmI(Message, frozen=True, kw_only=True):
    """``expires``: wall clock, seconds; None for who is on MASTER's machine."""

    name: str
    role: Role
    how: How
    expires: float | None = None


class AuditEntry(Message, frozen=True, kw_only=True):
    """One call that changes something, or would have.

    On disk there are two lines for one that was carried out: ``begun``, there before anything was
    done, and what came of it; ``call`` is the same in both. ``number`` grows by one from line to
    line. ``unknown``: MASTER ended before it wrote the second, so it may have been done.

    ``at``: wall clock, seconds. ``who``: an operator's name, or that of the user on MASTER's
    machine, with ``uid`` and ``pid``. ``body``: what was sent, secrets masked. ``told``: why it was
    refused or failed.
    """

    number: int
    call: int
    at: float
    outcome: Outcome
    who: str
    role: Role
    how: How
    verb: str
    path: str
    address: str | None = None
    uid: int | None = None
    pid: int | None = None
    body: dict[str, Any] = msgspec.field(default_factory=dict)
    told: str | None = None


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True):
    """As :class:`discluster.console.EventQuery`; ``who``: only that operator's."""

    after: int = 0
    last: int | None = None
    who: str | None = None
    since: float = 0.0
    wait: float = 0.0


class AuditPage(Message, frozen=True, kw_only=True):
    """Calls that are over, in the order in which they ended; see
    :class:`discluster.console.EventPage`.
    """

    entries: tuple[AuditEntry, ...]
    upto: int
    newest: int
