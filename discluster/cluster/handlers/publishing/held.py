# SPDX-License-Identifier: Apache-2.0
"""What was handed over and the broker has not acknowledged yet. No I/O."""

from collections import deque
from collections.abc import Callable, Sequence

from discluster.gateway.events import Event


class Batch:
    """Messages made of one batch of events, of one shard.

    ``last``: an event without its body, up to which all of the shard is taken when this and what
    came before is stored. ``first``: the number of the first message, the others count up from it.
    ``left``: messages that are not stored. ``sent``: monotonic seconds, None while they wait.
    """

    __slots__ = ("first", "last", "left", "messages", "sent", "size")

    def __init__(self, last: Event, first: int, messages: list[bytes]) -> None:
        self.last = last
        self.first = first
        self.messages = messages
        self.left = len(messages)
        self.size = sum(map(len, messages))
        self.sent: float | None = None


class Held:
    """Batches in the order in which they came. Each shard's are acknowledged in that order.

    ``batches``: by the number of their first message, oldest first; to be read only. ``size``:
    bytes of their messages.
    """

    def __init__(self, taken: Callable[[Event], None]) -> None:
        """``taken``: acknowledges an event, and all of its shard before it."""
        self.batches: dict[int, Batch] = {}
        self.size = 0
        self._taken = taken
        self._next = 0
        self._batch_of: dict[int, Batch] = {}
        self._of_shard: dict[int, deque[Batch]] = {}

    def __len__(self) -> int:
        """Messages that are not stored yet."""
        return len(self._batch_of)

    def add(self, last: Event, encode: Callable[[int], list[bytes]]) -> Batch:
        """``encode``: makes the messages, at least one, from the number of the first."""
        first = self._next
        batch = Batch(last, first, encode(first))
        self._next = first + batch.left
        self._batch_of.update(dict.fromkeys(range(first, self._next), batch))
        self.batches[first] = batch
        self.size += batch.size
        self._of_shard.setdefault(last.shard, deque()).append(batch)
        return batch

    def stored(self, number: int) -> Batch | None:
        """The broker has message ``number``. Its batch; None if that was known, or it is unknown.

        With the last one of a batch all that this completes is acknowledged.
        """
        batch = self._batch_of.pop(number, None)
        if batch is None:
            return None
        batch.left -= 1
        if not batch.left:
            self._complete(batch)
        return batch

    def missing(self, batch: Batch) -> tuple[Sequence[int], Sequence[bytes]]:
        """Numbers and messages of ``batch`` that are not stored."""
        numbers = range(batch.first, batch.first + len(batch.messages))
        if batch.left == len(batch.messages):
            return numbers, batch.messages
        left = [number for number in numbers if number in self._batch_of]
        return left, [batch.messages[number - batch.first] for number in left]

    def change(self, number: int, how: Callable[[bytes], bytes]) -> None:
        """Puts another form in the place of a message that is not stored."""
        batch = self._batch_of.get(number)
        if batch is None:
            return
        index = number - batch.first
        before = batch.messages[index]
        after = batch.messages[index] = how(before)
        batch.size += len(after) - len(before)
        self.size += len(after) - len(before)

    def has(self, shard: int) -> bool:
        """Whether anything of ``shard`` is to be acknowledged."""
        return shard in self._of_shard

    def _complete(self, batch: Batch) -> None:
        del self.batches[batch.first]
        self.size -= batch.size
        shard = batch.last.shard
        batches = self._of_shard[shard]
        last: Event | None = None
        while batches and not batches[0].left:
            last = batches.popleft().last
        if not batches:
            del self._of_shard[shard]
        if last is not None:
            self._taken(last)
