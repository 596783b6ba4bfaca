# SPDX-License-Identifier: Apache-2.0
"""O-16: tokens, session ids and other secrets appear in no output, in no disguise."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus

from discluster.simulator.oracles.verdict import Verdict

# Shorter parts would be found everywhere.
_LEAST = 6


def secrets_are_kept(
    texts: Mapping[str, str | bytes], secrets: Mapping[str, str]
) -> Iterator[Verdict]:
    """O-16. `texts`: outputs by name (log, metrics, core dump, …). `secrets`: values by name.

    Of a value with dots, as a token has, each part is searched for, too; each as it stands,
    URL-encoded, in hex, and in base64 of any alignment. The verdict does not repeat the secret.
    Leave out what may hold it, such as session ids in the state file.
    """
    disguises = {name: _disguises(value) for name, value in secrets.items()}
    for place, text in texts.items():
        raw = text.encode(errors="surrogateescape") if isinstance(text, str) else text
        for name, forms in disguises.items():
            found = next((form for form, needle in forms if needle in raw), None)
            if found is not None:
                yield Verdict(oracle="O-16", text=f"{place} holds {name} {found}")


def _disguises(value: str) -> list[tuple[str, bytes]]:
    parts = [("whole", value)]
    if "." in value:
        parts += [(f"(part {n})", part) for n, part in enumerate(value.split("."), 1)]
    return [
        (f"{which} {form}".strip(), needle)
        for which, part in parts
        if len(part) >= _LEAST
        for form, needle in _forms(part)
    ]


def _forms(text: str) -> Iterator[tuple[str, bytes]]:
    raw = text.encode()
    yield "", raw
    for encoded in {quote(text, safe=""), quote_plus(text)} - {text}:
        yield "URL-encoded", encoded.encode()
    yield "in hex", raw.hex().encode()
    yield "in hex", raw.hex().upper().encode()
    for needle in _base64(raw):
        yield "in base64", needle
        yield "in base64", needle.translate(bytes.maketrans(b"+/", b"-_"))


def _base64(raw: bytes) -> Iterator[bytes]:
    """What base64 makes of it wherever it begins, less the digits that its neighbours share."""
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + raw).rstrip(b"=")
        head = (0, 2, 3)[shift]
        tail = len(coded) - (1 if (shift + len(raw)) % 3 else 0)
        yield coded[head:tail]
