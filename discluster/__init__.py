# SPDX-License-Identifier: Apache-2.0
"""Cluster manager for large Discord bots, native to systemd."""

__version__ = "0.1.0"
