"""The rules of RFC 2661, one by one, each with the tests that would fail without it."""

import ast
from functools import cache
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[1]
FILES = sorted((*(UNIT / "wire").glob("test_*.py"), *(UNIT / "control").glob("test_*.py")))

Rule = tuple[str, str, tuple[str, ...]]
"""Section; what it says; the tests."""

HEADERS: tuple[Rule, ...] = (
    ("3.1", "T tells control from data messages", ("test_control_messages_come_back", "test_data_messages_come_back")),
    (
        "3.1",
        "T, L and S are 1 and O is 0 in a control message",
        ("test_a_control_header_is_written_with_reserved_bits_zero", "test_a_broken_control_header_is_refused"),
    ),
    (
        "3.1",
        "reserved bits are 0 when sent",
        (
            "test_a_control_header_is_written_with_reserved_bits_zero",
            "test_a_data_message_is_written_as_the_kernel_does",
        ),
    ),
    (
        "3.1",
        "reserved bits are ignored when received",
        ("test_reserved_bits_of_a_control_header_are_ignored", "test_a_data_header_is_read"),
    ),
    (
        "3.1",
        "packets of a version other than 2 are dropped",
        ("test_a_broken_control_header_is_refused", "test_a_broken_data_header_is_refused"),
    ),
    (
        "3.1",
        "Length is that of the whole message",
        ("test_scapy_reads_the_same_control_header", "test_what_follows_a_control_message_is_ignored"),
    ),
    (
        "3.1",
        "P may be set on data messages, and means nothing on control messages",
        ("test_a_data_header_is_read", "test_reserved_bits_of_a_control_header_are_ignored"),
    ),
    ("3.1", "L, S and O tell which fields of a data header are there", ("test_a_data_header_is_read",)),
    ("3.1", "the payload begins after the offset", ("test_a_data_header_is_read",)),
    (
        "3.1",
        "the ids in a header are those that its receiver assigned, 0 before",
        (
            "test_headers_carry_the_ids_that_the_peer_assigned",
            "test_until_the_peer_has_assigned_an_id_the_header_has_zero",
        ),
    ),
    (
        "3.1",
        "Ns begins at 0 and counts messages modulo 65536",
        ("test_messages_are_numbered_from_zero", "test_numbers_wrap"),
    ),
    ("3.1", "Nr is the number of the next expected message", ("test_without_an_answer_a_zlb_does",)),
    (
        "3.2",
        "message types 1-4, 6-12 and 14-16 are known",
        ("test_the_least_message_comes_back", "test_messages_come_back"),
    ),
    ("3.2", "types 0, 5 and 13 are reserved", ("test_unknown_messages_are_ignored_unless_mandatory",)),
)

