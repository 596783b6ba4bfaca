# SPDX-License-Identifier: Apache-2.0
"""Images of shards: what Discord would say of them to somebody who identified now, kept as raw
bytes, without asking it.
"""

from discluster.cluster.images.image import Dispatch as Dispatch
from discluster.cluster.images.image import ShardImage as ShardImage
from discluster.cluster.images.store import Images as Images
