# SPDX-License-Identifier: Apache-2.0
"""Logging: the journal's native protocol on a real socket, and lines elsewhere."""

import logging
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from discluster.logs import JournalHandler, LineFormatter, journal_datagram, set_up


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[tuple[socket.socket, logging.Logger]]:
    path = tmp_path / "journal"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(5)
        handler = JournalHandler("discluster-test", str(path))
        logger = logging.Logger("discluster.test")
        logger.addHandler(handler)
        yield listener, logger
        handler.close()


def parsed(datagram: bytes) -> dict[str, str]:
    """As journald reads it (systemd: Native Journal Protocol)."""
    fields = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
        else:
            name = line
            (size,) = struct.unpack("<Q", datagram[:8])
            value, datagram = datagram[8 : 8 + size], datagram[8 + size + 1 :]
        fields[name.decode()] = value.decode()
    return fields


def test_a_sentence_becomes_an_entry_with_fields(
    journal: tuple[socket.socket, logging.Logger],
) -> None:
    listener, log = journal
    log.warning("shard %d dropped", 3, extra={"SHARD": 3, "HOST": "alpha", "OTHER": "x"})
    assert parsed(listener.recv(65536)) == {
        "MESSAGE": "shard 3 dropped",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "discluster-test",
        "LOGGER": "discluster.test",
        "SHARD": "3",
        "HOST": "alpha",
    }


@pytest.mark.parametrize(
    ("level", "priority"),
    [(10, "7"), (20, "6"), (30, "4"), (40, "3"), (50, "2"), (25, "6")],
)
def test_levels_become_priorities(
    journal: tuple[socket.socket, logging.Logger], level: int, priority: str
) -> None:
    listener, log = journal
    log.log(level, "x")
    assert parsed(listener.recv(65536))["PRIORITY"] == priority


def test_a_value_with_newlines_cannot_forge_a_field(
    journal: tuple[socket.socket, logging.Logger],
) -> None:
    listener, log = journal
    log.info("first\nPRIORITY=0\n", extra={"HOST": "a\nUNIT=b"})
    fields = parsed(listener.recv(65536))
    assert fields["MESSAGE"] == "first\nPRIORITY=0\n"
    assert fields["PRIORITY"] == "6"
    assert fields["HOST"] == "a\nUNIT=b"
    assert "UNIT" not in fields


def test_a_traceback_goes_with_its_sentence(
    journal: tuple[socket.socket, logging.Logger],
) -> None:
    listener, log = journal
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        log.exception("it failed")
    message = parsed(listener.recv(65536))["MESSAGE"]
    assert message.startswith("it failed\nTraceback")
    assert message.endswith("RuntimeError: boom")


def test_letters_that_cannot_be_encoded_lose_no_sentence(
    journal: tuple[socket.socket, logging.Logger],
) -> None:
    listener, log = journal
    log.info("half a pair: %s", "\ud800")
    assert parsed(listener.recv(65536))["MESSAGE"] == r"half a pair: \ud800"


def test_a_sentence_that_does_not_format_ends_nothing(
    journal: tuple[socket.socket, logging.Logger], capsys: pytest.CaptureFixture[str]
) -> None:
    listener, log = journal
    log.info("%d shards", "many")
    assert "Logging error" in capsys.readouterr().err
    log.info("next")
    assert parsed(listener.recv(65536))["MESSAGE"] == "next"


def test_what_the_journal_does_not_take_goes_to_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = JournalHandler("x", str(tmp_path / "nobody"))
    handler.handle(logging.LogRecord("x", 20, "f", 1, "hello %s", ("you",), None))
    handler.close()
    assert capsys.readouterr().err == "hello you\n"


def test_a_line_tells_time_level_logger_and_sentence() -> None:
    record = logging.LogRecord("discluster.x", 40, "f", 1, "sad", (), None)
    assert LineFormatter().format(record).endswith(" ERROR discluster.x: sad")
    assert b"MESSAGE=sad\n" in journal_datagram("i", record, logging.NullHandler())


def test_without_a_journal_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("aiohttp.access").level
    try:
        set_up("x", "warning", {})
        (handler,) = root.handlers
        assert isinstance(handler, logging.StreamHandler)
        assert handler.stream is sys.stderr
        logging.getLogger("discluster.y").warning("told")
        logging.getLogger("discluster.y").info("not told")
        assert capsys.readouterr().err.endswith(" WARNING discluster.y: told\n")
    finally:
        root.handlers[:], level, access = before
        root.setLevel(level)
        logging.getLogger("aiohttp.access").setLevel(access)