AVPS: tuple[Rule, ...] = (
    (
        "4.1",
        "M, H, 10 bits of length with the header, vendor, attribute, value",
        ("test_avps_are_cut_in_order", "test_avps_come_back"),
    ),
    (
        "4.1",
        "the least length is 6, without a value; the greatest 1023",
        ("test_avps_that_cannot_be_told_apart_are_refused", "test_an_avp_has_up_to_1017_octets"),
    ),
    (
        "4.1",
        "an unknown AVP with M ends the session, in a message about one",
        ("test_unknown_avps_are_ignored_unless_mandatory", "test_a_message_says_whether_its_error_is_of_a_call"),
    ),
    (
        "4.1",
        "an unknown AVP with M ends the tunnel, in the other messages",
        ("test_a_message_says_whether_its_error_is_of_a_call",),
    ),
    (
        "4.1",
        "an unknown AVP without M is ignored, and the message taken as without it",
        ("test_unknown_avps_are_ignored_unless_mandatory",),
    ),
    ("4.1", "reserved bits are 0 when sent", ("test_m_bits_are_sent_as_the_rfc_says",)),
    ("4.1", "an AVP with a reserved bit is an unknown one", ("test_avps_with_a_reserved_bit_are_unknown",)),
    ("4.1", "attributes of vendors are other attributes", ("test_avps_of_vendors_are_unknown_whatever_their_number",)),
    ("4.2", "M is set only where the RFC says so", ("test_m_bits_are_sent_as_the_rfc_says",)),
    (
        "4.3",
        "H is used only with a shared secret",
        ("test_nothing_is_hidden_without_a_secret", "test_what_cannot_be_revealed_is_ignored_unless_mandatory"),
    ),
    (
        "4.3",
        "a Random Vector precedes the first hidden AVP",
        (
            "test_the_message_type_comes_first_and_a_random_vector_before_what_is_hidden",
            "test_what_cannot_be_revealed_is_ignored_unless_mandatory",
        ),
    ),
    ("4.3", "the last Random Vector before an AVP counts", ("test_the_last_random_vector_before_an_avp_counts",)),
    (
        "4.3",
        "the cipher: MD5 of attribute, secret and vector, chained over blocks of 16",
        ("test_hiding_is_what_the_rfc_says", "test_what_xl2tpd_reveals_is_revealed"),
    ),
    (
        "4.3",
        "the original length is inside, and padding behind",
        ("test_what_was_hidden_is_revealed", "test_a_revealed_length_beyond_the_octets_is_no_value"),
    ),
    ("4.3", "padding hides the length", ("test_equal_lengths_look_alike_when_hidden", "test_padding_hides_the_length")),
    (
        "4.4",
        "which attributes must not be hidden",
        ("test_h_bits_are_sent_as_the_rfc_says", "test_what_must_not_be_hidden_is_not"),
    ),
    (
        "4.4",
        "the value of every attribute",
        ("test_a_value_is_read", "test_a_value_is_written", "test_every_attribute_has_a_vector"),
    ),
    (
        "4.4",
        "a mandatory value of a wrong length or out of range ends it",
        ("test_a_mandatory_avp_with_an_impossible_value_ends_it",),
    ),
    (
        "4.4.1",
        "Message Type comes first",
        (
            "test_the_message_type_comes_first_and_a_random_vector_before_what_is_hidden",
            "test_a_message_type_in_front_is_indispensable",
        ),
    ),
    (
        "4.4.1",
        "an unknown message with M ends the tunnel, without it is ignored",
        ("test_unknown_messages_are_ignored_unless_mandatory",),
    ),
    ("4.4.1", "a known message is taken whatever its M", ("test_a_known_message_need_not_be_mandatory",)),
    ("4.4.2", "Result Code: the error code and the message may be missing", ("test_a_value_is_read",)),
    ("4.4.2", "result and error codes", ("test_codes_are_those_of_the_rfc",)),
    ("4.4.3", "another protocol version is answered with ours", ("test_another_version_is_refused_with_ours",)),
    ("4.4.3", "a Receive Window Size of 0 is invalid", ("test_a_mandatory_avp_with_an_impossible_value_ends_it",)),
    ("4.4.3", "without Receive Window Size it is 4", ("test_a_peer_that_does_not_say_takes_four",)),
    (
        "4.4.3",
        "Challenge Response: CHAP with the message type as identifier",
        ("test_challenges_are_answered_as_chap_does", "test_challenges_are_answered_as_xl2tpd_does"),
    ),
    ("5.3", "0 is no id that can be assigned", ("test_a_mandatory_avp_with_an_impossible_value_ends_it",)),
    ("6.1-6.14", "what each message must carry", ("test_what_a_message_must_carry_is_missed",)),
    (
        "6.1-6.14",
        "what each message may carry",
        (
            "test_messages_come_back",
            "test_a_message_is_not_encoded_with_what_has_no_meaning_in_it",
            "test_what_has_no_meaning_in_a_message_is_ignored_whatever_it_says",
        ),
    ),
    (
        "7.1",
        "a malformed AVP without M is ignored, as the Rx Connect Speed of 16 bits is",
        ("test_an_optional_avp_with_an_impossible_value_is_ignored",),
    ),
    ("7.1", "a malformed header is dropped", ("test_a_broken_control_header_is_refused",)),
)

