# SPDX-License-Identifier: Apache-2.0
"""Files that are whole, and programs that end with words."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from discluster import errors
from discluster.errors import (
    ConfigurationError,
    DisclusterError,
    DocumentError,
    Problem,
    StateError,
)
from discluster.files import read_if_there, read_plain_file, write_atomically
from discluster.service import first_of_ours, run_service


def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "plan.yaml"
    write_atomically(path, "old", mode=0o600)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(path.parent) == ["plan.yaml"]  # noqa: PTH208
    assert read_if_there(path) == "new"


def test_a_reader_sees_the_old_or_the_new_text_and_never_half(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    texts = {letter * 200_000 for letter in "ab"}
    write_atomically(path, "a" * 200_000)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for text in texts:
                write_atomically(path, text)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(200):
            assert read_if_there(path) in texts
    finally:
        stop.set()
        writer.join()


def test_a_file_that_is_not_there_is_none_and_one_that_cannot_be_read_is_told(
    tmp_path: Path,
) -> None:
    assert read_if_there(tmp_path / "none") is None
    (tmp_path / "binary").write_bytes(b"\xff")
    for path in (tmp_path, tmp_path / "binary"):
        with pytest.raises(StateError, match="cannot be read") as caught:
            read_if_there(path)
        assert str(path) in caught.value.message


def test_a_place_that_cannot_be_written_is_told_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"file/x: cannot be written: File exists") as caught:
        write_atomically(tmp_path / "file" / "x", "text")
    assert caught.value.hint
    assert caught.value.exit_status == 74


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_service_in_order(number: int) -> None:
    ended = []

    async def body(stop: asyncio.Event) -> None:
        os.kill(os.getpid(), number)
        async with asyncio.timeout(5):
            await stop.wait()
        ended.append(True)

    assert run_service(body) == 0
    assert ended == [True]


ERRORS: list[type[DisclusterError]] = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, DisclusterError) and kind is not DocumentError
]


EVERY: list[type[DisclusterError]] = [*ERRORS, DocumentError]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_of_ours_ends_in_one_sentence_with_its_exit_status(
    kind: type[DisclusterError], capsys: pytest.CaptureFixture[str]
) -> None:
    async def body(_stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())
            tasks.create_task(asyncio.sleep(60))

    async def fail() -> None:
        raise kind("it broke", hint="mend it")

    assert run_service(body) == kind.exit_status
    assert capsys.readouterr().err == "error: it broke (mend it)\n"


def test_codes_and_exit_statuses_are_the_documented_ones() -> None:
    documented = {
        line.split()[0]: int(line.split()[1])
        for line in (errors.__doc__ or "").splitlines()
        if line.startswith("    ")
    }
    assert documented == {kind.__name__: kind.exit_status for kind in EVERY}
    codes = [kind.code for kind in EVERY]
    assert len(codes) == len(set(codes))


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    async def body(_stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail(DisclusterError("ours")))
            tasks.create_task(fail(ZeroDivisionError("theirs")))

    async def fail(error: Exception) -> None:
        raise error

    with pytest.raises(ExceptionGroup):
        run_service(body)


def test_the_first_error_of_ours_is_found_however_deep() -> None:
    ours = StateError("x")
    deep = ExceptionGroup("", [ExceptionGroup("", [ours])])
    assert first_of_ours(deep) is ours
    assert first_of_ours(ExceptionGroup("", [deep, ValueError()])) is None


def test_an_error_tells_its_message_and_its_hint() -> None:
    assert ConfigurationError("a", hint="b").render() == "a (b)"
    assert ConfigurationError("a").render() == "a"
    assert DisclusterError("a", code="own").code == "own"
    one, two = Problem("f", 3, "a.b", "bad"), Problem("f", 0, "", "worse")
    assert DocumentError([one], hint="h").render() == "f:3: a.b: bad (h)"
    assert DocumentError([one, two], hint="h").render() == "f:3: a.b: bad\nf: worse\n(h)"


@pytest.mark.parametrize(("call", "dumpable"), [("no_core_dumps()", "0"), ("", "1")])
def test_process_that_keeps_secrets_is_not_dumped_by_the_kernel(call: str, dumpable: str) -> None:
    script = (
        "import ctypes\nfrom discluster.service import no_core_dumps\n"
        f"{call}\nprint(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"  # PR_GET_DUMPABLE
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == dumpable


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [os.mkfifo, link_to_a_device, Path.mkdir])
def test_what_is_no_file_is_refused_and_not_waited_for(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "it")
    with pytest.raises(OSError, match=r"not a file|Too many levels"):
        read_plain_file(tmp_path / "it")


def test_huge_file_is_read_no_further_than_it_need_be(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    assert len(read_plain_file(tmp_path / "huge")) == 1 << 20
