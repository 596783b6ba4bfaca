# SPDX-License-Identifier: Apache-2.0
"""The programs that are measured.

Each is told what to do in its environment (see orders.py), prints ``ready`` when it is, and
``counted N`` when it has counted its N-th MESSAGE_CREATE.
"""
