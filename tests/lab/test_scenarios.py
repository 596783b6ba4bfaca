# SPDX-License-Identifier: Apache-2.0
"""The scenarios on Debian 13 machines: the built package, systemd, D-Bus, polkit."""

import pytest

from tests.lab.conftest import TIMEOUT
from tests.scenario.calls import *  # noqa: F403
from tests.scenario.failures import *  # noqa: F403
from tests.scenario.identity import *  # noqa: F403
from tests.scenario.operators import *  # noqa: F403
from tests.scenario.partitions import *  # noqa: F403
from tests.scenario.rolling import *  # noqa: F403
from tests.scenario.scenarios import *  # noqa: F403
from tests.scenario.sessions import *  # noqa: F403
from tests.scenario.shutdown import *  # noqa: F403
from tests.scenario.verbs import *  # noqa: F403

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(TIMEOUT)]
