# SPDX-License-Identifier: Apache-2.0
"""What is passed on of a call, also where there is no room for it."""

import msgspec

from discluster.calling import Relay
from discluster.messages import CallAnswer, CallAsked, CallFault, Message

MISSING = CallFault(code="no-such-cluster", text="none")
ONE = msgspec.Raw(b"1")


class Wire:
    """Has room for messages of up to ``room`` bytes."""

    def __init__(self, room: int = 10**6) -> None:
        self.room = room
        self.told: list[Message] = []

    def send(self, message: Message) -> bool:
        if len(msgspec.json.encode(message)) > self.room:
            return False
        self.told.append(message)
        return True


def test_relay_passes_on_whom_it_named_and_what_they_answer() -> None:
    wire = Wire()
    relay = Relay(7, wire.send)
    relay.asked({"alpha": (1, 2)})
    relay.all_asked(None, MISSING)
    relay.answered(1, ONE, None)
    # Who asked knows itself whom it wanted.
    relay.answered(9, ONE, MISSING)
    assert wire.told == [
        CallAsked(number=7, hosts={"alpha": (1, 2)}, more=True),
        CallAsked(number=7, missing=MISSING),
        CallAnswer(number=7, cluster=1, value=ONE),
    ]


def test_answer_without_room_is_told_as_that() -> None:
    wire = Wire(room=300)
    relay = Relay(7, wire.send)
    relay.asked({"alpha": (1,)})
    relay.answered(1, msgspec.Raw(b'"%s"' % (b"x" * 1000)), None)
    answer = wire.told[-1]
    assert isinstance(answer, CallAnswer)
    assert answer.fault is not None
    assert answer.fault.code == "busy"


def test_clusters_that_could_not_be_named_are_told_to_be_unasked() -> None:
    wire = Wire(room=300)
    relay = Relay(7, wire.send)
    relay.asked({"alpha": tuple(range(1000))})
    relay.all_asked(None, MISSING)
    relay.answered(1, ONE, None)
    [end] = wire.told
    assert isinstance(end, CallAsked)
    assert end.unasked == "more answers wait on the way back than there is room for"
    assert end.missing is not None
    assert end.missing.code == "busy"
