# SPDX-License-Identifier: Apache-2.0
"""The adapters for discord.py and hikari, with the real libraries (tests/clients/install) in a real
cluster process, against the simulated Discord: its gateway, and the part of its HTTP API that bots
answer by.
"""
