# SPDX-License-Identifier: Apache-2.0
"""Users' names for the audit log, and a directory service that does not answer."""

import os
import pwd
import threading

from discluster.master.access.names import UserNames


async def test_user_is_called_by_name_and_one_that_has_none_by_number() -> None:
    names = UserNames()
    assert await names.name(os.getuid()) == pwd.getpwuid(os.getuid()).pw_name
    assert await names.name(3_999_999_999) == "3999999999"


async def test_name_that_does_not_come_in_time_holds_up_nobody_and_is_taken_later() -> None:
    answered, asked = threading.Event(), list[int]()

    def hang(uid: int) -> str:
        asked.append(uid)
        answered.wait(20)
        return "alice"

    names = UserNames(hang, patience=0.01)
    assert [await names.name(1000) for _ in range(5)] == ["1000"] * 5
    assert asked == [1000], "one thread, however often it is asked for"
    answered.set()

    for _ in range(500):
        if await names.name(1000) == "alice":
            break
    assert await names.name(1000) == "alice"


async def test_memory_of_names_is_bounded() -> None:
    asked = list[int]()

    def lookup(uid: int) -> str:
        asked.append(uid)
        return f"user{uid}"

    names = UserNames(lookup)
    for uid in range(300):
        assert await names.name(uid) == f"user{uid}"
    assert await names.name(299) == "user299"
    assert len(asked) == 300
    await names.name(0)
    assert len(asked) == 301, "the first was forgotten"
