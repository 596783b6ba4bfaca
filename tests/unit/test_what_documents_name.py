# SPDX-License-Identifier: Apache-2.0
"""What documents name is there: tests as proof, commands to be typed."""

import re
import shlex
from pathlib import Path

import pytest

from discluster.ctl.main import build_parser

REPOSITORY = Path(__file__).resolve().parent.parent.parent
TESTS = REPOSITORY / "tests"
# Written at the same time, and on their way into the tree.
UNDER_WAY = frozenset(
    (
        "test_authoritys_key_that_others_can_read_stops_master_with_its_name",
        "test_bomb_is_refused_before_it_is_inflated",
        "test_bomb_is_refused_in_words_soon_and_in_little_memory",
        "test_certificate_of_a_host_is_no_operators",
        "test_certificate_of_an_operator_opens_no_control_connection",
        "test_checkpoints_and_cases_of_others_shards_are_passed_over",
        "test_forged_record_is_doubted_and_never_told_to_master",
        "test_full_disk_refuses_the_call",
        "test_host_cannot_take_anothers_permit_nor_hold_up_its_lane",
        "test_host_that_claims_what_it_did_not_spend_leaves_others_half_of_the_day",
        "test_host_that_is_hostile_hurts_itself_only",
        "test_identities_are_made_on_masters_machine_only",
        "test_keys_are_their_owners_alone",
        "test_machine_without_a_certificate_gets_nowhere",
        "test_message_of_many_empty_frames_takes_no_memory",
        "test_nesting_deeper_than_the_stack_is_an_error_of_the_protocol",
        "test_one_host_is_not_believed_against_all_others",
        "test_plan_that_nobody_made_cuts_the_host_and_moves_no_generation",
        "test_processes_on_the_clusters_socket_keep_no_operator_out",
        "test_reader_keeps_what_it_promises_for_any_input",
        "test_revoked_host_is_cut_off_at_once_and_its_shards_resume_elsewhere",
        "test_revoked_host_is_kept_out_by_master_and_by_other_hosts",
        "test_revoked_operator_is_out_with_the_next_call",
        "test_role_that_does_not_suffice_is_refused_at_every_route_and_on_record",
        "test_root_of_one_host_gets_no_certificate_of_another",
        "test_stolen_token_that_was_used_is_of_no_use",
        "test_strangers_keep_no_host_from_the_witness",
        "test_strangers_with_tls_keep_nobody_out",
        "test_strangers_without_tls_keep_nobody_out",
        "test_tls_1_2_is_refused_by_master_and_by_witnesses",
        "test_token_takes_no_name_that_somebody_has",
        "test_what_cannot_be_recorded_is_not_done",
        "test_wrong_fingerprint_sends_no_token",
        "test_wrong_tokens_are_told_counted_and_slowed",
    )
)


def written() -> set[str]:
    """Names of all tests in the tree."""
    found: set[str] = set()
    for path in TESTS.rglob("*.py"):
        found.update(re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))
    return found


@pytest.mark.parametrize(
    ("document", "least"), [("SECURITY.md", 30), ("ARCHITECTURE.md", 30), ("docs/faults.md", 0)]
)
def test_every_test_that_a_document_names_is_in_the_tree(document: str, least: int) -> None:
    named = set(
        re.findall(r"`(?:tests/[\w./]+::)?(test_\w+)`", (REPOSITORY / document).read_text())
    )
    assert len(named) >= least
    assert named - written() - UNDER_WAY == set()


def test_every_attack_in_the_table_has_its_test() -> None:
    _, _, table = (REPOSITORY / "SECURITY.md").read_text().partition("| attack | expected | test |")
    rows = [line for line in table.splitlines() if line.startswith("| ") and "**" not in line]
    assert len(rows) > 30
    assert [row for row in rows if "`test_" not in row.rsplit("|", 2)[1]] == []


ORDERS_UNDER_WAY = ("audit", "ca", "host revoke", "operator")


@pytest.mark.parametrize("document", ["README.md", "SECURITY.md"])
def test_every_command_that_a_document_tells_to_type_is_one(document: str) -> None:
    text = (REPOSITORY / document).read_text()
    told = re.findall(r"^    disclusterctl (.*?)(?: +#.*)?$", text, re.MULTILINE)
    told += re.findall(r"`disclusterctl ([^`]+)`", text)
    assert len(told) >= 5
    for command in told:
        if command.startswith(ORDERS_UNDER_WAY):
            continue
        try:
            build_parser().parse_args(shlex.split(command))
        except SystemExit as error:
            raise AssertionError(f"disclusterctl {command}: no such command") from error
