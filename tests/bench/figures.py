# SPDX-License-Identifier: Apache-2.0
"""From single runs to figures: medians, ranges, ratios, and whether the targets are met. Pure."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from tests.bench.idle import IdleSample
from tests.bench.measure import Sample
from tests.bench.orders import Compression

RATE_TARGET: Final = 200_000
REFERENCE: Final = 46_000
"""The calibration row on the machine that the target for the rate was set on."""
LOCAL_TARGET: Final = 100_000
FLOOR_TARGET: Final = 2.5
IDLE_TARGET: Final = 40.0
PEER_TARGETS: Final = {"discordjs-ws": 4.0, "hikari": 15.0, "discord.py": 15.0}
DEFAULT: Final = "ours-count:zstd"
LOCAL: Final = ("local:zstd", "local:none")
CALIBRATION: Final = "calibration:zlib"
_PASSED_ON: Final = "passed on to one bot without compression"


class Spread(msgspec.Struct, frozen=True):
    """Of several runs."""

    median: float
    low: float
    high: float
    runs: int


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One line of what was promised. ``met``: None where it was not measured."""

    what: str
    wanted: str
    measured: str
    met: bool | None


def spread(values: Iterable[float]) -> Spread:
    """Raises ValueError without any value."""
    found = sorted(values)
    if not found:
        raise ValueError("no runs")
    return Spread(statistics.median(found), found[0], found[-1], len(found))


class Throughput:
    """The rates of all runs by row."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples
        self.keys = tuple(dict.fromkeys(sample.row for sample in samples))

    def __contains__(self, key: str) -> bool:
        return key in self.keys

    def of(self, key: str) -> list[Sample]:
        """All runs of a row, in order."""
        return [sample for sample in self._samples if sample.row == key]

    def rate(self, key: str) -> Spread:
        """Events per CPU-second."""
        return spread(sample.rate for sample in self.of(key))

    def ratio(self, upper: str, lower: str) -> Spread | None:
        """How many times as fast ``upper`` is, round by round; None where one is missing."""
        pairs = list(zip(self.of(upper), self.of(lower), strict=False))
        if not pairs:
            return None
        return spread(one.rate / other.rate for one, other in pairs)

    def fastest(self, name: str) -> str | None:
        """The key of the fastest row of this client."""
        own = [key for key in self.keys if key.partition(":")[0] == name]
        return max(own, key=lambda key: self.rate(key).median, default=None)


def per_idle_shard(
    samples: Sequence[IdleSample], row: str, shards: int, *, tls: bool = True
) -> Spread | None:
    """kB resident per shard beyond the first of its process; None where it was not measured."""
    own = [sample for sample in samples if sample.row == row and sample.tls == tls]
    base = [sample.rss for sample in own if sample.shards == 1]
    many = [sample for sample in own if sample.shards == shards]
    if not base or not many or shards <= 1:
        return None
    first = statistics.median(base)
    return spread(
        (sample.rss - sample.processes * first) / (shards - sample.processes) for sample in many
    )


def targets(rates: Throughput, idle: Sequence[IdleSample]) -> list[Target]:
    """What was promised, and what came out."""
    lines = [*_rate_targets(rates), *_local_targets(rates), *_peer_targets(rates)]
    return [*lines, *_floor_targets(rates), *_idle_targets(idle)]


def _rate_targets(rates: Throughput) -> list[Target]:
    if DEFAULT not in rates or CALIBRATION not in rates:
        return []
    calibration = rates.rate(CALIBRATION).median
    what = "events per CPU-second, zstd, counting handler"
    as_measured = f"{what}, as measured here, where the calibration row gives {calibration:,.0f}"
    return [
        _rate_target(as_measured, RATE_TARGET, rates.rate(DEFAULT).median),
        *_scaled_target(what, RATE_TARGET, DEFAULT, rates),
    ]


def _local_targets(rates: Throughput) -> list[Target]:
    lines = []
    for row in LOCAL:
        if row in rates:
            what = f"events per CPU-second, {row.partition(':')[2]}, {_PASSED_ON}"
            lines.append(_rate_target(what, LOCAL_TARGET, rates.rate(row).median))
            lines += _scaled_target(what, LOCAL_TARGET, row, rates)
    return lines


def _scaled_target(what: str, wanted: int, row: str, rates: Throughput) -> list[Target]:
    if CALIBRATION not in rates:
        return []
    scaled = rates.rate(row).median * REFERENCE / rates.rate(CALIBRATION).median
    what = f"{what}, scaled to a machine whose calibration row gives {REFERENCE:,}"
    return [_rate_target(what, wanted, scaled)]


def _rate_target(what: str, wanted: int, rate: float) -> Target:
    return Target(what=what, wanted=f"≥ {wanted:,}", measured=f"{rate:,.0f}", met=rate >= wanted)


def _peer_targets(rates: Throughput) -> list[Target]:
    lines = []
    for name, wanted in PEER_TARGETS.items():
        fastest = rates.fastest(name)
        if fastest is not None:
            what = f"ours by default (zstd) ÷ {name} at its fastest ({_compression(fastest)})"
            lines.append(_times(what, rates.ratio(DEFAULT, fastest), wanted))
        lines += [
            _times(f"ours ÷ {name}, both {_compression(key)}", ratio, wanted)
            for key in rates.keys
            if key.startswith(f"{name}:")
            and (ratio := rates.ratio(f"ours-count:{_compression(key)}", key)) is not None
        ]
    return lines


def _floor_targets(rates: Throughput) -> list[Target]:
    schemes: tuple[Compression, ...] = ("zstd", "zlib", "none")
    ratios = {scheme: rates.ratio(f"floor:{scheme}", f"ours-count:{scheme}") for scheme in schemes}
    return [
        Target(
            what=f"floor ÷ ours, {scheme}",
            wanted=f"≤ {FLOOR_TARGET:g}",
            measured=f"{ratio.median:.2f}",
            met=ratio.median <= FLOOR_TARGET,
        )
        for scheme, ratio in ratios.items()
        if ratio is not None
    ]


def _idle_targets(idle: Sequence[IdleSample]) -> list[Target]:
    sizes = sorted({sample.shards for sample in idle if sample.row == DEFAULT and sample.tls})
    found = {shards: per_idle_shard(idle, DEFAULT, shards) for shards in sizes}
    return [
        Target(
            what=f"kB per idle TLS shard beyond the first, {shards:,} shards, zstd",
            wanted=f"≤ {IDLE_TARGET:g}",
            measured=f"{per_shard.median:.1f}",
            met=per_shard.median <= IDLE_TARGET,
        )
        for shards, per_shard in found.items()
        if per_shard is not None
    ]


def _times(what: str, ratio: Spread | None, wanted: float) -> Target:
    measured = "not measured" if ratio is None else f"{ratio.median:.1f}"
    met = None if ratio is None else ratio.median >= wanted
    return Target(what=what, wanted=f"≥ {wanted:g}", measured=measured, met=met)


def _compression(key: str) -> str:
    return key.partition(":")[2]
