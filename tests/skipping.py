# SPDX-License-Identifier: Apache-2.0
"""Tests that need what is not ours are skipped, with the reason, where that is not installed."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.lab.prerequisites import required


def skip_what_is_not_installed(
    items: Iterable[pytest.Item], directory: Path, *, reason_to_skip: Callable[[], str | None]
) -> None:
    """Of the tests in ``directory`` those that use the fixture ``installed``. ``reason_to_skip``:
    what is missing, with what to do about it, or None.

    Raises:
        pytest.UsageError: there are some, and ``DISCLUSTER_LAB=required``.
    """
    ours = [
        item
        for item in items
        if item.path.is_relative_to(directory) and "installed" in getattr(item, "fixturenames", ())
    ]
    reason = reason_to_skip() if ours else None
    if reason is not None and required():
        raise pytest.UsageError(f"DISCLUSTER_LAB=required, but {reason}")
    for item in ours:
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
