# SPDX-License-Identifier: Apache-2.0
"""Asks other hosts whether they hear MASTER: all at once, each within the same time."""

import asyncio
import os
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from discluster.control.addresses import Endpoint
from discluster.control.witness import PATH
from discluster.errors import DisclusterError, ProtocolError, RefusedError
from discluster.messages import WitnessAnswer, control_to_control, decode

_ANSWER_LIMIT: Final = 4096
_ANSWER: Final = re.compile(
    rb"HTTP/1\.1 200 .*?\r\ncontent-length: *([0-9]{1,4})\r\n", re.IGNORECASE | re.DOTALL
)


class Asker(Protocol):
    """What is needed of :class:`discluster.control.identity.Identity`."""

    def asking_context(self, host: str, *, now: float) -> ssl.SSLContext: ...

    def is_certificate_of(self, host: str, certificate: bytes | None, *, now: float) -> bool: ...


class WitnessPanel:
    """Asks for ``host``. ``wall``: seconds since 1970."""

    def __init__(self, identity: Asker, *, host: str, wall: Callable[[], float]) -> None:
        self._identity = identity
        self._host = host
        self._wall = wall

    async def ask(
        self,
        witnesses: Mapping[str, str],
        patience: float,
        enough: Callable[[Mapping[str, WitnessAnswer | str]], bool],
    ) -> Mapping[str, WitnessAnswer | str]:
        """All of ``witnesses`` (host to address), for ``patience`` seconds, or until it is
        ``enough``; what each answered, or why it did not, in words.
        """
        try:
            context = self._identity.asking_context(self._host, now=self._wall())
        except DisclusterError as error:
            return dict.fromkeys(witnesses, error.render())
        asking = {
            asyncio.create_task(self._ask(name, at, context, patience)): name
            for name, at in witnesses.items()
        }
        said: dict[str, WitnessAnswer | str] = {}
        try:
            while len(said) < len(asking) and not enough(said):
                waiting = [task for task, name in asking.items() if name not in said]
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                said |= {asking[task]: task.result() for task in done}
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        return said

    async def _ask(
        self, name: str, address: str, context: ssl.SSLContext, patience: float
    ) -> WitnessAnswer | str:
        try:
            async with asyncio.timeout(patience):
                return await self._exchange(name, Endpoint.read(address), context)
        except TimeoutError:
            return f"no answer from {address}"
        except DisclusterError as error:
            return error.message
        except (OverflowError, UnicodeError):
            return f"{address} is no address"
        except (OSError, asyncio.IncompleteReadError) as error:
            number = error.errno if isinstance(error, OSError) else None
            why = os.strerror(number) if number and number > 0 else "it broke off"
            return f"{address}: {why}"

    async def _exchange(self, name: str, at: Endpoint, context: ssl.SSLContext) -> WitnessAnswer:
        reader, writer = await asyncio.open_connection(
            at.host, at.port, ssl=context, limit=_ANSWER_LIMIT
        )
        try:
            peer = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            if not self._identity.is_certificate_of(name, peer, now=self._wall()):
                raise RefusedError(f"{at} is not {name} of this fleet")
            request = f"GET {PATH} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(_body_length(head))
        except (asyncio.LimitOverrunError, ValueError):
            raise ProtocolError(f"{at} does not answer like a witness") from None
        finally:
            # Not waited for: a peer that is gone would hold up the round.
            writer.transport.abort()
        answer = decode(control_to_control, body, peer=str(at))
        if answer.host != name:
            raise ProtocolError(f"{at} answers as {answer.host}")
        return answer


def _body_length(head: bytes) -> int:
    """Of an answer with these headers. Raises ValueError if it is none, or a long one."""
    found = _ANSWER.match(head)
    if found is None:
        raise ValueError
    return int(found[1])
