# SPDX-License-Identifier: Apache-2.0
"""disclusterctl: what an operator sees of a fleet, and how machines are invited into it."""
