# SPDX-License-Identifier: Apache-2.0
"""The bot token: where it comes from, and where it never goes."""

import copy
import logging
import pickle
import traceback
from pathlib import Path

import msgspec
import pytest

from discluster.errors import CredentialError
from discluster.secret import Secret, read_credential, read_token

TOKEN = "MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs"


def test_only_reveal_gives_it_away() -> None:
    assert Secret(TOKEN).reveal() == TOKEN


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        "{}".format,
        "{!r}".format,
        "{!s:>80}".format,
        lambda secret: f"{secret}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
        lambda secret: repr([secret, {"token": secret}]),
    ],
)
def test_no_way_of_showing_it_shows_it(show: object) -> None:
    shown = show(Secret(TOKEN))  # type: ignore[operator]
    assert TOKEN not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "store",
    [pickle.dumps, copy.copy, copy.deepcopy, msgspec.json.encode, msgspec.msgpack.encode, vars],
)
def test_it_cannot_be_stored_or_sent(store: object) -> None:
    with pytest.raises(TypeError) as caught:
        store(Secret(TOKEN))  # type: ignore[operator]
    assert TOKEN not in str(caught.value)


def test_a_traceback_with_its_locals_does_not_show_it() -> None:
    def fails(secret: Secret) -> None:
        raise RuntimeError(f"with {secret}")

    with pytest.raises(RuntimeError) as caught:
        fails(Secret(TOKEN))
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    text = "".join(told.format())
    assert "secret = Secret(***)" in text
    assert TOKEN not in text


def test_a_log_record_does_not_show_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        logging.getLogger("x").info("token %s, %r", Secret(TOKEN), Secret(TOKEN))
    assert TOKEN not in caplog.text


def test_secrets_compare_by_value() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1


@pytest.mark.parametrize("text", [TOKEN, TOKEN + "\n", f"Bot {TOKEN}\n", f"  {TOKEN} \r\n"])
def test_the_token_comes_from_the_credential(tmp_path: Path, text: str) -> None:
    (tmp_path / "discluster.token").write_text(text)
    assert read_token({"CREDENTIALS_DIRECTORY": str(tmp_path)}).reveal() == TOKEN


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        (b"", "the file is empty"),
        (b"\n", "the file is empty"),
        (b"Bot \n", "the file is empty"),
        (b"two words", "it holds blanks or control characters"),
        (b"tab\there", "it holds blanks or control characters"),
        (b"nul\0", "it holds blanks or control characters"),
        (b"t\xc3\xb6ken", "it is not ASCII text"),
        (b"t\xf6ken", "it is not UTF-8"),
    ],
)
def test_a_token_that_cannot_be_one_is_refused_without_showing_it(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "discluster.token").write_bytes(content)
    with pytest.raises(CredentialError) as caught:
        read_token({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert said in caught.value.message
    assert str(tmp_path) in caught.value.message
    assert caught.value.exit_status == 78
    assert "/etc/credstore" in str(caught.value.hint)
    shown = "".join(traceback.format_exception(caught.value))
    assert "words" not in shown
    assert "here" not in shown.replace("there", "")


def test_a_directory_in_the_tokens_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "discluster.token").mkdir()
    with pytest.raises(CredentialError, match="cannot be read"):
        read_token({"CREDENTIALS_DIRECTORY": str(tmp_path)})


@pytest.mark.parametrize("environ", [{}, {"CREDENTIALS_DIRECTORY": ""}])
def test_without_systemds_credentials_the_remedy_is_told(environ: dict[str, str]) -> None:
    with pytest.raises(CredentialError, match="systemd handed over no credential") as caught:
        read_token(environ)
    assert "/etc/credstore" in str(caught.value.hint)


def test_a_further_credential_is_there_or_not(tmp_path: Path) -> None:
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert read_credential({}, "discluster.other", hint="-") is None
    assert read_credential(environ, "discluster.other", hint="-") is None
    (tmp_path / "discluster.other").write_text("bot:pass word\n")
    assert read_credential(environ, "discluster.other", hint="-") == Secret("bot:pass word")


@pytest.mark.parametrize("content", [b"", b"\n", b"one\ntwo", b"\x1b[2J", b"\xff"])
def test_a_further_credential_that_cannot_be_one_is_told_without_showing_it(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "discluster.other").write_bytes(content)
    with pytest.raises(CredentialError, match=r"discluster\.other: the credential") as caught:
        read_credential({"CREDENTIALS_DIRECTORY": str(tmp_path)}, "discluster.other", hint="do")
    assert caught.value.hint == "do"
    assert "one" not in caught.value.message
