# SPDX-License-Identifier: Apache-2.0
"""A secret that cannot be printed by accident, and where the bot token comes from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, final

from discluster.errors import CredentialError

TOKEN_CREDENTIAL: Final = "discluster.token"
_HINT: Final = (
    "put the bot token into /etc/credstore/discluster.token (mode 0600), or encrypted with "
    "'systemd-creds encrypt --name=discluster.token - /etc/credstore.encrypted/discluster.token', "
    "then restart the unit"
)


@final
class Secret:
    """Wraps a text; repr, str and format show ``***``. Only :meth:`reveal` gives it away."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself: for the Authorization header and the IDENTIFY and RESUME payloads."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __reduce__(self) -> str:
        raise TypeError("a Secret cannot be pickled")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))


def read_token(environ: Mapping[str, str]) -> Secret:
    """The bot token out of systemd's credential directory (``$CREDENTIALS_DIRECTORY``).

    A trailing newline and a leading ``Bot `` are taken off; nothing else about a token is assumed,
    it is opaque (Discord: Reference, Authentication).

    Raises:
        CredentialError: absent, unreadable, empty, or not printable ASCII without blanks.
    """
    path = _place(environ, TOKEN_CREDENTIAL)
    if path is None:
        raise CredentialError(
            f"no bot token: systemd handed over no credential '{TOKEN_CREDENTIAL}'", hint=_HINT
        )
    text = _read(path, hint=_HINT)
    if text is None:
        raise CredentialError(f"no bot token: {path} does not exist", hint=_HINT)
    if text == "Bot" or text.startswith("Bot "):
        text = text.removeprefix("Bot").strip()
    if fault := _fault(text):
        raise CredentialError(f"{path}: this cannot be a bot token: {fault}", hint=_HINT)
    return Secret(text)


def _fault(token: str) -> str | None:
    if not token:
        return "the file is empty"
    if not token.isascii():
        return "it is not ASCII text"
    if not token.isprintable() or " " in token:
        return "it holds blanks or control characters"
    return None


def read_credential(environ: Mapping[str, str], name: str, *, hint: str) -> Secret | None:
    """The text of the credential ``name``, where systemd handed one over; its first and last
    blanks and newlines are taken off. None: there is none.

    Raises:
        CredentialError: unreadable, empty, not UTF-8, or with control characters in it. It tells
            ``hint``.
    """
    path = _place(environ, name)
    if path is None or (text := _read(path, hint=hint)) is None:
        return None
    if not text or not text.isprintable():
        what = "is empty" if not text else "holds control characters or several lines"
        raise CredentialError(f"{path}: the credential {what}", hint=hint)
    return Secret(text)


def _place(environ: Mapping[str, str], name: str) -> Path | None:
    directory = environ.get("CREDENTIALS_DIRECTORY")
    return Path(directory) / name if directory else None


def _read(path: Path, *, hint: str) -> str | None:
    """Its text without the blanks around it; None: there is no such file."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise CredentialError(
            f"{path}: the credential cannot be read: {reason}", hint=hint
        ) from None
