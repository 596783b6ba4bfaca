# SPDX-License-Identifier: Apache-2.0
"""The document shows what was measured, and nothing that was not."""

from pathlib import Path

import msgspec
import pytest

from tests.bench.processes import BenchError
from tests.bench.report import document, picture
from tests.bench.results import read, save
from tests.bench.rows import all_rows, chosen, needs_installation
from tests.unit.bench.runs import idle, results, sample

ROWS = all_rows()


def test_document_says_who_missed_a_target() -> None:
    text = document(
        results(sample("ours-count:zstd", 150_000), sample("hikari:zstd", 11_000)),
        ROWS,
        picture="p.svg",
    )
    assert "| ours ÷ hikari, both zstd | ≥ 15 | 13.6 | **no** |" in text
    assert "| Discluster, counting handler | counts | zstd | 150,000 |" in text
    assert "](p.svg)" in text


def test_document_says_whether_the_local_gateway_is_fast_enough() -> None:
    text = document(
        results(sample("local:zstd", 99_000), sample("local:none", 120_000)), ROWS, picture="p.svg"
    )
    what = "passed on to one bot without compression"
    assert f"| events per CPU-second, zstd, {what} | ≥ 100,000 | 99,000 | **no** |" in text
    assert f"| events per CPU-second, none, {what} | ≥ 100,000 | 120,000 | yes |" in text
    assert "| Discluster, local gateway, one bot | forwards it | none | 120,000 |" in text


def test_document_says_what_a_slow_machine_would_have_given_elsewhere() -> None:
    measured = (sample("local:none", 70_000), sample("calibration:zlib", 23_000))
    text = document(results(*measured), ROWS, picture="p.svg")
    what = "passed on to one bot without compression, scaled to a machine whose calibration row"
    assert f"none, {what} gives 46,000 | ≥ 100,000 | 140,000 | yes |" in text


def test_document_has_a_line_for_each_measured_row_only() -> None:
    text = document(results(sample("eris:none", 70_000)), ROWS, picture="p.svg")
    assert text.count("| eris |") == 2
    assert "| hikari |" not in text


def test_no_two_rows_are_called_alike() -> None:
    """Of the ratios and in the picture there is nothing else to tell them by."""
    names = [(row.title, row.compression) for row in ROWS]
    assert len(set(names)) == len(names)


def test_document_names_what_was_not_measured() -> None:
    text = document(results(sample("eris:none", 70_000)), ROWS, picture="p.svg")
    assert "*Not measured.*" in text


def test_document_shows_memory_per_shard_beyond_the_first() -> None:
    memory = (idle("ours-count:zstd", 1, 40_960), idle("ours-count:zstd", 101, 44_460))
    text = document(results(idle=memory), ROWS, picture="p.svg")
    assert "| 101 | 1 | 43.4 | 33.7 | 35.0 (35.0–35.0) |" in text


def test_document_of_a_smoke_run_says_so() -> None:
    whole = results(sample("eris:none", 70_000))
    quick = msgspec.structs.replace(whole, scale=0.02)
    assert "smoke run" not in document(whole, ROWS, picture="p.svg")
    assert "smoke run" in document(quick, ROWS, picture="p.svg")


def test_picture_has_a_bar_for_each_measured_row() -> None:
    found = picture(results(sample("eris:none", 7e4), sample("floor:zlib", 2e5)), ROWS)
    assert found.count('<rect class="peer"') == 1
    assert found.count('<rect class="bound"') == 1


def test_picture_tells_what_it_leaves_out() -> None:
    found = picture(results(sample("floor:none", 1.5e6), sample("floor:zlib", 2e5)), ROWS)
    assert found.count('<rect class="bound"') == 1
    assert "not shown: the floor without compression (1,500,000)" in found


def test_single_runs_can_be_read_again(tmp_path: Path) -> None:
    kept = results(sample("eris:none", 70_000), idle=(idle("ours-count:zstd", 1, 40_000),))
    assert read(save(kept, tmp_path / "bench")) == kept


def test_damaged_runs_are_told(tmp_path: Path) -> None:
    path = tmp_path / "gateway.json"
    path.write_text("{")
    with pytest.raises(BenchError, match=r"gateway\.json"):
        read(path)


def test_rows_are_chosen_by_pattern() -> None:
    keys = {row.key for row in chosen(["ours-count:*", "*:none"])}
    assert {"ours-count:zlib", "eris:none"} <= keys
    assert "hikari:zlib" not in keys
    assert not needs_installation(chosen(["ours*", "floor*", "calibration*"]))
    assert needs_installation(chosen([]))


def test_unknown_row_is_refused() -> None:
    with pytest.raises(BenchError, match="no row fits 'serenity:zstd'"):
        chosen(["ours*", "serenity:zstd"])


def test_rows_have_names_of_their_own() -> None:
    assert len({row.key for row in ROWS}) == len(ROWS)


def test_section_of_another_benchmark_stays_in_the_page() -> None:
    section = "<!-- master: begin -->\n## MASTER\n<!-- master: end -->"
    text = document(results(), ROWS, picture="p.svg", before=f"# Old\n\n{section}\n")
    assert section in text
    assert "# Old" not in text
