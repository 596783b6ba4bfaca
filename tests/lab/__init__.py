# SPDX-License-Identifier: Apache-2.0
"""The lab: Debian 13 machines with real systemd and the installed package, on one Linux host.

A machine is systemd-nspawn --boot over an overlay of a cached root, in a network namespace that
hangs on a bridge in a namespace of its own. Nothing reaches the host's network. Needs root.
"""
