# SPDX-License-Identifier: Apache-2.0
"""Clients for the judge to judge: a good one, and bad ones that differ from it in one trait."""
