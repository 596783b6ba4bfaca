# SPDX-License-Identifier: Apache-2.0
"""A handler out of a virtual environment of the operator's, made by Python's own ``venv``."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from discluster.cluster.environment import site_packages
from discluster.errors import ConfigurationError
from tests.unit.cluster.test_main import PROGRAM, assert_told, credentials, settings
from tests.unit.processes import run, started

OURS = f"{sys.version_info.major}.{sys.version_info.minor}"

BOT = """
import logging, os, msgspec, our_library, our_editable
class Bot:
    async def start(self, cluster, commands):
        logging.getLogger("bot").info("library %s, msgspec %s", our_library.NAME, msgspec.__file__)
    def handle_batch(self, events): pass
    async def stop(self): pass
    def summary(self): return ""
"""


def make(directory: Path) -> Path:
    """The environment; returns where its packages are."""
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", directory], check=True, timeout=60
    )
    return directory / "lib" / f"python{OURS}" / "site-packages"


def install(packages: Path, name: str, version: str = "1.0", *, offers: str = "") -> None:
    """What an installer would write of a package, but for the modules."""
    info = packages / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(offers)


async def test_cluster_takes_its_handler_out_of_the_virtual_environment(tmp_path: Path) -> None:
    packages = make(tmp_path / "venv")
    install(packages, "our-bot", offers="[discluster.handlers]\nour-bot = our_bot:Bot\n")
    install(packages, "msgspec", "99.0")
    (packages / "our_bot.py").write_text(BOT)
    (packages / "our_library.py").write_text("NAME = 'of the bot'\n")
    (packages / "msgspec.py").write_text("1 / 0\n")
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / "our_editable.py").write_text("")
    (packages / "our_editable.pth").write_text(f"{tmp_path / 'checkout'}\n")
    config = settings(tmp_path, f"virtual_environment: {tmp_path / 'venv'}\nhandler: our-bot\n")
    said = ""
    async with started(
        PROGRAM, "--config", config, "3", environment=credentials(tmp_path)
    ) as process:
        assert process.stderr is not None
        async with asyncio.timeout(20):
            while "library of the bot" not in said:
                line = await process.stderr.readline()
                assert line, said
                said += line.decode()
            process.terminate()
            await process.communicate()
    assert process.returncode == 0
    assert f"msgspec {packages}" not in said
    assert "these are not used: msgspec 99.0 (here: " in said


async def test_name_that_nothing_in_the_environment_offers_ends_the_cluster_in_words(
    tmp_path: Path,
) -> None:
    make(tmp_path / "venv")
    extra = f"virtual_environment: {tmp_path / 'venv'}\nhandler: our-bot\n"
    ended = await run(
        PROGRAM,
        *("--config", settings(tmp_path, extra), "3"),
        environment=credentials(tmp_path),
    )
    assert_told_at_the_end(ended.error)
    assert ended.status == 78


def assert_told_at_the_end(said: str) -> None:
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: handler our-bot: no installed package offers it")
    assert "Traceback" not in said


async def test_environment_that_is_none_ends_the_cluster_in_words(tmp_path: Path) -> None:
    ended = await run(
        PROGRAM,
        *("--config", settings(tmp_path, f"virtual_environment: {tmp_path}\n"), "3"),
        environment=credentials(tmp_path),
    )
    assert_told(ended, 78, "there is no virtual environment: no pyvenv.cfg", "ProtectHome")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("version = 3.7.3\n", f"is for Python 3.7, and the clusters run on Python {OURS}"),
        ("version_info = 3.7.3.final.0\n", "is for Python 3.7"),
        ("home = /usr/bin\n", "is for Python (pyvenv.cfg does not tell)"),
        (f"version = {OURS}.1\n", "site-packages is no directory"),
        ("\udcff", "cannot be read: it is no text"),
    ],
)
def test_environment_that_does_not_fit_is_told_in_words(
    tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "pyvenv.cfg").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigurationError) as caught:
        site_packages(tmp_path)
    assert told in caught.value.message


@pytest.mark.parametrize("key", ["version", "version_info"])
def test_environment_of_any_tool_is_taken(tmp_path: Path, key: str) -> None:
    packages = tmp_path / "lib" / f"python{OURS}" / "site-packages"
    packages.mkdir(parents=True)
    (tmp_path / "pyvenv.cfg").write_text(f"home = /usr/bin\n{key}={OURS}.0\n")
    assert site_packages(tmp_path) == packages


def test_environment_that_may_not_be_read_says_who_must(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").mkdir()
    with pytest.raises(ConfigurationError) as caught:
        site_packages(tmp_path)
    assert "cannot be read" in caught.value.message
    assert "the cluster's user must be able to read it" in str(caught.value.hint)
