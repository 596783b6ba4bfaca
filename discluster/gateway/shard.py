# SPDX-License-Identifier: Apache-2.0
"""One shard against Discord: exactly one loop that keeps exactly one connection.

    dialing -> hello -> resuming ------------------> ready
                     -> waiting -> identifying ----> ready
    any of them -> backoff -> dialing, or fatal, or (stop) closing -> idle

The decisions are in recovery.py, the events go through intake.py, the socket with its timers is
connection.py. What is here connects them.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from discluster.clock import Clock
from discluster.gateway import payloads, urls
from discluster.gateway.batches import make_intake
from discluster.gateway.closecodes import END_SESSION, KEEP_SESSION, Action
from discluster.gateway.commands import Command, payload
from discluster.gateway.connection import Connection
from discluster.gateway.contracts import Gate, Permits, Sessions
from discluster.gateway.dialing import dial, hang_up
from discluster.gateway.ending import LEASE_OVER, Ending, renewed
from discluster.gateway.envelope import Envelope, from_ready
from discluster.gateway.events import Event, Handler
from discluster.gateway.gate import OpenGate, pass_through, pause
from discluster.gateway.handling import Handling, as_handling
from discluster.gateway.identity import Identity
from discluster.gateway.inbound import Inbound
from discluster.gateway.outbox import DEADLINE, Outbox
from discluster.gateway.recovery import History, Phase, Situation, Step, after
from discluster.gateway.sockets import Socket, Transport
from discluster.gateway.status import Status
from discluster.gateway.waiting import end
from discluster.messages import ShardView

# Discord asks to keep waiting for READY in an outage for as long as heartbeats are acknowledged.
READY_LIMIT: Final = 300.0
RESUMED_LIMIT: Final = 60.0  # without any replayed event


class Shard:
    """One shard, to be run once. Two shards may share only ``transport`` and ``permits``."""

    def __init__(
        self,
        *,
        shard: int,
        shard_count: int,
        gateway_url: str,
        identity: Identity,
        transport: Transport,
        clock: Clock,
        rng: random.Random,
        permits: Permits,
        sessions: Sessions,
        handler: Handler | Handling,
        on_change: Callable[[], None],
        gate: Gate | None = None,
        unacknowledged: int = 10_000,
    ) -> None:
        """``handler`` and ``on_change`` are called in the event loop and must not block it.
        ``gate``: None for a shard that is alone. ``unacknowledged``: see Intake."""
        self.shard = shard
        self._shard_count = shard_count
        self._gateway_url = gateway_url
        self._identity = identity
        self._transport = transport
        self._clock = clock
        self._rng = rng
        self._permits = permits
        self._gate = gate if gate is not None else OpenGate()
        self._sessions = sessions
        self._status = Status(shard=shard, clock=clock, on_change=on_change)
        self._intake = make_intake(
            as_handling(handler, clock=clock),
            shard=shard,
            sessions=sessions,
            note=self._note,
            wanted=self._wanted,
            unacknowledged=unacknowledged,
        )
        self._outbox = Outbox(shard=shard, clock=clock)
        self._history = History()
        self._connection: Connection | None = None
        self._socket: Socket | None = None
        self._phase: Phase = "dialing"
        self._ready_at: float | None = None
        self._progressed = False  # the connection before brought events
        self._events_before = 0  # this connection
        self._dials = self._identifies = self._resumes = self._past_frames = 0
        self._task: asyncio.Task[None] | None = None
        self._renewal: Ending | None = None  # the session is being given up
        self._stopping = False

    @property
    def progress(self) -> int:
        """Grows while the shard is alive, also while it legitimately waits; not in the states
        idle and fatal. At least one step in a heartbeat interval.
        """
        connection = self._connection
        current = connection.frames + connection.beats if connection is not None else 0
        return self._status.steps + self._past_frames + current

    @property
    def failures(self) -> int:
        """How often the handler raised."""
        return self._intake.failures

    def view(self) -> ShardView:
        """A snapshot."""
        return self._status.view(self._intake, self._connection, self._identifies, self._resumes)

    async def send(self, command: Command, *, timeout: float = DEADLINE) -> None:
        """Returns once ``command`` was written to the socket; what waits outlives a RESUME.

        Raises:
            CommandError: Discord would not take it; it was not queued.
            NotSentError: not within ``timeout`` seconds; or too many wait already; or the shard
                was stopped, or rejected by Discord.
        """
        encoded = payload(command, shard=self.shard, shard_count=self._shard_count)
        waiting = self._outbox.put(command, encoded, timeout=timeout)
        self._deliver()
        await self._outbox.written(waiting, timeout=timeout)

    def taken(self, event: Event) -> None:
        """The handler took everything up to ``event``. It may say so after stop(), too."""
        self._intake.taken(event)

    def renew(self, why: str) -> None:
        """Gives the session up, and identifies in its turn. Nothing if there is none."""
        if self._renewal is None and self._intake.session is not None:
            self._renewal = renewed(why)
            self._give_up()

    def _give_up(self) -> None:
        if self._renewal and self._connection and self._socket and not self._stopping:
            self._connection.conclude(self._renewal)
            self._connection.spawn(self._socket.close(END_SESSION))

    def _deliver(self) -> None:
        # The handler of a replayed event may send: RESUMED is not read before it is done. That
        # Discord replays proves that it has authenticated this connection.
        connection = self._connection
        if connection is not None and (self._phase == "ready" or connection.dispatches):
            self._outbox.deliver(connection)

    # --- life ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keeps the shard connected until stop(), or until Discord rejects it for good.

        Cancelling it aborts the socket and keeps the session.
        """
        if self._task is not None:
            raise RuntimeError(f"shard {self.shard} was run before")
        if self._stopping:
            return
        task = self._task = asyncio.create_task(self._live(), name=f"shard {self.shard}")
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            await end(task)
            raise
        if not task.cancelled():
            task.result()

    async def stop(self, *, keep_session: bool = True) -> None:
        """Ends within about a second; after it returns no event is handed over.

        ``keep_session``: close so that the session can be resumed; else it ends at once and is
        forgotten. A handler that is busy gets a second to finish; if it does not, its event was
        not taken and will be replayed.
        """
        self._stopping = True
        self._intake.finish()
        self._outbox.close("is being stopped")
        if self._task is not None and not self._task.done():
            self._status.enter("closing", "is being stopped")
            code = KEEP_SESSION if keep_session else END_SESSION
            await hang_up(self._socket, code, task=self._task, clock=self._clock)
        if not keep_session:
            self._intake.forget()

    async def _live(self) -> None:
        try:
            self._intake.load()
            while await self._once():
                pass
        finally:
            fatal = self._status.state == "fatal"
            self._outbox.close(f"stopped for good: {self._status.problem}" if fatal else "stopped")
            if not fatal:
                self._status.enter("idle", "has stopped")

    async def _once(self) -> bool:
        """One connection, and the wait after it. False if there shall be no other."""
        await self._pass_gate()
        if self._renewal is not None:
            self._renewal = None
            self._intake.forget()
        used_resume_url = self._uses_resume_url()
        self._ready_at = None
        self._progressed = False
        ending = await self._connect(used_resume_url)
        if self._stopping:
            return False
        self._gate.ended(self.shard, ending)
        now = self._clock.monotonic()
        at = Situation(
            phase=self._phase,
            has_session=self._intake.session is not None,
            used_resume_url=used_resume_url,
            progressed=self._progressed,
            healthy=now - self._ready_at if self._ready_at is not None else 0.0,
            now=now,
        )
        step = after(ending, at, self._history)
        return await self._follow(step, ending)

    async def _follow(self, step: Step, ending: Ending) -> bool:
        self._history = step.history
        if step.action is Action.FATAL:
            self._status.troubled(ending.text, fatal=ending.code)
            self._status.enter("fatal", f"will not try again: {ending.text}")
            return False
        if step.action is Action.IDENTIFY and self._intake.session is not None:
            self._intake.forget()
        delay = step.delay.draw(self._rng)
        verb = "resumes" if step.action is Action.RESUME else "starts anew"
        self._status.troubled(ending.text)
        self._status.enter("backoff", f"{verb} in {delay:.1f} seconds: {ending.text}")
        await pause(delay, status=self._status, clock=self._clock)
        return True

    async def _pass_gate(self) -> bool:
        return await pass_through(self._gate, self.shard, status=self._status, clock=self._clock)

    # --- one connection --------------------------------------------------------------------------

    def _uses_resume_url(self) -> bool:
        session = self._intake.session
        return (
            session is not None
            and urls.is_another(session.resume_url, gateway_url=self._gateway_url)
            and not self._history.avoid_resume_url
        )

    async def _connect(self, use_resume_url: bool) -> Ending:
        session = self._intake.session
        base = session.resume_url if session and use_resume_url else self._gateway_url
        self._enter("dialing", f"connects to {urls.host(base)}")
        socket = await dial(
            base, self._identity.compression, transport=self._transport, clock=self._clock
        )
        return socket if isinstance(socket, Ending) else await self._serve(socket)

    async def _serve(self, socket: Socket) -> Ending:
        self._dials += 1
        self._events_before = self._intake.events
        connection = Connection(
            socket=socket,
            inbound=Inbound(self._identity.compression, shard=self.shard),
            clock=self._clock,
            rng=self._rng,
            owner=self,
            seq=self._intake.seq if self._intake.session is not None else None,
        )
        self._connection, self._socket = connection, socket
        self._enter("hello", f"is connected (connection {self._dials})")
        try:
            ending = await connection.run()
            # After a zombie the socket was aborted, and this waits for nobody.
            await socket.close(END_SESSION if ending is self._renewal else KEEP_SESSION)
        finally:
            socket.abort()
            self._past_frames += connection.frames + connection.beats
            self._progressed = connection.dispatches > 0
            self._connection = self._socket = None
        return ending

    def greeted(self, connection: Connection) -> None:
        """HELLO was received."""
        session = self._intake.session
        if self._stopping or self._renewal is not None:
            self._give_up()
        elif session is None:
            self._wait_for_turn()
            connection.spawn(self._identify(connection))
        else:
            self._enter("resuming", f"resumes its session after sequence {self._intake.seq}")
            connection.spawn(self._resume(connection, session.session_id))

    def _wait_for_turn(self) -> None:
        self._enter("waiting", "waits for its turn to identify")

    async def _resume(self, connection: Connection, session_id: str) -> None:
        if await self._pass_gate():
            self._enter("resuming", "resumes its session after all")
        connection.expect("RESUMED", RESUMED_LIMIT)
        self._resumes += 1
        frame = payloads.resume(
            self._identity.token, session_id=session_id, seq=self._intake.seq or 0
        )
        try:
            await connection.send(frame)
        except ConnectionError:
            pass  # the connection's reading loop meets the end of the socket, too

    async def _identify(self, connection: Connection) -> None:
        frame = payloads.identify(self._identity, shard=self.shard, shard_count=self._shard_count)
        while True:
            if await self._pass_gate():
                self._wait_for_turn()
            await self._permits.acquire(self.shard)
            if connection.over or self._stopping:
                self._permits.returned(self.shard)
                return
            # Between this and the write there must be no await.
            if self._gate.obstacle(self.shard) is None and self._permits.valid(self.shard):
                break
            self._permits.returned(self.shard)
        self._enter("identifying", "identifies")
        connection.expect("READY", READY_LIMIT)
        sent = True  # if we are cancelled meanwhile, it may have been
        try:
            await connection.send(frame)
        except ConnectionError:
            sent = False  # the connection's reading loop meets the end of the socket, too
        finally:
            self._settle_permit(sent)

    def _settle_permit(self, sent: bool) -> None:
        if not sent:
            self._permits.returned(self.shard)
            return
        self._permits.used(self.shard)
        self._identifies += 1
        self._history = msgspec.structs.replace(
            self._history, identifies=self._history.identifies + 1
        )

    # --- dispatches ------------------------------------------------------------------------------

    def dispatched(self, connection: Connection, run: list[Envelope]) -> Awaitable[None] | None:
        """Op 0s were received; what is returned must be done before more is read."""
        if self._stopping or not self._may_hand_over(connection):
            return None
        if self._phase not in ("resuming", "ready"):  # what comes before is of no session
            run = from_ready(run) if self._phase == "identifying" else []
        connection.dispatches += len(run)
        return self._intake.take(run, now=connection.read_at)

    def _may_hand_over(self, connection: Connection) -> bool:
        if self._gate.may_run():
            return True
        # For good, though the lease may come again: nothing may follow what is left out here.
        connection.conclude(LEASE_OVER)
        return False

    def _note(self, envelope: Envelope) -> None:
        """An event that says something of the session itself, before the handler gets it."""
        match envelope.t:
            case "READY":
                self._intake.begin(envelope, gateway_url=self._gateway_url)
                resumable = "" if self._intake.session is not None else " that cannot be resumed"
                guilds = self._intake.guilds.count
                self._ready(f"is ready: a new session{resumable}, {guilds} guilds")
            case "RESUMED" if self._phase == "resuming":
                replayed = self._intake.events - self._events_before
                self._ready(f"is ready: resumed with {replayed} events")
            case "GUILD_CREATE":
                self._intake.guilds.created(envelope)
            case "GUILD_DELETE":
                self._intake.guilds.deleted(envelope)

    def _wanted(self) -> bool:
        """Whether further events of the same run may be handed over after one took its time."""
        connection = self._connection
        if self._stopping or connection is None or connection.over:
            return False
        return self._may_hand_over(connection)

    def _ready(self, sentence: str) -> None:
        assert self._connection is not None  # an event comes from somewhere
        self._connection.expect_nothing()
        self._ready_at = self._clock.monotonic()
        self._enter("ready", sentence)
        self._gate.accepted(self.shard)
        self._deliver()

    def _enter(self, phase: Phase, sentence: str) -> None:
        self._phase = phase
        if not self._stopping:
            self._status.enter(phase, sentence)
