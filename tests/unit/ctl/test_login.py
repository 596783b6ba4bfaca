# SPDX-License-Identifier: Apache-2.0
"""An operator on another machine, against a real MASTER over TLS on loopback."""

import datetime
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from discluster.ctl.client import Master
from discluster.ctl.logins import Logins
from discluster.ctl.remote import RemoteTransport
from discluster.errors import RefusedError, UnavailableError
from discluster.master.access.authority import Authority
from discluster.operators import AuditEntry, OperatorList, RemoteRole
from tests.unit.ctl.desks import Ctl, Outcome
from tests.unit.master.front import Front, SetClock, front

DAY = 86_400.0


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[Front]:
    (tmp_path / "m").mkdir()
    async with front(tmp_path / "m") as made:
        yield made


@pytest.fixture
def logins(tmp_path: Path) -> Logins:
    return Logins(tmp_path / "config" / "discluster" / "logins")


async def log_in(ctl: Ctl, master: Front, name: str, role: RemoteRole) -> Outcome:
    """By what MASTER's machine prints, but for the address that only this test knows."""
    made = await ctl(*("operator", "create", name, "--role", role, "--socket", str(master.socket)))
    assert made.status == 0, made.err
    assert "good for one login within the next 1h" in made.err
    (line,) = made.out.splitlines()
    words = re.sub(r"https://\S+", master.url, line).split()
    assert words[:2] == ["disclusterctl", "login"]
    done = await ctl(*words[1:])
    assert done.status == 0, done.err
    return done


def place(master: Front) -> str:
    return master.url.removeprefix("https://")


async def test_operator_logs_in_elsewhere_and_is_known_there(ctl: Ctl, master: Front) -> None:
    assert await log_in(ctl, master, "alice", "operate") == (
        0,
        f"Logged in at {place(master)} as alice, role operate.\n",
        "",
    )
    status, out, _ = await ctl("whoami")
    assert status == 0
    assert out.startswith("alice, role operate, by certificate, until ")
    status, out, _ = await ctl("hosts", "--json")
    assert [json.loads(line)["host"] for line in out.splitlines()] == ["alpha", "beta"]
    assert (await ctl("reload", "--no-wait", "--master", "127.0.0.1")).status == 0
    newest = master.audited()[-1]
    assert (newest.who, newest.path, newest.outcome) == ("alice", "/v1/operator/orders", "done")


async def test_role_that_does_not_suffice_is_told_in_words(ctl: Ctl, master: Front) -> None:
    await log_in(ctl, master, "carol", "view")
    status, _, err = await ctl("reload")
    assert status == 77
    assert err == (
        "error: carol has the role view, which does not allow this (it takes the role operate:"
        " disclusterctl operator create, on MASTER's machine)\n"
    )
    assert (await ctl("reload", "--dry-run")).status == 0
    status, _, err = await ctl("token", "create")
    assert status == 77
    assert "do it on MASTER's machine" in err


async def test_login_that_is_not_accepted_is_told_and_leaves_nothing(
    ctl: Ctl, master: Front, logins: Logins
) -> None:
    fingerprint = master.authority.fingerprint
    good = master.login_token("alice", "view")

    async def tried(url: str, token: str, sha: str = fingerprint) -> tuple[int, str]:
        status, out, err = await ctl("login", url, "--token", token, "--ca-fingerprint", sha)
        assert out == ""
        return status, err

    status, err = await tried(master.url, good, "sha256:" + "0" * 64)
    assert status == 77
    assert f"its fingerprint is {fingerprint}" in err
    status, err = await tried(master.url, "never-was")
    assert status == 77
    assert "this login is not known here" in err
    status, err = await tried("https://127.0.0.1:1", good)
    assert status == 69
    assert "MASTER cannot be reached at https://127.0.0.1:1" in err
    status, err = await tried(master.url.replace("https", "http"), good)
    assert status == 1
    assert "it looks like https://" in err
    status, err = await tried(master.url.replace("127.0.0.1", "localhost"), good)
    assert status == 77
    assert "the address must be one of 'names' in master.yaml" in err
    assert logins.keys() == []
    assert await tried(master.url, "x" * 10_000) != (0, "")
    login = await ctl("login", master.url, "--token", good, "--ca-fingerprint", fingerprint)
    assert login.status == 0, "no token was used up by that"


