# SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path

import msgspec
import pytest

from discluster.clock import SystemClock
from discluster.cluster.calls import ClusterCalls
from discluster.cluster.handlers import BatchPacketHandler
from discluster.cluster.handlers.count import CountingHandler
from discluster.cluster.handlers.loading import call_methods, handling, load_handler
from discluster.cluster.sending import ShardCommands
from discluster.errors import ConfigurationError
from discluster.gateway import Event
from discluster.gateway.failing import HandlerFailures
from discluster.secret import Secret
from tests.unit.cluster.surroundings import surroundings

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

class Tells(Good):
    def problem(self):
        pass


class Flushes(Good):
    async def flush(self): pass

class Batches:
    wants = ["READY", "MESSAGE_CREATE"]
    async def start(self, cluster, commands): pass
    def handle_batch(self, events): pass
    async def stop(self): pass
    def summary(self): return "batches"

class Both(Good):
    def handle_batch(self, events): pass

class Single(Good):
    def handle(self, shard, event): pass

class Strange(Good):
    def stop(self, when): pass

class OneWord(Good):
    wants = "MESSAGE_CREATE"

class Nothing(Good):
    wants = ()

class CallsNoNames(Good):
    calls = {"no name": print}

class CallsAList(Good):
    calls = ["stats"]

class CallsNumber(Good):
    calls = {"stats": 3}

class CallsUnbound(Good):
    def stats(self, args): pass
    calls = {"stats": stats}

class Called(Good):
    def __init__(self): self.calls = {"stats": self.stats}
    def stats(self, args): return args

class Lacking:
    def handle(self, event): pass

NUMBER = 3

def fails():
    raise OSError("no database")

def misconfigured():
    from discluster.errors import ConfigurationError
    raise ConfigurationError("the bot is of an unknown kind", hint="take another")
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "our_handler.py").write_text(SOURCE)
    (tmp_path / "our_broken_handler.py").write_text("1 / 0\n")
    (tmp_path / "our_importing_handler.py").write_text("\nimport does_not_exist_anywhere\n")
    (tmp_path / "our_unfinished_handler.py").write_text("\n\nf(\n")
    return tmp_path


def test_handler_is_made_by_calling_its_attribute(modules: Path) -> None:
    assert load_handler("our_handler:Good", surroundings()).summary() == "good"
    sys.modules.pop("our_handler")


def test_handler_of_batches_is_called_for_batches_of_what_it_wants(modules: Path) -> None:
    handler = load_handler("our_handler:Batches", surroundings())
    assert isinstance(handler, BatchPacketHandler)
    made = handling(handler, HandlerFailures(clock=SystemClock()))
    assert (made.handle, made.batch) == (None, handler.handle_batch)
    assert made.wants == frozenset({"READY", "MESSAGE_CREATE"})
    sys.modules.pop("our_handler")


def test_calls_of_a_handler_are_those_that_it_names(modules: Path) -> None:
    methods = call_methods("handler", load_handler("our_handler:Called", surroundings()))
    assert {name: method([1]) for name, method in methods.items()} == {"stats": [1]}
    assert call_methods("handler", load_handler("our_handler:Good", surroundings())) == {}
    sys.modules.pop("our_handler")


def offer(directory: Path, package: str, line: str) -> None:
    """As if ``package`` was installed there, with an entry point."""
    info = directory / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[discluster.handlers]\n{line}\n")


def test_handler_that_a_package_offers_is_found_by_its_name(modules: Path) -> None:
    offer(modules, "our-bot", "our-good = our_handler:Good [extra]")
    assert load_handler("our-good", surroundings()).summary() == "good"
    sys.modules.pop("our_handler")
    with pytest.raises(ConfigurationError) as caught:
        load_handler("our-goods", surroundings())
    assert "there are our-good" in caught.value.message


