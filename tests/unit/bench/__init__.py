# SPDX-License-Identifier: Apache-2.0
"""The parts of the benchmark that decide what is shown."""
