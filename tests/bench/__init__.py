# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: what an event, an idle shard and a start cost."""
