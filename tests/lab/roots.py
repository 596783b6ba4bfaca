# SPDX-License-Identifier: Apache-2.0
"""File trees to boot and to build in: a Debian 13 root, and layers over it."""

import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.lab.cache import Cache, key_of
from tests.lab.commands import LabError, run
from tests.lab.prerequisites import passed_on
from tests.lab.runs import Run

REPOSITORY: Final = Path(__file__).resolve().parent.parent.parent
DEBIAN: Final = REPOSITORY / "packaging" / "debian"
SUITE: Final = "trixie"
# Change it when what is done to a root changes.
RECIPE: Final = "2"

# What a machine needs beside discluster's own dependencies, and what a person in it would miss.
MACHINE_PACKAGES: Final = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "iputils-ping",
    "less",
    "libpam-systemd",
    "procps",
    "systemd",
    "systemd-sysv",
)
# Beside Build-Depends: what dpkg-buildpackage takes for granted of build-essential, and lintian.
BUILD_PACKAGES: Final = ("dpkg-dev", "lintian", "make", "man-db")
LEFT_OUT: Final = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")
KEPT: Final = "/usr/share/doc/*/copyright"  # for packaging/sbom.py
MASKED: Final = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "systemd-tmpfiles-clean.timer",
)


def relations(control: str, field: str) -> list[str]:
    """Package names in the field ``field`` of a debian/control, versions and ``${…}`` left out."""
    found = re.search(rf"^{field}:(.*(?:\n[ \t].*)*)", control, re.MULTILINE)
    if found is None:
        raise LabError(f"debian/control has no field {field}")
    names = (entry.split("(")[0].strip() for entry in found[1].split(","))
    return sorted({name for name in names if name and not name.startswith("$")})


def sources(files: Mapping[str, str], codename: str) -> str:
    """The host's own Debian sources with the suite replaced, in deb822 form.

    ``files``: contents of /etc/apt/sources.list and sources.list.d by name. Sources of other suites
    than the host's (third parties, backports) are left out. The machine's mirrors are used, so
    that the lab works wherever the host's apt does.
    """
    wanted = {codename, f"{codename}-updates", f"{codename}-security"}
    stanzas = []
    for name, text in sorted(files.items()):
        found = _stanzas(text) if name.endswith(".sources") else _one_liners(text)
        for stanza in found:
            suites = [s for s in _field(stanza, "Suites").split() if s in wanted]
            if suites and "deb" in _field(stanza, "Types").split():
                new = " ".join(s.replace(codename, SUITE, 1) for s in suites)
                stanzas.append(_with_field(_with_field(stanza, "Suites", new), "Types", "deb"))
    if not stanzas:
        stanzas.append(f"Types: deb\nURIs: http://deb.debian.org/debian\nSuites: {SUITE}\n"
                       "Components: main\n")  # fmt: skip
    return "\n".join(stanzas)


def host_sources() -> str:
    """:func:`sources` of this host."""
    apt = Path("/etc/apt")
    paths = [apt / "sources.list", *apt.glob("sources.list.d/*.list")]
    paths += apt.glob("sources.list.d/*.sources")
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", SUITE)
    return sources({path.name: path.read_text() for path in paths if path.exists()}, codename)


def machine_root(cache: Cache) -> Path:
    """A Debian 13 that boots and holds everything that discluster.deb depends on."""
    packages = sorted({*MACHINE_PACKAGES, *relations(_control(), "Depends")})
    mirror = host_sources()
    key = key_of(RECIPE, platform.machine(), mirror, *packages)
    return cache.get("root", key, lambda new: _make_root(new / "root", packages, mirror)) / "root"


def build_root(cache: Cache, run: Run) -> tuple[Path, Path]:
    """Lower directories of a Debian 13 with everything that building the package needs."""
    base = machine_root(cache)
    packages = [*relations(_control(), "Build-Depends"), *BUILD_PACKAGES]
    packages = [name.replace("debhelper-compat", "debhelper") for name in packages]
    key = key_of(base.parent.name, *packages)
    script = f"""
        apt-get -qq update
        apt-get -qq install -y --no-install-recommends {" ".join(packages)}
        apt-get clean
        rm -rf /var/lib/apt/lists/*
    """
    layer = cache.get("build", key, lambda new: _make_layer(run, new, base, script, network=True))
    return layer / "upper", base


