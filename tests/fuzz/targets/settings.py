# SPDX-License-Identifier: Apache-2.0
"""The settings files, and assignments on a command line."""

from hypothesis import strategies as st

from discluster.cluster.settings import ClusterSettings
from discluster.control.settings import ControlSettings
from discluster.errors import DocumentError
from discluster.master.settings import MasterSettings
from discluster.settings import changes, override, parse
from tests.fuzz import shapes
from tests.fuzz.contract import check_error

LONGEST = 8 * 1024
_SHAPES = (MasterSettings, ControlSettings, ClusterSettings)


def target(data: bytes) -> None:
    text = data.decode(errors="replace")
    for shape in _SHAPES:
        default = shape()
        try:
            read = parse(text, shape, file="settings.yaml")
        except DocumentError as error:
            check_error(error, names="settings.yaml")
        else:
            changes(default, read)
        try:
            override(default, [text[:200]], file="--set")
        except DocumentError as error:
            check_error(error, names="--set")


def inputs() -> st.SearchStrategy[bytes]:
    of_files = shapes.as_json(shapes.any_of(*_SHAPES, oddness=30))
    names = st.sampled_from([name for shape in _SHAPES for name in shape.__struct_fields__])
    values = st.one_of(shapes.odd.map(str), st.text(max_size=30))
    lines = st.builds("{}{}{}".format, names, st.sampled_from([": ", "=", "= ", ":"]), values)
    return shapes.damaged(
        st.one_of(of_files, lines.map(lambda line: line.encode(errors="replace")))
    )
