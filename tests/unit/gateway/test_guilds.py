# SPDX-License-Identifier: Apache-2.0
"""Counting guilds from raw bodies."""

import json
from typing import Any

import pytest

from discluster.gateway.envelope import Envelope, parse
from discluster.gateway.guilds import GuildCount, parse_ready


def dispatch(body: Any) -> Envelope:
    return parse(json.dumps({"t": "X", "s": 1, "op": 0, "d": body}))


def counting(*ids: Any) -> GuildCount:
    guilds = GuildCount()
    guilds.ready(dispatch({"guilds": [{"id": i, "unavailable": True} for i in ids]}))
    return guilds


def test_ids_as_numbers_and_as_text_are_the_same_guild() -> None:
    guilds = counting("1", 2)
    guilds.created(dispatch({"id": 1}))
    guilds.created(dispatch({"id": "2"}))
    assert guilds.count == 2


@pytest.mark.parametrize("body", [None, {}, {"guilds": None}, {"guilds": [1]}, {"guilds": [{}]}])
def test_ready_without_a_list_of_guilds_leaves_the_number_unknown(body: Any) -> None:
    guilds = GuildCount(5)
    guilds.ready(dispatch(body))
    assert guilds.count is None
    guilds.created(dispatch({"id": "1"}))
    guilds.deleted(dispatch({"id": "1"}))
    assert guilds.count is None


@pytest.mark.covers("T-72")
def test_after_a_resume_in_a_new_process_only_departures_change_the_number() -> None:
    guilds = GuildCount(5)
    guilds.created(dispatch({"id": "1"}))
    guilds.deleted(dispatch({"id": "2", "unavailable": True}))
    assert guilds.count == 5
    guilds.deleted(dispatch({"id": "2"}))
    assert guilds.count == 4


@pytest.mark.parametrize("body", [None, {}, {"id": None}, {"id": []}, []])
def test_unreadable_guild_changes_nothing(body: Any) -> None:
    guilds = counting("1")
    guilds.created(dispatch(body))
    guilds.deleted(dispatch(body))
    assert guilds.count == 1


def test_id_that_is_no_number_still_counts() -> None:
    guilds = counting("x", "²")
    assert guilds.count == 2


@pytest.mark.parametrize("body", [None, [], "x", 7])
def test_ready_that_is_no_object_has_no_session(body: Any) -> None:
    assert parse_ready(dispatch(body)).session_id is None
