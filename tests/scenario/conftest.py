# SPDX-License-Identifier: Apache-2.0
"""A fleet on loopback for every scenario; what it said is shown when the scenario fails."""

from collections.abc import AsyncIterator

import pytest

from tests.scenario.fleet import Fleet
from tests.scenario.loopback import LoopbackFleet


@pytest.fixture
async def fleet(request: pytest.FixtureRequest) -> AsyncIterator[Fleet]:
    made = LoopbackFleet()
    failed = request.session.testsfailed
    try:
        yield made
    finally:
        if request.session.testsfailed > failed:
            print(await made.diagnostics())
        await made.close()
