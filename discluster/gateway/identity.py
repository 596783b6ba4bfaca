# SPDX-License-Identifier: Apache-2.0
"""What an operator sets once for all shards: who the bot is and what it wants to hear."""

from typing import Final, Literal

import msgspec

from discluster.decoding import DECODE_ERRORS, reason_of
from discluster.errors import ConfigurationError
from discluster.secret import Secret

Compression = Literal["zstd-stream", "zlib-stream", "none"]

# IDENTIFY may have 4096 bytes in all (Discord: Gateway, Sending Events); the rest of it needs less
# than 1 KiB with any token that Discord issues.
MAXIMUM_PRESENCE: Final = 3072


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The part of IDENTIFY that is the same for every shard (Discord: Gateway Events, Identify).

    ``intents``: bit set. ``large_threshold``: members, 50 to 250. ``presence``: an Update Presence
    object as JSON.

    Raises:
        ConfigurationError: a value that Discord would not take.
    """

    token: Secret
    intents: int
    compression: Compression = "zstd-stream"
    large_threshold: int = 50
    presence: msgspec.Raw | None = None

    def __post_init__(self) -> None:
        if not 50 <= self.large_threshold <= 250:
            raise ConfigurationError(
                f"large_threshold is {self.large_threshold}", hint="Discord takes 50 to 250"
            )
        if self.intents < 0:
            raise ConfigurationError(
                f"intents is {self.intents}", hint="it is a bit set, so zero or more"
            )
        if self.presence is not None:
            _check_presence(bytes(self.presence))


def _check_presence(presence: bytes) -> None:
    if len(presence) > MAXIMUM_PRESENCE:
        raise ConfigurationError(
            f"the presence has {len(presence)} bytes",
            hint=f"at most {MAXIMUM_PRESENCE} fit into an IDENTIFY",
        )
    try:
        msgspec.json.decode(presence, type=dict)
    except DECODE_ERRORS as error:
        raise ConfigurationError(
            f"the presence is not a JSON object: {reason_of(error)}",
            hint='for example {"status":"online","activities":[],"since":null,"afk":false}',
        ) from None
