# SPDX-License-Identifier: Apache-2.0
"""Operators who come over the network: their roles and credentials, in ``operators.json``.

A secret is stored as its hash. A certificate counts only while its serial number stands here, so an
operator that is revoked is out with the next call, and one who is made anew under the same name
gets nothing back.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from discluster.decoding import DECODE_ERRORS
from discluster.errors import DisclusterError, RefusedError, StateError
from discluster.files import read_if_there, write_atomically
from discluster.operators import CredentialView, OperatorList, OperatorView, RemoteRole

NO_SUCH_OPERATOR: Final = "no-such-operator"
UNKNOWN: Final = "login-unknown"
EXPIRED: Final = "login-expired"
# Of one kind; those that are older end. More machines than that are several operators.
_AT_A_TIME: Final = 16


class StoredSecret(msgspec.Struct, frozen=True, kw_only=True):
    """``sha256``: in hex. ``expires``: wall clock, seconds."""

    kind: Literal["login", "token"]
    sha256: str
    expires: float


class StoredCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """``serial``: in decimal. ``expires``: wall clock, seconds."""

    serial: str
    expires: float


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One operator."""

    name: str
    role: RemoteRole
    created: float
    secrets: tuple[StoredSecret, ...] = ()
    certificates: tuple[StoredCertificate, ...] = ()


class Signed(NamedTuple):
    """A certificate for an operator. ``expires``: wall clock, seconds."""

    pem: str
    serial: int
    expires: float


Sign = Callable[[str], Signed]
"""Makes the certificate of the operator who is named."""


class Accounts:
    """Makes, looks up and revokes; each change is on disk before it is told."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            StateError: the file is there and cannot be read.
        """
        self._path = path
        self._accounts = {account.name: account for account in _load(path)}
        self._seen: dict[str, tuple[float, str | None]] = {}

    def create(
        self,
        name: str,
        role: RemoteRole,
        *,
        kind: Literal["login", "token"],
        ttl: float,
        now: float,
    ) -> str:
        """A new secret for the operator, who is made if need be; valid for ``ttl`` seconds.

        Raises:
            DisclusterError: there is one of that name with another role.
        """
        known = self._accounts.get(name)
        if known is not None and known.role != role:
            raise DisclusterError(
                f"{name} is an operator already, with the role {known.role}",
                hint=f"for another role: 'disclusterctl operator revoke {name}' first",
                code="operator-exists",
            )
        account = known or Account(name=name, role=role, created=now)
        # Hexadecimal: what begins with '-' would be an option on the line that is printed.
        secret = secrets.token_hex(32)
        stored = StoredSecret(kind=kind, sha256=_hash(secret), expires=now + ttl)
        self._keep(_with_secret(_live(account, now), stored))
        return secret

    def revoke(self, name: str) -> None:
        """Ends the operator and all credentials.

        Raises:
            DisclusterError: there is none of that name.
        """
        if name not in self._accounts:
            known = ", ".join(sorted(self._accounts)) or "none"
            raise DisclusterError(
                f"there is no operator {name!r}",
                hint=f"operators: {known}",
                code=NO_SUCH_OPERATOR,
            )
        self._save(account for account in self._accounts.values() if account.name != name)
        self._seen.pop(name, None)

    def owner_of_login(self, secret: str, *, now: float) -> Account:
        """Whose login token that is; it stays valid.

        Raises:
            RefusedError: unknown, used or expired.
        """
        return self._owner(secret, "login", now)[0]

    def log_in(self, secret: str, *, now: float, sign: Sign) -> tuple[Account, Signed]:
        """Uses up a login token for a certificate. Raises as :meth:`owner_of_login`, and what
        ``sign`` raises; the token stays valid then.
        """
        account, used = self._owner(secret, "login", now)
        signed = sign(account.name)
        rest = tuple(stored for stored in account.secrets if stored is not used)
        account = msgspec.structs.replace(_live(account, now), secrets=rest)
        # Gone before the certificate is handed out: a crash costs a token, not a second use.
        self._keep(_with_certificate(account, signed))
        return account, signed

    def renew(self, name: str, *, now: float, sign: Sign) -> tuple[Account, Signed]:
        """A further certificate. The one before ends by itself: the answer may be lost.

        Raises:
            RefusedError: no such operator; or what ``sign`` raises.
        """
        account = self._accounts.get(name)
        if account is None:
            raise _unknown()
        signed = sign(name)
        self._keep(_with_certificate(_live(account, now), signed))
        return account, signed

    def forget_certificate(self, name: str, serial: int, *, now: float) -> None:
        """Ends one certificate: its holder logs out."""
        account = self._accounts.get(name)
        if account is not None:
            account = _live(account, now)
            rest = tuple(c for c in account.certificates if c.serial != str(serial))
            self._keep(msgspec.structs.replace(account, certificates=rest))

    def of_certificate(self, name: str, serial: int, *, now: float) -> tuple[Account, float]:
        """The operator whose certificate was shown, and when it ends (wall clock); that it is
        genuine is for TLS to say.

        Raises:
            RefusedError: revoked, or expired.
        """
        account = self._accounts.get(name)
        known = account.certificates if account else ()
        found = next((c for c in known if c.serial == str(serial)), None)
        if account is None or found is None:
            raise _unknown()
        if found.expires <= now:
            raise _expired(name)
        return account, found.expires

    def of_token(self, secret: str, *, now: float) -> tuple[Account, float]:
        """The operator whose token for calls that is, and when it ends (wall clock).

        Raises:
            RefusedError: unknown, revoked or expired.
        """
        account, stored = self._owner(secret, "token", now)
        return account, stored.expires

    def saw(self, name: str, address: str | None, *, now: float) -> None:
        """A call of that operator came."""
        self._seen[name] = (now, address)

    def listed(self, *, now: float) -> OperatorList:
        """All, with what they hold that has not ended."""
        views = (self._view(_live(account, now)) for account in self._accounts.values())
        return OperatorList(now=now, operators=tuple(sorted(views, key=lambda view: view.name)))

    def _view(self, account: Account) -> OperatorView:
        seen, address = self._seen.get(account.name, (None, None))
        held = [CredentialView(kind=s.kind, expires=s.expires) for s in account.secrets]
        held += [
            CredentialView(kind="certificate", expires=c.expires) for c in account.certificates
        ]
        return OperatorView(
            name=account.name,
            role=account.role,
            created=account.created,
            credentials=tuple(held),
            seen=seen,
            address=address,
        )

    def _owner(
        self, secret: str, kind: Literal["login", "token"], now: float
    ) -> tuple[Account, StoredSecret]:
        digest, found = _hash(secret), None
        # All are compared, so that the time tells nothing of whose it resembles.
        for account in self._accounts.values():
            for stored in account.secrets:
                if secrets.compare_digest(stored.sha256, digest) and stored.kind == kind:
                    found = account, stored
        if found is None:
            raise _unknown()
        if found[1].expires <= now:
            raise _expired(found[0].name)
        return found

    def _keep(self, account: Account) -> None:
        others = (known for known in self._accounts.values() if known.name != account.name)
        self._save([*others, account])

    def _save(self, accounts: Iterable[Account]) -> None:
        stored = list(accounts)
        write_atomically(self._path, msgspec.json.encode(stored), mode=0o600)
        self._accounts = {account.name: account for account in stored}


