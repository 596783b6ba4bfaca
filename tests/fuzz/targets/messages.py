# SPDX-License-Identifier: Apache-2.0
"""Every message between MASTER, CONTROL, cluster and operator."""

from typing import Any, get_args

import msgspec
from hypothesis import strategies as st

from discluster import console, messages, orders
from discluster.errors import ProtocolError
from tests.fuzz import shapes
from tests.fuzz.contract import check_error

LONGEST = 8 * 1024
_DECODERS: tuple[msgspec.json.Decoder[Any], ...] = (
    messages.control_to_master,
    messages.master_to_control,
    messages.cluster_to_control,
    messages.operator_to_control,
    messages.control_to_cluster,
    messages.control_to_control,
    console.control_to_operator,
    orders.operator_order,
)
KINDS = (
    *get_args(messages.ControlToMaster),
    *get_args(messages.MasterToControl),
    *get_args(messages.ClusterToControl),
    *get_args(messages.ControlToCluster),
    messages.StatusQuery,
    *get_args(orders.Order),
    messages.WitnessAnswer,
    console.HostStatus,
)


def target(data: bytes) -> None:
    for decoder in _DECODERS:
        try:
            message = messages.decode(decoder, data, peer="somebody")
        except ProtocolError as error:
            check_error(error, names="somebody", hint=True)
        else:
            assert messages.decode(decoder, messages.encode(message), peer="we") == message


def inputs() -> st.SearchStrategy[bytes]:
    return shapes.damaged(shapes.as_json(shapes.any_of(*KINDS)))