def package_root(cache: Cache, run: Run, package: Path, digest: str) -> tuple[Path, Path]:
    """Lower directories of a Debian 13 with ``package`` (a .deb) installed by apt, offline."""
    base = machine_root(cache)

    def make(new: Path) -> None:
        shutil.copy(package, new / "package.deb")
        script = "apt-get -qq install -y /mnt/package.deb"
        _make_layer(run, new, base, script, binds={new: "/mnt"})

    layer = cache.get("package", key_of(base.parent.name, digest), make)
    return layer / "upper", base


def _control() -> str:
    return (DEBIAN / "control").read_text()


def _make_root(root: Path, packages: Sequence[str], mirror: str) -> None:
    listed = root.with_name("debian.sources")
    listed.write_text(mirror)
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"]
    command += [f"--include={','.join(packages)}", "--dpkgopt=force-unsafe-io"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    command += [f"--dpkgopt=path-include={KEPT}"]
    command += [f"--aptopt={option}" for option in _apt_options()]
    run([*command, SUITE, root, listed], timeout=600, environment=passed_on())
    _finish_root(root)


def _apt_options() -> list[str]:
    """The host's proxy and validity options, which mmdebstrap does not take over by itself."""
    dump = run(["apt-config", "dump"]).stdout.splitlines()
    taken = re.compile(r"Acquire::(https?::Proxy|Check-(Valid-Until|Date)|https::CaInfo)")
    return ['Acquire::Languages "none";', *(line for line in dump if taken.match(line))]


def _finish_root(root: Path) -> None:
    """Make the first boot quick and the journal complete."""
    (root / "etc/dpkg/dpkg.cfg.d/99mmdebstrap").unlink(missing_ok=True)  # docs of ours are wanted
    (root / "etc/dpkg/dpkg.cfg.d/lab").write_text("force-unsafe-io\n")
    journald = root / "etc/systemd/journald.conf.d"
    journald.mkdir(parents=True)
    (journald / "lab.conf").write_text(
        "[Journal]\nStorage=persistent\nRateLimitBurst=0\nSystemMaxUse=64M\nSyncIntervalSec=1s\n"
    )
    for unit in MASKED:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    for directory in ("etc", "var"):
        # systemd compares with /usr's time and rebuilds caches on a difference.
        run(["touch", "-r", root / "usr", root / directory / ".updated"])
    (root / "etc/resolv.conf").unlink(missing_ok=True)


def _make_layer(
    run_: Run,
    new: Path,
    base: Path,
    script: str,
    *,
    binds: Mapping[Path, str] | None = None,
    network: bool = False,
) -> None:
    upper = new / "upper"
    root = run_.overlay([base], upper=upper)
    try:
        run_.in_root(
            root,
            ["/bin/sh", "-ec", script],
            binds=binds,
            environment={**_proxies(), "DEBIAN_FRONTEND": "noninteractive"},
            network=network,
            timeout=600,
        )
    finally:
        run_.discard(root)
    run(["rm", "-rf", new / "upper.work"])


def _proxies() -> dict[str, str]:
    return {key: value for key, value in passed_on().items() if key.lower().endswith("_proxy")}


def _stanzas(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    blocks = re.split(r"\n\s*\n", "\n".join(lines))
    return [block.strip("\n") + "\n" for block in blocks if block.strip()]


def _one_liners(text: str) -> list[str]:
    options, words = r"(?:\[(?P<options>[^]]*)\]\s+)?", r"(?P<uri>\S+)\s+(?P<suite>\S+)\s+"
    pattern = re.compile(rf"^deb\s+{options}{words}(?P<components>.+)$")
    stanzas = []
    for line in text.splitlines():
        if found := pattern.match(line.split("#")[0].strip()):
            stanza = f"Types: deb\nURIs: {found['uri']}\nSuites: {found['suite']}\n"
            stanza += f"Components: {found['components'].strip()}\n"
            if signed := re.search(r"signed-by=(\S+)", found["options"] or ""):
                stanza += f"Signed-By: {signed[1]}\n"
            stanzas.append(stanza)
    return stanzas


def _field(stanza: str, name: str) -> str:
    found = re.search(rf"^{name}:[ \t]*(.*)$", stanza, re.MULTILINE | re.IGNORECASE)
    return found[1] if found else ""


def _with_field(stanza: str, name: str, value: str) -> str:
    pattern = re.compile(rf"^{name}:.*$", re.MULTILINE | re.IGNORECASE)
    return pattern.sub(lambda _: f"{name}: {value}", stanza)
