# SPDX-License-Identifier: Apache-2.0
"""Certificates and attackers against a real MASTER on loopback: renewal, revocation, rotation."""

import asyncio
import datetime
import ssl
import time
from typing import Any

import aiohttp
import msgspec
import pytest

from discluster import pem
from discluster.console import EventPage, EventQuery, Failure, JoinRequest
from discluster.master.access.authority import Authority
from discluster.messages import (
    CertificateReport,
    Message,
    Rejected,
    Renewed,
    RenewRefused,
    RenewRequest,
    Trust,
    encode,
)
from discluster.trust import AuthorityStatus, RevokeRequest, RotateRequest, TrustAnswer
from tests.unit.master.test_link_and_api import PATIENCE, Fleet, Machine, fleet, post_join
from tests.unit.master.tls import client_context, csr_of, new_key, signed_host
from tests.waiting import wait_for

__all__ = ["fleet"]


async def authority(fleet: Fleet) -> AuthorityStatus:
    async with fleet.operator.get("http://master/v1/authority") as response:
        return msgspec.json.decode(await response.read(), type=AuthorityStatus)


async def told(fleet: Fleet, path: str, order: Message) -> tuple[str, ...]:
    async with fleet.operator.post(f"http://master{path}", data=encode(order)) as response:
        body = await response.read()
        assert response.status == 200, body
    return msgspec.json.decode(body, type=TrustAnswer).done


async def revoke(fleet: Fleet, host: str) -> tuple[str, ...]:
    return await told(fleet, "/v1/hosts/revoke", RevokeRequest(host=host))


def sentences(fleet: Fleet) -> list[str]:
    page: EventPage = fleet.run.events.page(EventQuery())
    return [event.sentence for event in page.events]


async def renewed(machine: Machine, name: str, *trusts: str) -> CertificateReport:
    """Asks for a new certificate and says that it has it."""
    await machine.say(RenewRequest(csr=csr_of(new_key(), name)))
    answer: Renewed = await machine.hear_until(Renewed)
    has = CertificateReport(
        certificate=pem.read(answer.certificate), trusts=trusts, wall=time.time()
    )
    await machine.say(has)
    return has


# --- handshakes -----------------------------------------------------------------------------------


async def reaches(fleet: Fleet, context: ssl.SSLContext) -> bool:
    """Whether the join interface answers to who shows this."""
    try:
        async with fleet.session.get(f"{fleet.url}/v1/ca", ssl=context) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def test_master_takes_tls_1_3_and_certificates_of_its_own_authority_alone(
    fleet: Fleet, tmp_path: Any
) -> None:
    old = fleet.context("alpha")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert not await reaches(fleet, old)
    others = Authority(tmp_path / "others", now=fleet.now)
    stranger = client_context(
        fleet.authority, signed_host(others, "alpha", tmp_path, now=fleet.now)
    )
    assert not await reaches(fleet, stranger)
    expired = signed_host(
        fleet.authority, "alpha", tmp_path, now=fleet.now - datetime.timedelta(days=40)
    )
    assert not await reaches(fleet, client_context(fleet.authority, expired))
    assert await reaches(fleet, fleet.context("alpha"))


async def test_session_is_never_taken_up_again_without_its_certificate(fleet: Fleet) -> None:
    """A ticket of a host that was revoked since would let it in unseen."""
    host, port = "127.0.0.1", int(fleet.url.rsplit(":", 1)[1])
    context = fleet.context("alpha")
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    writer.write(b"GET /v1/ca HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n")
    assert b"200 OK" in await reader.read()
    session = writer.get_extra_info("ssl_object").session
    writer.transport.abort()
    assert session is None or not session.has_ticket


async def test_masters_certificate_is_renewed_under_living_connections(fleet: Fleet) -> None:
    alpha = await fleet.join("alpha")
    before = fleet.tls.certificate
    # The listening context is made with the life of the start; from now on MASTER has a short one.
    fleet.life = 10.0
    fleet.authority.announce(fleet.now)
    await wait_for(lambda: fleet.tls.certificate != before, PATIENCE)
    second = fleet.tls.certificate
    assert second.life == pytest.approx(10, abs=1.1)
    await wait_for(lambda: fleet.tls.certificate != second, 12, what="by itself at two thirds")
    assert await reaches(fleet, fleet.context("beta"))
    await renewed(alpha, "alpha")


