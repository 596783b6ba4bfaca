# SPDX-License-Identifier: Apache-2.0
"""A part of a page that another program writes. Pure."""

import re
from typing import Final

from tests.bench.processes import BenchError

_EMPTY: Final = "<!-- master: begin -->\n<!-- master: end -->"
_MASTER: Final = re.compile(r"<!-- master: begin -->\n.*?<!-- master: end -->", re.DOTALL)


def master_section(page: str) -> str:
    """What `make bench-master` wrote into ``page``, with its marks; these alone if nothing."""
    found = _MASTER.search(page)
    return found[0] if found is not None else _EMPTY


def with_master_section(page: str, text: str) -> str:
    """``page`` with ``text`` as that section.

    Raises:
        BenchError: it has no place for it.
    """
    if _MASTER.search(page) is None:
        raise BenchError(f"the page has no place for MASTER's section:\n{_EMPTY}")
    fresh = f"<!-- master: begin -->\n{text.strip()}\n<!-- master: end -->"
    return _MASTER.sub(lambda _: fresh, page)
