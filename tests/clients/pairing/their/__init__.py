# SPDX-License-Identifier: Apache-2.0
"""The lines of a bot's own, in the process of a library of somebody else's."""
