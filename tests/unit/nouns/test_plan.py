# SPDX-License-Identifier: Apache-2.0
"""Plans: what is written is what is read, and what cannot be is refused."""

import string

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discluster.errors import DocumentError
from discluster.plan import (
    MAXIMUM_SHARDS,
    ClusterPlan,
    FleetPlan,
    Grant,
    HostEntry,
    HostPlan,
    IdentifySlots,
    Restarted,
    Rollout,
    Session,
    Underway,
    digest,
    fleet_plan_from_yaml,
    fleet_plan_to_yaml,
    host_plan_from_yaml,
    host_plan_to_yaml,
    is_sound,
)

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
HOST = st.lists(LABEL, min_size=1, max_size=3).map(".".join)
# Names that YAML 1.1 would take for something else.
HOST = st.one_of(
    HOST, st.sampled_from(["no", "yes", "null", "true", "1", "12", "1e3", "0x1f", "on"])
)
URL = st.builds(
    lambda host, path: f"wss://{host}{path}",
    HOST,
    st.sampled_from(["", "/", "/a:b", "/'\"\\", "/é☃", "/{}[],&*!|>%@`"]),
)
PRINTABLE = "".join(c for c in string.printable if "!" <= c <= "~")
SESSION = st.builds(
    Session,
    session_id=st.text(PRINTABLE, min_size=1, max_size=64),
    resume_url=URL,
    seq=st.integers(0, 2**63 - 1),
    guilds=st.integers(0, 2**32 - 1),
)
SLOTS = st.integers(1, 40).flatmap(
    lambda slots: st.builds(
        IdentifySlots,
        max_concurrency=st.integers(1, 64),
        slot=st.none() | st.integers(0, slots - 1),
        slots=st.just(slots),
        after=st.floats(0, 86_400),
    )
)


@st.composite
def groups(draw: st.DrawFn, shard_count: int) -> list[tuple[int, ...]]:
    """Some of the shards, in clusters."""
    shards = draw(st.lists(st.integers(0, shard_count - 1), unique=True, max_size=12))
    cuts = draw(st.lists(st.booleans(), min_size=len(shards), max_size=len(shards)))
    clusters: list[list[int]] = []
    for shard, cut in zip(shards, cuts, strict=True):
        if cut or not clusters:
            clusters.append([])
        clusters[-1].append(shard)
    return [tuple(sorted(cluster)) for cluster in clusters]


@st.composite
def numbered(draw: st.DrawFn, shard_count: int) -> dict[int, ClusterPlan]:
    made = draw(groups(shard_count))
    size = len(made)
    ids = draw(st.lists(st.integers(0, 999_999), unique=True, min_size=size, max_size=size))
    runs = st.sampled_from([0, 0, 1, 10**6])
    return {n: ClusterPlan(shards=s, run=draw(runs)) for n, s in zip(ids, made, strict=True)}


CLUSTERS = st.integers(0, 999_999)
SECONDS = st.floats(0, 1e10)
ROLLOUTS = st.builds(
    Rollout,
    state=st.sampled_from(["running", "paused", "stopped", "done"]),
    began=SECONDS,
    at_a_time=st.integers(1, 1000),
    timeout=st.floats(1, 86_400),
    waiting=st.lists(CLUSTERS, max_size=3).map(tuple),
    underway=st.dictionaries(
        CLUSTERS, st.builds(Underway, since=SECONDS, ready=st.just((1, 2))), max_size=2
    ),
    restarted=st.dictionaries(CLUSTERS, st.builds(Restarted, took=SECONDS), max_size=2),
    gone=st.lists(CLUSTERS, max_size=2).map(tuple),
    problem=st.none() | st.text(max_size=20),
)


@st.composite
def host_plans(draw: st.DrawFn) -> HostPlan:
    count = draw(st.one_of(st.integers(1, 30), st.just(MAXIMUM_SHARDS)))
    clusters = draw(numbered(count))
    own = [shard for cluster in clusters.values() for shard in cluster.shards]
    handover = st.dictionaries(st.sampled_from(own), SESSION) if own else st.just({})
    return HostPlan(
        generation=draw(st.integers(1, 10**12)),
        shard_count=count,
        host=draw(HOST),
        gateway_url=draw(URL),
        clusters=clusters,
        identify=draw(SLOTS),
        handover=draw(handover),
    )


