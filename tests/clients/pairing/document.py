# SPDX-License-Identifier: Apache-2.0
"""The programs in docs/pairing.md."""

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.clients.installation import MODULES, REPOSITORY

DOCUMENT: Final = REPOSITORY / "docs" / "pairing.md"
THEIR: Final = Path(__file__).resolve().parent / "their"
_SETTINGS: Final = re.compile(r"(?<=\n\n)((?:    +[a-z_]+:.*\n)+)")
_BLOCK: Final = re.compile(r"^```\w+\n(?:#|//) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_THE_BOT: Final = re.compile(r"^(?:#|//) … the bot as it is …$", re.MULTILINE)
_LISTENING: Final = {
    ".py": "from tests.clients.pairing.their import {library}; {library}.listen(bot)",
    ".mjs": 'import {{ listen }} from "{their}/{library}.mjs"; listen({named});',
}
_NAMED: Final = {"discordjs_ws": "manager"}
"""What a program calls the library's main object, where that is not ``client`` or ``bot``."""


def programs() -> Mapping[str, str]:
    """The texts of all files in the document, by name."""
    return dict(_BLOCK.findall(DOCUMENT.read_text()))


def settings() -> list[str]:
    """Each piece of cluster.yaml in the document."""
    return [textwrap.dedent(found) for found in _SETTINGS.findall(DOCUMENT.read_text())]


def is_bot(text: str) -> bool:
    """Whether the program has the place for the bot's own lines."""
    return _THE_BOT.search(text) is not None


def write(library: str, directory: Path) -> Path:
    """The program of ``library`` in ``directory``, with a test's lines for the bot's, and what lies
    beside it; returns its path.
    """
    (directory / "node_modules").symlink_to(MODULES)
    (program,) = (name for name in programs() if Path(name).stem == library)
    for name, text in programs().items():
        if name == program or not is_bot(text):
            path = directory / Path(name).name
            path.write_text(_with_listeners(text, library, path.suffix))
    return directory / program


def _with_listeners(text: str, library: str, suffix: str) -> str:
    if not is_bot(text):
        return text
    named = _NAMED.get(library, "client")
    line = _LISTENING[suffix].format(library=library, their=THEIR, named=named)
    return _THE_BOT.sub(line, text)
