# SPDX-License-Identifier: Apache-2.0
"""The package is built once a session; each module gets machines of its own."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.lab import deb
from tests.lab.cache import Cache, default_directory
from tests.lab.fleet import LabFleet
from tests.lab.machines import Lab
from tests.lab.prerequisites import reason_to_skip, required
from tests.lab.roots import REPOSITORY, machine_root, package_root
from tests.lab.runs import Run

# Where journals of machines go when a test failed; CI keeps what is below build/.
JOURNALS = REPOSITORY / "build" / "lab"
# The first test waits for the roots and the package: a minute and a half on two cores.
TIMEOUT = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs machines, and skip it with the reason where there can be none.

    Raises:
        pytest.UsageError: there can be none, and ``DISCLUSTER_LAB=required``.
    """
    ours = [
        item
        for item in items
        if item.path.is_relative_to(Path(__file__).parent)
        and "lab_run" in getattr(item, "fixturenames", ())
    ]
    reason = reason_to_skip() if ours else None
    if reason is not None and required():
        raise pytest.UsageError(f"DISCLUSTER_LAB=required, but {reason}")
    for item in ours:
        item.add_marker(pytest.mark.lab)
        item.add_marker(pytest.mark.timeout(TIMEOUT))
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def lab_cache() -> Iterator[Cache]:
    with Cache(default_directory()) as cache:
        cache.prune()
        yield cache


@pytest.fixture(scope="session")
def lab_run() -> Iterator[Run]:
    with Run() as run:
        yield run


@pytest.fixture(scope="session")
def package(lab_cache: Cache) -> deb.Package:
    """discluster.deb of the work tree."""
    return deb.build(lab_cache)


@pytest.fixture(scope="session")
def newer_package(lab_cache: Cache, package: deb.Package) -> deb.Package:
    """The same with a higher version, to upgrade to."""
    return deb.build(lab_cache, version=f"{package.version}+1")


@pytest.fixture(scope="session")
def package_lower(lab_cache: Cache, lab_run: Run, package: deb.Package) -> tuple[Path, ...]:
    """File trees of a machine with the package installed."""
    return package_root(lab_cache, lab_run, package.path, package.digest)


@pytest.fixture(scope="module")
def lab(
    request: pytest.FixtureRequest, lab_run: Run, package_lower: tuple[Path, ...]
) -> Iterator[Lab]:
    """Machines with the package installed: ``lab.boot("alpha", "beta")``."""
    yield from _lab(request, Lab(lab_run, package_lower))


@pytest.fixture(scope="module")
def bare_lab(request: pytest.FixtureRequest, lab_run: Run, lab_cache: Cache) -> Iterator[Lab]:
    """Machines with everything that the package depends on, without the package."""
    yield from _lab(request, Lab(lab_run, [machine_root(lab_cache)]))


@pytest.fixture
async def fleet(
    request: pytest.FixtureRequest, lab_run: Run, package_lower: tuple[Path, ...]
) -> AsyncIterator[LabFleet]:
    """A fleet on machines of its own, not started yet."""
    async with lab_fleet(request, lab_run, package_lower) as made:
        yield made


@asynccontextmanager
async def lab_fleet(
    request: pytest.FixtureRequest, lab_run: Run, package_lower: tuple[Path, ...]
) -> AsyncIterator[LabFleet]:
    """A fleet that is not started yet, for a fixture of any scope. Its journals stay, and are
    shown, when a test fails.
    """
    lab = Lab(lab_run, package_lower)
    made = LabFleet(lab)
    failed_before = request.session.testsfailed
    try:
        yield made
    finally:
        if request.session.testsfailed > failed_before:
            lab.save(JOURNALS / Path(request.node.name.removesuffix(".py")).name)
            print(await made.diagnostics())
        await made.close()


def _lab(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Lab]:
    failed_before = request.session.testsfailed
    with lab:
        yield lab
        if request.session.testsfailed > failed_before:
            lab.save(JOURNALS / Path(request.node.name).stem)
