# SPDX-License-Identifier: Apache-2.0
"""The picture is what its numbers say."""

import xml.etree.ElementTree as ElementTree

import pytest

from tests.bench.chart import Bar, chart, scale
from tests.bench.figures import Spread

SVG = "{http://www.w3.org/2000/svg}"


def bars_of(picture: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(picture)
    return [rect for rect in root.iter(f"{SVG}rect") if rect.get("class") != "paper"]


def test_bars_are_as_long_as_their_medians() -> None:
    bars = [
        Bar(label="a", spread=Spread(200.0, 150.0, 240.0, 5), tone="ours"),
        Bar(label="b", spread=Spread(50.0, 50.0, 50.0, 5), tone="peer"),
    ]
    first, second = bars_of(chart("Rates", "five runs", bars))
    assert float(first.get("width", 0)) == pytest.approx(4 * float(second.get("width", 0)), abs=0.2)
    assert first.get("class") == "ours"


def test_ranges_stay_inside_of_the_picture() -> None:
    bars = [Bar(label="a", spread=Spread(10.0, 1.0, 997_000.0, 5), tone="bound")]
    root = ElementTree.fromstring(chart("Rates", "", bars))
    width = float(root.get("width", 0))
    lines = [line for line in root.iter(f"{SVG}line") if line.get("class") == "range"]
    assert len(lines) == 1
    assert 0 < float(lines[0].get("x2", 0)) < width


def test_labels_are_escaped() -> None:
    bars = [Bar(label="<a> & b", spread=Spread(1.0, 1.0, 1.0, 1), tone="peer")]
    texts = [text.text for text in ElementTree.fromstring(chart("T", "", bars)).iter(f"{SVG}text")]
    assert "<a> & b" in texts


def test_picture_knows_dark_mode() -> None:
    assert "prefers-color-scheme: dark" in chart("T", "", [])


@pytest.mark.parametrize("highest", [0.5, 1.0, 7.0, 999.0, 2_000_001.0])
def test_axis_holds_the_highest_value_in_a_few_round_steps(highest: float) -> None:
    step, most = scale(highest)
    assert highest <= most <= 6 * step
    assert most < highest + step or most == step
