# SPDX-License-Identifier: Apache-2.0
"""Leases as values and on disk."""

from pathlib import Path

import pytest

from discluster import lease
from discluster.errors import StateError
from discluster.lease import StoredLease, boottime, holds, is_over, read_lease, read_stored
from discluster.messages import Lease

BOOT = "b" * 32
UNITS = Path(__file__).resolve().parents[3] / "units"


@pytest.mark.parametrize(
    ("given", "over", "held"),
    [
        (None, None, False),
        (Lease(until=10.0), False, True),
        (Lease(until=9.0), True, False),
        (Lease(until=9.0, then="keep"), True, True),
        (Lease(until=None), False, True),
        (Lease(until=0.0), True, False),
    ],
)
def test_lease_holds_until_its_end_and_beyond_only_with_keep(
    given: Lease | None, over: bool | None, held: bool
) -> None:
    assert holds(given, 9.0) is held
    assert given is None or is_over(given, 9.0) is over


def test_boottime_goes_on_and_boots_are_told_apart() -> None:
    before = boottime()
    assert 0 < before <= boottime()
    assert lease.boot_id({}) == lease.boot_id({}) != BOOT
    assert lease.boot_id({"DISCLUSTER_BOOT_ID": "0-1"}) == "01", "as the kernel writes it, or %b"


def test_lease_on_disk_counts_in_its_boot_only(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lease.json"
    stored = StoredLease(boot_id=BOOT, until=12.5, then="keep", confirmed=1.0, length=30.0)
    lease.write_lease(path, stored)
    assert read_stored(path, boot_id=BOOT) == stored
    assert read_lease(path, boot_id=BOOT) == Lease(until=12.5, then="keep")
    assert read_lease(path, boot_id="another") is None
    assert [entry.name for entry in path.parent.iterdir()] == ["lease.json"]


def test_no_lease_on_disk_is_none(tmp_path: Path) -> None:
    assert read_lease(tmp_path / "lease.json", boot_id=BOOT) is None


@pytest.mark.parametrize("text", ["", "{}", '{"boot_id": 1, "until": 2}'])
def test_damaged_lease_is_told_with_what_to_do(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lease.json"
    path.write_text(text)
    with pytest.raises(StateError, match=r"lease\.json: not a lease") as caught:
        read_lease(path, boot_id=BOOT)
    assert caught.value.hint is not None


@pytest.mark.parametrize("unit", ["discluster-control.service", "discluster-cluster@.service"])
def test_unit_that_hides_the_boot_id_tells_it(unit: str) -> None:
    lines = (UNITS / unit).read_text().splitlines()
    assert "ProcSubset=pid" in lines
    assert f"Environment={lease.BOOT_ID_VARIABLE}=%b" in lines
