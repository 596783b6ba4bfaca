# SPDX-License-Identifier: Apache-2.0
"""Calls between clusters, as packet handlers see them: what one has that answers them, and what it
gets that makes one.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from discluster.messages import CallFault

CallMethod = Callable[[Any], Awaitable[Any] | Any]
"""Gets the call's arguments and returns its answer, or an awaitable of that: values that JSON has,
and of the answer also ``msgspec.Struct``, dataclasses, times and all else that msgspec can encode.
"""


class CallableHandler(Protocol):
    """What a packet handler has that answers calls of other clusters and of operators."""

    calls: Mapping[str, CallMethod]
    """By name; looked at before ``start``, they must not change. Called from ``start`` to ``stop``,
    several at a time, in the cluster's event loop. One that is out of time is cancelled.
    """


class ClusterAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What one cluster answered: its ``value``, unless there is a ``fault``. ``host``: None if the
    cluster is on none.
    """

    cluster: int
    host: str | None
    value: Any = None
    fault: CallFault | None = None


class CallAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a call: one answer of each cluster that was asked, by number. ``unasked``: why
    others of the fleet were not asked, in words; None: all were that should be.
    """

    answers: tuple[ClusterAnswer, ...]
    unasked: str | None = None

    @property
    def values(self) -> dict[int, Any]:
        """By cluster, of those that answered well."""
        return {answer.cluster: answer.value for answer in self.answers if answer.fault is None}

    @property
    def faults(self) -> dict[int, CallFault]:
        """By cluster, of the others."""
        return {a.cluster: a.fault for a in self.answers if a.fault is not None}
