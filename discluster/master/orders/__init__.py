# SPDX-License-Identifier: Apache-2.0
"""What the operator orders, and how it is carried out."""
