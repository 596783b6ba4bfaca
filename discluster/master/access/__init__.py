# SPDX-License-Identifier: Apache-2.0
"""Who may speak to MASTER: the certificate authority and the join tokens."""
