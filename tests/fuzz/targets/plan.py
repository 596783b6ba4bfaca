# SPDX-License-Identifier: Apache-2.0
"""Plans: what MASTER pushes to a host, and what lies on disk. YAML with something odd in it."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import strategies as st

from discluster.documents import read
from discluster.errors import DocumentError
from discluster.plan import FleetPlan, HostPlan, fleet_plan_to_yaml, host_plan_to_yaml
from tests.fuzz import shapes
from tests.fuzz.contract import check_error

LONGEST = 16 * 1024
T = TypeVar("T", HostPlan, FleetPlan)


def target(data: bytes) -> None:
    text = data.decode(errors="surrogateescape" if len(data) % 7 == 0 else "replace")
    _round_trip(text, HostPlan, host_plan_to_yaml)
    _round_trip(text, FleetPlan, fleet_plan_to_yaml)


def _round_trip(text: str, shape: type[T], write: Callable[[T], str]) -> None:
    try:
        plan = read(text, shape, file="plan.yaml")
    except DocumentError as error:
        check_error(error, names="plan.yaml")
    else:
        assert read(write(plan), shape, file="again.yaml") == plan


def inputs() -> st.SearchStrategy[bytes]:
    plans = shapes.any_of(HostPlan, FleetPlan, oddness=60)
    return shapes.damaged(st.builds(_yaml, plans, st.randoms(use_true_random=False)))


def _yaml(value: Any, dice: Any) -> bytes:
    """In flow or block style, with what YAML has and JSON has not."""
    return ("\n".join(_block(value, dice, 0)) + "\n").encode(errors="surrogatepass")


def _block(value: Any, dice: Any, depth: int) -> list[str]:
    if not isinstance(value, dict) or not value or dice.random() < 0.2:
        return [_flow(value, dice)]
    lines = []
    for key, inner in value.items():
        name = key if key.isalnum() or key.replace("_", "").isalnum() else json.dumps(key)
        below = _block(inner, dice, depth + 1)
        if len(below) == 1:
            lines.append(f"{name}: {below[0]}")
        else:
            lines += [f"{name}:", *(f"  {line}" for line in below)]
        if dice.random() < 0.01:
            lines.append(lines[-1])  # a duplicate
    return lines


def _flow(value: Any, dice: Any) -> str:
    chance = dice.random()
    text = json.dumps(value, ensure_ascii=chance < 0.5)
    oddities = {0.01: "&a ", 0.02: "*a ", 0.03: "!!python/name:os.system ", 0.04: "!t ", 0.05: "? "}
    return next((odd + text for limit, odd in oddities.items() if chance < limit), text)
