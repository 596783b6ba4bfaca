# SPDX-License-Identifier: Apache-2.0
"""Users' names, for the audit log. A directory service that does not answer must not hold up
MASTER, so each is looked up in a thread of its own, and not waited for long.
"""

import asyncio
import contextlib
import pwd
import threading
from collections.abc import Callable
from typing import Final

_PATIENCE: Final = 1.0
_KEPT: Final = 256


class UserNames:
    """Looks up each user once; one whose name is not known in time is called by the number."""

    def __init__(
        self,
        lookup: Callable[[int], str] = lambda uid: pwd.getpwuid(uid).pw_name,
        *,
        patience: float = _PATIENCE,
    ) -> None:
        """``lookup``: blocks; KeyError if there is no such user. ``patience``: seconds."""
        self._lookup = lookup
        self._patience = patience
        self._found: dict[int, asyncio.Future[str]] = {}

    async def name(self, uid: int) -> str:
        if uid not in self._found:
            while len(self._found) >= _KEPT:
                del self._found[next(iter(self._found))]
            self._found[uid] = self._asked(uid)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                return await asyncio.shield(self._found[uid])
        return str(uid)

    def _asked(self, uid: int) -> asyncio.Future[str]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()

        def look() -> None:
            try:
                name = self._lookup(uid)
            except (KeyError, OSError):
                name = str(uid)
            # The loop may be closed by now, and nobody wait any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(answer.set_result, name)

        threading.Thread(target=look, name=f"name of user {uid}", daemon=True).start()
        return answer
