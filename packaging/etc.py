# SPDX-License-Identifier: Apache-2.0
"""Writes the settings files that are shipped in /etc/discluster, from their declarations.

``python packaging/etc.py DIRECTORY``; with ``--check`` it only says which files are out of date.
"""

import argparse
import sys
from pathlib import Path

from discluster.cluster import settings as cluster
from discluster.control import settings as control
from discluster.master import settings as master
from discluster.settings import default_file


def shipped_files() -> dict[str, str]:
    """File name -> text."""
    return {
        "master.yaml": default_file(master.MasterSettings, title=master.TITLE),
        "control.yaml": default_file(control.ControlSettings, title=control.TITLE),
        "cluster.yaml": default_file(cluster.ClusterSettings, title=cluster.TITLE),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    stale = []
    for name, text in shipped_files().items():
        path: Path = arguments.directory / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not arguments.check:
            path.write_text(text, encoding="utf-8")
    if arguments.check and stale:
        print(f"error: out of date: {', '.join(stale)} (run 'make etc')", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
