# SPDX-License-Identifier: Apache-2.0
"""The handlers nats and redis with the real servers of Debian, which are killed under load.

What is in the streams is read with the clients that consumers have (nats-py, redis-py), in a
virtual environment of their own, pinned by requirements.txt. tests/brokers/install brings both.

New pins: change requirements.in and make requirements.txt by the command on its top.
"""