@st.composite
def fleet_plans(draw: st.DrawFn) -> FleetPlan:
    count = draw(st.integers(1, 30))
    clusters = draw(numbered(count))
    names = draw(st.lists(HOST, unique=True, min_size=1, max_size=4))
    of_host: dict[str, dict[int, ClusterPlan]] = {name: {} for name in names}
    for number, cluster in clusters.items():
        of_host[draw(st.sampled_from(names))][number] = cluster
    shards = st.integers(0, count - 1)
    grants = st.builds(Grant, host=HOST, withdrawn=st.none() | st.integers(1, 10**9))
    return FleetPlan(
        generation=draw(st.integers(1, 10**12)),
        shard_count=count,
        gateway_url=draw(URL),
        max_concurrency=draw(st.integers(1, 64)),
        pace_after=draw(st.floats(0, 86_400)),
        reason=draw(st.text(max_size=30)),
        hosts={
            name: HostEntry(
                weight=draw(st.floats(0, 1e6)),
                shards_per_cluster=draw(st.integers(1, 256)),
                clusters=mine,
            )
            for name, mine in of_host.items()
        },
        granted=draw(st.dictionaries(shards, grants, max_size=6)),
        sessions=draw(st.dictionaries(shards, SESSION, max_size=4)),
        rollout=draw(st.none() | ROLLOUTS),
    )


@settings(deadline=None)
@given(host_plans())
def test_a_host_plan_is_read_as_it_was_written(plan: HostPlan) -> None:
    text = host_plan_to_yaml(plan)
    assert host_plan_from_yaml(text, file="plan.yaml") == plan
    assert host_plan_to_yaml(host_plan_from_yaml(text, file="plan.yaml")) == text


@settings(deadline=None, max_examples=40)
@given(fleet_plans())
def test_a_fleet_plan_is_read_as_it_was_written(plan: FleetPlan) -> None:
    text = fleet_plan_to_yaml(plan)
    assert fleet_plan_from_yaml(text, file="fleet.yaml") == plan
    assert fleet_plan_to_yaml(fleet_plan_from_yaml(text, file="fleet.yaml")) == text


@given(st.builds(Session, session_id=st.text(), resume_url=st.text(), seq=st.integers()))
def test_a_sound_session_is_one_that_a_plan_can_hold(session: Session) -> None:
    plan = HostPlan(
        generation=1,
        shard_count=1,
        host="a",
        gateway_url="wss://x",
        clusters={0: ClusterPlan(shards=(0,))},
        handover={0: session},
    )
    if is_sound(session):
        assert host_plan_from_yaml(host_plan_to_yaml(plan), file="p") == plan
    else:
        with pytest.raises(DocumentError):
            host_plan_from_yaml(host_plan_to_yaml(plan), file="p")


def test_a_restart_of_a_cluster_is_a_diff_of_one_line() -> None:
    first = HostPlan(
        generation=4,
        shard_count=8,
        host="alpha",
        gateway_url="wss://gateway.discord.gg",
        clusters={2: ClusterPlan(shards=(0, 1)), 3: ClusterPlan(shards=(2, 3), run=2)},
    )
    lines = host_plan_to_yaml(first).splitlines()
    assert "  2: {shards: [0, 1]}" in lines
    assert "  3: {shards: [2, 3], run: 2}" in lines


def test_a_change_of_one_cluster_is_a_diff_of_one_line() -> None:
    def text(*last: int) -> str:
        return host_plan_to_yaml(
            HostPlan(
                generation=4,
                shard_count=8,
                host="alpha",
                gateway_url="wss://gateway.discord.gg",
                clusters={2: ClusterPlan(shards=(0, 1)), 3: ClusterPlan(shards=last)},
            )
        )

    assert text(2, 3).splitlines() == [
        "generation: 4",
        "shard_count: 8",
        "host: alpha",
        'gateway_url: "wss://gateway.discord.gg"',
        "clusters:",
        "  2: {shards: [0, 1]}",
        "  3: {shards: [2, 3]}",
        "identify: {max_concurrency: 1, slots: 1, after: 0.0}",
        "handover: {}",
    ]
    assert len(set(text(2, 3).splitlines()) ^ set(text(2).splitlines())) == 2
    assert digest(text(2, 3)) != digest(text(2))


