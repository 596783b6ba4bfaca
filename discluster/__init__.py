# SPDX-License-Identifier: Apache-2.0
"""Cluster manager for large Discord bots, native to systemd."""

__version__ = "0.1.0"

# The form that Discord asks of API clients (Discord: Reference, User Agent).
USER_AGENT = f"DiscordBot (https://github.com/discluster/discluster, {__version__})"
