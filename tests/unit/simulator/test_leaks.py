# SPDX-License-Identifier: Apache-2.0
"""O-16: a secret is found in whatever disguise."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from discluster.simulator.oracles import secrets_are_kept

TOKEN = "NjEwMDAwMDAwMDAwMDAwMDAx.G4zb+/.o5Zk_Wm-7sT0b1uQx/93FhYv2LpKdR8c"
SECRETS = {"the token": TOKEN}


def found(text: str | bytes) -> list[str]:
    return [verdict.text for verdict in secrets_are_kept({"stderr": text}, SECRETS)]


DISGUISES = {
    "plain": TOKEN,
    "last part": TOKEN.split(".")[2],
    "middle part": TOKEN.split(".")[1],
    "first part": TOKEN.split(".")[0],
    "in a sentence": f"could not log in with {TOKEN}.",
    "URL-encoded": quote(TOKEN, safe=""),
    "hex": TOKEN.encode().hex(),
    "hex in capitals": TOKEN.encode().hex().upper(),
    "base64": base64.b64encode(TOKEN.encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(TOKEN.encode()).decode(),
    "base64 of a part": base64.b64encode(TOKEN.split(".")[2].encode()).decode(),
    **{
        f"base64 behind {n} bytes": base64.b64encode(b"x" * n + TOKEN.encode() + b"tail").decode()
        for n in range(4)
    },
}


@pytest.mark.parametrize("name", DISGUISES)
def test_secret_is_found(name: str) -> None:
    (text,) = found(f"some text {DISGUISES[name]} and more")
    assert text.startswith("stderr holds the token")
    assert TOKEN not in text


def test_bytes_that_are_no_text_are_searched_too() -> None:
    assert found(b"\xff\x00" + TOKEN.encode() + b"\xfe")


@pytest.mark.parametrize("text", ["", "[redacted]", "610000000000000001", TOKEN[:20], "G4zb"])
def test_other_text_is_good(text: str) -> None:
    assert found(text) == []


def test_each_secret_and_each_place_has_its_verdict() -> None:
    texts = {"log": "abc-session-1 abc-session-2", "metrics": "abc-session-2", "state": "-"}
    secrets = {"session 1": "abc-session-1", "session 2": "abc-session-2"}
    verdicts = list(secrets_are_kept(texts, secrets))
    assert [(v.oracle, " ".join(v.text.split()[:4])) for v in verdicts] == [
        ("O-16", "log holds session 1"),
        ("O-16", "log holds session 2"),
        ("O-16", "metrics holds session 2"),
    ]
