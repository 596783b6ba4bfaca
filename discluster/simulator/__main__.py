# SPDX-License-Identifier: Apache-2.0
"""`python -m discluster.simulator`."""

import sys

from discluster.simulator.main import main

if __name__ == "__main__":
    sys.exit(main())
