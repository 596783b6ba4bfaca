# SPDX-License-Identifier: Apache-2.0
"""Who may identify, when, and how often: lanes, wall-clock slots, the daily budget."""
