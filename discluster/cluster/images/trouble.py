# SPDX-License-Identifier: Apache-2.0
"""What is told in the journal when images cannot be put on disk."""

import logging
from pathlib import Path

log = logging.getLogger(__name__)


class DiskTrouble:
    """Tells once when it begins, for all files together, and once when it is over."""

    def __init__(self) -> None:
        self._paths: set[Path] = set()

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._paths)

    def happened(self, path: Path, error: OSError) -> None:
        """Nothing can be written to ``path``."""
        if not self._paths:
            log.error(
                "%s: the image of this shard cannot be written: %s; it goes on in memory, and is"
                " tried again every minute; until then a crash of this cluster loses it",
                path,
                error.strerror or error,
            )
        self._paths.add(path)

    def over(self, path: Path) -> None:
        """It can be written."""
        if path in self._paths:
            self._paths.discard(path)
            if not self._paths:
                log.info("%s: the images of shards are on disk again", path)

    def gone(self, path: Path) -> None:
        """Nobody wants to write to it any more."""
        self._paths.discard(path)
