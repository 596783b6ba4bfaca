# SPDX-License-Identifier: Apache-2.0
"""The packet handler ``nats``: publishes events to JetStream."""
