# SPDX-License-Identifier: Apache-2.0
"""The only call that Discluster makes to Discord's API: ``GET /gateway/bot``.

(Discord: Gateway, Get Gateway Bot; Reference, User Agent; Rate Limits.)
"""

import math
from typing import Final

import aiohttp
import msgspec

from discluster import USER_AGENT
from discluster.bounds import MAXIMUM_SLOTS
from discluster.decoding import DECODE_ERRORS, legible, reason_of
from discluster.documents import fits
from discluster.errors import DiscordError, UnavailableError
from discluster.plan import MAXIMUM_SHARDS, GatewayUrl
from discluster.secret import Secret

TIMEOUT: Final = aiohttp.ClientTimeout(total=20)
TOKEN_REJECTED: Final = "token-rejected"
_MAXIMUM_BODY: Final = 1024 * 1024
_LONGEST_DAY: Final = 30 * 86_400_000  # milliseconds; it is one
_MOST_STARTS: Final = 10**9
_NOT_THE_API: Final = frozenset({400, 404, 405, 410})  # also the answer to a version that is over


class SessionStartLimit(msgspec.Struct, frozen=True):
    """``reset_after``: milliseconds until ``remaining`` is refilled; 0 when nothing was used."""

    total: int = 1000
    remaining: int = 1000
    reset_after: int = 0
    max_concurrency: int = 1


class GatewayBot(msgspec.Struct, frozen=True):
    """Discord's answer."""

    url: str
    shards: int
    session_start_limit: SessionStartLimit = SessionStartLimit()


class RetryLaterError(UnavailableError):
    """Discord asks for patience. ``after``: seconds."""

    code = "discord-busy"

    def __init__(self, message: str, after: float) -> None:
        super().__init__(message)
        self.after = after


async def fetch_gateway_bot(
    api: str, token: Secret, *, timeout: aiohttp.ClientTimeout = TIMEOUT
) -> GatewayBot:
    """Asks once.

    Raises:
        DiscordError: 401 or 403: the token is not accepted; 404 and the like: this address is not
            the API. Asking again cannot help.
        RetryLaterError: 429 or a server error, with the pause that Discord asks for.
        UnavailableError: Discord cannot be reached, or answers with something else.
    """
    url = f"{api.rstrip('/')}/gateway/bot"
    headers = {
        "Authorization": f"Bot {token.reveal()}",
        "User-Agent": USER_AGENT,
        "Accept-Encoding": "identity",
    }
    try:
        async with (
            # Some hundred bytes; compressed, they could be as many megabytes.
            aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
            session.get(url, headers=headers, allow_redirects=False) as response,
        ):
            body = await response.content.read(_MAXIMUM_BODY)
            return _judge(url, response.status, response.headers.get("Retry-After"), body)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        said = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        raise UnavailableError(
            f"{url} cannot be reached: {said or type(error).__name__}",
            hint="MASTER needs Discord's API for the shard count; set shard_count in master.yaml"
            " to start without it",
        ) from None


def _judge(url: str, status: int, retry_after: str | None, body: bytes) -> GatewayBot:
    if status in (401, 403):
        raise DiscordError(
            f"Discord rejected the bot token (HTTP {status} from {url})",
            hint="put a valid token into the credential discluster.token on MASTER's machine and"
            " on every host, then restart discluster-master",
            # Discord's edge says 403 to a machine, too.
            code=TOKEN_REJECTED if status == 401 else None,
        )
    if status == 429:
        raise RetryLaterError(f"{url}: rate limited (HTTP 429)", _patience(retry_after, body))
    if status >= 500:
        raise RetryLaterError(f"{url}: Discord has a fault (HTTP {status})", 5.0)
    if status in _NOT_THE_API:
        raise DiscordError(
            f"{url} is not Discord's API: HTTP {status}",
            hint="correct discord_api in master.yaml, then restart discluster-master",
        )
    if status != 200:
        raise UnavailableError(f"{url}: unexpected answer (HTTP {status})")
    try:
        answer = msgspec.json.decode(body, type=GatewayBot, strict=False)
    except DECODE_ERRORS as error:
        raise UnavailableError(f"{url}: the answer cannot be read: {reason_of(error)}") from None
    limit = answer.session_start_limit
    # A plan must be able to hold it, else MASTER could not read its own file again.
    sound = 1 <= answer.shards <= MAXIMUM_SHARDS and fits(answer.url, GatewayUrl)
    sound = sound and 1 <= limit.max_concurrency <= MAXIMUM_SLOTS
    if not sound or not all(0 <= n <= _MOST_STARTS for n in (limit.total, limit.remaining)):
        raise UnavailableError(f"{url}: the answer makes no sense: {legible(str(answer))}")
    # Whatever stands there, shards can be started; the next answer may be better.
    day = msgspec.structs.replace(limit, reset_after=min(limit.reset_after, _LONGEST_DAY))
    return msgspec.structs.replace(answer, session_start_limit=day)


def _patience(header: str | None, body: bytes) -> float:
    """Seconds to wait after a 429: the body is finer than the header; never 0, never for ever."""
    try:
        after = float(msgspec.json.decode(body)["retry_after"])
    except (*DECODE_ERRORS, KeyError, TypeError, ValueError):
        try:
            after = float(header or "")
        except ValueError:
            after = 60.0  # not Discord's own answer but its front end's: be slow
    if math.isnan(after):
        after = 60.0
    return min(max(after, 1.0), 3600.0)
