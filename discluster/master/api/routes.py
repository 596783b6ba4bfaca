# SPDX-License-Identifier: Apache-2.0
"""Routes of the operator API. Each says which role it needs; one that says nothing cannot be made,
and one that is added in another way is not served.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from discluster.master.api.answers import Handler
from discluster.operators import Role


class Route(NamedTuple):
    """``path``: below ``/v1`` on the socket, below ``/v1/operator`` over TLS. ``role``: the least
    that may call it. ``only_asks``: whether a call with that body changes nothing, as a dry run
    does; then ``view`` is enough, and it is not audited.
    """

    method: Literal["GET", "POST"]
    path: str
    handler: Handler
    role: Role
    only_asks: Callable[[bytes], bool]

    def needs(self, body: bytes) -> Role:
        """The role that a call with ``body`` needs."""
        asks = self.method == "POST" and self.only_asks(body)
        return "view" if asks else self.role

    def changes(self, body: bytes) -> bool:
        """Whether a call with ``body`` may change something, and must be audited."""
        return self.method != "GET" and not self.only_asks(body)


def asking(path: str, handler: Handler) -> Route:
    """A GET, which changes nothing."""
    return Route("GET", path, handler, "view", _never)


def changing(
    path: str,
    handler: Handler,
    *,
    role: Role = "operate",
    only_asks: Callable[[bytes], bool] | None = None,
) -> Route:
    """A POST. ``only_asks``: must read the body as the handler does."""
    return Route("POST", path, handler, role, only_asks or _never)


def questioning(path: str, handler: Handler) -> Route:
    """A POST that only asks, with more than fits into an address."""
    return Route("POST", path, handler, "view", _always)


def _never(_: bytes) -> bool:
    return False


def _always(_: bytes) -> bool:
    return True
