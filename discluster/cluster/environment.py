# SPDX-License-Identifier: Apache-2.0
"""The operator's virtual environment, out of which the cluster imports its packet handler.

Its packages come after those that Discluster itself was installed with, so they cannot replace what
Discluster imports. The process remains the system's Python; so the environment must be one for it.
"""

import logging
import site
import sys
from importlib import metadata
from pathlib import Path
from typing import Final

from discluster.errors import ConfigurationError

log = logging.getLogger(__name__)

_MOST_TOLD: Final = 10
_MAKE: Final = "make it with 'python3 -m venv', with the Python of the clusters"
_READABLE: Final = (
    "the cluster's user must be able to read it, and its unit hides /home, /root and /run/user"
    " (ProtectHome=): put it below /srv or /opt"
)


def use_virtual_environment(directory: Path) -> None:
    """From now on what is installed there can be imported, also what its .pth files name.

    Raises:
        ConfigurationError: it is no virtual environment, or one for another Python.
    """
    packages = site_packages(directory)
    hidden = _hidden(packages)
    site.addsitedir(str(packages))
    log.info("packages of %s can be imported", directory)
    if hidden:
        log.warning(
            "the virtual environment has other versions of what Discluster brings, and these are"
            " not used: %s",
            ", ".join(hidden[:_MOST_TOLD]) + (" …" if len(hidden) > _MOST_TOLD else ""),
        )


def site_packages(directory: Path) -> Path:
    """Where the packages are, after a check that this Python can import them.

    Raises:
        ConfigurationError: see above.
    """
    told = f"virtual_environment {directory}"
    try:
        text = (directory / "pyvenv.cfg").read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigurationError(
            f"{told}: there is no virtual environment: no pyvenv.cfg", hint=f"{_MAKE}; {_READABLE}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigurationError(f"{told}: cannot be read: {reason}", hint=_READABLE) from None
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    theirs = _version(text)
    if theirs != ours:
        raise ConfigurationError(
            f"{told}: is for Python {theirs or '(pyvenv.cfg does not tell)'}, and the clusters"
            f" run on Python {ours}",
            hint=_MAKE,
        )
    packages = directory / "lib" / f"python{ours}" / "site-packages"
    if not packages.is_dir():
        raise ConfigurationError(f"{told}: {packages} is no directory", hint=_MAKE)
    return packages


def _version(text: str) -> str | None:
    """``3.13`` out of a pyvenv.cfg; venv writes ``version``, virtualenv and uv ``version_info``."""
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and key.strip() in ("version", "version_info"):
            return ".".join(value.strip().split(".")[:2])
    return None


def _hidden(packages: Path) -> list[str]:
    """What is there in another version than on our own path, in words."""
    told = []
    for distribution in metadata.distributions(path=[str(packages)]):
        name = distribution.metadata["Name"]
        if not name:
            continue
        try:
            ours = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if ours != distribution.version:
            told.append(f"{name} {distribution.version} (here: {ours})")
    return sorted(told)
