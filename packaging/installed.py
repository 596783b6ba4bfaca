# SPDX-License-Identifier: Apache-2.0
"""What of Debian's packages is installed below a root, what needs what, and under which licence."""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

STATUS: Final = "var/lib/dpkg/status"
COPYRIGHT: Final = "usr/share/doc/{}/copyright"

FILES: Final = "var/lib/dpkg/info/{}.list"

# By Debian's short names, small: identifiers of SPDX.
_SPDX: Final[Mapping[str, str]] = {
    "0bsd": "0BSD",
    "apache": "Apache-2.0",
    "apache2": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "apache-2.0": "Apache-2.0",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "expat": "MIT",
    "gpl-2": "GPL-2.0-only",
    "gpl-2+": "GPL-2.0-or-later",
    "gpl-3": "GPL-3.0-only",
    "gpl-3+": "GPL-3.0-or-later",
    "isc": "ISC",
    "lgpl-2+": "LGPL-2.0-or-later",
    "lgpl-2.0+": "LGPL-2.0-or-later",
    "lgpl-2.1": "LGPL-2.1-only",
    "lgpl-2.1+": "LGPL-2.1-or-later",
    "lgpl-3+": "LGPL-3.0-or-later",
    "mit": "MIT",
    "mpl-2.0": "MPL-2.0",
    "psf-2": "PSF-2.0",
    "psf-2.0": "PSF-2.0",
    "zlib": "Zlib",
}
# Names, joined or with an exception: not the text of a licence.
_WORD: Final = r"[A-Za-z0-9][\w.+/-]*"
_NAME: Final = re.compile(
    rf"{_WORD}(?:,? (?:or|and) {_WORD}| with [\w.+/ -]*exceptions?)*", re.IGNORECASE
)


# Its copyright file is prose, and refers to others' licences only.
_PYTHON: Final = re.compile(r"(?:lib)?python3(?:\.[0-9]+)?(?:-minimal|-stdlib)?")
_PYTHONS: Final = "Python-2.0"


class Relation(msgspec.Struct, frozen=True):
    """One package that would do; ``bound``: of its version, such as ``>= 3.11``, or empty."""

    name: str
    bound: str = ""


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """``needs``: of each a list of packages of which one will do."""

    name: str
    version: str
    architecture: str
    needs: tuple[tuple[Relation, ...], ...] = ()
    provides: frozenset[str] = frozenset()


def relations(field: str) -> tuple[tuple[Relation, ...], ...]:
    """A field such as ``Depends``."""
    wanted = (entry.split("|") for entry in field.split(",") if entry.strip())
    return tuple(tuple(map(_relation, entry)) for entry in wanted)


def _relation(text: str) -> Relation:
    said = re.fullmatch(r"\s*([a-z0-9][a-z0-9+.-]+)(?::\w+)?\s*(?:\(\s*([^)]+?)\s*\))?\s*", text)
    if said is None:
        raise ValueError(f"not a relation between packages: {text!r}")
    return Relation(said[1], said[2] or "")


def paragraphs(text: str) -> Iterator[dict[str, str]]:
    """The fields of each paragraph of a control file; further lines of a field are kept."""
    for block in re.split(r"\n\s*\n", text):
        found = re.findall(r"^([^\s:#]+):[ \t]*(.*(?:\n[ \t].*)*)", block, re.MULTILINE)
        if found:
            yield {name: value.strip() for name, value in found}


def read(root: Path) -> dict[str, Package]:
    """The packages that are installed below ``root``, by name; empty where there is no dpkg."""
    path = root / STATUS
    text = path.read_text() if path.exists() else ""
    return {
        fields["Package"]: package_of(fields)
        for fields in paragraphs(text)
        if fields.get("Status") == "install ok installed"
    }


def package_of(fields: Mapping[str, str]) -> Package:
    """Out of the fields of a .deb's control file or of dpkg's status."""
    needs = ", ".join(filter(None, (fields.get("Pre-Depends"), fields.get("Depends"))))
    provided = relations(fields.get("Provides", ""))
    return Package(
        name=fields["Package"],
        version=fields["Version"],
        architecture=fields["Architecture"],
        needs=relations(needs),
        provides=frozenset(entry.name for (entry,) in provided),
    )


def needed(
    package: Package, installed: Mapping[str, Package]
) -> dict[str, dict[str, Package | None]]:
    """All that ``package`` needs, by the name of who needs it; None: it is not installed."""
    providers = {name: one for one in installed.values() for name in sorted(one.provides)}
    found: dict[str, dict[str, Package | None]] = {}
    queue = deque([package])
    while queue:
        one = queue.popleft()
        if one.name in found:
            continue
        chosen = [_chosen(entry, installed, providers) for entry in one.needs]
        found[one.name] = dict(sorted(chosen))
        queue.extend(p for _, p in chosen if p is not None)
    return found


def _chosen(
    alternatives: Iterable[Relation],
    installed: Mapping[str, Package],
    providers: Mapping[str, Package],
) -> tuple[str, Package | None]:
    names = [entry.name for entry in alternatives]
    for name in names:
        if (one := installed.get(name) or providers.get(name)) is not None:
            return one.name, one
    return names[0], None


def licences(root: Path, name: str) -> tuple[str, ...]:
    """Of an installed package: identifiers of SPDX where there is one, else Debian's words. As its
    copyright file has them for most of its files, or as a Python package says itself; of a
    file that only people can read, what it refers to. Empty: there is no such file.
    """
    path = root / COPYRIGHT.format(name)
    if not path.exists():
        return ()
    if _PYTHON.fullmatch(name):
        return (_PYTHONS,)
    text = path.read_text(errors="replace")
    found = declared(text) or _by_python(root, name) or referred_to(text)
    return found or (f"see /{COPYRIGHT.format(name)}",)


def declared(text: str) -> tuple[str, ...]:
    """Out of a copyright file that machines can read; empty: it is none."""
    found: dict[str, str] = {}
    for fields in paragraphs(text):
        if "Files" in fields and "License" in fields:
            found.setdefault(fields["Files"], fields["License"].splitlines()[0].strip())
    if said := found.get("*"):
        found = dict.fromkeys(re.split(r",? and ", said), "")
        return tuple(spdx(name) for name in found if _NAME.fullmatch(name))
    return tuple(sorted({spdx(name) for name in found.values() if _NAME.fullmatch(name)}))


def referred_to(text: str) -> tuple[str, ...]:
    """The licences that prose refers to. Whether later versions will do it only tells people."""
    return tuple(sorted(set(re.findall(r"/usr/share/common-licenses/([\w.+-]*[\w+])", text))))


def _by_python(root: Path, name: str) -> tuple[str, ...]:
    listed = root / FILES.format(name)
    files = listed.read_text().splitlines() if listed.exists() else []
    for path in (root / line.lstrip("/") for line in files if line.endswith("/METADATA")):
        text = path.read_text(errors="replace") if path.exists() else ""
        said = re.search(r"^License(?:-Expression)?: (.+)$", text, re.MULTILINE)
        if said is not None and _NAME.fullmatch(said[1]):
            return (spdx(said[1]),)
    return ()


def spdx(name: str) -> str:
    """The identifier of SPDX for a licence as Debian names it, or that name."""
    return _SPDX.get(name.lower(), name)


def is_spdx(name: str) -> bool:
    """Whether ``name`` is such an identifier."""
    return name == _PYTHONS or name in _SPDX.values()
