# SPDX-License-Identifier: Apache-2.0
"""Which test shows what: faults, traps and oracles, collected from the markers of all tests.

``python -m tests.faults.register`` writes docs/faults.md. Tests say what they show with
``@pytest.mark.covers("F11", "T-22")``; what no test shows is left out with a reason, in
:mod:`tests.faults.ids`.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.faults.ids import FAULTS, LEFT_OUT, ORACLES, TRAPS

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "faults.md"

_INTRODUCTION = """\
# Faults, traps and oracles

<!-- Written by `python -m tests.faults.register`; edit tests/faults/ids.py or the tests. -->

Three lists against which the gateway is tested. **Faults** (F): what Discord, the network or the
operator may do to a shard. **Traps** (T): mistakes that gateway clients, this one's older
relatives among them, have made in public. **Oracles** (O): what has to hold all the time, judged
by the simulated Discord from what really arrived.

Behind each stands every test that shows it. The tests in `tests/faults` run real shards over real
sockets against the simulated Discord, in simulated time; after every one of them all oracles are
asked, no event may be lost or come twice, and nothing that was logged or printed may hold the
token.
"""


def collect(root: Path = REPOSITORY / "tests") -> dict[str, list[str]]:
    """For each id the tests that carry it, as `path::name`, in order."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(root.rglob("*.py")):
        tree = ast.parse(path.read_text(), str(path))
        everywhere = list(_of_module(tree))
        for name, node in _tests(tree):
            for ident in dict.fromkeys([*everywhere, *_of_decorators(node)]):
                found[ident].append(f"{path.relative_to(root.parent)}::{name}")
    return dict(found)


def _tests(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("test_"):
            yield node.name, node


def _of_decorators(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in node.decorator_list:
        yield from _ids(decorator)


def _of_module(tree: ast.Module) -> Iterator[str]:
    """``pytestmark = pytest.mark.covers(…)``, alone or in a list."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            values = node.value.elts if isinstance(node.value, ast.List) else [node.value]
            for value in values:
                yield from _ids(value)


def _ids(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.covers":
        yield from (str(ast.literal_eval(argument)) for argument in node.args)


def page(tests: Mapping[str, list[str]]) -> str:
    """docs/faults.md."""
    parts = [_INTRODUCTION]
    for title, ids in (("Faults", FAULTS), ("Traps", TRAPS), ("Oracles", ORACLES)):
        parts.append(f"## {title}\n\n| Id | What | Shown by |\n|---|---|---|")
        parts.append("\n".join(_row(ident, what, tests) for ident, what in ids.items()) + "\n")
    return "\n".join(parts)


def _row(ident: str, what: str, tests: Mapping[str, list[str]]) -> str:
    if ident in LEFT_OUT:
        return f"| {ident} | {what} | Left out: {LEFT_OUT[ident]} |"
    return f"| {ident} | {what} | {_shown(tests.get(ident, []))} |"


def _shown(tests: list[str]) -> str:
    """Grouped by file."""
    files: defaultdict[str, list[str]] = defaultdict(list)
    for test in tests:
        path, _, name = test.partition("::")
        files[path].append(name)
    return "<br>".join(
        f"[{path}](../{path}): " + ", ".join(f"`{name}`" for name in names)
        for path, names in files.items()
    )


def main() -> int:
    PAGE.write_text(page(collect()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
