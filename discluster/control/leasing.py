# SPDX-License-Identifier: Apache-2.0
"""The loop around :mod:`discluster.control.lease`: asks the witnesses, keeps the lease on disk,
tells the clusters.

The lease is on disk before a cluster is told: one that starts while CONTROL is away must find none
that is longer than what the others go by.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec

from discluster.clock import Clock
from discluster.control import lease as rules
from discluster.control.lease import Answer, Round, Tenure, WhenIsolated
from discluster.control.waiting import Alarm
from discluster.decoding import DECODE_ERRORS
from discluster.errors import DisclusterError, StateError
from discluster.files import read_if_there, write_atomically
from discluster.lease import StoredLease, holds, read_stored, write_lease
from discluster.messages import Lease, WitnessAnswer
from discluster.plan import HostPlan

log = logging.getLogger(__name__)

# Seconds; a machine that sleeps does not count them, so the lease is looked at now and then.
_LOOK_AT_LEAST_EVERY: Final = 1.0


Said = Mapping[str, WitnessAnswer | str]
"""What each witness answered, or why it did not, in words."""


class Panel(Protocol):
    """How the witnesses are asked."""

    async def ask(
        self, witnesses: Mapping[str, str], patience: float, enough: Callable[[Said], bool]
    ) -> Said:
        """All of ``witnesses`` (host to address), for ``patience`` seconds, or until it is
        ``enough``.
        """
        ...


class _Length(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept over a reboot: MASTER's lease, seconds."""

    lease: float