# --- renewal --------------------------------------------------------------------------------------


async def test_host_is_told_whom_to_trust_and_gets_a_new_certificate_over_its_connection(
    fleet: Fleet,
) -> None:
    alpha = await fleet.join("alpha")
    trust: Trust = await alpha.hear_until(Trust)
    assert trust == Trust(authorities=fleet.authority.bundle, signing=fleet.authority.id)
    has = await renewed(alpha, "beta", fleet.authority.id)
    assert has.certificate.host == "alpha", "the name in a request does not count"
    assert has.certificate.life == pytest.approx(fleet.life, abs=1.1)

    async def shown() -> bool:
        views = (await authority(fleet)).certificates
        return any(v.name == "alpha" and v.serial == has.certificate.serial for v in views)

    await wait_for(shown, PATIENCE, what="ca status shows what the host has")


async def test_request_that_is_none_is_refused_and_the_connection_stays(fleet: Fleet) -> None:
    alpha = await fleet.join("alpha")
    await alpha.say(RenewRequest(csr="garbage"))
    refused: RenewRefused = await alpha.hear_until(RenewRefused)
    assert refused.reason == "the certificate request is not valid"
    told = "alpha gets no new certificate: the certificate request is not valid"
    assert sentences(fleet).count(told) == 1
    for _ in range(20):
        await alpha.say(RenewRequest(csr="garbage"))
        await alpha.hear_until(RenewRefused)
    assert sentences(fleet).count(told) == 1, "once is enough"
    await renewed(alpha, "alpha")


async def test_clock_that_differs_is_a_warning(fleet: Fleet) -> None:
    alpha = await fleet.join("alpha")
    has = await renewed(alpha, "alpha")
    await alpha.say(msgspec.structs.replace(has, wall=time.time() - 7200))

    def warned() -> bool:
        troubles = fleet.run.master.status().troubles
        return any(t.text == "its clock is 2 h behind MASTER's" for t in troubles)

    await wait_for(warned, PATIENCE)


async def test_certificate_that_is_not_renewed_in_time_is_a_warning(fleet: Fleet) -> None:
    """It was made a month ago, but for a day."""
    made = fleet.now - datetime.timedelta(days=29)
    pair = signed_host(fleet.authority, "alpha", fleet.directory, now=made)
    await fleet.join("alpha", client_context(fleet.authority, pair))

    def warned() -> bool:
        found = [t for t in fleet.run.master.status().troubles if t.host == "alpha"]
        return [(t.severity, t.text) for t in found if "certificate" in t.text] == [
            ("warning", "its certificate expires in 24 h and was not renewed")
        ]

    await wait_for(warned, PATIENCE)


async def test_host_cannot_say_that_it_has_what_it_was_not_given(fleet: Fleet) -> None:
    """Or one that is to be kept out would seem to have a certificate that counts."""
    alpha = await fleet.join("alpha")
    has = await renewed(alpha, "alpha")
    later = msgspec.structs.replace(has.certificate, issued=4e9, expires=5e9)
    await alpha.say(msgspec.structs.replace(has, certificate=later))
    await alpha.say(
        msgspec.structs.replace(has, certificate=msgspec.structs.replace(later, serial="abc"))
    )
    await renewed(alpha, "alpha")
    (view,) = [v for v in (await authority(fleet)).certificates if v.name == "alpha"]
    assert view.expires_in <= fleet.life
    await revoke(fleet, "alpha")
    assert set((await authority(fleet)).revoked) == {"alpha"}


# --- revocation -----------------------------------------------------------------------------------


