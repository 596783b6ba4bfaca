# SPDX-License-Identifier: Apache-2.0
"""What a shard does after a connection ended: a pure function of what happened so far."""

from typing import Final, Literal

import msgspec

from discluster.gateway import backoff, closecodes
from discluster.gateway.backoff import Delay
from discluster.gateway.closecodes import Action
from discluster.gateway.ending import Ending

HEALTHY_AFTER: Final = 60.0  # seconds ready, after which all is forgotten that went wrong before
RESUME_TRIES: Final = 5
RESUME_WINDOW: Final = 300.0  # seconds; Discord keeps a session for "a few minutes"

Phase = Literal["dialing", "hello", "waiting", "identifying", "resuming", "ready"]


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong since the last minute of health.

    ``losses``: connections that ended. ``identifies``: IDENTIFYs sent. ``resumes``: RESUMEs in a
    row that led to nothing. ``since``: monotonic seconds when the session lost its connection.
    ``avoid_resume_url``: it led nowhere, so the gateway's own address is used.
    """

    losses: int = 0
    identifies: int = 0
    resumes: int = 0
    since: float | None = None
    avoid_resume_url: bool = False


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """Where the shard stood when the connection ended.

    ``progressed``: it brought events. ``healthy``: seconds that it was ready.
    """

    phase: Phase
    has_session: bool
    used_resume_url: bool
    progressed: bool
    healthy: float
    now: float


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What to do next. ``identify`` means that the session, if there is one, is dropped first."""

    action: Action
    delay: Delay
    history: History


def after(ending: Ending, at: Situation, history: History) -> Step:
    """The next step after ``ending``."""
    if at.healthy >= HEALTHY_AFTER:
        history = History()
    action = _action(ending, at)
    if action is Action.FATAL:
        return Step(action=action, delay=Delay(0.0, 0.0), history=history)
    updated = _remember(at, history)
    if action is Action.RESUME and _exhausted(at, updated):
        action = Action.IDENTIFY
    if action is Action.IDENTIFY:
        updated = msgspec.structs.replace(updated, resumes=0, since=None, avoid_resume_url=False)
    return Step(action=action, delay=_delay(ending, at, action, history), history=updated)


def _action(ending: Ending, at: Situation) -> Action:
    if ending.cause == "closed" and closecodes.rule_for(ending.code).action is Action.FATAL:
        return Action.FATAL
    if not at.has_session or _gone(ending, at):
        return Action.IDENTIFY
    return Action.RESUME


def _gone(ending: Ending, at: Situation) -> bool:
    """Discord said that the session is gone, or we do.

    An op 9 before we sent RESUME cannot be meant: Discord did not know yet whose session it was.
    """
    if ending.cause == "renewed":
        return True
    if ending.cause == "invalid":
        return not ending.resumable and at.phase in ("identifying", "resuming", "ready")
    return ending.cause == "closed" and closecodes.rule_for(ending.code).action is Action.IDENTIFY


def _remember(at: Situation, history: History) -> History:
    failed = at.phase == "resuming" and not at.progressed
    confirmed = at.phase == "ready"
    return History(
        losses=history.losses + 1,
        identifies=history.identifies,
        resumes=0 if confirmed else history.resumes + failed,
        since=at.now if confirmed or history.since is None else history.since,
        avoid_resume_url=history.avoid_resume_url
        or (at.used_resume_url and at.phase in ("dialing", "hello")),
    )


def _exhausted(at: Situation, history: History) -> bool:
    """Only a RESUME that was sent and led to nothing says anything about the session.

    While nobody answers the dial, an IDENTIFY would get no further, and an outage must not cost
    the session of every shard.
    """
    if at.phase != "resuming":
        return False
    too_long = history.since is not None and at.now - history.since >= RESUME_WINDOW
    return history.resumes >= RESUME_TRIES or too_long


def _delay(ending: Ending, at: Situation, action: Action, history: History) -> Delay:
    if at.phase in ("dialing", "hello"):
        # The resume URL being dead says nothing about the gateway's own address.
        if at.used_resume_url and not history.losses:
            return backoff.AT_ONCE
        return _before_dial(ending, history)
    if action is Action.IDENTIFY and at.phase != "waiting":
        return backoff.before_identify(history.identifies)
    delay = backoff.before_resume(history.losses)
    if ending.cause == "invalid" and delay.low < backoff.INVALID.low:
        return backoff.INVALID
    return delay


def _before_dial(ending: Ending, history: History) -> Delay:
    # A draining edge answers with op 7 instead of HELLO; the next dial meets another one.
    if ending.cause == "reconnect" and not history.losses:
        return backoff.AT_ONCE
    return backoff.before_dial(history.losses)
