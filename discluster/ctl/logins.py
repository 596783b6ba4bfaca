# SPDX-License-Identifier: Apache-2.0
"""The logins of this user: ``~/.config/discluster/logins/``, readable by nobody else.

For each MASTER ``HOST:PORT.json`` with what is known of it, and beside it ``.pem``, key and
certificate in one file so that a renewal replaces both at once, or ``.token``. ``current`` names
the one that is used when none is asked for.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from discluster.decoding import DECODE_ERRORS
from discluster.errors import DisclusterError, StateError
from discluster.files import read_if_there, write_atomically
from discluster.operators import RemoteRole
from discluster.secret import Secret

_LOG_IN: Final = "on MASTER's machine run 'disclusterctl operator create', then here what it prints"
_URL: Final = re.compile(r"https://([^\s/?#@]+)/?")


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """``master``: its address, ``https://HOST:PORT``. ``ca``: its authority, PEM. ``role``: as
    MASTER said when this was stored; MASTER goes by its own.
    """

    master: str
    ca: str
    name: str
    role: RemoteRole
    kind: Literal["certificate", "token"]

    @property
    def key(self) -> str:
        """``HOST:PORT``."""
        return key_of(self.master)


def key_of(master: str) -> str:
    """What MASTER's login is filed under.

    Raises:
        DisclusterError: that is no address of a MASTER.
    """
    match = _URL.fullmatch(master)
    if match is None or match[1].startswith("."):
        raise DisclusterError(
            f"{master!r} is no address of a MASTER",
            hint="it looks like https://master.example.net:7443",
            code="bad-address",
        )
    return match[1].lower()


def directory_of(environ: Mapping[str, str]) -> Path | None:
    """Where logins are, by the XDG base directories; None: this user has no place of his own."""
    configured = environ.get("XDG_CONFIG_HOME", "")
    if configured.startswith("/"):
        return Path(configured) / "discluster" / "logins"
    home = environ.get("HOME", "")
    return Path(home) / ".config" / "discluster" / "logins" if home.startswith("/") else None


class Logins:
    """Reads and writes them."""

    def __init__(self, directory: Path | None) -> None:
        """``directory``: None if there is no place for any."""
        self._directory = directory

    def current(self) -> str | None:
        """The key of the one that is used when none is asked for."""
        if self._directory is None:
            return None
        try:
            text = read_if_there(self._directory / "current")
        except StateError:
            return None
        key = (text or "").strip()
        return key if key in self.keys() else None

    def keys(self) -> list[str]:
        """Of all."""
        if self._directory is None or not os.access(self._directory, os.R_OK | os.X_OK):
            return []
        return sorted(path.stem for path in self._directory.glob("*.json"))

    def chosen(self, wanted: str | None) -> Login:
        """``wanted``: an address, or ``HOST:PORT``, or ``HOST`` if there is one of it; None: the
        current one.

        Raises:
            DisclusterError: there is none.
            StateError: its file cannot be read.
        """
        key = self.current() if wanted is None else self._found(wanted)
        if key is None or self._directory is None:
            which = f"at {wanted}" if wanted else "anywhere"
            known = f"logins: {', '.join(self.keys())}" if self.keys() else _LOG_IN
            raise DisclusterError(
                f"you are not logged in {which}", hint=known, code="not-logged-in"
            )
        path = self._directory / f"{key}.json"
        text = read_if_there(path)
        try:
            return msgspec.json.decode(text or "", type=Login)
        except DECODE_ERRORS as error:
            raise StateError(
                f"{path}: cannot be read: {error}", hint="log in again; it is written anew"
            ) from None

    def _found(self, wanted: str) -> str | None:
        name = key_of(wanted) if wanted.startswith("https://") else wanted.lower()
        keys = self.keys()
        alike = [key for key in keys if key.rpartition(":")[0] == name]
        return name if name in keys else alike[0] if len(alike) == 1 else None

    def store(self, login: Login, *, pem: str | None = None, token: Secret | None = None) -> None:
        """Keeps it, with what is shown to MASTER, and makes it the current one.

        Raises:
            StateError: it cannot be written.
        """
        place = self._place()
        if pem is not None:
            self.renew(login, pem)
        if token is not None:
            write_atomically(place / f"{login.key}.token", token.reveal() + "\n", mode=0o600)
        other = ".token" if token is None else ".pem"
        (place / f"{login.key}{other}").unlink(missing_ok=True)
        self.keep(login)
        write_atomically(place / "current", login.key + "\n", mode=0o600)

    def keep(self, login: Login) -> None:
        """Replaces what is known of it. Raises as :meth:`store`."""
        raw = msgspec.json.format(msgspec.json.encode(login), indent=2)
        write_atomically(self._place() / f"{login.key}.json", raw, mode=0o600)

    def renew(self, login: Login, pem: str) -> None:
        """Replaces key and certificate. Raises as :meth:`store`."""
        write_atomically(self._place() / f"{login.key}.pem", pem, mode=0o600)

    def pem_file(self, login: Login) -> Path:
        """Key and certificate."""
        return self._place() / f"{login.key}.pem"

    def token(self, login: Login) -> Secret:
        """
        Raises:
            StateError: it is not there, or cannot be read.
        """
        path = self._place() / f"{login.key}.token"
        text = read_if_there(path)
        if not text:
            raise StateError(f"{path}: is not there any more", hint="log in again")
        return Secret(text.strip())

    def forget(self, login: Login) -> None:
        """Removes it."""
        place = self._place()
        for ending in ("json", "pem", "token"):
            (place / f"{login.key}.{ending}").unlink(missing_ok=True)
        if read_if_there(place / "current") == login.key + "\n":
            (place / "current").unlink(missing_ok=True)

    def _place(self) -> Path:
        if self._directory is None:
            raise StateError(
                "there is no place to keep a login: neither HOME nor XDG_CONFIG_HOME is set"
            )
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._directory