async def test_script_uses_a_token_out_of_a_file(
    ctl: Ctl, master: Front, logins: Logins, tmp_path: Path
) -> None:
    made = await ctl(
        *("operator", "create", "ci", "--role", "view", "--api-token"),
        *("--socket", str(master.socket)),
    )
    assert "It is not shown again" in made.err
    assert made.out.strip() not in made.err
    (tmp_path / "token").write_text(made.out)
    words = ("--ca-fingerprint", master.authority.fingerprint)
    status, out, err = await ctl(
        "login", master.url, "--api-token-file", str(tmp_path / "token"), *words
    )
    assert (status, out) == (0, f"Logged in at {place(master)} as ci, role view.\n"), err
    assert (await ctl("whoami", "--json")).out.startswith('{"type":"who_am_i","name":"ci"')
    (tmp_path / "token").write_text("wrong")
    status, _, err = await ctl(
        "login", master.url, "--api-token-file", str(tmp_path / "token"), *words
    )
    assert status == 77
    assert "wrong" not in err
    (tmp_path / "token").write_text("")
    assert (
        await ctl("login", master.url, "--api-token-file", str(tmp_path / "token"), *words)
    ).status == 78
    assert (await ctl("logout")).status == 0
    assert logins.keys() == []


async def test_revoked_operator_is_told_so(ctl: Ctl, master: Front) -> None:
    await log_in(ctl, master, "alice", "view")
    there = ("--socket", str(master.socket))
    status, out, _ = await ctl("operator", "list", *there)
    assert status == 0
    head, row = out.splitlines()
    assert head.split() == ["OPERATOR", "ROLE", "HOLDS", "LAST", "CALL"]
    assert row.split()[:3] == ["alice", "view", "certificate"]
    status, out, _ = await ctl("operator", "list", "--json", *there)
    assert msgspec.json.decode(out, type=OperatorList).operators[0].name == "alice"
    status, out, _ = await ctl("operator", "revoke", "alice", *there)
    assert out == ("the operator alice was revoked; every login and token of that name has ended\n")
    status, _, err = await ctl("hosts")
    assert status == 77
    assert "it was revoked" in err
    assert "Nobody has a login" in (await ctl("operator", "list", *there)).out
    status, _, err = await ctl("operator", "revoke", "alice", *there)
    assert (status, err) == (1, "error: there is no operator 'alice' (operators: none)\n")


async def test_logout_ends_the_login_here_and_there(
    ctl: Ctl, master: Front, logins: Logins, tmp_path: Path
) -> None:
    await log_in(ctl, master, "alice", "view")
    pem = logins.pem_file(logins.chosen(None)).read_text()
    assert await ctl("logout") == (0, f"Logged out at {place(master)}.\n", "")
    (view,) = master.accounts.listed(now=master.clock.wall()).operators
    assert view.credentials == ()
    status, _, err = await ctl("logout")
    assert status == 1
    assert "you are not logged in anywhere" in err
    assert "PRIVATE KEY" in pem
    assert not [path for path in tmp_path.rglob("*.pem") if path.read_text() == pem]


async def test_logout_without_master_still_forgets(ctl: Ctl, master: Front, logins: Logins) -> None:
    await log_in(ctl, master, "alice", "view")
    login = logins.chosen(None)
    gone = msgspec.structs.replace(login, master="https://127.0.0.1:1")
    logins.store(gone, pem=logins.pem_file(login).read_text())
    status, _, err = await ctl("logout")
    assert status == 0
    assert "MASTER was not told" in err
    assert logins.keys() == [login.key]


# --- time passes ----------------------------------------------------------------------------------


def remote(logins: Logins, *, ahead: float) -> Master:
    clock = SetClock()
    clock.ahead = ahead
    return Master(RemoteTransport(logins.chosen(None), logins, clock=clock))


