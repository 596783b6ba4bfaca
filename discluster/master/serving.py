# SPDX-License-Identifier: Apache-2.0
"""How MASTER serves HTTP to whoever comes."""

import logging
from typing import Final

from aiohttp import web

# Seconds: at MASTER's end, between two requests, and for what is still sent when we have answered.
_SHUTDOWN: Final = 1.0
_KEEPALIVE: Final = 60.0
_LINGERING: Final = 2.0


def runner(application: web.Application) -> web.AppRunner:
    """Serves ``application``.

    Nobody of ours compresses a request: unpacking is how a little becomes a lot, and what is broken
    in there only shows while it is read.
    What aiohttp has to say of requests that are none is not kept: strangers may send as many as
    they like, and each would be a traceback. Faults of our own are told by our middleware.
    """
    silent = logging.Logger("strangers", level=logging.CRITICAL + 1)
    return web.AppRunner(
        application,
        access_log=None,
        logger=silent,
        shutdown_timeout=_SHUTDOWN,
        keepalive_timeout=_KEEPALIVE,
        lingering_time=_LINGERING,
        auto_decompress=False,
    )
