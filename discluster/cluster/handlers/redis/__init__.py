# SPDX-License-Identifier: Apache-2.0
"""The packet handler ``redis``: appends events to Redis Streams."""
