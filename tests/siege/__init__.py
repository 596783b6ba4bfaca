# SPDX-License-Identifier: Apache-2.0
"""Hostile input over live connections: real processes, real TLS, attackers from many addresses."""
