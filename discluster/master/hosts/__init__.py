# SPDX-License-Identifier: Apache-2.0
"""The hosts: their connections, what they report, and what becomes of those that are away."""
