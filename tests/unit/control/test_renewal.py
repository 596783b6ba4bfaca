# SPDX-License-Identifier: Apache-2.0
"""CONTROL keeps its certificate alive: when it asks, what it takes, and what a kill leaves."""

import asyncio
import datetime
import os
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from discluster import pem
from discluster.certificates import Certificate
from discluster.control.identity import Identity
from discluster.control.renewal import Renewing, Schedule, asked, due_at, renewed
from discluster.errors import ProtocolError, StateError
from discluster.master.access.authority import Authority
from discluster.messages import (
    CertificateReport,
    Message,
    Ping,
    Renewed,
    RenewRefused,
    RenewRequest,
    Trust,
)
from tests.clock import ManualClock
from tests.unit.control.masters import joined_identity

START = 1_700_000_000.0
LIFE = 3000.0
DAY = 86_400.0


def moment(at: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at, datetime.UTC)


# --- the rules ------------------------------------------------------------------------------------

MADE = Certificate(serial="1", issued=START, expires=START + 30 * DAY, authority="0a", host="a")


def test_retries_rest_longer_and_longer_within_bounds() -> None:
    schedule, now, rests = Schedule(jitter=0.0), START + 20 * DAY, []
    for _ in range(20):
        schedule = asked(MADE, schedule, now)
        rests.append(schedule.wait_until - now)
        now = due_at(MADE, schedule)
        assert now == schedule.wait_until
    assert rests[:4] == [1.0, 2.0, 4.0, 8.0]
    assert rests == sorted(rests)
    assert rests[-1] == 3600.0
    assert now < MADE.expires


@settings(deadline=None)
@given(st.floats(10, 400 * DAY), st.floats(0, 1))
def test_whoever_asks_in_vain_asks_often_before_the_end(life: float, jitter: float) -> None:
    made = Certificate(serial="1", issued=0, expires=life, authority="0a", host="a")
    schedule, times = Schedule(jitter=jitter), 0
    while (now := due_at(made, schedule)) < life and times < 1000:
        schedule, times = asked(made, schedule, now), times + 1
    assert times >= 3


@settings(deadline=None)
@given(st.floats(0, 1))
def test_other_authority_is_followed_soon_but_not_by_all_at_once(jitter: float) -> None:
    told = START + DAY
    due = due_at(MADE, Schedule(jitter=jitter, replace_from=told))
    assert due == told + 60 * jitter


def test_clock_that_runs_ahead_does_not_renew_for_ever() -> None:
    """By such a clock each new certificate is due when it comes."""
    now = START + 25 * DAY
    schedule = renewed(MADE, now, jitter=0.5)
    assert due_at(MADE, schedule) == now + 3600


# --- the loop -------------------------------------------------------------------------------------


class Host:
    """The host alpha, and an authority in MASTER's place."""

    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock(wall=START)
        self.authority = Authority(directory / "ca", now=moment(START))
        self.identity = joined_identity(
            directory / "identity", self.authority, now=moment(START), life=LIFE
        )
        self.sent: list[Message] = []
        self.changes = 0
        self.renewing = Renewing(
            self.identity, on_change=self._changed, clock=self.clock, rng=random.Random(1)
        )

    def _changed(self) -> None:
        self.changes += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Host"]:
        task = asyncio.create_task(self.renewing.run())
        await self.clock.advance(0)
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def greets(self) -> None:
        self.renewing.connected(self.sent.append)
        self.trusts()
        await self.clock.advance(0)

    def trusts(self, **revoked: float) -> None:
        trust = Trust(authorities=self.authority.bundle, signing=self.authority.id, revoked=revoked)
        assert self.renewing.said(trust)

    @property
    def asks(self) -> list[RenewRequest]:
        return [message for message in self.sent if isinstance(message, RenewRequest)]

    @property
    def reports(self) -> list[CertificateReport]:
        return [message for message in self.sent if isinstance(message, CertificateReport)]

    def signed(self, request: RenewRequest, host: str = "alpha") -> Renewed:
        now = moment(self.clock.wall())
        made = self.authority.sign_host(request.csr, host, now=now, life=LIFE)
        return Renewed(certificate=made)

    async def asked_again(self) -> float:
        """Time passes until there is one more request; how much."""
        before, began = len(self.asks), self.clock.wall()
        while len(self.asks) == before:
            assert self.clock.wall() < began + LIFE
            await self.clock.advance(1)
        return self.clock.wall() - began

    async def answered(self) -> None:
        """The newest request is granted."""
        self.renewing.said(self.signed(self.asks[-1]))
        await self.clock.advance(0)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def usable(identity: Identity, now: float) -> bool:
    """Key and certificate belong together: TLS takes no other pair."""
    identity.ssl_context("alpha", now=now)
    return identity.host_name() == "alpha"


