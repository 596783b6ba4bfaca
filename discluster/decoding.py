# SPDX-License-Identifier: Apache-2.0
"""What goes wrong when msgspec reads what others wrote, all of it, and how that is told."""

from typing import Final

import msgspec

# Nesting that is deeper than Python's stack is a RecursionError, from C code too.
DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
_SHOWN: Final = 300  # characters


def reason_of(error: Exception) -> str:
    """One of DECODE_ERRORS in words, in one line. It may quote what was read."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeError) and not isinstance(error, msgspec.DecodeError):
        return "not UTF-8"
    return legible(str(error))


def legible(text: str) -> str:
    """Short, and without anything that breaks the line or steers a terminal."""
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return "".join(c if c.isprintable() else "?" for c in shown)
