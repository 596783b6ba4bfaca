# SPDX-License-Identifier: Apache-2.0
"""How hard hypothesis searches: ``HYPOTHESIS_PROFILE=deep pytest tests/unit`` for a long hunt."""

import os

from hypothesis import settings

# CI must say the same of the same commit; everywhere else each run looks somewhere new.
settings.register_profile("ci", derandomize=True, print_blob=True)
settings.register_profile("deep", max_examples=3000, print_blob=True)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "default")
)
