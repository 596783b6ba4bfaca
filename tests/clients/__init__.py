# SPDX-License-Identifier: Apache-2.0
"""The simulator, judged by clients that nobody here wrote, and they by its oracles.

discord.py, hikari, @discordjs/ws, discord.js and eris run as published, in processes of their own
(drivers/), pinned by requirements*.txt and package-lock.json, installed by tests/clients/install.

pairing/ and test_pairing.py put the same libraries at the local gateway, by docs/pairing.md.

New pins: change requirements*.in and make requirements*.txt by the command on its top; change
package.json and run `npm install --omit-lockfile-registry-resolved --ignore-scripts` beside it.
"""
