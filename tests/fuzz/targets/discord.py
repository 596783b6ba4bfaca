# SPDX-License-Identifier: Apache-2.0
"""Discord's answer to ``GET /gateway/bot``, or that of whoever stands in its place. The first two
bytes pick the status and the Retry-After header.
"""

import math

import msgspec
from hypothesis import strategies as st

from discluster.errors import DiscordError, UnavailableError
from discluster.master.discord import GatewayBot, RetryLaterError, _judge
from discluster.plan import FleetPlan, fleet_plan_from_yaml, fleet_plan_to_yaml
from tests.fuzz import shapes
from tests.fuzz.contract import check_error

LONGEST = 4 * 1024
_STATUSES = (200, 200, 200, 429, 500, 301, 401, 403, 404, 204)
_PAUSES = (None, "1", "nan", "inf", "-inf", "-5", "1e999", "9" * 5000, "soon", "\u0661", "")


def target(data: bytes) -> None:
    status, pause = (_STATUSES[data[0] % 10], _PAUSES[data[1] % 11]) if data[1:] else (200, None)
    try:
        answer = _judge("https://discord.example/gateway/bot", status, pause, data[2:])
    except RetryLaterError as error:
        check_error(error)
        _check_pause(error.after)
    except (DiscordError, UnavailableError) as error:
        check_error(error)
    else:
        _check(answer)


def _check_pause(seconds: float) -> None:
    assert 1 <= seconds <= 3600


def _check(answer: GatewayBot) -> None:
    """MASTER can put it into a plan and into its memory, and count with it."""
    limit = answer.session_start_limit
    plan = FleetPlan(
        generation=1,
        shard_count=answer.shards,
        gateway_url=answer.url,
        max_concurrency=limit.max_concurrency,
    )
    assert fleet_plan_from_yaml(fleet_plan_to_yaml(plan), file="plan") == plan
    assert msgspec.json.decode(msgspec.json.encode(answer), type=GatewayBot) == answer
    assert math.isfinite(limit.reset_after / 1000)


def inputs() -> st.SearchStrategy[bytes]:
    answers = st.one_of(
        shapes.struct(GatewayBot, oddness=12), st.fixed_dictionaries({"retry_after": shapes.odd})
    )
    head = st.binary(min_size=2, max_size=2)
    return st.builds(bytes.__add__, head, shapes.damaged(shapes.as_json(answers)))
