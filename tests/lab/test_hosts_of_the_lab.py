# SPDX-License-Identifier: Apache-2.0
"""The lab on other hosts than this one: whose apt sources, control groups and caches differ."""

from pathlib import Path

import pytest

from tests.lab.cache import MAX_AGE, Cache
from tests.lab.cgroups import hierarchies
from tests.lab.commands import LabError
from tests.lab.fleet import parse_units
from tests.lab.roots import relations, sources

DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""
HYBRID = """\
tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
"""
ONE_LINERS = """\
# deb http://old.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] https://mirror.example/debian bookworm main
deb http://mirror.example/debian bookworm-backports main
deb-src http://mirror.example/debian bookworm main
"""


def test_mirrors_of_the_host_are_used_with_the_suite_replaced() -> None:
    made = sources({"debian.sources": DEB822}, "bookworm")
    assert made == (
        "Types: deb\n"
        "URIs: http://mirror.example/debian\n"
        "Suites: trixie trixie-updates\n"
        "Components: main contrib\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        "\n"
        "Types: deb\n"
        "URIs: http://mirror.example/debian-security\n"
        "Suites: trixie-security\n"
        "Components: main\n"
    )


def test_sources_in_one_line_are_understood() -> None:
    made = sources({"sources.list": ONE_LINERS}, "bookworm")
    assert made == (
        "Types: deb\n"
        "URIs: https://mirror.example/debian\n"
        "Suites: trixie\n"
        "Components: main\n"
        "Signed-By: /usr/share/keyrings/k.gpg\n"
    )


def test_sources_of_a_debian_13_stay_as_they_are() -> None:
    text = DEB822.replace("bookworm", "trixie")
    assert "Suites: trixie trixie-updates\n" in sources({"debian.sources": text}, "trixie")


def test_third_party_sources_are_left_out() -> None:
    text = "Types: deb\nURIs: http://third.example/\nSuites: nodistro\nComponents: main\n"
    made = sources({"third.sources": text, "debian.sources": DEB822}, "bookworm")
    assert "third.example" not in made


def test_host_without_usable_sources_gets_debians_own() -> None:
    assert "http://deb.debian.org/debian\nSuites: trixie\n" in sources({}, "bookworm")


def test_dependencies_are_read_from_the_packaging() -> None:
    control = "Depends:\n a (>= 1),\n b,\n ${misc:Depends},\nDescription: x\n Depends: no\n"
    assert relations(control, "Depends") == ["a", "b"]
    with pytest.raises(LabError, match="no field Suggests"):
        relations(control, "Suggests")


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        ("cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n", ["/sys/fs/cgroup"]),
        (HYBRID, ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"]),
    ],
)
def test_control_group_hierarchies_are_found(mounts: str, expected: list[str]) -> None:
    assert hierarchies(mounts) == [Path(path) for path in expected]


def test_units_are_read_by_cluster_number() -> None:
    listed = (
        "discluster-cluster@3.service loaded active running Discluster cluster 3\n"
        "discluster-cluster@17.service loaded failed failed Discluster cluster 17\n"
    )
    assert parse_units(listed) == {3: "active", 17: "failed"}


def test_entry_is_made_once_and_kept(tmp_path: Path) -> None:
    calls: list[Path] = []

    def make(new: Path) -> None:
        calls.append(new)
        (new / "file").write_text("made")

    for _ in range(2):
        with Cache(tmp_path) as cache:
            assert (cache.get("thing", "key", make) / "file").read_text() == "made"
    assert len(calls) == 1


def test_entry_whose_making_failed_is_not_there(tmp_path: Path) -> None:
    def fail(new: Path) -> None:
        (new / "half").write_text("done")
        raise LabError("no")

    with Cache(tmp_path) as cache:
        with pytest.raises(LabError):
            cache.get("thing", "key", fail)
        entry = cache.get("thing", "key", lambda new: None)
        assert list(entry.iterdir()) == []


def test_entry_in_use_can_be_had_by_others_at_the_same_time(tmp_path: Path) -> None:
    with Cache(tmp_path) as one, Cache(tmp_path) as other:
        entry = one.get("thing", "key", lambda new: None)
        assert other.get("thing", "key", lambda new: None) == entry


def test_only_old_entries_that_nobody_uses_are_pruned(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        cache.get("thing", "old", lambda new: None)
    with Cache(tmp_path) as user, Cache(tmp_path) as other:
        entry = user.get("thing", "used", lambda new: None)
        now = entry.stat().st_mtime
        assert other.prune(now=now) == []
        assert other.prune(now=now + MAX_AGE + 60) == ["thing-old"]
        assert entry.exists()
