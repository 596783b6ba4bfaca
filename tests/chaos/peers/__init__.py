# SPDX-License-Identifier: Apache-2.0
"""The same table for libraries of others, as a service manager would run them.

drivers     a bot for each, as its documentation has it, that notes every counted event
libraries   how each is run, ended and restarted
units       a program with systemd's manners
peer        such a bot as a subject of tests.chaos
rows        what is done to it
"""
