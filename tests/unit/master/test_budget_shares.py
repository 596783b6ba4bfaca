# SPDX-License-Identifier: Apache-2.0
"""What hosts may identify without MASTER: all together stay within the budget less its reserve."""

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from discluster.control.allowance import Purse, Share
from discluster.master.identify.ledger import IdentifyLedger
from discluster.messages import Allowance, AllowanceReport
from tests.clock import ManualClock
from tests.unit.master.ledgers import DailyCount, MemoryStore, ledger

HOUR = 3600.0
TWO = {"a": 10, "b": 10}


def full(clock: ManualClock, remaining: int = 1000) -> IdentifyLedger:
    made = ledger(clock)
    made.discord_says(total=1000, remaining=remaining, reset_after=3 * HOUR, recommended=4)
    return made


def allow(made: IdentifyLedger, demand: int = 0, shards: dict[str, int] = TWO) -> dict[str, int]:
    """Sends what is due; how many each host may spend."""
    due = made.allow(shards, all_shards=20, demand=demand)
    for host, message in due.items():
        report = AllowanceReport(
            serial=message.serial, identifies=message.identifies, daily=message.daily
        )
        made.host_said(host, report, first=False)
    return {host: message.identifies for host, message in due.items()}


def test_hosts_get_half_by_their_shards_and_master_keeps_the_rest() -> None:
    made = full(ManualClock())
    assert made.to_spend() == 900
    assert allow(made, shards={"a": 5, "b": 15}) == {"a": 112, "b": 337}
    assert made.to_spend() == 900 - 112 - 337
    assert made.promises["b"] == (337, 337, 337)
    assert allow(made, shards={"a": 5, "b": 15}) == {}, "nothing changed"


def test_a_new_allowance_is_not_sent_while_one_is_on_its_way() -> None:
    made = full(ManualClock())
    assert made.allow(TWO, all_shards=20, demand=0).keys() == {"a", "b"}
    assert made.allow(TWO, all_shards=20, demand=900) == {}
    assert made.to_spend() == 450


@pytest.mark.covers("T-05")
def test_hosts_in_touch_give_back_what_master_needs_down_to_the_reserve() -> None:
    made = full(ManualClock(), remaining=112)
    assert allow(made) == {"a": 3, "b": 3}
    made.granted(range(6))
    assert made.to_spend() == 0
    assert made.refusal({"a", "b"}) is None
    assert allow(made, demand=9) == {"a": 0, "b": 0}
    assert made.to_spend() == 6
    made.granted(range(6))
    assert made.refusal({"a", "b"}) == (
        "waiting for identify budget, 100 left (100 of them the reserve), resets in 3 h"
    )


def test_what_a_host_out_of_touch_may_spend_stays_reserved_and_is_told() -> None:
    made = full(ManualClock(), remaining=148)
    assert allow(made) == {"a": 12, "b": 12}
    assert allow(made, demand=99, shards={"b": 10}) == {"b": 0}
    made.granted(range(36))
    assert made.refusal({"b"}) == (
        "waiting for identify budget, 112 left (100 of them the reserve, 12 of them for hosts out"
        " of touch), resets in 3 h"
    )


def test_what_a_host_spent_alone_is_counted_once() -> None:
    made = full(ManualClock())
    sent = made.allow({"a": 20}, all_shards=20, demand=0)["a"]
    report = AllowanceReport(serial=sent.serial, identifies=sent.identifies, spent=7)
    made.host_said("a", report, first=True)
    made.host_said("a", report, first=True)
    assert made.budget is not None
    assert made.budget.remaining == 993
    assert made.promises["a"].left == 443
    made.host_said("a", AllowanceReport(serial=sent.serial, spent=9), first=True)
    assert made.budget.remaining == 991


def test_a_host_that_lost_its_file_may_have_spent_everything() -> None:
    made = full(ManualClock())
    allow(made)
    made.host_said("a", AllowanceReport(serial=0), first=True)
    assert made.budget is not None
    assert made.budget.remaining == 775
    assert "a" not in made.promises


def test_a_master_that_lost_its_file_takes_over_what_hosts_report() -> None:
    made = full(ManualClock())
    report = AllowanceReport(serial=9, identifies=50, daily=60, resets_in=HOUR, spent=20)
    made.host_said("a", report, first=True)
    assert made.budget is not None
    assert made.budget.remaining == 980
    assert made.promises["a"].left == 60, "after its reset, which comes before ours"
    assert made.allow({"a": 10}, all_shards=20, demand=0)["a"].serial == 10


def test_after_the_reset_a_host_out_of_touch_has_its_share_of_each_day() -> None:
    clock = ManualClock()
    made = full(clock, remaining=148)
    allow(made)
    clock.jump(3 * HOUR)
    assert made.promises["a"].left == 225
    assert made.to_spend() == 900 - 450
    assert made.allow(TWO, all_shards=20, demand=0).keys() == {"a", "b"}


