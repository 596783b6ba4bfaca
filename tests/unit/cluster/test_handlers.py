# SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path

import msgspec
import pytest

from discluster.cluster.handlers import load_handler
from discluster.cluster.handlers.count import CountingHandler
from discluster.cluster.sending import ShardCommands
from discluster.errors import ConfigurationError
from discluster.gateway import Event

SOURCE = """
class Good:
    async def start(self, cluster, commands): pass
    def handle(self, event): pass
    async def stop(self): pass
    def summary(self): return "good"

class Older:
    async def start(self, cluster): pass
    def handle(self, event): pass
    async def stop(self): pass
    def summary(self): return ""

class Flushes(Good):
    async def flush(self): pass

class Lacking:
    def handle(self, event): pass

def fails():
    raise OSError("no database")
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "our_handler.py").write_text(SOURCE)
    (tmp_path / "our_broken_handler.py").write_text("1 / 0\n")
    (tmp_path / "our_importing_handler.py").write_text("import does_not_exist_anywhere\n")
    return tmp_path


def test_handler_is_made_by_calling_its_attribute(modules: Path) -> None:
    assert load_handler("our_handler:Good").summary() == "good"
    sys.modules.pop("our_handler")


@pytest.mark.parametrize(
    ("name", "told", "hint"),
    [
        ("not_there:Good", "handler not_there:Good: No module named 'not_there'", "importable"),
        ("our_handler:Bad", "module our_handler has no 'Bad'", "cluster.yaml"),
        ("our_handler:Lacking", "Lacking is no packet handler", "start, handle, stop and summary"),
        ("our_handler:Older", "start cannot be called: too many positional", "and the commands"),
        ("our_handler:Flushes", "flush cannot be called: too many positional", "of a shard"),
        ("our_handler:fails", "calling it fails: OSError: no database", "cluster.yaml"),
        ("our_handler:SOURCE", "has no 'SOURCE'", "cluster.yaml"),
        ("our_broken_handler:X", "fails on import: ZeroDivisionError", "cluster.yaml"),
        ("our_importing_handler:X", "No module named 'does_not_exist_anywhere'", "importable"),
    ],
)
def test_wrong_handler_is_told_in_words(modules: Path, name: str, told: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_handler(name)
    assert told in caught.value.message
    assert hint in str(caught.value.hint)
    sys.modules.pop("our_handler", None)


async def test_counting_handler_tells_what_came() -> None:
    handler = load_handler("discluster.cluster.handlers.count:CountingHandler")
    assert isinstance(handler, CountingHandler)
    await handler.start(3, ShardCommands(find=lambda shard: None, shard_count=lambda: None))
    assert handler.summary() == ""
    for number, kind in enumerate(["A", "B", "B", "C", "C", "C", "D"]):
        event = Event(shard=1, seq=number, type=kind, body=msgspec.Raw(b"{}"), session_id="s")
        handler.handle(event)
    assert handler.summary() == "7 events (C 3, B 2, A 1)"
    await handler.stop()
