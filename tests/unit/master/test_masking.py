# SPDX-License-Identifier: Apache-2.0
"""What of a body may be kept: never a secret, never much."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.console import RollingRequest
from discluster.master.access.masking import MASK, essence
from discluster.messages import encode
from discluster.operators import LoginRequest, OperatorRequest
from discluster.orders import Drain

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=50,
)


def test_order_is_kept_as_it_is() -> None:
    kept = essence(encode(Drain(host="beta", deadline=600.0)))
    assert kept == {
        "type": "drain",
        "host": "beta",
        "deadline": 600.0,
        "force": False,
        "dry_run": False,
    }


def test_secrets_are_masked_however_deep() -> None:
    assert essence(encode(LoginRequest(token="T0PSECRET", csr="PEM"))) == {
        "type": "login_request",
        "token": MASK,
        "csr": MASK,
    }
    deep = b'{"a": [{"bot_Token": "T0PSECRET"}], "private_key": {"x": 1}, "passwords": ["T"]}'
    assert essence(deep) == {"a": [{"bot_Token": MASK}], "private_key": MASK, "passwords": MASK}


def test_numbers_and_flags_are_no_secrets() -> None:
    assert essence(b'{"tokens": 3, "key": true, "csr": null}') == {
        "tokens": 3,
        "key": True,
        "csr": None,
    }
    kept = essence(encode(OperatorRequest(name="alice", role="view", kind="token")))
    assert kept["kind"] == "token"


@pytest.mark.parametrize("body", [b"\xff\xfe", b"{", b"[1, 2]", b'"T0PSECRET"', b"[" * 60_000])
def test_of_what_is_no_object_only_the_size_is_kept(body: bytes) -> None:
    assert essence(body) == {"unreadable": f"{len(body)} bytes"}


def test_long_body_is_cut_down_to_its_name() -> None:
    body = encode(RollingRequest(hosts=tuple(f"host-{n}-{'x' * 60}" for n in range(60))))
    assert essence(body) == {"type": "rolling_request", "too_long": f"{len(body)} bytes"}


@given(st.dictionaries(st.text(), json_values))
def test_whatever_comes_what_is_kept_is_small(value: dict[str, object]) -> None:
    kept = essence(msgspec.json.encode(value))
    assert len(msgspec.json.encode(kept)) <= 2048


@given(st.binary())
def test_no_bytes_make_it_fail(body: bytes) -> None:
    essence(body)
