#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the manual pages from what the programs say of themselves.

Usage: ``manpages.py DIRECTORY``. Commands and options come from each program's ``build_parser()``,
settings from their declarations, exit statuses from the exception tree; a page cannot disagree with
its program. Run at package build; needs the programs' dependencies, not an installed package.
"""

import argparse
import importlib
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from os import environ
from pathlib import Path
from typing import Final, NamedTuple, cast

import msgspec

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from discluster import __version__, errors, settings  # noqa: E402 - after the path above


class Program(NamedTuple):
    """A program with a page of its own; ``package`` holds its ``main`` module. ``places``: what it
    uses beside its settings, and how.
    """

    name: str
    section: int
    package: str
    summary: str
    places: tuple[tuple[str, str], ...] = ()


class SettingsFile(NamedTuple):
    """A settings file with a page of its own, and where its declaration is."""

    name: str
    module: str
    shape: str
    program: str
    path: str


MASTER_PLACES: Final = (
    (
        "/var/lib/discluster/master/",
        "Its state, and the fleet's authority; user discluster-master.",
    ),
    ("/run/discluster/master/master.sock", "For operators: root and the group discluster-admin."),
    (
        "/etc/credstore/discluster.token",
        "The bot token; or encrypted, in /etc/credstore.encrypted.",
    ),
)
CONTROL_PLACES: Final = (
    ("/var/lib/discluster/control/", "Its state, key and certificate; user discluster-control."),
    ("/var/lib/discluster/assignments/", "What each cluster shall run; the clusters read it."),
    ("/run/discluster/clusters/", "Its socket for the clusters, and their lease."),
    ("/run/discluster/control/control.sock", "For operators, who may ask for the status."),
    (
        "/usr/share/polkit-1/rules.d/50-discluster.rules",
        "Lets its user start, stop and reset discluster-cluster@N.service, and nothing else.",
    ),
)
CLUSTER_PLACES: Final = (
    (
        "/var/lib/discluster/clusters/N/",
        (
            "Its sessions, and what the handler gateway knows of the guilds. User"
            " discluster-cluster; it writes nowhere else."
        ),
    ),
    (
        "/run/discluster/gateways/N.sock",
        "The local gateway, if unix_socket is set: for root and the group discluster-bot.",
    ),
    (
        "/etc/credstore/discluster.token",
        "The bot token; or encrypted, in /etc/credstore.encrypted.",
    ),
)
PROGRAMS: Final = (
    Program("discluster-master", 8, "master", "plan the shards of a fleet", MASTER_PLACES),
    Program(
        "discluster-control", 8, "control", "run one machine's part of a fleet", CONTROL_PLACES
    ),
    Program("discluster-cluster", 8, "cluster", "run gateway shards", CLUSTER_PLACES),
    Program("disclusterctl", 8, "ctl", "look at and manage a fleet"),
    Program("discluster-simulator", 1, "simulator", "a simulated Discord to rehearse with"),
)
FILES: Final = (
    SettingsFile(
        "discluster-master.yaml",
        "discluster.master.settings",
        "MasterSettings",
        "discluster-master",
        "/etc/discluster/master.yaml",
    ),
    SettingsFile(
        "discluster-control.yaml",
        "discluster.control.settings",
        "ControlSettings",
        "discluster-control",
        "/etc/discluster/control.yaml",
    ),
    SettingsFile(
        "discluster-cluster.yaml",
        "discluster.cluster.settings",
        "ClusterSettings",
        "discluster-cluster",
        "/etc/discluster/cluster.yaml",
    ),
    SettingsFile(
        "discluster-simulator.yaml",
        "discluster.simulator.settings",
        "SimulatorSettings",
        "discluster-simulator",
        "the file named with --config",
    ),
)


def roff(text: str) -> str:
    """``text`` with everything that roff would take for itself escaped."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(
        "\\&" + line if line.startswith((".", "'")) else line for line in escaped.splitlines()
    )


def paragraphs(text: str) -> list[str]:
    """``text`` as roff: blank lines part paragraphs, indented blocks stay as they are."""
    lines: list[str] = []
    for block in textwrap.dedent(text).strip().split("\n\n"):
        if block.startswith((" ", "\t")):
            lines += [".PP", ".nf", roff(block), ".fi"]
        else:
            lines += [".PP", roff(" ".join(block.split()))]
    return lines


def title(name: str, section: int, summary: str) -> list[str]:
    """The head of a page; the date is SOURCE_DATE_EPOCH's, so that a build can be repeated."""
    moment = time.gmtime(int(environ.get("SOURCE_DATE_EPOCH", time.time())))
    date = time.strftime("%Y-%m-%d", moment)
    return [
        f'.TH "{name.upper()}" "{section}" "{date}" "Discluster {__version__}" "Discluster"',
        ".SH NAME",
        f"{roff(name)} \\- {roff(summary)}",
    ]


def option_lines(parser: argparse.ArgumentParser) -> list[str]:
    """One ``.TP`` entry for each option and positional argument, sub-commands left out."""
    formatter = parser._get_formatter()
    lines: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) or action.help == argparse.SUPPRESS:
            continue
        head = formatter._format_action_invocation(action)
        help_text = formatter._expand_help(action) if action.help else ""
        lines += [".TP", f".B {roff(head)}", roff(" ".join(help_text.split()))]
    return lines


def usage(parser: argparse.ArgumentParser) -> str:
    """The parser's usage on one line, without the word ``usage:``."""
    return " ".join(parser.format_usage().removeprefix("usage:").split())


