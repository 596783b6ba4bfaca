# SPDX-License-Identifier: Apache-2.0
"""The rule by which CONTROL's lease goes on or ends, and that MASTER's excludes it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.control.lease import (
    NO_LEASE,
    Answer,
    Round,
    Tenure,
    Verdict,
    WhenIsolated,
    confirmed,
    decided,
    greeting,
    judged,
    next_round,
    not_taken,
    parted,
    settled,
    turned_away,
    unattended,
    words,
)
from discluster.lease import holds, is_over
from discluster.messages import Lease

L = 30.0
PANEL = ("alpha", "beta", "gamma")
HEARS = Answer(hears=True, generation=5)
DEAF = Answer(hears=False, generation=5)
UNSURE = Answer(hears=None, generation=5)
NEWER = Answer(hears=False, generation=6)
PLANLESS = Answer(hears=False, generation=0)


def held(
    *, at: float = 100.0, when_isolated: WhenIsolated = "stop", settle: bool = False
) -> Tenure:
    """In touch at ``at``, with a lease from then."""
    return Tenure(
        when_isolated=when_isolated,
        length=L,
        lease=Lease(until=at + L, then=when_isolated),
        confirmed=at,
        settled=settle,
    )


def asked(
    tenure: Tenure,
    began: float,
    answers: dict[str, Answer],
    *,
    panel: tuple[str, ...] = PANEL,
    now: float | None = None,
    generation: int = 5,
) -> Tenure:
    """After a round of the host alpha."""
    round_ = Round(began=began, panel=panel, answers=answers)
    when = began if now is None else now
    return judged(tenure, round_, host="alpha", generation=generation, now=when)


# --- MASTER ---


def test_answer_of_master_renews_from_when_it_was_asked() -> None:
    tenure = confirmed(held(at=100), 110, 112)
    assert tenure.lease == Lease(until=140)
    assert tenure.confirmed == 110


def test_older_answer_that_comes_late_renews_nothing() -> None:
    tenure = held(at=110)
    assert confirmed(tenure, 105, 112) == tenure


def test_ended_lease_is_renewed_only_when_masters_plan_is_carried_out() -> None:
    tenure = confirmed(held(at=100), 130, 130.5)
    assert is_over(tenure.lease, 130.5)
    tenure = settled(tenure, 131)
    assert tenure.lease == Lease(until=160)
    assert confirmed(tenure, 135, 200).lease == Lease(until=165), "and goes by pings from then on"


def test_lost_connection_asks_for_the_plan_again() -> None:
    tenure = parted(held(at=100, settle=True))
    assert not is_over(tenure.lease, 129)
    tenure = confirmed(tenure, 131, 131)
    assert is_over(tenure.lease, 131), "what was carried out before says nothing"


def test_acknowledged_goodbye_makes_the_lease_endless_until_the_next_greeting() -> None:
    endless = unattended(held(at=100))
    assert endless.lease == Lease(until=None)
    assert next_round(endless, None) is None, "MASTER waits for as long as it takes"
    assert asked(endless, 500, {"beta": HEARS}) == endless
    assert "MASTER keeps this machine's shards" in words(endless, 500)
    back = greeting(endless, 500)
    assert back.lease == Lease(until=500 + L), "from now on MASTER may count us as silent"
    assert greeting(back, 510).lease == back.lease
    assert confirmed(endless, 110, 110).lease == Lease(until=None), (
        "a late answer does not bound it"
    )


def test_hello_that_is_refused_unread_leaves_a_lease_endless() -> None:
    """A host that was upgraded before MASTER runs on."""
    endless = unattended(held(at=100))
    assert not_taken(greeting(endless, 500)).lease == Lease(until=None)
    again = greeting(not_taken(greeting(endless, 500)), 515)
    assert not_taken(again).lease == Lease(until=None)
    lost = greeting(greeting(endless, 500), 501)
    assert not_taken(lost).lease == Lease(until=500 + L), "the first may have been taken"
    assert not_taken(held(at=100)) == held(at=100)


def test_machine_without_a_lease_gets_one_with_masters_plan() -> None:
    tenure = confirmed(greeting(Tenure(), 50), 50, 50.1)
    assert not holds(tenure.lease, 50.1)
    assert words(tenure, 50.1) == "the clusters wait until MASTER's plan is carried out here"
    assert holds(settled(tenure, 50.2).lease, 50.2)


# --- the witnesses ---


@pytest.mark.parametrize(
    ("answers", "panel", "verdict"),
    [
        ({"beta": DEAF, "gamma": DEAF}, PANEL, "down"),
        ({"beta": DEAF}, PANEL, "down"),
        ({"beta": DEAF, "gamma": HEARS}, PANEL, "down"),
        ({"beta": NEWER, "gamma": PLANLESS}, PANEL, "down"),
        ({"beta": HEARS}, PANEL, "cut off"),
        ({"beta": HEARS, "gamma": HEARS}, PANEL, "cut off"),
        ({}, PANEL, "isolated"),
        ({"beta": UNSURE}, PANEL, "isolated"),
        ({"beta": UNSURE, "gamma": HEARS}, PANEL, "cut off"),
        ({"beta": DEAF}, ("beta", "gamma"), "isolated"),
        ({"beta": DEAF}, ("alpha", "beta", "gamma", "delta"), "isolated"),
        ({"beta": DEAF, "gamma": DEAF}, ("alpha", "beta", "gamma", "delta"), "down"),
        ({"beta": DEAF}, ("beta",), "down"),
        ({}, ("alpha",), "down"),
        ({}, (), "isolated"),
        ({"stranger": DEAF, "other": DEAF}, PANEL, "isolated"),
    ],
)
def test_majority_of_the_panel_decides(
    answers: dict[str, Answer], panel: tuple[str, ...], verdict: Verdict
) -> None:
    tenure = asked(held(at=100), 120, answers, panel=panel)
    assert tenure.finding is not None
    assert tenure.finding.verdict == verdict
    assert tenure.lease.until == (135 if verdict == "down" else 130)


def test_round_renews_from_its_beginning_and_never_shortens() -> None:
    assert asked(held(at=100), 121, {"beta": DEAF}, now=124).lease.until == 136
    assert asked(held(at=100), 112, {"beta": DEAF}).lease.until == 130


def test_answers_of_a_round_before_masters_word_are_void() -> None:
    tenure = confirmed(asked(held(at=100), 121, {"beta": HEARS}), 122, 123)
    assert tenure.cut_off is None
    assert asked(tenure, 121.5, {"beta": HEARS}, now=124) == tenure


def test_witnesses_renew_an_ended_lease_if_none_follows_a_newer_plan() -> None:
    tenure = held(at=100)
    assert asked(tenure, 140, {"beta": DEAF}).lease.until == 155
    assert asked(tenure, 140, {"beta": DEAF, "gamma": NEWER}).lease.until == 130
    assert asked(tenure, 140, {"beta": NEWER}).lease.until == 130
    assert asked(tenure, 140, {"beta": PLANLESS}).lease.until == 130
    assert asked(tenure, 129, {"beta": DEAF}, now=131, generation=4).lease.until == 130, (
        "what counts is whether it has ended when the answers are there"
    )


def test_host_that_comes_back_after_its_shards_were_given_away_stays_stopped() -> None:
    """Cut off, given away, and only then MASTER dies: nobody hears it, and yet."""
    tenure = asked(held(at=100), 125, {"beta": HEARS, "gamma": HEARS})
    tenure = asked(tenure, 300, {"beta": NEWER, "gamma": NEWER})
    assert not holds(tenure.lease, 300)
    assert "may have given the shards of this machine to others" in words(tenure, 300)


def test_machine_that_boots_without_master_starts_with_the_majority() -> None:
    booted = Tenure(length=L)
    assert next_round(booted, None) == 0.0
    assert asked(booted, 50, {"beta": DEAF}).lease == Lease(until=65)
    assert asked(booted, 50, {"beta": HEARS}).lease == NO_LEASE
    assert asked(booted, 50, {}, panel=("alpha",)).lease == Lease(until=65)


def test_isolated_machine_does_as_its_operator_says() -> None:
    assert asked(held(at=100), 120, {}).lease == Lease(until=130)
    kept = held(at=100, when_isolated="keep")
    assert asked(kept, 120, {}).lease == Lease(until=135, then="keep")
    assert asked(kept, 140, {}).lease == Lease(until=155, then="keep")


def test_isolated_machine_that_meets_a_newer_plan_stops_even_with_keep() -> None:
    kept = held(at=100, when_isolated="keep")
    panel = ("alpha", "beta", "gamma", "delta")
    met = asked(kept, 140, {"gamma": NEWER}, panel=panel)
    assert met.lease == Lease(until=130, then="stop")
    assert asked(met, 145, {}, panel=panel).lease == met.lease, "and remembers it"


def test_machine_that_was_cut_off_stops_even_with_keep() -> None:
    tenure = asked(held(at=100, when_isolated="keep"), 121, {"beta": HEARS})
    assert tenure.lease == Lease(until=130, then="stop")
    tenure = asked(tenure, 125, {})
    assert tenure.lease == Lease(until=130, then="stop"), "isolated now, but it knows better"
    late = confirmed(tenure, 115, 126)
    assert late.lease == Lease(until=145, then="stop"), "an answer from before it was found"
    assert confirmed(tenure, 126, 127).lease == Lease(until=156, then="keep")


@pytest.mark.parametrize(
    ("answers", "now", "enough"),
    [
        ({"beta": DEAF}, 122, True),
        ({"beta": DEAF}, 131, False),
        ({"beta": HEARS}, 122, False),
        ({}, 122, False),
    ],
    ids=["majority", "ended, and gamma may follow a newer plan", "no majority yet", "nobody"],
)
def test_round_is_decided_by_a_majority_while_the_lease_lasts(
    answers: dict[str, Answer], now: float, enough: bool
) -> None:
    round_ = Round(began=121, panel=PANEL, answers=answers)
    assert decided(held(at=100), round_, host="alpha", now=now) is enough


def test_rounds_begin_after_two_thirds_and_come_ten_to_a_lease() -> None:
    tenure = held(at=100)
    assert next_round(tenure, None) == 120
    assert next_round(tenure, 120) == 123
    assert next_round(tenure, 90) == 120
    assert next_round(asked(tenure, 120, {"beta": HEARS}), 120) == 123
    down = asked(tenure, 120, {"beta": DEAF})
    assert next_round(down, 120) == 126, "so that it renews at least twice before its end"


@pytest.mark.parametrize(
    ("tenure", "now", "told"),
    [
        (held(at=100), 112, ""),
        (
            asked(held(at=100), 121, {"beta": HEARS}),
            122,
            (
                "out of touch with MASTER for 22 s; beta hears it: this machine is cut off, its"
                " clusters stop in 8 s"
            ),
        ),
        (
            asked(held(at=100), 121, {"beta": HEARS, "gamma": HEARS}),
            131,
            (
                "out of touch with MASTER for 31 s; beta and gamma hear it: this machine is cut"
                " off, its clusters run no shards"
            ),
        ),
        (
            asked(held(at=100), 121, {"beta": DEAF}),
            122,
            (
                "out of touch with MASTER for 22 s; 2 of 3 witnesses do not hear it, its clusters"
                " run on"
            ),
        ),
        (
            asked(held(at=100), 121, {}, panel=("alpha",)),
            122,
            "out of touch with MASTER for 22 s; nobody else is in the fleet, its clusters run on",
        ),
        (
            asked(held(at=100), 121, {}, panel=()),
            122,
            (
                "out of touch with MASTER for 22 s; MASTER has named no witnesses: this machine is"
                " isolated, its clusters stop in 8 s (when_isolated: stop)"
            ),
        ),
        (
            asked(held(at=100, when_isolated="keep"), 121, {"beta": UNSURE}),
            122,
            (
                "out of touch with MASTER for 22 s; none of 3 witnesses can tell: this machine is"
                " isolated, its clusters run on (when_isolated: keep)"
            ),
        ),
        (
            Tenure(),
            122,
            "not in touch with MASTER since this machine was started, its clusters run no shards",
        ),
    ],
)
def test_how_it_stands_is_said_in_words(tenure: Tenure, now: float, told: str) -> None:
    assert words(tenure, now) == told


def test_why_witnesses_did_not_answer_is_said() -> None:
    round_ = Round(began=121, panel=PANEL, failures={"beta": "no answer from 192.0.2.7:7444"})
    tenure = judged(held(at=100), round_, host="alpha", generation=5, now=122)
    assert "none of 3 witnesses can tell (beta: no answer from 192.0.2.7:7444)" in words(
        tenure, 122
    )


# --- whatever happens ---

Step = tuple[str, float, float, dict[str, Answer]]
moments = st.floats(0, 40, allow_nan=False)
answers = st.dictionaries(
    st.sampled_from(["beta", "gamma"]),
    st.builds(Answer, hears=st.sampled_from([True, False, None]), generation=st.integers(0, 7)),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["pass", "confirmed", "settled", "parted", "greeting", "round"]),
        moments,
        moments,
        answers,
    ),
    max_size=30,
)


@given(steps, st.sampled_from(["stop", "keep"]))
def test_lease_is_never_longer_than_its_reasons(
    taken: list[Step], when_isolated: WhenIsolated
) -> None:
    """Whatever comes, however late: no end lies beyond a lease from MASTER's last word or half a
    lease from a round's beginning; what has ended goes on only for one of the two good reasons.
    """
    now, tenure = 1000.0, Tenure(length=L, when_isolated=when_isolated)
    for kind, pause, delay, said in taken:
        now += pause  # also far beyond the end, as for a process or machine that stood still
        before, since = tenure, now - delay
        if kind == "confirmed":
            tenure = confirmed(tenure, since, now)
        elif kind == "settled":
            tenure = settled(tenure, now)
        elif kind == "parted":
            tenure = parted(tenure)
        elif kind == "greeting":
            tenure = greeting(tenure, now)
        elif kind == "round":
            tenure = asked(tenure, since, said, now=now)
        assert_reasons(before, tenure, kind, since, said, now)


def assert_reasons(
    before: Tenure, after: Tenure, kind: str, began: float, said: dict[str, Answer], now: float
) -> None:
    until, then = before.lease.until, after.lease.until
    assert until is not None
    assert then is not None
    assert then >= until
    if then == until:
        return
    if kind in ("confirmed", "settled"):
        assert after.confirmed is not None
        assert then == after.confirmed + L
        assert now < until or after.settled
        return
    assert kind == "round", "nothing else renews"
    assert then == began + L / 2
    deaf = {"alpha"} | {name for name, answer in said.items() if answer.hears is False}
    if 2 * len(deaf) <= len(PANEL):
        assert after.when_isolated == "keep"
        assert now < until or all(answer.generation <= 5 for answer in said.values())
        assert not any(answer.hears for answer in said.values())
    elif now >= until:
        assert all(answer.generation <= 5 for answer in said.values())
        assert 2 * sum(n == "alpha" or said[n].generation > 0 for n in deaf) > len(PANEL)


# For each host seconds with, without, with, … a link to MASTER.
spans = st.fixed_dictionaries({name: st.lists(st.integers(1, 60), max_size=8) for name in PANEL})
PING, MARGIN, END = 5, 2, 240


def is_up(changes: list[int], now: int) -> bool:
    passed = 0
    for number, change in enumerate(changes):
        passed += change
        if now < passed:
            return number % 2 == 0
    return len(changes) % 2 == 0


class Master:
    """Its side, as agreed: who is silent for a lease and a margin is lost, while half of the panel
    has been steadily in touch for a lease.
    """

    def __init__(self) -> None:
        self.heard = dict.fromkeys(PANEL, 0)
        self.steady = dict.fromkeys(PANEL, 0)

    def pings(self, name: str, now: int) -> None:
        if now - self.heard[name] > L / 3:
            self.steady[name] = now
        self.heard[name] = now

    def gives_away(self, now: int) -> bool:
        fresh = (n for n in PANEL if n != "alpha" and now - self.heard[n] <= L / 3)
        fit = [name for name in fresh if now - self.steady[name] >= L]
        return now - self.heard["alpha"] >= L + MARGIN and 2 * len(fit) >= len(PANEL)


def runs_twice(links: dict[str, list[int]], tenure: Tenure) -> bool | None:
    """Whether alpha holds a lease when MASTER may give its shards away; None if it never may. Alpha
    can always ask the others, which is the worst: the more it hears the more it may renew.
    """
    master, last_round = Master(), None
    for now in range(1, END):
        for name in (name for name in PANEL if now % PING == 0 and is_up(links[name], now)):
            master.pings(name, now)
        if master.heard["alpha"] == now:
            tenure = confirmed(tenure, now, now)
        due = next_round(tenure, last_round)
        if due is not None and now >= due:
            last_round = now
            ages = {name: now - master.heard[name] for name in ("beta", "gamma")}
            said = {n: Answer(hears=age <= L / 3, generation=5) for n, age in ages.items()}
            tenure = asked(tenure, now, said)
        if master.gives_away(now):
            return holds(tenure.lease, now)
    return None


@given(spans)
def test_no_host_holds_a_lease_when_master_may_give_its_shards_away(
    links: dict[str, list[int]],
) -> None:
    """MASTER's links to alpha, beta and gamma come and go as they like."""
    assert not runs_twice(links, held(at=0))