def test_name_that_two_packages_offer_is_refused(modules: Path) -> None:
    offer(modules, "our-bot", "good = our_handler:Good")
    offer(modules, "their-bot", "good = our_handler:Flushes")
    with pytest.raises(ConfigurationError) as caught:
        load_handler("good", surroundings())
    assert (
        "several packages offer it: our_handler:Flushes, our_handler:Good" in caught.value.message
    )


@pytest.mark.parametrize(
    ("name", "told", "hint"),
    [
        ("not_there:Good", "handler not_there:Good: No module named 'not_there'", "importable"),
        ("our_handler:Bad", "module our_handler has no 'Bad'", "cluster.yaml"),
        (
            "our_handler:Lacking",
            "Lacking is no packet handler: it lacks start, stop, summary",
            "start, handle or handle_batch, stop and summary",
        ),
        ("our_handler:Both", "Both has both handle and handle_batch", "remove one"),
        ("our_handler:Single", "handle cannot be called: missing a required", "an event"),
        ("our_handler:Strange", "stop cannot be called: missing a required", "nothing"),
        ("our_handler:OneWord", "'wants' is 'MESSAGE_CREATE'", "as Discord names them"),
        ("our_handler:Nothing", "'wants' is ()", "as Discord names them"),
        ("our_handler:CallsNoNames", "'calls' is {'no name': <built-in", "a name has up to 64"),
        ("our_handler:CallsAList", "'calls' is ['stats']", "it is a dict"),
        ("our_handler:CallsNumber", "the call 'stats' is 'int'", "a function or a method"),
        (
            "our_handler:CallsUnbound",
            "the call 'stats': stats cannot be called: missing a required argument: 'args'",
            "as in __init__",
        ),
        ("our_handler:NUMBER", "it is 'int' and cannot be called", "as a class"),
        ("our_handler:Good.inner", "module our_handler has no 'inner'", "cluster.yaml"),
        ("no-such-name", "no installed package offers it", "module:attribute"),
        ("our_handler:Older", "start cannot be called: too many positional", "and the commands"),
        ("our_handler:Tells", "problem cannot be called: too many positional", "of a shard"),
        ("our_handler:Flushes", "flush cannot be called: too many positional", "of a shard"),
        ("our_handler:fails", "calling it fails: OSError: no database", "cluster.yaml"),
        (
            "our_handler:misconfigured",
            "misconfigured: the bot is of an unknown kind",
            "take another",
        ),
        ("our_handler:SOURCE", "has no 'SOURCE'", "cluster.yaml"),
        (
            "our_broken_handler:X",
            "fails on import: ZeroDivisionError: division by zero (DIR/our_broken_handler.py:1)",
            "cluster.yaml",
        ),
        (
            "our_importing_handler:X",
            "No module named 'does_not_exist_anywhere' (DIR/our_importing_handler.py:2)",
            "importable",
        ),
        (
            "our_unfinished_handler:X",
            "SyntaxError: '(' was never closed (DIR/our_unfinished_handler.py:3)",
            "cluster.yaml",
        ),
    ],
)
def test_wrong_handler_is_told_in_words(modules: Path, name: str, told: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_handler(name, surroundings())
    assert told.replace("DIR", str(modules)) in caught.value.message
    assert hint in str(caught.value.hint)
    sys.modules.pop("our_handler", None)


async def test_counting_handler_tells_what_came(tmp_path: Path) -> None:
    handler = load_handler("count", surroundings())
    assert isinstance(handler, CountingHandler)
    await handler.start(
        3,
        ShardCommands(
            find=lambda shard: None,
            shard_count=lambda: None,
            shards=lambda: (),
            token=Secret("t"),
            intents=0,
            directory=tmp_path,
            calls=ClusterCalls(cluster=3, methods={}, clock=SystemClock()),
        ),
    )
    assert handler.summary() == ""
    for number, kind in enumerate(["A", "B", "B", "C", "C", "C", "D"]):
        event = Event(shard=1, seq=number, type=kind, body=msgspec.Raw(b"{}"), session_id="s")
        handler.handle(event)
    assert handler.summary() == "7 events (C 3, B 2, A 1)"
    await handler.stop()
