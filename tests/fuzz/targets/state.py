# SPDX-License-Identifier: Apache-2.0
"""The files of MASTER and CONTROL, damaged or forged. The first byte picks the file.

Each is read, or refused with an error that names it, or told in the journal and counted as none.
"""

from pathlib import Path

import msgspec
from hypothesis import strategies as st

from discluster.console import Event, PlanEntry
from discluster.control.allowance import Share, ShareFile
from discluster.control.identity import Identity
from discluster.control.store import ControlStore
from discluster.errors import DocumentError, StateError
from discluster.lease import StoredLease, read_stored
from discluster.master.access.accounts import Account, Accounts
from discluster.master.access.audit import AuditLog
from discluster.master.access.tokens import StoredToken, TokenDesk
from discluster.master.orders.orders import Orders
from discluster.master.records.checkpointing import CheckpointKeeper
from discluster.master.records.checkpoints import _Stored as StoredCheckpoints
from discluster.master.records.events import EventLog
from discluster.master.records.history import History
from discluster.master.store import MasterStore, Remembered
from discluster.messages import Held
from discluster.operators import AuditEntry
from discluster.plan import FleetPlan, HostPlan, fleet_plan_to_yaml, host_plan_to_yaml
from tests.clock import ManualClock
from tests.fuzz import masters, shapes
from tests.fuzz.contract import check_error

LONGEST = 8 * 1024
_FILES = (
    "fleet.yaml",
    "orders.json",
    "identify.json",
    "checkpoints.msgpack",
    "tokens.json",
    "events.jsonl",
    "history/index.json",
    "control/plan.yaml",
    "assignments/3.json",
    "identity/joined.json",
    "identity/host.crt",
    "lease.json",
    "share.json",
    "operators.json",
    "audit.jsonl",
)


def target(data: bytes) -> None:
    name = _FILES[data[0] % len(_FILES)] if data else _FILES[0]
    with masters.scratch() as directory, masters.quiet():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data[1:])
        try:
            _read(name, directory)
        except (StateError, DocumentError) as error:
            check_error(error, names=str(path))


def _read(name: str, directory: Path) -> None:
    store, clock = MasterStore(directory), ManualClock()
    if name == "fleet.yaml":
        plan = store.load()
        assert plan is None or fleet_plan_to_yaml(plan)
    elif name == "orders.json":
        store.save_orders(store.orders())
    elif name == "identify.json":
        store.remember(store.remembered())
    elif name == "checkpoints.msgpack":
        CheckpointKeeper(store=store, clock=clock, shard_count=4).save()
    elif name == "tokens.json":
        TokenDesk(directory / name).create(host=None, ttl=5, now=clock.wall())
    elif name == "operators.json":
        Accounts(directory / name)
    elif name == "audit.jsonl":
        AuditLog(directory, keep=10, clock=clock).close()
    elif name == "events.jsonl":
        log = EventLog(directory, keep=10, clock=clock)
        log.record("master", "goes on")
        log.close()
    elif name == "history/index.json":
        assert msgspec.json.encode(History(directory / "history", keep=5, clock=clock).told(None))
    elif name == "lease.json":
        read_stored(directory / name, boot_id="b")
    elif name == "share.json":
        ShareFile(directory / name).save(ShareFile(directory / name).load())
    else:
        _read_controls(name, directory)


def _read_controls(name: str, directory: Path) -> None:
    if name == "control/plan.yaml":
        plan = ControlStore(directory).load_plan()
        assert plan is None or host_plan_to_yaml(plan)
    elif name.startswith("assignments"):
        control = ControlStore(directory)
        for held in control.load_held().values():
            control.save_held(held)
    else:
        identity = Identity(directory / "identity")
        identity.master_url()
        if identity.joined:
            identity.host_name()


def inputs() -> st.SearchStrategy[bytes]:
    shape: dict[str, type[msgspec.Struct]] = {
        "fleet.yaml": FleetPlan,
        "orders.json": Orders,
        "identify.json": Remembered,
        "events.jsonl": Event,
        "control/plan.yaml": HostPlan,
        "assignments/3.json": Held,
        "lease.json": StoredLease,
        "share.json": Share,
        "audit.jsonl": AuditEntry,
    }
    made = {name: shapes.as_json(shapes.struct(kind)) for name, kind in shape.items()}
    made["tokens.json"] = shapes.as_json(st.lists(shapes.struct(StoredToken), max_size=3))
    made["operators.json"] = shapes.as_json(st.lists(shapes.struct(Account), max_size=3))
    made["history/index.json"] = shapes.as_json(st.lists(shapes.struct(PlanEntry), max_size=3))
    made["identity/joined.json"] = shapes.as_json(st.one_of(shapes.odd, st.just({"master": "u"})))
    made["identity/host.crt"] = st.just(b"-----BEGIN CERTIFICATE-----\nAAAA\n")
    made["checkpoints.msgpack"] = _packed()
    choices = [
        shapes.damaged(made[name]).map(bytes([number]).__add__)
        for number, name in enumerate(_FILES)
    ]
    return st.one_of(choices)


def _packed() -> st.SearchStrategy[bytes]:
    kept = st.tuples(
        *(st.one_of(shapes.small, shapes.small, shapes.odd) for _ in range(3)),
        *(st.one_of(shapes.words, shapes.odd), shapes.small, shapes.numbers, shapes.small),
    )
    stored = shapes.struct(StoredCheckpoints)
    with_shards = st.builds(
        lambda base, shards: base | {"shards": shards, "hosts": ["a"], "urls": ["wss://a"]},
        stored,
        st.lists(kept, max_size=3),
    )
    return st.one_of(stored, with_shards).map(_msgpack)


def _msgpack(value: object) -> bytes:
    try:
        return msgspec.msgpack.encode(value)
    except OverflowError:  # there are no larger numbers in it
        return b""
