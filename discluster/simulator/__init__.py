# SPDX-License-Identifier: Apache-2.0
"""A simulated Discord: rehearse a fleet against it, and let it judge what the fleet did.

It shares no protocol code with `discluster.gateway`, so that both cannot misread Discord's
documentation alike. From the bytes upwards:

    frames, connection         WebSocket: pure framing, one connection
    validate, intents          what a client may send: pure
    compression, payloads      what the server sends around dispatches
    bodies, templates, events  dispatches as byte templates, and their mix
    sessions, producer         replay buffers, and the stream of events: pure
    identify, limits           the 5-second rule, the daily budget, sliding windows: pure
    world                      bots and sessions, and what happens to them
    peer, login, commands      a client's connection; IDENTIFY and RESUME; other opcodes
    gateway, http              the two faces of Discord
    ledger, tally, oracles     what really arrived, totals, and the judgement: pure
    faults, control, client    causing trouble and looking on, over HTTP
    settings, simulator, main  declaration, assembly, program
"""
