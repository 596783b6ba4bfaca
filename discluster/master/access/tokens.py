# SPDX-License-Identifier: Apache-2.0
"""Join tokens: single-use, short-lived, stored as hashes, bound to a host name if asked."""

import hashlib
import secrets
from pathlib import Path
from typing import Final

import msgspec

from discluster.clock import DAY
from discluster.decoding import DECODE_ERRORS, reason_of
from discluster.errors import RefusedError, StateError
from discluster.files import read_if_there, write_atomically

_REMEMBERED: Final = DAY


class StoredToken(msgspec.Struct, frozen=True, kw_only=True):
    """``sha256``: of the token, in hex. ``expires``: wall clock, seconds. ``used``: by which host;
    kept for a day longer than it lives, so that what is wrong with it can be told.
    """

    sha256: str
    expires: float
    host: str | None = None
    used: str | None = None


class TokenDesk:
    """Makes tokens and takes each once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self, *, host: str | None, ttl: float, now: float) -> str:
        """A new token, for ``ttl`` seconds from ``now`` (wall clock)."""
        token = secrets.token_hex(24)
        stored = StoredToken(sha256=_hash(token), expires=now + ttl, host=host)
        self._save([*(t for t in self._load() if t.expires > now - _REMEMBERED), stored])
        return token

    def check(self, token: str, *, host: str, now: float) -> StoredToken:
        """The stored one, if ``host`` may join with it; it is not used up.

        Raises:
            RefusedError: unknown, used, expired, or for another host.
        """
        hint = f"make a new one on MASTER's machine: disclusterctl token create --host {host}"
        sha256 = _hash(token)
        found = next((t for t in self._load() if secrets.compare_digest(t.sha256, sha256)), None)
        if found is None:
            raise RefusedError(
                "the join token is unknown: it was mistyped, or expired long ago",
                hint=hint,
                code="token-unknown",
            )
        if found.used is not None:
            raise RefusedError(
                f"the join token was used already, by {found.used}",
                hint=f"{hint}; if that was not you, somebody else read it:"
                f" disclusterctl host revoke {found.used}",
                code="token-used",
            )
        if found.expires <= now:
            raise RefusedError("the join token has expired", hint=hint, code="token-expired")
        if found.host is not None and found.host != host:
            raise RefusedError(
                f"the join token is for another host than {host}", hint=hint, code="token-host"
            )
        return found

    def redeem(self, token: str, *, host: str, now: float) -> None:
        """Uses up ``token`` for ``host``. Raises like :meth:`check`."""
        found = self.check(token, host=host, now=now)
        # Used before the certificate is made: a crash in between costs a token, not a second use.
        used = msgspec.structs.replace(found, used=host)
        self._save([used if t == found else t for t in self._load()])

    def _load(self) -> list[StoredToken]:
        text = read_if_there(self._path)
        try:
            return msgspec.json.decode(text, type=list[StoredToken]) if text else []
        except DECODE_ERRORS as error:
            raise StateError(
                f"{self._path}: cannot be read: {reason_of(error)}",
                hint="remove it; its tokens are lost",
            ) from None

    def _save(self, tokens: list[StoredToken]) -> None:
        write_atomically(self._path, msgspec.json.encode(tokens), mode=0o600)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