def test_allowances_survive_a_restart_of_master() -> None:
    clock, store = ManualClock(), MemoryStore()
    first = ledger(clock, store)
    first.discord_says(total=1000, remaining=1000, reset_after=3 * HOUR, recommended=4)
    allow(first)
    again = ledger(clock, store)
    assert again.promises == first.promises
    assert again.to_spend() == first.to_spend() == 450


def test_a_host_without_shards_is_forgotten() -> None:
    made = full(ManualClock())
    allow(made)
    made.forget(["a", "nobody"])
    assert made.promises.keys() == {"b"}


# --- the host's side ------------------------------------------------------------------------------


class Keeper:
    """A purse, and the file that outlives it."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.file = Share()
        self.purse = self.open()

    def open(self) -> Purse:
        return Purse(self.file, save=self._save, clock=self.clock)

    def _save(self, share: Share) -> None:
        self.file = share


TOLD = Allowance(serial=1, identifies=2, resets_in=3 * HOUR, daily=3)


def test_a_host_spends_what_it_was_told_and_says_why_not_more() -> None:
    kept = Keeper(ManualClock())
    assert kept.purse.refusal() == (
        "MASTER is away, and has not told this host how many identifies it may spend without it"
    )
    kept.purse.take(TOLD)
    assert [kept.purse.spend() for _ in range(3)] == [True, True, False]
    assert kept.purse.refusal() == (
        "MASTER is away and this host's share of the identify budget is used: 0 of 2 left, resets"
        " in 3 h 1 min"
    )


def test_after_the_reset_it_spends_so_many_in_any_24_hours() -> None:
    clock = ManualClock()
    kept = Keeper(clock)
    kept.purse.take(TOLD)
    assert kept.purse.spend()
    clock.jump(4 * HOUR)
    assert [kept.purse.spend() for _ in range(3)] == [True, True, False]
    assert kept.purse.refusal() == (
        "MASTER is away and this host's share of the identify budget is used: 0 of 3 a day left,"
        " the next one in 20 h"
    )
    clock.jump(20 * HOUR)
    assert [kept.purse.spend() for _ in range(2)] == [True, False]


def test_a_restart_of_control_forgets_nothing() -> None:
    kept = Keeper(ManualClock())
    kept.purse.take(TOLD)
    kept.purse.spend()
    again = kept.open()
    assert again.report().spent == 1
    assert [again.spend(), again.spend()] == [True, False]


def test_a_permit_that_was_not_used_is_put_back_unless_master_was_told() -> None:
    kept = Keeper(ManualClock())
    kept.purse.take(TOLD)
    kept.purse.spend()
    kept.purse.give_back()
    assert kept.purse.report().spent == 0
    kept.purse.spend()
    assert kept.purse.report().spent == 1
    kept.purse.give_back()
    assert kept.purse.report().spent == 1


def test_an_older_allowance_is_answered_and_not_followed() -> None:
    kept = Keeper(ManualClock())
    kept.purse.take(Allowance(serial=3, identifies=5, resets_in=HOUR, daily=5))
    answer = kept.purse.take(TOLD)
    assert answer is not None
    assert (answer.serial, answer.identifies) == (3, 5)


@pytest.mark.covers("F31", "T-43")
def test_setting_the_clock_brings_no_reset() -> None:
    clock = ManualClock()
    kept = Keeper(clock)
    kept.purse.take(TOLD)
    made = full(clock, remaining=5)
    clock._wall += 5 * HOUR
    assert [kept.purse.spend() for _ in range(3)] == [True, True, False]
    assert made.budget is not None
    assert made.budget.remaining == 5


# --- everything that may go wrong, together -------------------------------------------------------

TOTAL, RESERVE = 60, 6
HOSTS = ("a", "b", "c")


class Host:
    """A CONTROL: its file, its queue from MASTER, and the permits it holds."""

    def __init__(self, clock: ManualClock) -> None:
        self.kept = Keeper(clock)
        self.connected = False
        self.inbox: list[Allowance] = []
        self.outbox: list[Callable[[IdentifyLedger], None]] = []
        self.permits: list[int] = []


class Fleet(RuleBasedStateMachine):
    """MASTER's ledger and the purses of three hosts; messages come late, or never."""

    @initialize(
        reset_after=st.sampled_from([0.0, HOUR, 10 * HOUR]), remaining=st.integers(0, TOTAL)
    )
    def begin(self, reset_after: float, remaining: int) -> None:
        self.clock = ManualClock()
        self.discord = DailyCount(TOTAL)
        if reset_after:
            # Identified by others before we came.
            self.discord.left = max(RESERVE, remaining)
            self.discord.ends = self.clock.monotonic() + reset_after
        self.store = MemoryStore()
        self.master: IdentifyLedger | None = None
        self.hosts = {name: Host(self.clock) for name in HOSTS}
        self.shard = 0
        self.start_master()
        self.ask_discord()

    def start_master(self) -> None:
        self.present: set[str] = set()
        self.master = ledger(self.clock, self.store)
        self.out: set[int] = set()

    @precondition(lambda self: self.master is None)
    @rule()
    def master_starts(self) -> None:
        self.start_master()

    @precondition(lambda self: self.master is not None)
    @rule()
    def master_dies(self) -> None:
        self.master = None
        for name in HOSTS:
            self.disconnect(name)

    def disconnect(self, name: str) -> None:
        host = self.hosts[name]
        host.connected = False
        host.inbox.clear()
        host.outbox.clear()
        self.present.discard(name)

    @rule(name=st.sampled_from(HOSTS))
    def connection_breaks(self, name: str) -> None:
        self.disconnect(name)

    @precondition(lambda self: self.master is not None)
    @rule(
        name=st.sampled_from(HOSTS),
        delivered=st.sampled_from([0, 1, 2, 3, 9, 9]),
        demand=st.sampled_from([0, 0, 0, 3, 60]),
    )
    def they_talk(self, name: str, delivered: int, demand: int) -> None:
        """So many messages arrive, of both sides; the rest is on its way."""
        host = self.hosts[name]
        if not host.connected:
            host.connected = True
            self.report(name, host.kept.purse.report())
        for _ in range(delivered):
            assert self.master is not None
            if host.outbox:
                host.outbox.pop(0)(self.master)
            elif host.inbox:
                if (answer := host.kept.purse.take(host.inbox.pop(0))) is not None:
                    self.report(name, answer)
            else:
                self.master_allows(demand)

    def report(self, name: str, message: AllowanceReport) -> None:
        def arrive(master: IdentifyLedger) -> None:
            master.host_said(name, message, first=name not in self.present)
            self.present.add(name)

        self.hosts[name].outbox.append(arrive)

    def master_allows(self, demand: int) -> None:
        assert self.master is not None
        shards = dict.fromkeys(sorted(self.present), 4)
        for name, message in self.master.allow(shards, all_shards=12, demand=demand).items():
            self.hosts[name].inbox.append(message)

    @precondition(lambda self: self.master is not None and self.present)
    @rule(count=st.sampled_from([1, 5, 99]))
    def master_grants(self, count: int) -> None:
        """Permits of which hosts use some, return some, and use some unseen."""
        assert self.master is not None
        shards = range(self.shard, self.shard + min(count, self.master.to_spend()))
        self.shard += len(shards)
        self.master.granted(shards)
        self.out.update(shards)
        for shard in shards:
            names = sorted(self.present)
            self.hosts[names[shard % len(names)]].permits.append(shard)

    @rule(name=st.sampled_from(HOSTS), what=st.sampled_from(["use", "use", "return", "lose"]))
    def host_settles_its_permits(self, name: str, what: str) -> None:
        host = self.hosts[name]
        while host.permits:
            shard = host.permits.pop()
            if what == "use":
                self.discord.identify(self.clock.monotonic())
            if what == "lose" or not host.connected or self.master is None:
                continue
            counted = shard in self.out
            self.out.discard(shard)
            if what == "use":
                self.master.used(shard, counted=counted, alone=False)
            elif counted:
                self.master.returned(shard)

    @rule(name=st.sampled_from(HOSTS), count=st.sampled_from([1, 5, 99]), returned=st.booleans())
    def host_alone_identifies(self, name: str, count: int, returned: bool) -> None:
        host = self.hosts[name]
        for _ in range(count):
            if not host.connected and host.kept.purse.spend():
                if returned:
                    host.kept.purse.give_back()
                else:
                    self.discord.identify(self.clock.monotonic())

    @rule(name=st.sampled_from(HOSTS), wiped=st.sampled_from([False, False, False, True]))
    def control_restarts(self, name: str, wiped: bool) -> None:
        self.disconnect(name)
        kept = self.hosts[name].kept
        if wiped:
            kept.file = Share()
        kept.purse = kept.open()

    @precondition(lambda self: self.master is not None)
    @rule()
    def ask_discord(self) -> None:
        assert self.master is not None
        left, after = self.discord.look(self.clock.monotonic())
        self.master.discord_says(total=TOTAL, remaining=left, reset_after=after, recommended=12)

    @rule(hours=st.sampled_from([0.01, 0.9, 1.1, 9.0, 10.1, 23.9, 24.1, 50.0]))
    def time_passes(self, hours: float) -> None:
        for name in HOSTS:
            # Permits live for seconds.
            self.host_settles_its_permits(name, "use")
        self.clock.jump(hours * HOUR)

    @invariant()
    def the_reserve_is_left_whoever_spends_what_it_may(self) -> None:
        now = self.clock.monotonic()
        left, _ = self.discord.look(now)
        wall = self.clock.wall()
        may_alone = sum(host.kept.file.left(wall) for host in self.hosts.values())
        may_with_permits = sum(len(host.permits) for host in self.hosts.values())
        may_master = self.master.to_spend() if self.master is not None else 0
        assert left - may_alone - may_with_permits - may_master >= RESERVE


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