async def test_certificate_is_renewed_at_two_thirds_again_and_again(host: Host) -> None:
    async with host.running():
        await host.greets()
        serials = {host.identity.certificate().serial}
        for times in range(1, 4):
            assert LIFE * 0.56 < await host.asked_again() < LIFE * 0.68
            assert len(host.asks) == times
            await host.answered()
            serials.add(host.identity.certificate().serial)
            assert usable(host.identity, host.clock.wall())
        assert (len(serials), host.changes) == (4, 3)
        assert host.reports[-1].certificate == host.identity.certificate()
        assert host.renewing.trouble is None


async def test_master_that_is_away_when_it_is_due_is_asked_as_soon_as_it_is_back(
    host: Host,
) -> None:
    async with host.running():
        await host.greets()
        host.renewing.lost()
        await host.clock.advance(LIFE * 0.8)
        assert host.asks == []
        assert host.renewing.words().startswith("valid for 10 min, renewal is due")
        await host.greets()
        assert len(host.asks) == 1
        await host.answered()
        assert host.renewing.words().startswith("valid for 50 min, renewed in ")


async def test_refusal_is_told_and_asked_again_after_a_pause(host: Host) -> None:
    async with host.running():
        await host.greets()
        await host.asked_again()
        host.renewing.said(RenewRefused(reason="it is being stopped"))
        assert "MASTER refuses a new certificate: it is being stopped" in host.renewing.words()
        assert 1 <= await host.asked_again() <= 3
        await host.answered()
        assert host.renewing.trouble is None


async def test_answer_that_never_comes_is_asked_for_with_another_key(host: Host) -> None:
    async with host.running():
        await host.greets()
        await host.asked_again()
        await host.asked_again()
        first, last = host.asks
        assert first != last
        host.renewing.said(host.signed(first))
        assert "for another key" in str(host.renewing.trouble)
        before = host.identity.certificate()
        await host.answered()
        assert host.identity.certificate() != before