def commands(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Every sub-command that does something, with its summary, depth first."""
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
        parsers = cast(dict[str, argparse.ArgumentParser], action.choices)
        seen: set[int] = set()
        for name, child in parsers.items():
            if id(child) in seen:  # an alias
                continue
            seen.add(id(child))
            yield child.prog, summaries.get(name, ""), child
            yield from commands(child)


def command_lines(parser: argparse.ArgumentParser) -> list[str]:
    """The section COMMANDS, or nothing where there are none."""
    lines: list[str] = []
    for prog, summary, child in commands(parser):
        lines += [f'.SS "{roff(prog)}"', *paragraphs(child.description or summary)]
        lines += [".PP", f".B {roff(usage(child))}", *option_lines(child)]
        if child.epilog:
            lines += paragraphs(child.epilog)
    return [".SH COMMANDS", *lines] if lines else []


def closing_lines(epilog: str, own: Mapping[int, str]) -> list[str]:
    """What ``--help`` ends with: the program's own words on its exit status, or all there are.
    ``own``: statuses that no error has.
    """
    notes, marker, statuses = epilog.partition("Exit status:")
    lines = [".SH NOTES", *paragraphs(notes)] if notes.strip() else []
    if not marker:
        return lines + exit_status_lines(own)
    return [*lines, ".SH EXIT STATUS", *paragraphs(statuses)]


def exit_status_lines(own: Mapping[int, str]) -> list[str]:
    """Every exit status of the exception tree, and the program's own, with what leads to it."""
    meanings: dict[int, list[str]] = {0: ["Success."], 2: ["The command line is not understood."]}
    meanings |= {status: [text] for status, text in own.items()}
    for kind in error_classes(errors.DisclusterError):
        meaning = (kind.__doc__ or kind.__name__).strip().splitlines()[0]
        if "exit_status" in vars(kind) and kind is not errors.DisclusterError:
            meanings.setdefault(kind.exit_status, []).append(meaning)
    meanings[1] = ["Any other error."]
    lines = [".SH EXIT STATUS"]
    for status, texts in sorted(meanings.items()):
        lines += [".TP", f".B {status}", roff(" ".join(texts))]
    return lines


def error_classes(root: type[errors.DisclusterError]) -> Iterator[type[errors.DisclusterError]]:
    """``root`` and everything derived from it, parents first."""
    yield root
    for child in root.__subclasses__():
        yield from error_classes(child)


def see_also(own: str) -> list[str]:
    """References to all other pages."""
    pages = [(p.name, p.section) for p in PROGRAMS] + [(f.name, 5) for f in FILES]
    others = [f".BR {roff(name)} ({section})" for name, section in pages if name != own]
    return [".SH SEE ALSO", " ,\n".join(others)]


def program_page(program: Program) -> str:
    """The page of a program."""
    module = importlib.import_module(f"discluster.{program.package}.main")
    parser: argparse.ArgumentParser = module.build_parser()
    parser.prog = program.name
    lines = title(program.name, program.section, program.summary)
    lines += [".SH SYNOPSIS", f".B {roff(usage(parser))}", ".SH DESCRIPTION"]
    lines += paragraphs(parser.description or module.__doc__ or program.summary)
    lines += [".SH OPTIONS", *option_lines(parser), *command_lines(parser)]
    own_files = [file for file in FILES if file.program == program.name]
    if own_files:
        lines.append(".SH FILES")
        for file in own_files:
            lines += [".TP", f".I {roff(file.path)}", f"See {roff(file.name)}(5)."]
        for path, words in program.places:
            lines += [".TP", f".I {roff(path)}", roff(words)]
    lines += closing_lines(parser.epilog or "", getattr(module, "EXIT_STATUSES", {}))
    return "\n".join([*lines, *see_also(program.name)]) + "\n"


def setting_lines(row: settings.Row) -> list[str]:
    """One entry of a settings page."""
    if row.type == "group":  # its settings follow, each with its own default
        return [".TP", f".B {roff(row.path)}", roff(row.help)]
    facts = [row.type]
    if row.unit:
        facts.append(f"in {row.unit}")
    facts.append(f"default {row.default}")
    facts.append("takes effect on reload" if row.reloads else "needs a restart")
    lines = [".TP", f".B {roff(row.path)}", roff(f"({'; '.join(facts)})"), ".br", roff(row.help)]
    if row.example:
        lines += [".IP", ".nf", roff(row.example), ".fi"]
    return lines


def settings_page(file: SettingsFile) -> str:
    """The page of a settings file."""
    shape: type[msgspec.Struct] = getattr(importlib.import_module(file.module), file.shape)
    lines = title(file.name, 5, f"settings of {file.program}")
    lines += [".SH SYNOPSIS", f".I {roff(file.path)}", ".SH DESCRIPTION"]
    lines += paragraphs(
        f"YAML, one mapping. What is not set has its default. {file.program} refuses a file with "
        "an unknown setting, a value that does not fit or a key given twice, and names every such "
        "place with its line. A path below holds a dot for each level; * stands for a name that "
        "you choose."
    )
    lines.append(".SH SETTINGS")
    for row in settings.explain(shape):
        lines += setting_lines(row)
    return "\n".join([*lines, *see_also(file.name)]) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write all pages into the directory that is named."""
    if len(arguments) != 1:
        print("error: one argument is needed (manpages.py DIRECTORY)", file=sys.stderr)
        return 2
    target = Path(arguments[0])
    target.mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        (target / f"{program.name}.{program.section}").write_text(program_page(program))
    for file in FILES:
        (target / f"{file.name}.5").write_text(settings_page(file))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