async def test_revoked_host_is_cut_off_at_once_kept_out_and_told_to_all(fleet: Fleet) -> None:
    enrolled = await fleet.enrol("beta")
    alpha, beta = await fleet.join("alpha"), await fleet.join("beta", enrolled)
    first, *_ = await revoke(fleet, "beta")
    assert first.startswith("beta is cut off and kept out")
    cut: Rejected = await beta.hear_until(Rejected)
    assert cut.code == "revoked"
    assert "disclusterctl token create --host beta" in cut.reason
    await wait_for(lambda: fleet.run.master.status().hosts[1].state == "silent", PATIENCE)
    trust: Trust = await alpha.hear_until(Trust)
    while "beta" not in trust.revoked:
        trust = await alpha.hear_until(Trust)

    again = await fleet.dial("beta", enrolled)
    assert (await again.hear_until(Rejected)).code == "revoked"
    assert await again.hear() is None
    status = await authority(fleet)
    assert set(status.revoked) == {"beta"}
    assert [v.state for v in status.certificates if v.name == "beta"] == ["revoked"]
    assert "beta is revoked, by the operator: it is kept out" in sentences(fleet)

    anew = await fleet.enrol("beta")
    await fleet.join("beta", anew)
    still = await fleet.dial("beta", enrolled)
    assert (await still.hear_until(Rejected)).code == "revoked", "what it had stays void"
    assert (await authority(fleet)).revoked == {}


async def test_revocation_outlives_a_restart_of_master(fleet: Fleet) -> None:
    await fleet.join("alpha")
    await revoke(fleet, "alpha")
    stored = (fleet.directory / "ca" / "revoked.json").read_text()
    assert '"alpha"' in stored


async def test_stranger_cannot_be_revoked(fleet: Fleet) -> None:
    body = encode(RevokeRequest(host="zeta"))
    status, failure = await fleet.failure("POST", "/v1/hosts/revoke", data=body)
    assert (status, failure.code) == (404, "no-such-host")


# --- attackers ------------------------------------------------------------------------------------


async def refused(fleet: Fleet, token: str, host: str) -> Failure:
    request = JoinRequest(token=token, host=host, csr=csr_of(new_key(), host))
    status, body = await post_join(fleet, encode(request))
    assert status == 403, body
    return msgspec.json.decode(body, type=Failure)


def token(fleet: Fleet, host: str | None = None, *, ttl: float = 60) -> str:
    return fleet.tokens.create(host=host, ttl=ttl, now=time.time())


async def test_stolen_token_that_was_used_is_told_apart_and_is_an_event(fleet: Fleet) -> None:
    stolen = token(fleet)
    request = JoinRequest(token=stolen, host="delta", csr=csr_of(new_key(), "delta"))
    assert (await post_join(fleet, encode(request)))[0] == 200
    failure = await refused(fleet, stolen, "mallory")
    assert (failure.code, failure.message) == (
        "token-used",
        "the join token was used already, by delta",
    )
    assert "disclusterctl host revoke delta" in str(failure.hint)
    assert any("may not join as mallory" in sentence for sentence in sentences(fleet))
    assert not any(stolen in sentence for sentence in sentences(fleet))


async def test_unbound_token_takes_no_name_that_somebody_has(fleet: Fleet) -> None:
    await fleet.join("alpha")
    await fleet.enrol("delta")
    stolen = token(fleet)
    for name in ("alpha", "delta"):
        failure = await refused(fleet, stolen, name)
        assert failure.code == "name-taken"
        assert f"disclusterctl token create --host {name}" in str(failure.hint)
    # The token is as good as before, and a name that was only listed is nobody's yet.
    request = JoinRequest(token=stolen, host="beta", csr=csr_of(new_key(), "beta"))
    assert (await post_join(fleet, encode(request)))[0] == 200


async def test_names_are_not_told_to_who_has_no_token(fleet: Fleet) -> None:
    await fleet.join("alpha")
    assert (await refused(fleet, "guessed", "alpha")).code == "token-unknown"


async def test_each_refusal_has_its_own_words(fleet: Fleet) -> None:
    expired, bound = token(fleet, ttl=-1), token(fleet, "beta")
    codes = [
        (await refused(fleet, *asked)).code
        for asked in (("guessed", "eta"), (expired, "eta"), (bound, "eta"))
    ]
    assert codes == ["token-unknown", "token-expired", "token-host"]


async def test_bad_request_does_not_cost_the_token(fleet: Fleet) -> None:
    good = token(fleet)
    bad = encode(JoinRequest(token=good, host="eta", csr="garbage"))
    status, body = await post_join(fleet, bad)
    assert (status, msgspec.json.decode(body, type=Failure).code) == (400, "bad-request")
    request = JoinRequest(token=good, host="eta", csr=csr_of(new_key(), "eta"))
    assert (await post_join(fleet, encode(request)))[0] == 200


