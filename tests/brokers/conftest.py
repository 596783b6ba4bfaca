# SPDX-License-Identifier: Apache-2.0
"""Skips, with the reason, where the brokers are not installed; in CI that is an error."""

from pathlib import Path

import pytest

from tests.brokers import installation
from tests.lab.prerequisites import required


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those of this directory that use the fixture ``installed``.

    Raises:
        pytest.UsageError: there are some, and ``DISCLUSTER_LAB=required``.
    """
    directory = Path(__file__).parent
    ours = [
        item
        for item in items
        if item.path.is_relative_to(directory) and "installed" in getattr(item, "fixturenames", ())
    ]
    reason = installation.reason_to_skip() if ours else None
    if reason is not None and required():
        raise pytest.UsageError(f"DISCLUSTER_LAB=required, but {reason}")
    for item in ours:
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def installed() -> None:
    """For tests that need the brokers: without them they are skipped."""
