# SPDX-License-Identifier: Apache-2.0
"""Numbers and names as far as they may go, in plans and on the wire alike.

JSON has numbers of any size, and the plans have not: what a peer says ends up in files, which must
be read back, and in answers to others. So a message with a number beyond is refused whole.
"""

from collections.abc import Collection, Iterator
from typing import Annotated, Final

from msgspec import Meta

from discluster.rules import Rule

MAXIMUM_SHARDS: Final = 65_536
MAXIMUM_SLOTS: Final = 65_536  # also identify lanes; whoever looks for a free one looks at all
MAXIMUM_CLUSTER: Final = 999_999
LARGEST: Final = 2**63 - 1
# What a host's word on runs counts for at most: each restart goes one further.
MOST_RUNS: Final = 2**53
LARGEST_AMOUNT: Final = 1e15
_LABEL: Final = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME: Final = rf"{_LABEL}(\.{_LABEL})*"
_LONGEST_TIME: Final = 1e12  # seconds; also as instants on any clock

# Items of a list: one for each shard there can be; and more than any cluster or host has.
ALL: Final = Meta(max_length=MAXIMUM_SHARDS)
MANY: Final = Meta(max_length=4096)

Count = Annotated[int, Rule(minimum=0, maximum=LARGEST), Meta(ge=0, le=LARGEST)]
Number = Annotated[int, Rule(minimum=1, maximum=LARGEST), Meta(ge=1, le=LARGEST)]
ShardId = Annotated[
    int, Rule(minimum=0, maximum=MAXIMUM_SHARDS - 1), Meta(ge=0, le=MAXIMUM_SHARDS - 1)
]
ShardCount = Annotated[int, Rule(minimum=1, maximum=MAXIMUM_SHARDS), Meta(ge=1, le=MAXIMUM_SHARDS)]
ClusterId = Annotated[int, Rule(minimum=0, maximum=MAXIMUM_CLUSTER), Meta(ge=0, le=MAXIMUM_CLUSTER)]
Amount = Annotated[float, Meta(ge=0, le=LARGEST_AMOUNT)]
Seconds = Annotated[float, Meta(ge=-_LONGEST_TIME, le=_LONGEST_TIME)]
Version = Annotated[str, Meta(max_length=100, pattern=r"^[ -~]*\Z")]
Errors = Annotated[str, Meta(max_length=2**18)]
Slots = Annotated[int, Rule(minimum=1, maximum=MAXIMUM_SLOTS), Meta(ge=1, le=MAXIMUM_SLOTS)]
HostName = Annotated[
    str,
    Rule(
        longest=253,
        pattern=_HOST_NAME,
        pattern_says="a host name in lower case (letters, digits, '-' and '.')",
    ),
    Meta(max_length=253, pattern=rf"^{_HOST_NAME}\Z"),
]


def fresh_clusters(used: Collection[int]) -> Iterator[int]:
    """Cluster numbers that are not ``used``: those beyond all of them, and gaps once none is."""
    beyond = max(used, default=-1) + 1
    yield from range(beyond, MAXIMUM_CLUSTER + 1)
    yield from (number for number in range(min(beyond, MAXIMUM_CLUSTER)) if number not in used)
