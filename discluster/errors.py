# SPDX-License-Identifier: Apache-2.0
"""The exception tree.

Every error that an operator can meet has a stable code, a message that names the place, and a hint
that says what to do. The programs print ``error: MESSAGE (HINT)`` and end with the exit status of
the class; the wire carries the code.

    DisclusterError                 1
      ConfigurationError           78   a file of the operator's is wrong; a restart cannot help
        DocumentError              78   a YAML document, with every problem in it
        CredentialError            78   the bot token is missing or malformed
      UnavailableError             69   a peer, a port or the supervisor cannot be had now
        SupervisorError            69   systemd or polkit said no
        NotSentError               69   a command did not reach Discord
      HandlerError                 75   a packet handler failed at an event and shall not go on
      CommandError                 65   a packet handler's command that Discord would not take
      RefusedError                 77   an identity was not accepted
      ProtocolError                76   a peer sent what the protocol does not allow
      StateError                   74   our own files on disk cannot be read or written
      DiscordError                 70   Discord said no for good
"""

from collections.abc import Sequence

import msgspec


class DisclusterError(Exception):
    """Root of all errors that are shown to a person."""

    code = "error"
    exit_status = 1

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def render(self) -> str:
        """One line for a terminal or a journal: ``MESSAGE (HINT)``."""
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigurationError(DisclusterError):
    """The operator must edit something; systemd does not restart (RestartPreventExitStatus=)."""

    code = "configuration"
    exit_status = 78


class Problem(msgspec.Struct, frozen=True):
    """One fault in a document: ``file:line: path: message``."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        return where + (f"{self.path}: " if self.path else "") + self.message


class DocumentError(ConfigurationError):
    """A YAML document that cannot be taken; ``problems`` holds every fault found in it."""

    code = "document"

    def __init__(self, problems: Sequence[Problem], *, hint: str | None = None) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems), hint=hint)

    def render(self) -> str:
        if len(self.problems) == 1 or not self.hint:
            return super().render()
        return f"{self.message}\n({self.hint})"


class CredentialError(ConfigurationError):
    """The bot token is missing or cannot be one."""

    code = "credential"


class UnavailableError(DisclusterError):
    """Something that may come back: a peer, an address, a service."""

    code = "unavailable"
    exit_status = 69


class SupervisorError(UnavailableError):
    """The supervisor of the cluster processes refused or cannot be reached."""

    code = "supervisor"


class NotSentError(UnavailableError):
    """A packet handler's command was not sent: its shard stopped, or its time was up."""

    code = "not-sent"


class CommandError(DisclusterError):
    """A packet handler's command breaks a bound of Discord's; it was refused before sending."""

    code = "command"
    exit_status = 65


class HandlerError(DisclusterError):
    """A packet handler failed at an event, and on_handler_error is fatal."""

    code = "handler"
    exit_status = 75


class RefusedError(DisclusterError):
    """A certificate, token or identity was not accepted."""

    code = "refused"
    exit_status = 77


class ProtocolError(DisclusterError):
    """A peer sent something that the protocol does not allow."""

    code = "protocol"
    exit_status = 76


class StateError(DisclusterError):
    """Our own state on disk cannot be read or written."""

    code = "state"
    exit_status = 74


class DiscordError(DisclusterError):
    """Discord rejected the bot in a way that no retry can mend (HTTP 401, close codes 4004 …)."""

    code = "discord"
    exit_status = 70