async def test_certificate_that_is_used_is_renewed_at_two_thirds_of_its_life(
    ctl: Ctl, master: Front, logins: Logins
) -> None:
    await log_in(ctl, master, "alice", "view")
    file = logins.pem_file(logins.chosen(None))
    first = file.read_bytes()
    await remote(logins, ahead=4.5 * DAY).whoami()
    assert file.read_bytes() == first
    await remote(logins, ahead=4.8 * DAY).whoami()
    assert file.read_bytes() != first
    assert [entry.path for entry in master.audited()][-1] == "/v1/operator/renew"
    assert (await remote(logins, ahead=0).whoami()).name == "alice"


async def test_login_learns_of_a_further_authority_while_it_believes_the_one_before(
    ctl: Ctl, master: Front, logins: Logins, tmp_path: Path
) -> None:
    await log_in(ctl, master, "alice", "view")
    login = logins.chosen(None)
    assert login.ca == master.authority.certificate
    former = Authority(tmp_path / "former", now=datetime.datetime.now(datetime.UTC))
    logins.keep(msgspec.structs.replace(login, ca=former.certificate + login.ca))
    assert (await remote(logins, ahead=0).whoami()).name == "alice"
    assert logins.chosen(None) == login, "as MASTER has it now"
    logins.keep(msgspec.structs.replace(login, ca=former.certificate))
    with pytest.raises(RefusedError, match="certificate of https://127"):
        await remote(logins, ahead=0).whoami()
    assert logins.chosen(None).ca == former.certificate, "nothing is learned of a stranger"


async def test_renewal_that_fails_leaves_what_is_good(
    ctl: Ctl, master: Front, logins: Logins
) -> None:
    await log_in(ctl, master, "alice", "view")
    file = logins.pem_file(logins.chosen(None))
    first = file.read_bytes()
    master.audit.close()
    (master.directory / "audit.jsonl").unlink()
    (master.directory / "audit.jsonl").mkdir()
    assert (await remote(logins, ahead=5 * DAY).whoami()).name == "alice"
    assert file.read_bytes() == first


async def test_expired_login_is_told_before_anybody_is_asked(
    ctl: Ctl, master: Front, logins: Logins
) -> None:
    await log_in(ctl, master, "alice", "operate")
    with pytest.raises(RefusedError, match=r"your login at 127\.0\.0\.1:\d+ expired on") as caught:
        await remote(logins, ahead=8 * DAY).whoami()
    assert caught.value.code == "login-expired"
    assert "disclusterctl operator create alice --role operate" in (caught.value.hint or "")


async def test_master_that_is_away_is_told(ctl: Ctl, master: Front, logins: Logins) -> None:
    await log_in(ctl, master, "alice", "operate")
    login = logins.chosen(None)
    pem = logins.pem_file(login).read_text()
    logins.store(msgspec.structs.replace(login, master="https://127.0.0.1:1"), pem=pem)
    with pytest.raises(UnavailableError, match="cannot be reached at https://127"):
        await remote(logins, ahead=0).status()


# --- audit ----------------------------------------------------------------------------------------


async def test_audit_tells_who_did_what_from_where(ctl: Ctl, master: Front) -> None:
    await log_in(ctl, master, "alice", "operate")
    await ctl("drain", "beta", "--no-wait")
    await ctl("token", "create", "--host", "gamma")
    status, out, err = await ctl("audit", "--who", "alice")
    assert (status, err) == (0, "")
    told = [re.sub(r"^\S+ \S+  ", "", line) for line in out.splitlines()]
    assert told[0] == (
        "alice (operate, login) from 127.0.0.1: login_request token=*** csr=***: done"
    )
    assert told[1].startswith(
        "alice (operate, certificate) from 127.0.0.1: drain host=beta: failed: not now: "
    )
    assert told[2].startswith(
        "alice (operate, certificate) from 127.0.0.1: token_request host=gamma ttl=3600.0:"
        " refused: alice has the role operate"
    )
    status, out, _ = await ctl("audit", "-n", "1", "--json")
    (line,) = out.splitlines()
    assert msgspec.json.decode(line, type=AuditEntry).outcome == "refused"
    status, out, _ = await ctl("audit", "--since", "1h", "--socket", str(master.socket))
    assert "on MASTER's machine, uid" in out.splitlines()[0]
    assert len(out.splitlines()) == 4
