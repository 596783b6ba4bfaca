# SPDX-License-Identifier: Apache-2.0
"""The golden files: ``pytest tests/unit/ctl --update-golden`` writes them anew."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.unit.ctl.desks import Ctl

GOLDEN: Final = Path(__file__).parent / "golden"
_STEERING: Final = (
    "NO_COLOR",
    "FORCE_COLOR",
    "TTY_COMPATIBLE",
    "TTY_INTERACTIVE",
    "COLUMNS",
    "LINES",
    "DISCLUSTER_RUNTIME_DIRECTORY",
)

CompareGolden = Callable[[str, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write tests/unit/ctl/golden/*.txt anew instead of comparing with them",
    )


@pytest.fixture(autouse=True)
def calm_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """What the tests see does not depend on the terminal, the clock, the logins or the CI that they
    run in.
    """
    with monkeypatch.context() as patched:
        for name in _STEERING:
            patched.delenv(name, raising=False)
        patched.setenv("TERM", "xterm-256color")
        patched.setenv("TZ", "UTC")
        patched.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def compare_golden(request: pytest.FixtureRequest) -> CompareGolden:
    """``compare_golden(name, text)``: the text is what golden/NAME.txt holds."""
    # The default is for a run that began above this directory and never met the option.
    update = bool(request.config.getoption("--update-golden", default=False))

    def compare(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        if update:
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is missing; run pytest with --update-golden and look at it"
        assert text == path.read_text(encoding="utf-8")

    return compare


@pytest.fixture
def ctl(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ctl:
    monkeypatch.setenv("DISCLUSTER_RUNTIME_DIRECTORY", str(tmp_path))
    return Ctl(tmp_path, capsys)
