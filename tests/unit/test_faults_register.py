# SPDX-License-Identifier: Apache-2.0
"""Every fault, trap and oracle is shown by a test, or left out for a written reason."""

from pathlib import Path

import pytest

from tests.faults.ids import FAULTS, LEFT_OUT, ORACLES, TRAPS
from tests.faults.register import PAGE, collect, page

ALL = {**FAULTS, **TRAPS, **ORACLES}


@pytest.fixture(scope="module")
def shown() -> dict[str, list[str]]:
    return collect()


def test_lists_are_whole() -> None:
    assert list(FAULTS) == [f"F{n:02}" for n in range(1, 37)]
    assert list(TRAPS) == [f"T-{n:02}" for n in range(1, 82)]
    assert list(ORACLES) == [f"O-{n:02}" for n in range(1, 19)]


def test_each_id_is_shown_or_left_out_with_a_reason(shown: dict[str, list[str]]) -> None:
    assert [ident for ident in ALL if ident not in shown and ident not in LEFT_OUT] == []
    assert [ident for ident in LEFT_OUT if ident in shown] == []
    assert all(len(reason.split()) > 3 for reason in LEFT_OUT.values())


def test_no_test_and_no_exception_names_an_id_that_does_not_exist(
    shown: dict[str, list[str]],
) -> None:
    assert {*shown, *LEFT_OUT} <= ALL.keys()


def test_each_fault_that_is_not_left_out_is_shown_over_real_sockets(
    shown: dict[str, list[str]],
) -> None:
    def real(tests: list[str]) -> bool:
        return any(test.startswith("tests/faults/") for test in tests)

    assert [f for f in FAULTS if f not in LEFT_OUT and not real(shown[f])] == []


def test_page_is_up_to_date(shown: dict[str, list[str]]) -> None:
    assert PAGE.read_text() == page(shown), "run: python -m tests.faults.register"


def test_markers_are_found_wherever_they_stand(tmp_path: Path) -> None:
    directory = tmp_path / "tests"
    directory.mkdir()
    (directory / "test_one.py").write_text(
        "import pytest\n"
        "pytestmark = [pytest.mark.lab, pytest.mark.covers('F01')]\n"
        "class TestIt:\n"
        "    @pytest.mark.covers('T-02', 'F01')\n"
        "    async def test_a(self): ...\n"
        "def helper(): ...\n"
    )
    test = "tests/test_one.py::test_a"
    assert collect(directory) == {"F01": [test], "T-02": [test]}
