# SPDX-License-Identifier: Apache-2.0
"""What the publisher asks of a broker, and how one says no."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from discluster.errors import UnavailableError


class BrokerError(UnavailableError):
    """The broker cannot be reached, or does not take what it is sent. It is tried again."""

    code = "broker"


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The broker did not store message ``number``. ``too_large``: nor ever will it, whole."""

    number: int
    reason: str
    hint: str | None = None
    too_large: bool = False


class Answers(msgspec.Struct, frozen=True):
    """What one read brought. ``stored``: numbers of messages; ``refused``: of those that are not.

    What was refused comes again, so ``stored`` never tells of a message that is not.
    """

    stored: Sequence[int]
    refused: Sequence[Refusal] = ()


class Connection(Protocol):
    """An open connection that has logged in."""

    def write(self, numbers: Sequence[int], messages: Sequence[bytes]) -> None:
        """Sends ``messages``, as the broker's encoder made them, in order and with one write. Each
        is answered, under its number.
        """
        ...

    async def answers(self) -> Answers:
        """What the next read brings; may be nothing.

        Raises:
            BrokerError: the connection is lost, or was aborted.
        """
        ...

    def ping(self) -> None:
        """Asks for a sign of life: the next :meth:`answers` returns when it came."""
        ...

    def abort(self, reason: str) -> None:
        """Ends the connection: :meth:`answers` raises, and tells ``reason``."""
        ...

    async def close(self) -> None:
        """Frees what it holds. What was written is not waited for."""
        ...


class Broker(Protocol):
    """Where to connect to, and the form of its messages."""

    async def dial(self) -> Connection:
        """Connects and logs in.

        Raises:
            BrokerError: in vain, with the reason.
        """
        ...

    def smaller(self, message: bytes) -> bytes:
        """``message`` in a form that fits where the whole did not."""
        ...

    def summary(self) -> str:
        """What an operator should know beyond the publisher's figures; may be empty."""
        ...
