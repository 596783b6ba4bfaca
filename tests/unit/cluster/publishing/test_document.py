# SPDX-License-Identifier: Apache-2.0
"""What docs/brokers.md says of settings and of ids is so. Its consumers run in tests/brokers."""

import re
import textwrap
from pathlib import Path

from discluster.cluster.handlers.nats.settings import NatsSettings
from discluster.cluster.settings import ClusterSettings
from discluster.settings import parse

DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "brokers.md"


def test_settings_of_the_document_are_settings() -> None:
    blocks = re.findall(
        r"(?:^    (?:handler|nats|redis| ).*\n)+", DOCUMENT.read_text(), re.MULTILINE
    )
    read = [
        parse(textwrap.dedent(block), ClusterSettings, file="brokers.md")
        for block in blocks
        if "handler:" in block
    ]
    assert [settings.handler for settings in read] == ["nats", "redis"]
    assert read[0].nats.stream.create == "DISCORD"
    assert read[1].redis.length == 500_000


def test_figures_of_the_document_are_the_defaults() -> None:
    text, stream = DOCUMENT.read_text(), NatsSettings().stream
    assert f"`duplicates` ({stream.duplicates} s)" in text
    assert f"`max_size` ({stream.max_size:,} MiB)" in text
    assert stream.max_age == 24 * 3600
    assert "`max_age` (a day)" in text


def test_drop_in_of_the_document_names_a_directive_of_the_unit() -> None:
    unit = (DOCUMENT.parents[1] / "units" / "discluster-cluster@.service").read_text()
    told = re.findall(r"^    (\w+)=discluster\.nats$", DOCUMENT.read_text(), re.MULTILINE)
    assert told == ["ImportCredential"]
    assert "\nImportCredential=" in unit
