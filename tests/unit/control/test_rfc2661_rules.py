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
        ("test_message_types_are_numbered_as_in_the_rfc", "test_the_least_message_comes_back"),
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
        (
            "test_a_value_is_read",
            "test_a_value_is_written",
            "test_every_attribute_has_a_vector",
            "test_the_format_of_an_attribute_is_that_of_the_rfc",
        ),
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
    (
        "6.1-6.14",
        "what each message must carry",
        ("test_what_a_message_must_carry_is_missed", "test_a_message_must_and_may_carry_what_the_rfc_says"),
    ),
    (
        "6.1-6.14",
        "what each message may carry",
        (
            "test_a_message_must_and_may_carry_what_the_rfc_says",
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

CONNECTIONS: tuple[Rule, ...] = (
    (
        "4.4.3",
        "until the peer has assigned a tunnel id headers have 0, then that id",
        (
            "test_we_open_a_tunnel",
            "test_a_peer_opens_a_tunnel",
            "test_a_late_sccrp_is_answered_so_that_the_peer_need_not_wait",
        ),
    ),
    (
        "4.4.3",
        "StopCCN tells the tunnel id that was assigned first, even if the header has 0",
        (
            "test_we_end_a_tunnel_and_its_calls",
            "test_a_tunnel_of_ours_is_closed_properly_before_it_is_up",
            "test_a_peer_may_change_its_mind_before_our_sccrp_comes",
            "test_a_peer_that_refuses_us_is_heard_and_acknowledged",
        ),
    ),
    (
        "4.4.3",
        "tie breaker: the lower value wins, the loser's tunnel goes in silence",
        ("test_the_lower_tie_breaker_wins",),
    ),
    ("4.4.3", "tie breaker: of equal values both go", ("test_the_lower_tie_breaker_wins",)),
    ("4.4.3", "tie breaker: who has none loses against who has one", ("test_the_lower_tie_breaker_wins",)),
    (
        "4.4.3",
        "tie breaker: without any there are two tunnels",
        ("test_the_lower_tie_breaker_wins", "test_both_open_a_tunnel_at_the_same_moment"),
    ),
    (
        "4.4.3",
        "tie breaker: it asks for one tunnel between two",
        ("test_a_tunnel_that_is_to_be_shared_has_a_tie_breaker",),
    ),
    (
        "4.4.3",
        "Receive Window Size is told, and the peer's is kept to",
        ("test_a_peer_opens_a_tunnel", "test_we_open_a_tunnel"),
    ),
    (
        "4.4.3",
        "Bearer Capabilities are told by who places outgoing calls",
        ("test_the_bearer_capabilities_are_told_only_if_we_place_calls", "test_we_place_a_call_for_the_peer"),
    ),
    (
        "5.0",
        "the tunnel is established before a call is begun",
        ("test_a_call_waits_for_its_tunnel", "test_a_call_before_the_tunnel_is_established_ends_it"),
    ),
    (
        "5.1.1",
        "a challenge is answered in the next message",
        (
            "test_both_prove_that_they_know_the_secret",
            "test_the_peer_need_not_prove_anything_if_the_profile_does_not_ask_for_it",
        ),
    ),
    (
        "5.1.1",
        "a wrong response, or none, ends it: not authorized",
        (
            "test_a_peer_that_calls_and_does_not_know_the_secret_is_sent_away",
            "test_a_peer_that_we_call_and_that_does_not_know_the_secret_is_sent_away",
        ),
    ),
    (
        "5.1.1",
        "there has to be one secret for both",
        ("test_a_challenge_without_a_secret_is_refused", "test_secrets_go_by_profile_address_and_host_name"),
    ),
    (
        "5.3",
        "tunnel ids are random and unique",
        ("test_a_free_id_is_found_as_long_as_there_is_one", "test_ids_of_others_are_not_used"),
    ),
    ("5.5", "HELLO is about the tunnel: session 0", ("test_hello_goes_out_only_after_silence_and_is_acknowledged",)),
    ("5.5", "a peer that doesn't answer a HELLO is gone", ("test_a_peer_that_acknowledges_nothing_is_dead",)),
    (
        "5.7",
        "StopCCN ends the tunnel with all its calls, without a CDN for each",
        ("test_we_end_a_tunnel_and_its_calls", "test_the_peer_ends_a_tunnel_and_its_calls"),
    ),
    (
        "5.7",
        "StopCCN is acknowledged, and when it is repeated again",
        ("test_what_a_peer_repeats_after_the_end_is_acknowledged_for_a_while",),
    ),
    ("5.7", "StopCCN is delivered reliably", ("test_a_stopccn_that_is_lost_is_repeated",)),
    (
        "5.8",
        "after the end delivery goes on for a full cycle of retransmissions",
        (
            "test_what_a_peer_repeats_after_the_end_is_acknowledged_for_a_while",
            "test_after_our_own_end_too_what_a_peer_repeats_is_acknowledged",
            "test_the_id_of_a_tunnel_is_not_used_again_at_once",
        ),
    ),
    ("6.1", "SCCRQ opens a tunnel", ("test_a_peer_opens_a_tunnel", "test_we_open_a_tunnel")),
    ("6.1", "an SCCRQ that lacks something is answered with StopCCN", ("test_an_sccrq_that_tells_no_id_is_dropped",)),
    ("6.2", "SCCRP accepts it", ("test_we_open_a_tunnel", "test_what_we_say_about_us_is_the_same_in_sccrq_and_sccrp")),
    ("6.2", "an SCCRP that lacks something ends the tunnel", ("test_an_sccrp_that_lacks_something_ends_the_tunnel",)),
    ("6.3", "SCCCN completes it", ("test_a_peer_opens_a_tunnel", "test_what_comes_before_the_scccn_waits_for_it")),
    (
        "6.4",
        "result and error codes of StopCCN say why",
        (
            "test_too_many_tunnels_try_another",
            "test_too_many_tunnels_of_one_peer",
            "test_an_sccrq_of_another_version_is_told_ours",
            "test_a_message_of_set_up_that_is_not_due_ends_the_tunnel",
            "test_shutdown_ends_everything_and_lets_nothing_begin",
        ),
    ),
    ("6.5", "no HELLO is expected at any time", ("test_nobody_is_missed_who_sends_no_hello",)),
    (
        "7.1",
        "a message that must be understood and is not ends what it is about",
        (
            "test_a_message_that_must_be_understood_and_is_not_ends_the_tunnel",
            "test_a_broken_message_ends_its_call_alone",
            "test_a_broken_request_is_refused",
        ),
    ),
    ("7.1", "what need not be understood is ignored", ("test_what_need_not_be_understood_is_ignored",)),
    (
        "7.2",
        "LAC and LNS may open the tunnel, and each may carry calls of both kinds",
        ("test_they_agree_in_the_end_and_nothing_is_left", "test_outgoing_calls_between_two_of_us"),
    ),
    (
        "7.2.1",
        "the table of control connections",
        ("test_rfc_2661_7_2_1", "test_every_state_of_a_tunnel_has_every_event"),
    ),
    ("7.2.1", "another version is answered with StopCCN", ("test_an_sccrq_of_another_version_is_told_ours",)),
    (
        "7.2.1",
        "in idle SCCRP is answered with StopCCN",
        ("test_a_late_sccrp_is_answered_so_that_the_peer_need_not_wait",),
    ),
    (
        "7.3",
        "no state of set-up lasts for ever",
        (
            "test_a_set_up_that_takes_too_long_is_given_up",
            "test_a_half_open_tunnel_is_forgotten_without_a_word",
            "test_a_peer_that_answers_but_never_finishes_is_told_that_it_is_over",
            "test_a_call_that_is_never_connected_is_cleared",
        ),
    ),
    (
        "8.1",
        "the responder may answer from another port, after that both ports stay",
        (
            "test_the_sccrp_of_the_peer_may_come_from_a_port_of_its_choice",
            "test_nobody_but_the_peer_can_say_anything_in_a_tunnel",
        ),
    ),
)

CALLS: tuple[Rule, ...] = (
    (
        "4.4.3",
        "no call is asked for that the peer's Framing and Bearer Capabilities exclude",
        ("test_an_lac_is_asked_only_for_what_it_can_do", "test_we_have_an_lac_place_a_call"),
    ),
    (
        "4.4.4",
        "until the peer has assigned a session id headers have 0, then that id",
        ("test_we_announce_a_call", "test_a_call_that_is_ended_before_the_answer_comes"),
    ),
    (
        "4.4.4",
        "CDN tells the session id that was assigned first, even if the header has 0",
        (
            "test_a_call_that_is_ended_before_the_answer_comes",
            "test_the_peer_clears_a_call_whose_id_it_has_not_learnt_yet",
            "test_we_clear_a_call",
        ),
    ),
    ("4.4.4", "Call Serial Numbers tell calls apart", ("test_serial_numbers_are_different",)),
    ("4.4.4", "the numbers of who calls and is called", ("test_a_call_comes_in", "test_we_announce_a_call")),
    (
        "4.4.5",
        "what the LAC has negotiated already is handed on",
        ("test_a_call_comes_in", "test_we_announce_a_call"),
    ),
    (
        "4.4.6",
        "without Rx Connect Speed it is that of Tx",
        ("test_the_receive_speed_is_that_of_sending_unless_it_is_told",),
    ),
    (
        "4.4.6",
        "Sequencing Required: data messages always have numbers",
        (
            "test_the_lac_may_insist_on_sequence_numbers",
            "test_we_announce_a_call",
            "test_we_have_an_lac_place_a_call",
            "test_everything_about_a_call_survives_a_restart",
        ),
    ),
    ("5.2", "one tunnel carries many calls", ("test_hundreds_of_calls_in_one_tunnel_over_a_bad_network",)),
    ("5.2.1", "ICRQ, ICRP, ICCN", ("test_a_call_comes_in", "test_we_announce_a_call")),
    ("5.2.2", "OCRQ, OCRP, OCCN", ("test_we_have_an_lac_place_a_call", "test_we_place_a_call_for_the_peer")),
    ("5.3", "session ids are random and unique in their tunnel", ("test_ids_are_random_and_different",)),
    ("5.6", "CDN ends a call, whoever sends it", ("test_the_peer_clears_a_call", "test_we_clear_a_call")),
    (
        "6.9",
        "only an LAC that told its Bearer Capabilities is asked",
        ("test_an_lac_is_asked_only_for_what_it_can_do",),
    ),
    ("6.12", "a CDN is not answered", ("test_the_peer_clears_a_call", "test_messages_for_no_call")),
    (
        "6.12",
        "result and error codes of CDN say why",
        (
            "test_too_many_sessions_try_another",
            "test_too_many_sessions_in_one_tunnel",
            "test_calls_come_no_faster_than_the_set_up_rate",
            "test_outgoing_calls_are_refused_unless_we_place_them",
            "test_a_message_that_is_not_due_ends_the_call",
        ),
    ),
    ("6.13", "WEN tells the LNS of errors", ("test_errors_on_the_line_are_told", "test_both_ends_tell_of_the_line")),
    (
        "6.14",
        "SLI tells the LAC what PPP escapes, at any time",
        ("test_the_lns_tells_what_ppp_escapes", "test_both_ends_tell_of_the_line"),
    ),
    (
        "7.4",
        "the tables of incoming calls",
        ("test_rfc_2661_7_4_and_7_5", "test_every_state_of_a_call_has_every_event"),
    ),
    (
        "7.4",
        "a call whose tunnel is gone is gone",
        ("test_the_peer_ends_a_tunnel_and_its_calls", "test_one_side_may_die_at_any_moment_for_ever"),
    ),
    (
        "7.5",
        "the tables of outgoing calls",
        ("test_rfc_2661_7_4_and_7_5", "test_every_state_of_a_call_has_every_event"),
    ),
    (
        "7.5",
        "an LAC answers an OCRQ if it can and may place the call",
        ("test_we_place_a_call_for_the_peer", "test_outgoing_calls_are_refused_unless_we_place_them"),
    ),
    (
        "7.4, 7.5",
        "messages for no call: ICRP and OCRP are answered with CDN, others are ignored",
        ("test_messages_for_no_call",),
    ),
)

TABLES: tuple[tuple[Rule, ...], ...] = (HEADERS, AVPS, DELIVERY, CONNECTIONS, CALLS)
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
