# SPDX-License-Identifier: Apache-2.0
"""The programs of docs/pairing.md, run as they stand there beside a real cluster.

Where a program says that the bot's own lines follow, it gets those of their/, which write down what
the library gives them.
"""
