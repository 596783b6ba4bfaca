# SPDX-License-Identifier: Apache-2.0
"""A process is killed while it writes; what it acknowledged is in the image of the next one."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cluster.images import killed
from tests.unit.cluster.images.events import SHARD
from tests.unit.cluster.images.test_image import make_images


def acknowledged(directory: Path, events: int) -> int:
    """Lets a process take about ``events``, kills it, and tells what it acknowledged last."""
    process = subprocess.Popen(
        [sys.executable, "-m", killed.__name__, directory], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    last = 0
    for line in process.stdout:
        last = int(line)
        if last >= events:
            break
    process.kill()
    rest = process.stdout.read().splitlines()
    process.stdout.close()
    process.wait()
    whole = [line for line in rest if line]
    return max(last, *map(int, whole[:-1]), 0) if whole else last


@pytest.mark.parametrize("seed", range(6))
def test_what_was_acknowledged_is_in_the_image_after_sigkill(seed: int, tmp_path: Path) -> None:
    """At some instant, also while the file is written anew: every few hundred events."""
    seq = acknowledged(tmp_path, random.Random(seed).randrange(30, 3000))
    image = make_images(tmp_path).open(SHARD, session_id=killed.SESSION, seq=seq)
    assert image.complete
    assert image.seq >= seq
    told = [json.loads(dispatch.body).get("description") for dispatch in image.guilds()]
    assert told == killed.expected(image.seq)
