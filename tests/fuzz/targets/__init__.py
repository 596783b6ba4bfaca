# SPDX-License-Identifier: Apache-2.0
"""One module for each reader; what it must have is in :class:`tests.fuzz.registry.Target`."""
