# SPDX-License-Identifier: Apache-2.0
"""Skips, with the reason, where the brokers are not installed; in CI that is an error."""

from pathlib import Path

import pytest

from tests.brokers import installation
from tests.skipping import skip_what_is_not_installed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, or refuse where nothing may be skipped."""
    skip_what_is_not_installed(
        items, Path(__file__).parent, reason_to_skip=installation.reason_to_skip
    )


@pytest.fixture
def installed() -> None:
    """For tests that need the brokers: without them they are skipped."""
