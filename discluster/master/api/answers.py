# SPDX-License-Identifier: Apache-2.0
"""What MASTER's HTTP interfaces answer: messages as JSON, plans as YAML, every failure in words."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from discluster.console import Failure
from discluster.decoding import DECODE_ERRORS, legible, reason_of
from discluster.errors import DisclusterError, RefusedError
from discluster.master.access.accounts import EXPIRED, NO_SUCH_OPERATOR, UNKNOWN
from discluster.master.access.audit import AUDIT
from discluster.master.access.callers import LOGIN_REQUIRED, TOO_MANY
from discluster.master.orders.intents import NO_SUCH_HOST
from discluster.master.orders.ordering import NO_MOVES
from discluster.master.orders.restarts import NO_ROLLOUT
from discluster.master.records.history import NO_SUCH_GENERATION
from discluster.messages import Message, encode

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAXIMUM_BODY: Final = 64 * 1024
NO_ROLE: Final = "no-role"
BAD_REQUEST: Final = "bad-request"
# Of failures that are no conflict with how things are.
_STATUS: Final = {
    BAD_REQUEST: 400,
    **dict.fromkeys((LOGIN_REQUIRED, UNKNOWN, EXPIRED), 401),
    **dict.fromkeys((NO_SUCH_HOST, NO_SUCH_GENERATION, NO_SUCH_OPERATOR), 404),
    **dict.fromkeys((NO_MOVES, NO_ROLLOUT), 404),
    TOO_MANY: 429,
    NO_ROLE: 500,
    AUDIT: 507,
}


def failure(status: int, code: str, message: str, hint: str | None = None) -> web.Response:
    """A failure in words."""
    body = encode(Failure(code=code, message=message, hint=hint))
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def json(message: Message) -> web.Response:
    return web.Response(body=encode(message), content_type="application/json")


def yaml(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/yaml")


def bad_request(message: str) -> DisclusterError:
    """For what a caller sent that no state of things could make right."""
    return DisclusterError(message, code=BAD_REQUEST)


@web.middleware
async def errors_in_words(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure is a :class:`Failure`, whatever raised it."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return failure(error.status, "http", error.reason)
    except RefusedError as error:
        status = _STATUS.get(error.code, 403)
        # Those that failed to log in are counted, and told, where they are looked at.
        if status != 401:
            log.warning("refused %s: %s", request.path, error.message)
        return failure(status, error.code, error.message, error.hint)
    except DisclusterError as error:
        return failure(_STATUS.get(error.code, 409), error.code, error.message, error.hint)
    except DECODE_ERRORS as error:
        return failure(400, BAD_REQUEST, f"the request cannot be read: {reason_of(error)}")
    except (web.RequestPayloadError, ConnectionError):
        raise  # there is nobody to be answered any more
    except Exception:
        log.exception("a fault of ours in %s %s", request.method, legible(request.path))
        return failure(500, "fault", "MASTER has a fault; its journal tells more")
