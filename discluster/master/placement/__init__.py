# SPDX-License-Identifier: Apache-2.0
"""Which host takes which shards, in which clusters: the parts of the planner."""
