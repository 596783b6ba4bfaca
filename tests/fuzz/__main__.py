# SPDX-License-Identifier: Apache-2.0
"""``make fuzz``: atheris on every target for a while, or on those that are named.

The corpus stays in build/fuzz. Inputs that break a promise are put to the seeds, where the tests
replay them: commit them with what mends them.
"""

import argparse
import sys
from pathlib import Path

from tests.fuzz import hunting, registry


def main() -> int:
    """The exit status: 1 if something was found."""
    parser = argparse.ArgumentParser(prog="make fuzz ARGS=…", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--target", action="append", choices=registry.NAMES, help="again for more")
    parser.add_argument("--work", type=Path, default=Path("build/fuzz"), help="for the corpus")
    parser.add_argument("--verbose", action="store_true", help="all that libFuzzer says")
    chosen = parser.parse_args()
    if not hunting.is_possible():
        print("error: atheris is not installed (pip install atheris)", file=sys.stderr)
        return 1
    hunts = []
    for name in chosen.target or registry.NAMES:
        done = hunting.hunt(name, chosen.seconds, work=chosen.work / name)
        hunts.append(done)
        print(hunting.table([done]).splitlines()[1], flush=True)
        if chosen.verbose or done.findings or not done.executions:
            print(done.said, file=sys.stderr)
    print(f"\n{hunting.table(hunts)}")
    found = [str(path) for one in hunts for path in one.findings]
    print("\n".join(["", *found]) if found else "nothing found")
    return 1 if found or not all(one.executions for one in hunts) else 0


if __name__ == "__main__":
    sys.exit(main())
