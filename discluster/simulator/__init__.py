# SPDX-License-Identifier: Apache-2.0
"""A simulated Discord: rehearse a fleet against it, and let it judge what the fleet did.

It shares no protocol code with `discluster.gateway`, so that both cannot misread Discord's
documentation alike. From the bytes upwards:

    frames, connection         WebSocket: pure framing, one connection
    shape, pacing              odd frames and slow bytes, when a script asks for them
    validate, intents          what a client may send: pure
    compression, payloads      what the server sends around dispatches
    bodies, templates, events  dispatches as byte templates, and their mix
    sessions, producer         replay buffers, and the stream of events: pure
    identify, limits           the 5-second rule, the daily budget, sliding windows: pure
    edges                      the hosts of the gateway, and whether they are up
    world                      bots and sessions, and what happens to them
    peer, login, commands      a client's connection; IDENTIFY and RESUME; other opcodes
    members, routing           who is in a guild, and who gets an event: pure
    gateway, http              the two faces of Discord
    deeds, script              scripted faults as data, and where each applies: pure
    fields, pages, replaying   altered answers, refusals, and orders of a replay: pure
    performer, acting          the script on connections; http_script: on requests
    ledger, tally, oracles     what really arrived, totals, and the judgement: pure
    burst, bursts, chatter     events that are made ahead, to measure clients
    faults, outages            causing trouble at once, to shards and to edges
    control, judging, client   the same, and looking on, over HTTP
    settings, simulator, main  declaration, assembly, program
"""