def _live(account: Account, now: float) -> Account:
    """Without what has ended."""
    return msgspec.structs.replace(
        account,
        secrets=tuple(s for s in account.secrets if s.expires > now),
        certificates=tuple(c for c in account.certificates if c.expires > now),
    )


def _with_secret(account: Account, secret: StoredSecret) -> Account:
    alike = [stored for stored in account.secrets if stored.kind == secret.kind]
    others = [stored for stored in account.secrets if stored.kind != secret.kind]
    newest = [*alike, secret][-_AT_A_TIME:]
    return msgspec.structs.replace(account, secrets=(*others, *newest))


def _with_certificate(account: Account, signed: Signed) -> Account:
    fresh = StoredCertificate(serial=str(signed.serial), expires=signed.expires)
    newest = (*account.certificates, fresh)[-_AT_A_TIME:]
    return msgspec.structs.replace(account, certificates=newest)


def _load(path: Path) -> list[Account]:
    text = read_if_there(path)
    try:
        return msgspec.json.decode(text, type=list[Account]) if text else []
    except DECODE_ERRORS as error:
        raise StateError(
            f"{path}: cannot be read: {error}",
            hint="restore it from a backup, or remove it: all operators must log in anew then",
        ) from None


def _unknown() -> RefusedError:
    return RefusedError(
        "this login is not known here: it was revoked, was used already, or never was",
        hint="ask for a new one: disclusterctl operator create, on MASTER's machine",
        code=UNKNOWN,
    )


def _expired(name: str) -> RefusedError:
    return RefusedError(
        f"this login of {name} has expired",
        hint=f"ask for a new one: disclusterctl operator create {name}, on MASTER's machine",
        code=EXPIRED,
    )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