async def test_guesses_by_the_hundred_do_not_push_events_out(fleet: Fleet) -> None:
    before = fleet.run.events.newest
    for _ in range(50):
        await refused(fleet, "guessed", "eta")
    assert fleet.run.events.newest - before <= 12


async def test_root_of_one_host_cannot_pass_for_another(fleet: Fleet) -> None:
    """What it has is its key and certificate; what it says of names does not count."""
    alpha, beta = await fleet.join("alpha"), await fleet.join("beta")
    await alpha.say(RenewRequest(csr=csr_of(new_key(), "beta")))
    answer: Renewed = await alpha.hear_until(Renewed)
    assert pem.read(answer.certificate).host == "alpha"
    beta_has = await renewed(beta, "beta")
    await alpha.say(beta_has)
    await renewed(alpha, "alpha")
    views = {v.name: v for v in (await authority(fleet)).certificates}
    assert views["alpha"].serial != beta_has.certificate.serial
    await revoke(fleet, "alpha")
    assert (await alpha.hear_until(Rejected)).code == "revoked"
    await renewed(beta, "beta")


# --- rotation -------------------------------------------------------------------------------------


async def rotated(fleet: Fleet, machines: dict[str, Machine]) -> None:
    """Each host does what it is told, until the old authority is gone."""
    while (await authority(fleet)).rotation is not None:
        bundle = tuple(pem.authorities(fleet.authority.bundle))
        for name, machine in machines.items():
            await renewed(machine, name, *bundle)
        await asyncio.sleep(0.05)


async def test_authority_is_replaced_while_hosts_stay_connected(fleet: Fleet) -> None:
    contexts = {name: await fleet.enrol(name) for name in ("alpha", "beta")}
    machines = {name: await fleet.join(name, contexts[name]) for name in contexts}
    former, was = fleet.context("gamma"), (await authority(fleet)).fingerprint
    await told(fleet, "/v1/authority/rotate", RotateRequest())
    body = encode(RotateRequest())
    status, failure = await fleet.failure("POST", "/v1/authority/rotate", data=body)
    assert (status, failure.code) == (409, "rotation-underway")
    view = (await authority(fleet)).rotation
    assert view is not None
    assert (view.phase, view.lacks) == ("announced", ("alpha", "beta"))
    async with asyncio.timeout(20):
        await rotated(fleet, machines)
    assert (await authority(fleet)).fingerprint != was
    assert not await reaches(fleet, former), "who trusts the old one only does not believe MASTER"
    believing = client_context(fleet.authority)
    believing.load_cert_chain(fleet.directory / "gamma.crt", fleet.directory / "gamma.key")
    assert not await reaches(fleet, believing), "nor is one with its certificate let in"
    for name, machine in machines.items():
        # Its connection is of the old one's time.
        await renewed(machine, name)
    await fleet.join("gamma")


async def test_host_that_is_away_is_waited_for_until_the_operator_says_otherwise(
    fleet: Fleet,
) -> None:
    contexts = {name: await fleet.enrol(name) for name in ("alpha", "beta")}
    alpha = await fleet.join("alpha", contexts["alpha"])
    body = encode(RotateRequest(finish=True))
    status, failure = await fleet.failure("POST", "/v1/authority/rotate", data=body)
    assert (status, failure.code) == (409, "no-rotation")
    await told(fleet, "/v1/authority/rotate", RotateRequest())
    await renewed(alpha, "alpha", *pem.authorities(fleet.authority.bundle))

    async def waits_for_beta() -> bool:
        view = (await authority(fleet)).rotation
        return view is not None and view.lacks == ("beta",)

    await wait_for(waits_for_beta, PATIENCE)
    (done,) = await told(fleet, "/v1/authority/rotate", RotateRequest(finish=True))
    assert done == "not waited for any longer: beta; each must join again with a new token"
    async with asyncio.timeout(20):
        await rotated(fleet, {"alpha": alpha})
    with pytest.raises(aiohttp.ClientError):
        await fleet.join("beta", contexts["beta"])
