# SPDX-License-Identifier: Apache-2.0
"""A handler that takes batches: what one read brought, at once.

Nothing is waited for to make a batch larger. While the handler is busy with one, the socket is not
read, so the slower it is the more comes with the next.
"""

from collections.abc import Callable, Iterator

from discluster.gateway.contracts import Sessions
from discluster.gateway.envelope import Envelope
from discluster.gateway.events import LATER, Event
from discluster.gateway.handling import Handling
from discluster.gateway.intake import NOTED, Answer, Busy, Intake


class BatchIntake(Intake):
    """The stored sequence advances over a batch as a whole, and over what the handler does not
    want in between as well.
    """

    def _hand_over(self, events: Iterator[Envelope]) -> Busy | None:
        """All of them: a run is some 64 KiB of text."""
        batch, last = self._gather(events)
        if not batch:
            self._settle(None, batch, last)
            return None
        try:
            waiting = self._call(batch)
        except Exception as error:  # whatever a handler raises, the shard goes on
            waiting = self._failed(batch, error)
        if waiting is None or waiting is LATER:
            return (self._room(), [], last) if self._settle(waiting, batch, last) else None
        return waiting, batch, last

    def _call(self, events: list[Event]) -> Answer:
        assert self._handling.batch is not None
        return self._handling.batch(events)

    def _gather(self, events: Iterator[Envelope]) -> tuple[list[Event], int]:
        """What is wanted, and the greatest sequence of all in the session that is the last."""
        shard, wants, batch = self._shard, self._wants, list[Event]()
        session_id, last = self._session_id, self.seq or 0
        run = list(events)
        self.events += len(run)
        for envelope in run:
            name, seq = envelope.t, envelope.s
            if name in NOTED:
                self._note(envelope)
                if name == "READY":
                    session_id, last = self._session_id, self.seq or 0
            if seq is None:
                seq = last
            if name is not None and (wants is None or name in wants):
                batch.append(Event(shard, seq, name, envelope.d, session_id))
            if seq > last:  # a call of max() would be a tenth of the cost
                last = seq
        return batch, last


def make_intake(
    handling: Handling,
    *,
    shard: int,
    sessions: Sessions,
    note: Callable[[Envelope], None],
    wanted: Callable[[], bool],
    unacknowledged: int,
) -> Intake:
    """For single events or for batches."""
    kind = Intake if handling.batch is None else BatchIntake
    return kind(
        shard=shard,
        sessions=sessions,
        handling=handling,
        note=note,
        wanted=wanted,
        unacknowledged=unacknowledged,
    )
