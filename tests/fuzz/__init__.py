# SPDX-License-Identifier: Apache-2.0
"""Hostile input: whatever reads bytes that somebody else wrote, and what it owes for any of them.

Each module in :mod:`tests.fuzz.targets` has a function ``target(data)`` that asserts the contract:
an error of ours, in words, or a result that we can write and read back. It is driven by hypothesis
(``test_targets.py``), by atheris, which looks at the branches that are taken (``make fuzz``,
``test_hunt.py``), and by the inputs in ``seeds/`` (``test_seeds.py``). Where fuzzers are blind, for
what is large, slow, or means something, an attacker thought of the other tests here.
"""