def host_text(**changed: str) -> str:
    lines = {
        "generation": "1",
        "shard_count": "8",
        "host": "a",
        "gateway_url": "wss://x",
        "clusters": "{0: {shards: [0, 1]}}",
    }
    return "".join(f"{key}: {value}\n" for key, value in (lines | changed).items())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"generation": "0"}, "generation: must be at least 1"),
        ({"generation": "'1'"}, "generation: must be a whole number"),
        ({"shard_count": "65537"}, "shard_count: must be at most 65536"),
        ({"host": "A"}, "host: must be a host name in lower case"),
        ({"host": "-a"}, "host: must be a host name in lower case"),
        ({"host": "../x"}, "host: must be a host name in lower case"),
        ({"gateway_url": "https://x"}, "gateway_url: must be a ws:// or wss:// address"),
        ({"gateway_url": "'wss://x?v=10'"}, "gateway_url: must be a ws:// or wss:// address"),
        ({"clusters": "{0: {shards: []}}"}, "clusters.0: a cluster needs at least one shard"),
        ({"clusters": "{0: {shards: [1, 0]}}"}, "clusters.0: shards must be ascending, each once"),
        ({"clusters": "{0: {shards: [1, 1]}}"}, "clusters.0: shards must be ascending, each once"),
        ({"clusters": "{0: {shards: [8]}}"}, "cluster 0: shard 8 does not exist, shard_count is 8"),
        ({"clusters": "{0: {shards: [-1]}}"}, "clusters.0.shards[0]: must be at least 0"),
        ({"clusters": "{0: {shards: [1]}, 1: {shards: [1]}}"}, "shard 1 is in clusters 0 and 1"),
        ({"clusters": "{1000000: {shards: [1]}}"}, "the key must be at most 999999"),
        ({"clusters": f"{{0: {{shards: {list(range(257))}}}}}"}, "takes at most 256 shards"),
        ({"identify": "{slot: 3, slots: 3}"}, "identify: slot 3 does not exist among 3 slots"),
        (
            {"handover": "{5: {session_id: x, resume_url: 'wss://x', seq: 1}}"},
            "handover of shards that no cluster here runs: [5]",
        ),
        (
            {"handover": "{0: {session_id: '', resume_url: 'wss://x', seq: 1}}"},
            "handover.0.session_id: must be 1 to 64 printable ASCII",
        ),
        ({"token": "x"}, "token: unknown key"),
    ],
)
def test_a_host_plan_that_cannot_be_is_refused(changed: dict[str, str], said: str) -> None:
    with pytest.raises(DocumentError) as caught:
        host_plan_from_yaml(host_text(**changed), file="plan.yaml")
    assert said in str(caught.value)
    assert str(caught.value).startswith("plan.yaml:")


def test_every_fault_of_a_plan_is_told() -> None:
    text = host_text(generation="0", host="A", gateway_url="x")
    with pytest.raises(DocumentError) as caught:
        host_plan_from_yaml(text, file="plan.yaml")
    assert [problem.line for problem in caught.value.problems] == [1, 3, 4]


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        (
            "{a: {clusters: {0: {shards: [0]}}}, b: {clusters: {0: {shards: [1]}}}}",
            "cluster 0 is on a and on b",
        ),
        (
            "{a: {clusters: {0: {shards: [1]}}}, b: {clusters: {1: {shards: [1]}}}}",
            "shard 1 on b is out of range or also on a",
        ),
        ("{a: {clusters: {0: {shards: [4]}}}}", "shard 4 on a is out of range"),
        ("{a: {weight: -1}}", "hosts.a.weight: must be at least 0"),
    ],
)
def test_a_fleet_plan_that_cannot_be_is_refused(hosts: str, said: str) -> None:
    text = f"generation: 1\nshard_count: 4\ngateway_url: wss://x\nhosts: {hosts}\n"
    with pytest.raises(DocumentError) as caught:
        fleet_plan_from_yaml(text, file="fleet.yaml")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "key",
    ["granted: {4: {host: a}}", "sessions: {4: {session_id: x, resume_url: 'wss://x', seq: 1}}"],
)
def test_a_fleet_plan_knows_no_shard_that_does_not_exist(key: str) -> None:
    text = f"generation: 1\nshard_count: 4\ngateway_url: wss://x\n{key}\n"
    with pytest.raises(DocumentError, match="shard 4 does not exist"):
        fleet_plan_from_yaml(text, file="fleet.yaml")


def test_a_plan_is_a_value() -> None:
    plan = host_plan_from_yaml(host_text(), file="p")
    with pytest.raises(AttributeError):
        plan.generation = 2  # type: ignore[misc]
    assert msgspec.structs.replace(plan, generation=2).generation == 2
