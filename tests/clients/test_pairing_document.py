# SPDX-License-Identifier: Apache-2.0
"""What docs/pairing.md says besides the lines for each library, which test_pairing.py runs."""

import subprocess
from configparser import RawConfigParser
from pathlib import Path

from discluster.cluster.settings import ClusterSettings
from discluster.settings import parse
from tests.clients.pairing import document
from tests.clients.pairing.bot import LIBRARIES

CLUSTER = 3
PRINTED = 'printf "%s %s" "$DISCLUSTER_GATEWAY" "$BOT_TOKEN"'


def test_document_has_a_program_for_each_library() -> None:
    bots = [Path(name).stem for name, text in document.programs().items() if document.is_bot(text)]
    assert sorted(bots) == sorted(LIBRARIES)


def test_documented_unit_tells_the_bot_its_address_and_the_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("MTAw.a.b\n")
    text = document.programs()["/etc/systemd/system/bot@.service"].replace("\\\n", " ")
    unit = RawConfigParser()
    unit.read_string(text)
    # As systemd.service(5) says of ExecStart=.
    words = unit["Service"]["ExecStart"].replace("%i", str(CLUSTER)).replace("$$", "$")
    shell, _, script = words.partition(" -c ")
    assert shell == "/bin/sh"
    assert script.count("exec /usr/bin/node bot.mjs") == 1
    done = subprocess.run(
        ["/bin/sh", "-c", script.strip("'").replace("exec /usr/bin/node bot.mjs", PRINTED)],
        env={"PATH": "/usr/bin:/bin", "CREDENTIALS_DIRECTORY": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    port = ClusterSettings().local_gateway.first_port + CLUSTER
    assert done.stdout == f"http://127.0.0.1:{port} MTAw.a.b"


def test_documented_settings_are_settings() -> None:
    blocks = document.settings()
    read = [parse(block, ClusterSettings, file="pairing.md") for block in blocks]
    assert [settings.handler for settings in read] == ["gateway", "count"]
    assert read[1].local_gateway.clients == ("bot", "stats")
