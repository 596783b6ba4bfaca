# SPDX-License-Identifier: Apache-2.0
"""Settings: one declaration makes the loader, the shipped file and the explanation."""

import re
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
import yaml

from discluster import settings
from discluster.cluster.settings import ClusterSettings
from discluster.control.settings import ControlSettings
from discluster.errors import ConfigurationError, DocumentError
from discluster.master.settings import MasterSettings
from discluster.settings import Setting, SettingChange
from discluster.simulator.settings import SimulatorSettings

ALL = [MasterSettings, ControlSettings, ClusterSettings, SimulatorSettings]
every_program = pytest.mark.parametrize("shape", ALL, ids=lambda shape: shape.__name__)


class Small(msgspec.Struct, frozen=True, kw_only=True):
    level: Annotated[str, Setting("How much is said", reloads=True)] = "info"
    wait: Annotated[float, Setting("How long", unit="seconds", minimum=0)] = 1.5
    most: Annotated[int, Setting("How many", maximum=9)] = 3

    def __post_init__(self) -> None:
        if self.most == 7:
            raise ValueError("not seven")


def uncommented(text: str) -> str:
    """As a person does who takes the ``#`` off every setting, and off nothing else."""
    return "\n".join(
        re.sub(r"^#(?=\s*[a-z_0-9]+:)(?! [A-Za-z])", "", line) for line in text.splitlines()
    )


@every_program
def test_the_shipped_file_says_what_the_defaults_say(shape: type[msgspec.Struct]) -> None:
    text = settings.default_file(shape, title="Title.")
    assert settings.parse(text, shape, file="f") == shape()
    assert settings.parse(uncommented(text), shape, file="f") == shape()


@every_program
def test_every_setting_is_in_the_shipped_file(shape: type[msgspec.Struct]) -> None:
    shown = yaml.safe_load(uncommented(settings.default_file(shape, title="Title.")))
    assert list(shown) == [field.name for field in msgspec.structs.fields(shape)]


@every_program
def test_every_setting_is_explained(shape: type[msgspec.Struct]) -> None:
    rows = {row.path: row for row in settings.explain(shape)}
    for field in msgspec.structs.fields(shape):
        assert rows[field.name].help
        below = [path for path in rows if path.startswith(f"{field.name}.")]
        assert rows[field.name].type != "group" or below


@every_program
def test_every_example_in_the_shipped_file_is_valid(shape: type[msgspec.Struct]) -> None:
    for row in settings.explain(shape):
        if row.example is not None:
            settings.parse(row.example, shape, file="example")


def test_what_is_below_a_mapping_is_explained_with_a_star() -> None:
    paths = [row.path for row in settings.explain(MasterSettings)]
    assert "hosts.*.weight" in paths


def test_a_missing_file_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist") as caught:
        settings.load(tmp_path / "master.yaml", MasterSettings)
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_status == 78


def test_a_file_that_is_no_text_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"x\.yaml: cannot be read"):
        settings.load(tmp_path / "x.yaml", MasterSettings)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        settings.load(tmp_path, MasterSettings)


@pytest.mark.parametrize(
    ("text", "hint"), [("a: 1", "this place"), ("a: 1\nb: 2", "these 2 places")]
)
def test_a_faulty_file_says_how_many_places_are_to_be_corrected(text: str, hint: str) -> None:
    with pytest.raises(DocumentError) as caught:
        settings.parse(text, Small, file="f")
    assert hint in str(caught.value.hint)


def test_assignments_override_and_leave_the_rest() -> None:
    base = Small(level="debug", most=5)
    assert settings.override(base, ["wait=2", "most = 4"], file="--set") == Small(
        level="debug", wait=2.0, most=4
    )
    assert settings.override(base, []) == base


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("wiat=1", "--set: wiat: unknown key; did you mean 'wait'?"),
        ("wait", "--set: wait: must be of the form key=value"),
        ("wait=x", "--set: wait: must be a number, not the text 'x'"),
        ("most=10", "--set: most: must be at most 9, not 10"),
        ("=1", "--set: =1: must be of the form key=value"),
        ("'most'=1", "--set: 'most': must be the plain name of a setting"),
        ("most=7", "--set: not seven"),
    ],
)
def test_a_wrong_assignment_is_refused_in_words(assignment: str, said: str) -> None:
    with pytest.raises(DocumentError) as caught:
        settings.override(Small(), [assignment])
    assert str(caught.value).startswith(said)


def test_every_wrong_assignment_is_told_at_once() -> None:
    with pytest.raises(DocumentError) as caught:
        settings.override(Small(), ["wait=x", "most=10", "nothing"])
    assert len(caught.value.problems) == 3


def test_changes_are_told_apart_by_whether_they_reload() -> None:
    assert settings.changes(Small(), Small(level="debug", most=4)) == [
        SettingChange(path="level", old="info", new="debug", reloads=True),
        SettingChange(path="most", old="3", new="4", reloads=False),
    ]
    assert settings.changes(Small(), Small()) == []


def test_changes_in_a_mapping_are_told_one_by_one() -> None:
    old = settings.parse("hosts: {a: {weight: 2}, b: {}}", MasterSettings, file="f")
    new = settings.parse("hosts: {a: {weight: 3}, c: {standby: true}}", MasterSettings, file="f")
    told = [(change.path, change.old, change.new) for change in settings.changes(old, new)]
    assert told[0] == ("hosts.a.weight", "2", "3")
    assert [(path, new is None) for path, _, new in told[1:]] == [
        ("hosts.b", True),
        ("hosts.c", False),
    ]
    assert all(change.reloads for change in settings.changes(old, new))


def test_only_what_reloads_is_taken_on_a_reload() -> None:
    taken = settings.reloaded(Small(), Small(level="debug", most=4))
    assert taken == Small(level="debug")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("listen: 7443", "listen"),
        ("listen: '0.0.0.0:99999'", "listen"),
        ("listen: '0.0.0.0:65536'", "listen"),
        ("names: ['größe.example']", "names[0]"),
        ("names: ['a b']", "names[0]"),
        ("hosts: {a: {weight: 1e999}}", "hosts.a.weight"),
        ("hosts: {a: {weight: 1e300}}", "hosts.a.weight"),
        ("hosts: {UPPER: {}}", "hosts.UPPER"),
        ("shard_count: 0", "shard_count"),
        ("shard_count: 65537", "shard_count"),
        ("shards_per_cluster: 257", "shards_per_cluster"),
        ("gateway_url: https://x", "gateway_url"),
        ("identify_reserve: 1.5", "identify_reserve"),
        ("public_url: http://x", "public_url"),
        ("token: x", "token"),
    ],
)
def test_a_setting_of_master_that_cannot_work_is_refused(text: str, path: str) -> None:
    with pytest.raises(DocumentError) as caught:
        settings.parse(text, MasterSettings, file="master.yaml")
    assert [problem.path for problem in caught.value.problems] == [path]


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("0.0.0.0:7443", ("0.0.0.0", 7443)),
        ("[::]:7443", ("::", 7443)),
        ("master.example:65535", ("master.example", 65535)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
    ],
)
def test_listen_is_an_address_and_a_port(listen: str, address: tuple[str, int]) -> None:
    parsed = settings.parse(f"listen: '{listen}'", MasterSettings, file="f")
    assert parsed.address == address


@pytest.mark.parametrize("name", ["master.example.net", "192.0.2.10", "2001:db8::1", "::1", "m_1"])
def test_names_are_dns_names_and_addresses(name: str) -> None:
    assert settings.parse(f"names: ['{name}']", MasterSettings, file="f").names == (name,)