DELIVERY: tuple[Rule, ...] = (
    (
        "5.5",
        "HELLO is sent only after nothing was received for a while",
        (
            "test_a_hello_is_due_when_nothing_was_received_for_the_interval",
            "test_whatever_the_peer_sends_shows_that_it_lives",
            "test_data_that_came_shows_it_too",
        ),
    ),
    (
        "5.8",
        "messages are delivered in order and once",
        (
            "test_everything_arrives_in_order_and_once",
            "test_restarts_in_the_middle_lose_nothing",
            "test_what_comes_early_is_delivered_in_its_turn",
        ),
    ),
    (
        "5.8",
        "a message is a duplicate if it is one of the last 32768 numbers",
        (
            "test_half_of_the_numbers_are_duplicates",
            "test_the_other_half_is_ahead_and_beyond_the_window_dropped_in_silence",
        ),
    ),
    ("5.8", "duplicates are acknowledged and not delivered", ("test_a_duplicate_is_not_delivered_but_acknowledged",)),
    (
        "5.8",
        "what comes early may be kept",
        ("test_what_comes_early_is_delivered_in_its_turn", "test_no_more_is_kept_than_the_window_has_room_for"),
    ),
    ("5.8", "a ZLB takes no number", ("test_a_zlb_takes_no_number", "test_a_zlb_received_is_not_counted")),
    ("5.8", "a ZLB is not acknowledged", ("test_a_zlb_is_not_acknowledged",)),
    (
        "5.8",
        "acknowledgements travel with messages, and alone where there is none",
        (
            "test_an_answer_carries_the_acknowledgement",
            "test_without_an_answer_a_zlb_does",
            "test_answers_carry_acknowledgements_and_only_what_has_none_is_acknowledged_by_a_zlb",
        ),
    ),
    (
        "5.8",
        "acknowledgement is not withheld",
        (
            "test_an_answer_that_must_wait_does_not_hold_back_the_acknowledgement",
            "test_an_answer_before_the_last_message_does_not_acknowledge_it",
        ),
    ),
    (
        "5.8",
        "Nr acknowledges all before it",
        ("test_an_acknowledgement_is_for_all_up_to_it", "test_an_old_acknowledgement_changes_nothing"),
    ),
    (
        "5.8",
        "a message waits in the queue until it is acknowledged",
        (
            "test_an_unanswered_message_is_sent_again_with_its_number_and_the_newest_nr",
            "test_an_acknowledgement_comes_with_a_message_too",
        ),
    ),
    (
        "5.8",
        "what is sent again has its old Ns and the newest Nr",
        ("test_an_unanswered_message_is_sent_again_with_its_number_and_the_newest_nr",),
    ),
    (
        "5.8",
        "intervals grow exponentially, up to a cap",
        (
            "test_intervals_double_up_to_the_cap_and_then_the_peer_is_dead",
            "test_intervals_cap_and_tries_are_the_owners",
        ),
    ),
    (
        "5.8",
        "by default the first is 1 s, the cap 8 s, and there are 5",
        ("test_intervals_double_up_to_the_cap_and_then_the_peer_is_dead",),
    ),
    (
        "5.8",
        "a peer that doesn't answer after all of them is gone",
        (
            "test_intervals_double_up_to_the_cap_and_then_the_peer_is_dead",
            "test_progress_starts_the_timer_anew_and_the_count_of_tries",
            "test_an_acknowledgement_of_nothing_new_is_no_progress",
            "test_a_peer_that_is_gone_is_noticed_by_the_side_that_asked",
        ),
    ),
    (
        "5.8",
        "no more is under way than the peer's window",
        ("test_no_more_is_under_way_than_the_peer_takes", "test_whatever_happens_limits_hold"),
    ),
    ("5.8", "a window of 4 is used where the peer gives it", ("test_a_peer_that_does_not_say_takes_four",)),
    ("5.8", "numbers wrap at 65536", ("test_numbers_wrap_after_65536_messages", "test_numbers_wrap")),
    ("A", "the congestion window begins at 1", ("test_at_first_one_message_may_be_under_way",)),
    (
        "A",
        "slow start: one more for each acknowledgement",
        ("test_slow_start_opens_the_window_by_one_per_acknowledgement",),
    ),
    ("A", "the threshold begins at the peer's window", ("test_the_peers_window_may_become_known_later",)),
    (
        "A",
        "congestion avoidance: one more for each window of acknowledgements",
        ("test_congestion_halves_the_threshold_and_starts_again_with_one",),
    ),
    (
        "A",
        "the congestion window never exceeds the peer's",
        ("test_the_congestion_window_never_exceeds_the_peers", "test_congestion_avoidance_begins_at_the_peers_window"),
    ),
    (
        "A",
        "a retransmission halves the threshold and sets the window to 1",
        (
            "test_congestion_halves_the_threshold_and_starts_again_with_one",
            "test_repeated_congestion_leaves_a_threshold_of_one",
        ),
    ),
    (
        "A",
        "and begins again with the oldest",
        (
            "test_after_the_timer_all_that_was_under_way_is_sent_again_from_the_oldest_as_acknowledgements_come",
            "test_what_the_peer_kept_is_not_sent_again",
        ),
    ),
)

TABLES: tuple[tuple[Rule, ...], ...] = (HEADERS, AVPS, DELIVERY)
RULES = [rule for table in TABLES for rule in table]


@cache
def _tests() -> frozenset[str]:
    """The test functions of all files."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in FILES]
    functions = (node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return frozenset(name for name in functions if name.startswith("test_"))


@pytest.mark.parametrize(("section", "rule", "tests"), RULES, ids=[f"{rule[0]} {rule[1]}" for rule in RULES])
def test_the_rule_has_tests(section: str, rule: str, tests: tuple[str, ...]) -> None:
    assert tests
    assert set(tests) <= _tests(), f"{section}, {rule}: a test is gone"


def test_no_rule_stands_twice() -> None:
    assert len({rule[:2] for rule in RULES}) == len(RULES)
