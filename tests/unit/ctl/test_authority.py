# SPDX-License-Identifier: Apache-2.0
"""``disclusterctl ca`` and ``host revoke``."""

import json

import msgspec
import pytest

from discluster.console import Failure
from discluster.ctl import authority
from discluster.messages import encode
from discluster.trust import (
    AuthorityStatus,
    CertificateView,
    RevokeRequest,
    RotateRequest,
    RotationView,
    TrustAnswer,
)
from tests.unit.ctl import servers
from tests.unit.ctl.desks import Ctl
from tests.unit.ctl.terminal import plain

DAY = 86_400.0
VALID = CertificateView(
    kind="host",
    name="alpha",
    serial="1f2e3d4c5b6a79880001",
    age=10 * DAY,
    expires_in=20 * DAY,
    renew_in=10 * DAY,
    state="valid",
    authority="00ff00ff00ff00ff",
)
replace = msgspec.structs.replace
ROOT = replace(VALID, kind="authority", name="signs", renew_in=None, expires_in=3000 * DAY)
MASTERS = replace(VALID, kind="master", name="MASTER")
LATE = replace(
    VALID, name="beta", state="late", expires_in=3 * DAY, renew_in=-7 * DAY, present=False
)
GONE = replace(VALID, name="gamma", state="expired", expires_in=-DAY, renew_in=-11 * DAY)
OUT = replace(VALID, name="delta", state="revoked", renew_in=None)
WELL = AuthorityStatus(fingerprint="sha256:" + "ab" * 32, certificates=(ROOT, MASTERS, VALID))
ILL = replace(
    WELL,
    certificates=(ROOT, MASTERS, VALID, LATE, GONE, OUT),
    revoked={"delta": 3600.0},
    unknown=("eta",),
    rotation=RotationView(
        phase="announced", age=90.0, lacks=("beta", "gamma"), left_behind=("delta",)
    ),
)


@pytest.mark.parametrize(("found", "expected"), [(WELL, 0), (ILL, 3)])
async def test_status_ends_with_3_when_a_certificate_expired_or_will(
    found: AuthorityStatus, expected: int, ctl: Ctl
) -> None:
    async with servers.master(ctl.master, {"/v1/authority": servers.says(found)}):
        shown, raw = await ctl("ca", "status"), await ctl("ca", "status", "--json")
    assert (shown.status, raw.status) == (expected, expected)
    assert msgspec.json.decode(raw.out, type=AuthorityStatus) == found
    assert json.loads(raw.out)["certificates"][1]["name"] == "MASTER"


def test_worst_comes_first_and_who_is_waited_for_is_named() -> None:
    text = plain(authority.rendered(ILL, width=120), width=120)
    assert text.startswith("1 certificate expired; 1 certificate not renewed in time\n")
    rows = [line.split()[0] for line in text.splitlines() if "1f2e3d4c" in line]
    assert rows == ["gamma", "beta", "authority:", "MASTER", "alpha", "delta"]
    words = " ".join(text.split())
    assert "hosts learn to trust the new authority, for 1min 30s; waiting for beta, gamma" in words
    assert "not waiting for delta, which must join again" in words
    assert "delta (1h ago)" in words
    assert "out of touch" in words
    assert "eta" in words


def test_well_is_said_in_a_sentence() -> None:
    text = plain(authority.rendered(WELL, width=80), width=80)
    assert text.startswith("All certificates are valid and renewed in time\n")
    assert max(map(len, text.splitlines())) <= 80
    assert "in 10d" in text


async def test_rotation_is_begun_or_finished(ctl: Ctl) -> None:
    answer = TrustAnswer(done=("so it is",))
    routes = {"/v1/authority/rotate": servers.says(answer)}
    async with servers.master(ctl.master, routes) as asked:
        assert (await ctl("ca", "rotate"))[:2] == (0, "so it is\n")
        assert (await ctl("ca", "rotate", "--finish")).status == 0
    assert asked.seen == [
        f"POST /v1/authority/rotate {encode(RotateRequest(finish=finish)).decode()}"
        for finish in (False, True)
    ]


async def test_host_is_revoked(ctl: Ctl) -> None:
    answer = TrustAnswer(done=("beta is cut off and kept out", "to let it in again: so"))
    async with servers.master(ctl.master, {"/v1/hosts/revoke": servers.says(answer)}) as asked:
        status, out, err = await ctl("host", "revoke", "beta")
    assert (status, err) == (0, "")
    assert out == "beta is cut off and kept out\nto let it in again: so\n"
    assert asked.seen == [f"POST /v1/hosts/revoke {encode(RevokeRequest(host='beta')).decode()}"]


async def test_refusal_is_told_in_masters_words(ctl: Ctl) -> None:
    failure = Failure(code="rotation-underway", message="it is replaced already", hint="look")
    routes = {"/v1/authority/rotate": servers.says(failure, status=409)}
    async with servers.master(ctl.master, routes):
        assert await ctl("ca", "rotate") == (1, "", "error: it is replaced already (look)\n")


async def test_names_of_others_do_not_steer_the_terminal(ctl: Ctl) -> None:
    evil = replace(WELL, certificates=(replace(VALID, name="a\x1b[2J"),))
    async with servers.master(ctl.master, {"/v1/authority": servers.says(evil)}):
        assert "\x1b" not in (await ctl("ca", "status")).out
