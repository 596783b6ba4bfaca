# SPDX-License-Identifier: Apache-2.0
"""What the handlers that publish to a broker have in common: held until acknowledged, in order."""