class Leasing:
    """Holds this host's lease. The times are of CLOCK_BOOTTIME, in seconds."""

    def __init__(
        self,
        *,
        host: str,
        file: Path,
        length_file: Path,
        boot_id: str,
        boottime: Callable[[], float],
        clock: Clock,
        when_isolated: WhenIsolated,
        panel: Panel,
    ) -> None:
        """``file``: for the clusters; ``length_file``: on a disk, for the next boot."""
        self._host = host
        self._file = file
        self._length_file = length_file
        self._boot_id = boot_id
        self._now = boottime
        self._panel = panel
        self._alarm = Alarm(clock)
        self._plan: Callable[[], HostPlan | None] = lambda: None
        self._tell: Callable[[Lease], None] = lambda _lease: None
        self._has_plan = False
        self._last_round: float | None = None
        self._heard: float | None = None
        self._maybe_heard: float | None = None
        self._logged: tuple[str | None, bool] | None = None
        self._stored: StoredLease | None = None
        self._tenure = Tenure(when_isolated=when_isolated)
        self.trouble: str | None = None

    def open(self, *, plan: Callable[[], HostPlan | None], tell: Callable[[Lease], None]) -> None:
        """Goes on with what the CONTROL before left. ``tell``: all clusters."""
        self._plan, self._tell = plan, tell
        tenure = msgspec.structs.replace(self._tenure, length=self._read_length())
        # What a CONTROL that was killed heard after it wrote the file, nobody knows.
        self._maybe_heard = self._now() if self._file.exists() else None
        stored = self._stored = self._read()
        if stored is not None:
            tenure = msgspec.structs.replace(
                tenure,
                lease=stored.lease,
                length=stored.length or tenure.length,
                confirmed=stored.confirmed,
                cut_off=stored.cut_off,
            )
            if stored.heard is not None:
                self._heard, self._maybe_heard = stored.heard, None
        self._tenure = tenure

    # --- for the others ---

    @property
    def lease(self) -> Lease:
        return self._tenure.lease

    @property
    def keeps(self) -> bool:
        """Whether the clusters run on when nobody can tell whether MASTER lives."""
        return self._tenure.when_isolated == "keep"

    def words(self) -> str:
        """How it stands, for a person; empty if all is well, or there is nothing to run."""
        return rules.words(self._tenure, self._now()) if self._plan() is not None else ""

    def answer(self) -> WitnessAnswer:
        """For another host that is out of touch."""
        now, within = self._now(), self._tenure.length / 3
        hears: bool | None = self._heard is not None and now - self._heard <= within
        if not hears and self._maybe_heard is not None and now - self._maybe_heard <= within:
            hears = None
        plan = self._plan()
        return WitnessAnswer(
            host=self._host,
            hears=hears,
            age=now - self._heard if self._heard is not None else None,
            generation=plan.generation if plan else 0,
        )

    # --- what the link to MASTER tells ---

    def instant(self) -> float:
        return self._now()

    def greeting(self) -> None:
        """A hello is about to be sent.

        Raises:
            StateError: it must not be sent, since the file goes on saying that there is no end.
        """
        self._has_plan = False
        strict = self._stored is not None and self._stored.until is None
        self._change(rules.greeting(self._tenure, self._now()), strict=strict)

    def not_taken(self) -> None:
        """MASTER refused the hello without taking notice of this host."""
        self._change(rules.not_taken(self._tenure))

    def turned_away(self) -> None:
        """MASTER keeps this host out."""
        self._change(rules.turned_away(self._tenure, self._now()))

    def heard(self) -> None:
        """Anything came from MASTER."""
        self._heard = self._now()

    def welcomed(self, *, sent: float, length: float) -> None:
        """MASTER took the hello that was sent at ``sent``; its lease is ``length``."""
        if length != self._read_length():
            self._write_length(length)
        self._tenure = msgspec.structs.replace(self._tenure, length=length)
        self.confirmed(sent)

    def confirmed(self, sent: float) -> None:
        """MASTER answered what was sent at ``sent``."""
        self._change(rules.confirmed(self._tenure, sent, self._now()))

    def parted(self) -> None:
        """The connection is lost."""
        self._has_plan = False
        self._change(rules.parted(self._tenure))

    # --- what the reconcile pass tells ---

    def plan_taken(self) -> None:
        """MASTER's plan came over this connection."""
        self._has_plan = True

    def plan_carried_out(self) -> None:
        """No cluster's assignment has what the plan in force does not give this host."""
        if self._has_plan:
            self._change(rules.settled(self._tenure, self._now()))

    def unattended(self) -> None:
        """MASTER acknowledged that CONTROL stops on purpose."""
        self._change(rules.unattended(self._tenure))

    def close(self) -> None:
        """CONTROL stops in an orderly way: nothing will be heard after this."""
        self._save(msgspec.structs.replace(self._to_store(), heard=self._heard))

    # --- the loop ---

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            now = self._now()
            due = rules.next_round(self._tenure, self._last_round)
            if due is not None and due <= now:
                await self._ask(now)
            self._log()
            await self._alarm.wait(self._pause())

    def _pause(self) -> float:
        now, lease = self._now(), self._tenure.lease
        due = rules.next_round(self._tenure, self._last_round)
        ends = lease.until if lease.until is not None and lease.until > now else None
        ahead = [instant - now for instant in (due, ends) if instant is not None]
        return max(0.0, min([_LOOK_AT_LEAST_EVERY, *ahead]))

    async def _ask(self, began: float) -> None:
        self._last_round = began
        if (plan := self._plan()) is None:
            return
        panel = tuple(sorted(plan.witnesses))
        others = {name: at for name, at in plan.witnesses.items() if name != self._host}

        def enough(said: Said) -> bool:
            round_ = _round(began, panel, said)
            return rules.decided(self._tenure, round_, host=self._host, now=self._now())

        patience = rules.patience(self._tenure)
        said = await self._panel.ask(others, patience, enough) if others else {}
        # As it is now: what came meanwhile counts.
        generation = (self._plan() or plan).generation
        round_, now = _round(began, panel, said), self._now()
        self._change(
            rules.judged(self._tenure, round_, host=self._host, generation=generation, now=now)
        )

    # --- keeping and telling ---

    def _change(self, tenure: Tenure, *, strict: bool = False) -> None:
        """``strict``: not unless it is on disk. Raises StateError then."""
        before, self._tenure = self._tenure, tenure
        stored = self._to_store()
        if stored != self._stored and not self._save(stored) and strict:
            self._tenure = before
            raise StateError(f"no word to MASTER: {self.trouble}")
        if tenure.lease != before.lease:
            self._tell(tenure.lease)
            self._alarm.ring()
        self._log()

    def _log(self) -> None:
        """Says once what became of the lease."""
        now, tenure = self._now(), self._tenure
        runs = holds(tenure.lease, now)
        verdict = tenure.finding.verdict if tenure.finding and not tenure.in_touch(now) else None
        knows = tenure.confirmed is not None or tenure.finding is not None
        if (verdict, runs) == self._logged or not knows:
            return
        before, self._logged = self._logged, (verdict, runs)
        plan = self._plan()
        extra = {"HOST": self._host, "GENERATION": plan.generation if plan else None}
        if told := self.words():
            log.log(logging.WARNING if verdict else logging.INFO, "%s", told, extra=extra)
        elif before is not None:
            log.info("in touch with MASTER; the clusters run their shards", extra=extra)

    def _to_store(self) -> StoredLease:
        tenure = self._tenure
        return StoredLease(
            boot_id=self._boot_id,
            until=tenure.lease.until,
            then=tenure.lease.then,
            length=tenure.length,
            confirmed=tenure.confirmed,
            cut_off=tenure.cut_off,
        )

    def _save(self, stored: StoredLease) -> bool:
        try:
            write_lease(self._file, stored)
        except DisclusterError as error:
            self._failed(error)
            return False
        self._stored, self.trouble = stored, None
        return True

    def _read(self) -> StoredLease | None:
        try:
            return read_stored(self._file, boot_id=self._boot_id)
        except DisclusterError as error:
            self._failed(error)
            return None

    def _read_length(self) -> float:
        try:
            text = read_if_there(self._length_file)
            if text is not None:
                return msgspec.json.decode(text, type=_Length).lease
        except (DisclusterError, *DECODE_ERRORS) as error:
            log.warning("%s cannot be used: %s", self._length_file, error)
        return rules.DEFAULT_LENGTH

    def _write_length(self, length: float) -> None:
        try:
            write_atomically(self._length_file, msgspec.json.encode(_Length(lease=length)))
        except DisclusterError as error:
            self._failed(error)

    def _failed(self, error: DisclusterError) -> None:
        if self.trouble != error.render():
            log.error("%s", error.render())
        self.trouble = error.render()


def _round(began: float, panel: tuple[str, ...], said: Said) -> Round:
    answers = {name: word for name, word in said.items() if isinstance(word, WitnessAnswer)}
    return Round(
        began=began,
        panel=panel,
        answers={n: Answer(hears=a.hears, generation=a.generation) for n, a in answers.items()},
        failures={name: word for name, word in said.items() if isinstance(word, str)},
    )