async def test_what_is_not_ours_never_takes_the_place_of_what_is(
    host: Host, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other", now=moment(START))
    async with host.running():
        await host.greets()
        await host.asked_again()
        request, before = host.asks[-1], host.identity.certificate()
        now = moment(host.clock.wall())
        for wrong in (
            host.signed(request, host="beta"),
            Renewed(certificate=other.sign_host(request.csr, "alpha", now=now)),
            Renewed(
                certificate=host.authority.sign_host(
                    request.csr, "alpha", now=moment(START), life=60
                )
            ),
            Renewed(certificate="garbage"),
            Renewed(certificate=""),
        ):
            host.renewing.said(wrong)
            assert host.renewing.trouble is not None
            assert host.identity.certificate() == before
            assert usable(host.identity, host.clock.wall())


async def test_new_authority_is_trusted_first_and_followed_when_it_signs(host: Host) -> None:
    async with host.running():
        await host.greets()
        assert len(host.reports[-1].trusts) == 1
        host.authority.announce(moment(START))
        host.trusts()
        assert host.authority.newest in host.reports[-1].trusts
        await host.clock.advance(100)
        assert host.asks == [], "who trusts it has nothing to renew yet"
        host.authority.replace()
        host.trusts()
        await host.clock.advance(61)
        await host.answered()
        assert host.reports[-1].certificate.authority == host.authority.id
        host.authority.retire()
        host.trusts()
        assert host.reports[-1].trusts == (host.authority.id,)
        assert usable(host.identity, host.clock.wall())
        asked_before = len(host.asks)
        await host.clock.advance(100)
        assert len(host.asks) == asked_before


async def test_authorities_of_which_none_made_our_certificate_are_not_taken(
    host: Host, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other", now=moment(START))
    async with host.running():
        await host.greets()
        host.renewing.said(Trust(authorities=other.bundle, signing=other.id))
        assert "none made our own certificate" in str(host.renewing.trouble)
        assert host.identity.trusts() == (host.authority.id,)


async def test_revoked_hosts_are_known_over_a_restart(host: Host, tmp_path: Path) -> None:
    async with host.running():
        await host.greets()
        host.trusts(beta=START)
    again = Identity(tmp_path / "identity")
    assert again.revoked == {"beta": START}


async def test_other_messages_are_for_others(host: Host) -> None:
    assert not host.renewing.said(Ping(number=1))


def test_machine_that_did_not_join_has_nothing_to_say(tmp_path: Path) -> None:
    renewing = Renewing(
        Identity(tmp_path),
        on_change=lambda: None,
        clock=ManualClock(),
        rng=random.Random(1),
    )
    sent: list[Message] = []
    renewing.connected(sent.append)
    assert (renewing.words(), sent) == ("", [])


# --- files ----------------------------------------------------------------------------------------


class KilledError(Exception):
    pass


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_kill_at_any_instant_of_a_renewal_leaves_a_usable_identity(
    host: Host, tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each call by which the file is changed: once before it is done, once after."""
    identity, now = host.identity, START + 10
    for done in (False, True):
        key = ec.generate_private_key(ec.SECP256R1())
        made = host.authority.sign_host(
            pem.request_for(key, "alpha"), "alpha", now=moment(now), life=LIFE
        )
        real = getattr(os, call)

        def dies(
            *arguments: object, real: object = real, done: bool = done, **more: object
        ) -> None:
            if done:
                real(*arguments, **more)  # type: ignore[operator]
            raise KilledError

        before = identity.certificate()
        with monkeypatch.context() as patched:
            patched.setattr(os, call, dies)
            with pytest.raises(KilledError):
                identity.renew(key, made, now=now)
        again = Identity(tmp_path / "identity")
        assert usable(again, now)
        new = again.certificate() != before
        assert not new or (call == "replace" and done)


def test_two_files_of_former_versions_become_one(host: Host, tmp_path: Path) -> None:
    directory = tmp_path / "identity"
    text = (directory / "host.pem").read_text()
    before = host.identity.certificate()
    (directory / "host.pem").unlink()
    (directory / "host.key").write_text(pem.pem_blocks(text, "PRIVATE KEY")[0])
    (directory / "host.crt").write_text(pem.pem_blocks(text, "CERTIFICATE")[0])
    again = Identity(directory)
    again.adopt_former_layout()
    assert again.certificate() == before
    assert usable(again, START)
    assert not (directory / "host.key").exists()


def test_damaged_list_of_revoked_hosts_is_told(host: Host, tmp_path: Path) -> None:
    (tmp_path / "identity" / "revoked.json").write_text("{")
    with pytest.raises(StateError, match=r"revoked\.json: cannot be read"):
        _ = Identity(tmp_path / "identity").revoked


def test_certificate_for_another_key_is_not_taken(host: Host) -> None:
    mine, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    made = host.authority.sign_host(pem.request_for(other, "alpha"), "alpha", now=moment(START))
    with pytest.raises(ProtocolError, match="for another key"):
        host.identity.renew(mine, made, now=START)
    assert isinstance(host.identity.ssl_context("alpha", now=START), ssl.SSLContext)
