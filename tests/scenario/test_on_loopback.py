# SPDX-License-Identifier: Apache-2.0
"""The scenarios with real processes on loopback and the embedded supervisor."""

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
