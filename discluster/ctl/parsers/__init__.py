# SPDX-License-Identifier: Apache-2.0
"""The command line of disclusterctl, by groups of commands.

Only argparse is imported before it is known what to do; what a command needs is imported when it
runs.
"""
