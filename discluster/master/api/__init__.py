# SPDX-License-Identifier: Apache-2.0
"""MASTER's HTTP interfaces: for machines over TLS; for operators on a UNIX socket, and over TLS for
those that have a login.
"""
