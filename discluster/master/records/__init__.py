# SPDX-License-Identifier: Apache-2.0
"""What MASTER writes down as it goes: events, earlier plans, sessions."""
