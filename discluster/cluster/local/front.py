# SPDX-License-Identifier: Apache-2.0
"""What is answered to an HTTP request. Pure."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import msgspec

from discluster.cluster.local import head, payloads
from discluster.cluster.local.encoding import Encoder, encoder
from discluster.cluster.local.head import HeadError, Request
from discluster.cluster.local.judging import Facts, known_token
from discluster.cluster.local.paths import Place, place
from discluster.secret import Secret

_HOST: Final = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")


class Upgrade(msgspec.Struct, frozen=True, kw_only=True):
    """A client that becomes a WebSocket. ``head``: the answer. ``url``: where it came in."""

    client: str
    url: str
    encoder: Encoder
    head: bytes


class Front(msgspec.Struct, frozen=True, kw_only=True):
    """``host``: what is in URLs if the request does not say it."""

    cluster: int
    clients: Sequence[str]
    tokens: Sequence[Secret]
    host: str

    def answer(self, request: Request, facts: Facts) -> bytes | Upgrade:
        """A whole response, or that of an upgrade.

        Raises:
            HeadError: what is to be answered instead.
        """
        found = place(request.path, self.clients)
        if found is None:
            raise HeadError(
                HTTPStatus.NOT_FOUND,
                f"there is no {request.path!r:.100} here: the clients in 'clients' of cluster.yaml"
                f" are {', '.join(self.clients)}",
            )
        if found.asked == "socket":
            return self._upgrade(request, found)
        if found.asked == "gateway":
            return head.answer(HTTPStatus.OK, {"url": self._url(request, found.client)})
        said = request.headers.get("authorization", "").removeprefix("Bot ")
        if not known_token(said, self.tokens):
            raise HeadError(HTTPStatus.UNAUTHORIZED, "401: Unauthorized")
        if facts.shard_count is None:
            raise HeadError(HTTPStatus.SERVICE_UNAVAILABLE, "the cluster has no assignment yet")
        body = payloads.gateway_bot(
            self._url(request, found.client),
            cluster=self.cluster,
            shard_count=facts.shard_count,
            shards=tuple(sorted(facts.shards)),
        )
        return head.answer(HTTPStatus.OK, body)

    def _upgrade(self, request: Request, found: Place) -> Upgrade:
        if not request.upgrades:
            raise HeadError(HTTPStatus.UPGRADE_REQUIRED, "this is a WebSocket; try gateway/bot")
        chosen = encoder(request.query.get("compress", ""))
        if chosen is None:
            raise HeadError(
                HTTPStatus.BAD_REQUEST, "compress is none of zlib-stream and zstd-stream"
            )
        if request.query.get("encoding", "json") != "json":
            raise HeadError(HTTPStatus.BAD_REQUEST, "encoding is not json: no other is served here")
        return Upgrade(
            client=found.client,
            url=self._url(request, found.client),
            encoder=chosen,
            head=head.switching(request),
        )

    def _url(self, request: Request, client: str) -> str:
        """Where the client reached us, with its name."""
        host = request.headers.get("host", "")
        named = "" if client == self.clients[0] else client
        return f"ws://{host if _HOST.fullmatch(host) else self.host}/{named}"
