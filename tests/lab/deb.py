# SPDX-License-Identifier: Apache-2.0
"""Building the package from the work tree: directly on Debian 13, elsewhere inside its root."""

import contextlib
import hashlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.lab.cache import Cache, key_of
from tests.lab.commands import ENVIRONMENT, Completed, LabError, run
from tests.lab.prerequisites import obstacle, reason_to_skip
from tests.lab.roots import REPOSITORY, SUITE, build_root
from tests.lab.runs import Run

# What is in the work tree and has no part in the package.
LEFT_OUT: Final = ("tests/", "docs/", ".ci/", ".github/")
# -d: dpkg asks for a C compiler otherwise; our own build dependencies are checked the line before.
BUILD: Final = "dpkg-checkbuilddeps -I && dpkg-buildpackage --build=binary -us -uc -d"
LINTIAN: Final = "lintian --tag-display-limit=0 --allow-root --fail-on=error --info"


class Package(NamedTuple):
    """A built package; ``digest`` names its content."""

    path: Path
    version: str
    digest: str


def source_files(repository: Path = REPOSITORY) -> list[Path]:
    """Paths, relative, of the files that make the package: tracked, or new and not ignored."""
    git = ["git", "-c", "safe.directory=*", "-C", str(repository), "ls-files", "-z"]
    names = run([*git, "--cached", "--others", "--exclude-standard"]).stdout.split("\0")
    wanted = {name for name in names if name and not name.startswith(LEFT_OUT)}
    return sorted(Path(name) for name in wanted if (repository / name).is_file())


def digest_of(files: Sequence[Path], repository: Path = REPOSITORY) -> str:
    """A name for the content and the modes of ``files``."""
    digest = hashlib.sha256()
    for file in files:
        path = repository / file
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{file}\0{os.access(path, os.X_OK)}\0{content}\0".encode())
    return digest.hexdigest()


def version_of(repository: Path = REPOSITORY) -> str:
    """The version that the changelog and the program agree on.

    Raises:
        LabError: they do not agree.
    """
    changelog = (repository / "packaging/debian/changelog").read_text()
    module = (repository / "discluster/__init__.py").read_text()
    said = re.match(r"\S+ \(([^)]+)\)", changelog)
    own = re.search(r'^__version__\s*(?::[^=]+)?=\s*"([^"]+)"', module, re.MULTILINE)
    if said is None or own is None or said[1] != own[1]:
        raise LabError(
            f"packaging/debian/changelog says version {said and said[1]}, "
            f"discluster/__init__.py {own and own[1]}: make them equal"
        )
    return own[1]


def build(cache: Cache, *, version: str | None = None) -> Package:
    """The package of the work tree, built unless the cache has it.

    ``version``: build as this one instead of the changelog's (to test upgrades).

    Raises:
        LabError: it cannot be built; the message holds the end of the build's output.
    """
    released = version_of()
    key = key_of(digest_of(source_files()), version or released)
    entry = cache.get("deb", key, lambda new: make(cache, new, version=version))
    (path,) = entry.glob("*.deb")
    return Package(path, version or released, key)


def make(cache: Cache, new: Path, *, version: str | None = None) -> None:
    """Build the package of the work tree into the directory ``new``; otherwise like :func:`build`,
    but that nothing is looked up.
    """
    with tempfile.TemporaryDirectory(prefix="discluster-deb-") as scratch:
        tree = Path(scratch) / "discluster"
        _copy(source_files(), tree)
        if version is not None:
            _restamp(tree / "debian/changelog", version_of(), version)
        if can_build_here():
            run(["/bin/sh", "-ec", BUILD], cwd=tree, timeout=300)
        else:
            _build_in_root(cache, Path(scratch))
        for made in Path(scratch).glob("*.deb"):
            shutil.copy(made, new)


def lint(cache: Cache, package: Package) -> Completed:
    """What lintian says of ``package``; exit status 2 if there is an error among it."""
    with Run() as run_:
        root = run_.overlay(build_root(cache, run_))
        command = f"{LINTIAN} /mnt/{package.path.name}"
        return run_.in_root(
            root,
            ["/bin/sh", "-c", command],
            binds={package.path.parent: "/mnt"},
            timeout=300,
            check=False,
        )


def can_build_here() -> bool:
    """Whether this is a Debian 13 with everything that building needs installed."""
    if platform.freedesktop_os_release().get("VERSION_CODENAME") != SUITE:
        return False
    check = ["dpkg-checkbuilddeps", "-I", str(REPOSITORY / "packaging/debian/control")]
    with contextlib.suppress(LabError):
        return run(check, check=False).returncode == 0
    return False


def why_not() -> str | None:
    """Why the package cannot be built here, with what to do about it, or None."""
    if can_build_here():
        return None
    reason = reason_to_skip()
    if reason is None:
        return None
    if obstacle() is None:
        return reason
    return (
        f"{reason}; the package is built on Debian 13 with its build dependencies "
        "(apt-get build-dep ./packaging), or as root inside a Debian 13 root that is made for it"
    )


def _build_in_root(cache: Cache, scratch: Path) -> None:
    with Run() as run_:
        root = run_.overlay(build_root(cache, run_))
        run_.in_root(
            root,
            ["/bin/sh", "-ec", f"cd /mnt/discluster; {BUILD}"],
            binds={scratch: "/mnt"},
            environment={"LANG": ENVIRONMENT["LANG"]},
            timeout=300,
        )


def _copy(files: Sequence[Path], tree: Path) -> None:
    for file in files:
        target = tree / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / file, target)
    shutil.copytree(tree / "packaging/debian", tree / "debian")


def _restamp(changelog: Path, released: str, version: str) -> None:
    text = changelog.read_text()
    changelog.write_text(text.replace(f"({released})", f"({version})", 1))