def test_host_that_is_cut_off_alone_is_given_away_after_its_lease() -> None:
    """So that the one above is about something."""
    assert runs_twice({"alpha": [20], "beta": [], "gamma": []}, held(at=0)) is False
    endless = msgspec.structs.replace(held(at=0), lease=Lease(until=1e9))
    assert runs_twice({"alpha": [20], "beta": [], "gamma": []}, endless) is True


def test_names_of_many_witnesses_do_not_fill_the_sentence() -> None:
    panel = tuple(f"host{n}" for n in range(7))
    tenure = asked(held(at=100), 121, dict.fromkeys(panel[:5], HEARS), panel=panel)
    assert tenure.finding is not None
    assert tenure.finding.sentence == "host0 and 4 others hear it: this machine is cut off"


def test_tenure_can_be_replaced_in_parts_only() -> None:
    with pytest.raises(AttributeError):
        held().confirmed = 3.0  # type: ignore[misc]
    assert msgspec.structs.replace(held(at=1), confirmed=2.0).lease.until == 1 + L


@pytest.mark.parametrize("when_isolated", ["stop", "keep"])
def test_host_that_is_kept_out_stops_when_its_lease_ends(when_isolated: WhenIsolated) -> None:
    """Nobody answers it any more; where it would carry on then, MASTER's word goes first."""
    tenure = turned_away(held(when_isolated=when_isolated), 110.0)
    assert tenure.lease == Lease(until=130.0, then="stop"), "until then its shards are its own"
    silence = asked(tenure, 125.0, {})
    assert silence.lease == Lease(until=130.0, then="stop")
    assert not holds(silence.lease, 131.0)


def test_host_that_is_let_in_again_is_as_good_as_before() -> None:
    away = turned_away(held(when_isolated="keep"), 110.0)
    again = settled(confirmed(parted(away), 150.0, 151.0), 152.0)
    assert again.lease == Lease(until=180.0, then="keep")


def test_lease_without_end_ends_for_a_host_that_is_kept_out() -> None:
    tenure = turned_away(unattended(held()), 500.0)
    assert tenure.lease == Lease(until=500.0, then="stop")
