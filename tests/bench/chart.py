# SPDX-License-Identifier: Apache-2.0
"""A bar chart as SVG: horizontal bars with their range, linear from zero. Pure."""

from collections.abc import Sequence
from typing import Final, Literal
from xml.sax.saxutils import escape

import msgspec

from tests.bench.figures import Spread

Tone = Literal["ours", "bound", "peer"]

_WIDTH: Final = 920
_LEFT: Final = 330
_RIGHT: Final = 110
_ROW: Final = 24
_BAR: Final = 14
_TOP: Final = 64
_BOTTOM: Final = 40
_STEPS: Final = (1, 2, 2.5, 5, 10)

_STYLE: Final = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-size: 16px; font-weight: 600; }
  .quiet { fill: #59636e; font-size: 12px; }
  .grid { stroke: #d1d9e0; }
  .range { stroke: #1f2328; stroke-width: 1.5; }
  .paper { fill: #ffffff; }
  .ours { fill: #1a7f5a; } .bound { fill: #a0a8b0; } .peer { fill: #4178be; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .quiet { fill: #9198a1; } .grid { stroke: #3d444d; }
    .range { stroke: #e6edf3; } .paper { fill: #0d1117; }
    .ours { fill: #3fb68b; } .bound { fill: #6b7580; } .peer { fill: #5b93d8; }
  }
"""


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One bar."""

    label: str
    spread: Spread
    tone: Tone


def chart(title: str, subtitle: str, bars: Sequence[Bar]) -> str:
    """The picture; its height follows the number of bars."""
    height = _TOP + _ROW * len(bars) + _BOTTOM
    step, most = scale(max((bar.spread.high for bar in bars), default=1.0))
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{height}"/>',
        f'<text class="title" x="16" y="26">{escape(title)}</text>',
        f'<text class="quiet" x="16" y="46">{escape(subtitle)}</text>',
        *_grid(step, most, _TOP + _ROW * len(bars)),
        *(part for number, bar in enumerate(bars) for part in _bar(bar, number, most)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def scale(highest: float) -> tuple[float, float]:
    """A round step and the end of an axis with at most six steps that holds ``highest``."""
    magnitude = 1.0
    while True:
        for factor in _STEPS:
            step = factor * magnitude
            if highest <= 6 * step:
                return step, step * max(1, -(-highest // step))
        magnitude *= 10


def _x(value: float, most: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * value / most


def _grid(step: float, most: float, bottom: int) -> list[str]:
    parts = []
    for number in range(round(most / step) + 1):
        x = _x(number * step, most)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{bottom}"/>'
        )
        parts.append(
            f'<text class="quiet" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">'
            f"{number * step:,.0f}</text>"
        )
    return parts


def _bar(bar: Bar, number: int, most: float) -> list[str]:
    top = _TOP + number * _ROW
    middle, line = top + _BAR / 2, top + _BAR / 2 + 4.5
    end, low, high = (_x(v, most) for v in (bar.spread.median, bar.spread.low, bar.spread.high))
    size = f'width="{end - _LEFT:.1f}" height="{_BAR}" rx="2"'
    return [
        f'<text x="{_LEFT - 10}" y="{line}" text-anchor="end">{escape(bar.label)}</text>',
        f'<rect class="{bar.tone}" x="{_LEFT}" y="{top}" {size}/>',
        f'<line class="range" x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}"/>',
        f'<text x="{max(end, high) + 8:.1f}" y="{line}">{bar.spread.median:,.0f}</text>',
    ]
