# SPDX-License-Identifier: Apache-2.0
"""Every target with inputs of its shape and with bytes of none, for some seconds in all."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import registry

# 'deep' is for a long hunt, see tests/conftest.py.
EXAMPLES = 5000 if os.environ.get("HYPOTHESIS_PROFILE") == "deep" else 300


@pytest.mark.parametrize("name", registry.NAMES)
def test_reader_keeps_what_it_promises_for_any_input(name: str) -> None:
    module = registry.load(name)

    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(data=st.one_of(module.inputs(), module.inputs(), st.binary(max_size=200)))
    def promises(data: bytes) -> None:
        module.target(data)

    promises()
