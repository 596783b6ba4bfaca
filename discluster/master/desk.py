# SPDX-License-Identifier: Apache-2.0
"""What MASTER knows from Discord, and when it asks: at the start, then seldom."""

import random
from collections.abc import Awaitable, Callable
from typing import Final

from discluster.clock import Clock
from discluster.console import Trouble
from discluster.errors import CredentialError, DisclusterError, DiscordError, UnavailableError
from discluster.master.discord import TOKEN_REJECTED, GatewayBot, RetryLaterError
from discluster.master.identify.budget import Budget
from discluster.master.identify.ledger import IdentifyLedger
from discluster.master.records.events import EventLog
from discluster.master.settings import MasterSettings
from discluster.master.store import MasterStore

_DEFAULT_GATEWAY: Final = "wss://gateway.discord.gg"
_ASK_AGAIN_AFTER: Final = 3600.0
_LONGEST_PAUSE: Final = 300.0


class DiscordDesk:
    """Shard count, gateway, lanes and budget: from the settings where fixed, else from Discord."""

    def __init__(
        self,
        *,
        settings: MasterSettings,
        store: MasterStore,
        fetch: Callable[[], Awaitable[GatewayBot]],
        events: EventLog,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """``fetch``: asks Discord once; raises as :func:`fetch_gateway_bot`, or CredentialError."""
        self._settings = settings
        self.ledger = IdentifyLedger(settings=settings, store=store, clock=clock)
        self._fetch = fetch
        self._events = events
        self._clock = clock
        self._rng = rng
        self._answer: GatewayBot | None = None
        self._error: DisclusterError | None = None

    def follow(self, settings: MasterSettings) -> None:
        """Takes new settings."""
        self._settings = settings
        self.ledger.follow(settings)

    @property
    def budget(self) -> Budget | None:
        """What is left of the session starts."""
        return self.ledger.budget

    @property
    def recommended(self) -> int | None:
        """Shards, by Discord."""
        return self.ledger.recommended

    @property
    def shard_count(self) -> int | None:
        """For a new fleet."""
        fixed = self._settings.shard_count
        if fixed != "auto":
            return fixed
        return self._answer.shards if self._answer else None

    @property
    def gateway_url(self) -> str | None:
        """Where clusters identify; None: not known (any more), keep what the plan says."""
        if self._settings.gateway_url is not None:
            return self._settings.gateway_url
        return self._answer.url.rstrip("/") if self._answer is not None else None

    @property
    def first_gateway_url(self) -> str | None:
        """For a new fleet, which need not wait for Discord's answer if its shard count is fixed."""
        usual = self._settings.shard_count != "auto" and self._error is not None
        return self.gateway_url or (_DEFAULT_GATEWAY if usual else None)

    @property
    def max_concurrency(self) -> int | None:
        """Identify lanes; None: not known (any more), keep what the plan says."""
        fixed = self._settings.max_concurrency
        if fixed != "auto":
            return fixed
        return self._answer.session_start_limit.max_concurrency if self._answer else None

    @property
    def waiting_for(self) -> str | None:
        """Why a new fleet cannot be planned yet, in words."""
        if self.shard_count is not None and self.first_gateway_url is not None:
            return None
        if self._error is None:
            return "asking Discord for the recommended shard count"
        return f"cannot plan without a shard count: {self._error.message}"

    @property
    def trouble(self) -> Trouble | None:
        if self._error is None:
            return None
        fatal = isinstance(self._error, (DiscordError, CredentialError))
        return Trouble(
            severity="error" if fatal or self.waiting_for else "warning",
            text=self._error.message,
            hint=self._error.hint,
        )

    @property
    def rejected(self) -> str | None:
        """Why nobody may dial, in words: Discord does not know the token (HTTP 401)."""
        error = self._error
        return error.message if error is not None and error.code == TOKEN_REJECTED else None

    async def run(self, on_change: Callable[[], None]) -> None:
        """Asks until Discord answers, then once an hour and when the budget was refilled."""
        pause = 1.0
        while True:
            try:
                self._take(await self._fetch())
                pause, wait = 1.0, self._until_next()
            except (DiscordError, CredentialError) as error:
                # Asking again with a rejected token gets the machine's address banned.
                self._events.record("discord", error.render(), severity="error")
                self._error = error
                on_change()
                return
            except RetryLaterError as error:
                self._complain(error)
                wait = error.after + self._rng.random()
            except UnavailableError as error:
                self._complain(error)
                wait = pause * (0.5 + self._rng.random())
                pause = min(pause * 2, _LONGEST_PAUSE)
            on_change()
            await self._clock.sleep(wait)

    def _complain(self, error: UnavailableError) -> None:
        if self._error is None or self._error.message != error.message:
            self._events.record("discord", error.render(), severity="warning")
        self._error = error

    def _take(self, answer: GatewayBot) -> None:
        limit = answer.session_start_limit
        if self._answer is None or self._error is not None or self._answer.shards != answer.shards:
            # Once, not every hour: how many starts are left changes all the time.
            told = f"Discord recommends {answer.shards} shards; {limit.remaining} of {limit.total}"
            told += f" session starts are left, {limit.max_concurrency} at a time"
            self._events.record("discord", told)
        self._answer, self._error = answer, None
        self.ledger.discord_says(
            total=limit.total,
            remaining=limit.remaining,
            reset_after=max(0, limit.reset_after) / 1000,
            recommended=answer.shards,
        )

    def _until_next(self) -> float:
        budget = self.budget
        refill = budget.resets_at - self.ledger.now() if budget else _ASK_AGAIN_AFTER
        return min(max(refill + 5.0, 60.0), _ASK_AGAIN_AFTER)
