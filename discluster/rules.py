# SPDX-License-Identifier: Apache-2.0
"""What a value must satisfy beyond its type, and how complaints about it are worded.

What stands in a document may be anybody's: it is quoted short, in one line, and without anything
that steers a terminal.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

_SHOWN: Final = 60  # characters of a value
_GUESSED_AT: Final = 40  # characters of a key, and keys; comparing texts takes the square of that


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What a value must satisfy beyond its type; put it into ``Annotated[...]``.

    ``longest``: characters. It is looked at before ``pattern``.
    """

    minimum: float | None = None
    maximum: float | None = None
    longest: int | None = None
    pattern: str | None = None
    pattern_says: str | None = None

    def check(self, value: object) -> str | None:
        """The complaint about ``value``, or None."""
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if self.minimum is not None and value < self.minimum:
                return f"must be at least {_number(self.minimum)}, not {_number(value)}"
            if self.maximum is not None and value > self.maximum:
                return f"must be at most {_number(self.maximum)}, not {_number(value)}"
        if not isinstance(value, str):
            return None
        if self.longest is not None and len(value) > self.longest:
            return f"must have at most {self.longest} characters, not {len(value)}"
        if self.pattern and not re.fullmatch(self.pattern, value):
            said = self.pattern_says or "of the form " + self.pattern
            return f"must be {said}, not {quoted(value)}"
        return None


def quoted(text: str) -> str:
    """``text`` in quotes; of a long one its beginning."""
    return f"{text if len(text) <= _SHOWN else text[:_SHOWN] + '…'!r}"


def below(path: str, step: str | int) -> str:
    """The path of a mapping's key, or of a list's item, as messages write it."""
    if isinstance(step, int):
        return f"{path}[{step}]"
    shown = step if step.isprintable() and len(step) <= _SHOWN else quoted(step)
    return f"{path}.{shown}" if path else shown


def unknown(key: str, known: Sequence[str]) -> str:
    """The complaint about a key that is none of ``known``."""
    close = difflib.get_close_matches(key[:_GUESSED_AT], known, n=1)
    return (
        f"unknown key; did you mean {close[0]!r}?"
        if close
        else f"unknown key; known are {', '.join(sorted(known))}"
    )


def unique(items: Iterable[str]) -> list[str]:
    """Each once, in their order."""
    return list(dict.fromkeys(items))


def _number(value: float) -> str:
    """As a person writes it: 1000000, not 1e+06."""
    return str(int(value)) if abs(value) < 1e21 and value == int(value) else str(value)
