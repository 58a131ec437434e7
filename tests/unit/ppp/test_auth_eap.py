"""EAP, packet by packet, on both ends."""

import hashlib

import pytest

from kl2tp.model.calls import EAP_MD5, EAP_MSCHAPV2
from kl2tp.model.objects import Secret
from kl2tp.ppp.auth.eap import EapAuthenticator
from kl2tp.ppp.auth.eap_peer import EapSupplicant
from unit.ppp.rfc2759 import CHALLENGE, NT_RESPONSE, PASSWORD, PEER_CHALLENGE, PROOF

BOTH = (EAP_MSCHAPV2, EAP_MD5)
REQUEST, RESPONSE, SUCCESS, FAILURE = 1, 2, 3, 4
ID, NOTE, NAK, MD5, MS = b"\1", b"\2", b"\3", b"\4", b"\x1a"


def packet(code: int, identifier: int, data: bytes = b"") -> bytes:
    return bytes((code, identifier)) + (4 + len(data)).to_bytes(2) + data


def ms(opcode: int, identifier: int, data: bytes) -> bytes:
    return MS + bytes((opcode, identifier)) + (4 + len(data)).to_bytes(2) + data


MS_CHALLENGE = ms(1, 8, b"\x10" + CHALLENGE + b"lns")
MS_RESPONSE = ms(2, 8, b"\x31" + PEER_CHALLENGE + bytes(8) + NT_RESPONSE + b"\0" + b"BIGCO\\User")


# --- the side that demands


def authenticator(methods: tuple[str, ...] = BOTH, interval: float = 0.0) -> EapAuthenticator:
    machine = EapAuthenticator(
        methods, "lns", lambda length: CHALLENGE if length == 16 else b"\6", tries=3, timeout=2.0, interval=interval
    )
    machine.start(0.0)
    assert machine.take_frames() == [packet(REQUEST, 7, ID)]
    return machine


def identified(methods: tuple[str, ...] = BOTH, interval: float = 0.0, name: bytes = b"anonymous") -> EapAuthenticator:
    """After the identity was said: the first method's request is on its way."""
    machine = authenticator(methods, interval)
    machine.receive(packet(RESPONSE, 7, ID + name), 0.5)
    return machine


def md5_response(identifier: int, name: bytes = b"alice") -> bytes:
    value = hashlib.md5(bytes((identifier,)) + b"hush" + CHALLENGE).digest()
    return packet(RESPONSE, identifier, MD5 + b"\x10" + value + name)


def test_md5_from_the_identity_to_success() -> None:
    machine = identified((EAP_MD5,), name=b"alice\0more")
    assert machine.take_frames() == [packet(REQUEST, 8, MD5 + b"\x10" + CHALLENGE + b"lns")]
    machine.receive(md5_response(8, b"somebody"), 1.0)
    attempt = machine.attempt
    assert attempt is not None
    assert (attempt.identity, attempt.method, machine.identity) == ("alice", EAP_MD5, "alice")
    assert attempt.verify(b"hush")
    assert not attempt.verify(b"hash")
    assert machine.deadline is None
    machine.receive(md5_response(8), 1.5)
    assert machine.attempt is attempt
    machine.verdict(True, "", 2.0)
    machine.receive(md5_response(8), 2.5)
    assert machine.take_frames() == [packet(SUCCESS, 8)] * 2, "once more for a response that comes again"
    assert (machine.result, machine.attempt, machine.deadline) == (True, None, None)


def test_without_an_identity_the_name_in_the_response_counts() -> None:
    machine = identified((EAP_MD5,), name=b"")
    machine.receive(md5_response(8, b"bob"), 1.0)
    assert machine.identity == "bob"


def test_a_message_goes_into_a_notification_before_the_end() -> None:
    machine = identified((EAP_MD5,))
    machine.receive(md5_response(8), 1.0)
    machine.take_frames()
    machine.verdict(False, "too  many\nsessions", 2.0)
    assert machine.take_frames() == [packet(REQUEST, 9, NOTE + b"too many sessions")]
    assert machine.result is None
    machine.receive(packet(RESPONSE, 9, NOTE), 3.0)
    assert machine.take_frames() == [packet(FAILURE, 9)]
    assert machine.result is False


@pytest.mark.parametrize("ok", [True, False])
def test_who_does_not_confirm_a_notification_is_told_the_end_all_the_same(ok: bool) -> None:
    machine = identified((EAP_MD5,))
    machine.receive(md5_response(8), 1.0)
    machine.verdict(ok, "hello", 2.0)
    for now in (4.0, 6.0, 8.0):
        machine.handle_timer(now)
    assert machine.take_frames()[-1] == packet(SUCCESS if ok else FAILURE, 9)
    assert machine.result is ok


def test_mschapv2_from_the_identity_to_success() -> None:
    machine = identified()
    assert machine.take_frames() == [packet(REQUEST, 8, MS_CHALLENGE)]
    machine.receive(packet(RESPONSE, 8, MS_RESPONSE), 1.0)
    attempt = machine.attempt
    assert attempt is not None
    assert (attempt.identity, attempt.method, machine.identity) == ("BIGCO\\User", EAP_MSCHAPV2, "BIGCO\\User")
    assert attempt.verify(PASSWORD)
    machine.verdict(True, "welcome", 2.0)
    assert machine.take_frames() == [packet(REQUEST, 9, ms(3, 8, PROOF + b" M=welcome"))]
    assert machine.result is None
    machine.receive(packet(RESPONSE, 9, MS + b"\3"), 3.0)
    assert machine.take_frames() == [packet(SUCCESS, 9)]
    assert machine.result is True


def test_a_peer_that_does_not_believe_our_proof_is_out() -> None:
    machine = identified()
    machine.receive(packet(RESPONSE, 8, MS_RESPONSE), 1.0)
    assert machine.attempt is not None
    machine.attempt.verify(PASSWORD)
    machine.verdict(True, "", 2.0)
    machine.receive(packet(RESPONSE, 9, MS + b"\4"), 3.0)
    assert machine.take_frames()[-1] == packet(FAILURE, 9)
    assert machine.result is False


@pytest.mark.parametrize("secret", [b"wrong", None])
def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(secret: bytes | None) -> None:
    machine = identified()
    machine.receive(packet(RESPONSE, 8, MS_RESPONSE), 1.0)
    assert machine.attempt is not None
    assert not machine.attempt.verify(secret)
    machine.take_frames()
    machine.verdict(False, "", 2.0)
    text = b"E=691 R=0 C=" + CHALLENGE.hex().upper().encode() + b" V=3 M=Access denied"
    assert machine.take_frames() == [packet(REQUEST, 9, ms(4, 8, text))]
    machine.receive(packet(RESPONSE, 9, MS + b"\3"), 2.5)
    assert machine.result is None, "that is no answer to a failure"
    machine.receive(packet(RESPONSE, 9, MS + b"\4"), 3.0)
    assert machine.take_frames() == [packet(FAILURE, 9)]
    assert machine.result is False


def test_success_without_a_verified_response_is_an_error_of_ours() -> None:
    machine = identified()
    machine.receive(packet(RESPONSE, 8, MS_RESPONSE), 1.0)
    with pytest.raises(ValueError, match="verified"):
        machine.verdict(True, "", 1.0)
    assert machine.attempt is not None
    assert machine.result is None


@pytest.mark.parametrize(
    ("methods", "wanted", "answer"),
    [
        (BOTH, b"\4", packet(REQUEST, 9, MD5 + b"\x10" + CHALLENGE + b"lns")),
        (BOTH, b"\x0d\4", packet(REQUEST, 9, MD5 + b"\x10" + CHALLENGE + b"lns")),
        (BOTH[::-1], b"\x1a", packet(REQUEST, 9, ms(1, 9, b"\x10" + CHALLENGE + b"lns"))),
        (BOTH, b"\x0d", packet(FAILURE, 8)),
        (BOTH, b"\0", packet(FAILURE, 8)),
        (BOTH, b"", packet(FAILURE, 8)),
        (BOTH, b"\x1a", packet(FAILURE, 8)),
        ((EAP_MD5,), b"\x1a", packet(FAILURE, 8)),
    ],
)
def test_a_nak_chooses_among_our_methods(methods: tuple[str, ...], wanted: bytes, answer: bytes) -> None:
    machine = identified(methods)
    machine.take_frames()
    machine.receive(packet(RESPONSE, 8, NAK + wanted), 1.0)
    assert machine.take_frames() == [answer]
    assert machine.result is (False if answer[0] == FAILURE else None)


def test_a_nak_is_good_for_nothing_but_a_methods_first_request() -> None:
    machine = authenticator()
    machine.receive(packet(RESPONSE, 7, NAK + b"\4"), 0.5)
    assert machine.take_frames() == ()
    machine.receive(packet(RESPONSE, 7, ID + b"x"), 0.5)
    machine.receive(packet(RESPONSE, 8, MS_RESPONSE), 1.0)
    assert machine.attempt is not None
    machine.receive(packet(RESPONSE, 8, NAK + b"\4"), 1.0)
    machine.attempt.verify(PASSWORD)
    machine.verdict(True, "", 2.0)
    machine.take_frames()
    machine.receive(packet(RESPONSE, 9, NAK + b"\4"), 2.0)
    assert machine.take_frames() == ()
    assert machine.result is None


NO_RESPONSES = (
    *(b"", packet(RESPONSE, 7, MS_RESPONSE), packet(REQUEST, 8, MS_RESPONSE), packet(SUCCESS, 8), packet(RESPONSE, 8)),
    *(packet(RESPONSE, 8, ID + b"x"), packet(RESPONSE, 8, MS), packet(RESPONSE, 8, MS + b"\2\x08\0"), md5_response(8)),
    *(packet(RESPONSE, 8, MS_RESPONSE[:-20]), packet(RESPONSE, 8, ms(2, 8, b"")), packet(RESPONSE, 8, MS + b"\3")),
    *(packet(RESPONSE, 8, ms(2, 8, b"\x10" + bytes(16))), packet(RESPONSE, 8, ms(7, 8, bytes(60)))),
    packet(RESPONSE, 8, MS + b"\2\x08\0\3" + bytes(60)),
)


@pytest.mark.parametrize("wrong", NO_RESPONSES)
def test_what_is_no_response_is_dropped_and_the_request_repeated(wrong: bytes) -> None:
    machine = identified()
    (asked,) = machine.take_frames()
    machine.receive(wrong, 1.0)
    assert machine.attempt is None
    assert machine.take_frames() == ()
    machine.handle_timer(2.5)
    assert machine.take_frames() == [asked]


def test_silence_has_an_end() -> None:
    machine = authenticator()
    for now in (2.0, 4.0, 6.0):
        machine.handle_timer(now)
    assert machine.take_frames() == [packet(REQUEST, 7, ID)] * 2 + [packet(FAILURE, 7)]
    assert (machine.result, machine.deadline) == (False, None)


def test_at_intervals_the_peer_is_asked_again_and_stays_who_it_is() -> None:
    machine = identified((EAP_MD5,), 60.0, b"alice")
    machine.receive(md5_response(8), 1.0)
    machine.verdict(True, "", 1.0)
    machine.take_frames()
    assert machine.deadline == 61.0
    machine.handle_timer(61.0)
    assert machine.take_frames() == [packet(REQUEST, 9, ID)]
    machine.receive(packet(RESPONSE, 9, ID + b"bob"), 62.0)
    machine.receive(md5_response(10), 62.0)
    assert (machine.result, machine.attempt, machine.identity) == (False, None, "alice")


def test_it_holds_no_reference_to_itself() -> None:
    import sys

    machine = identified()
    assert sys.getrefcount(machine) == 2


# --- the side that answers


def supplicant(methods: tuple[str, ...] = BOTH, secret: bytes = PASSWORD) -> EapSupplicant:
    machine = EapSupplicant(methods, "BIGCO\\User", Secret(secret), lambda length: PEER_CHALLENGE, tries=3, timeout=2.0)
    machine.start(0.0)
    return machine


def exchange(machine: EapSupplicant, *requests: bytes) -> list[bytes]:
    for request in requests:
        machine.receive(request, 1.0)
    return list(machine.take_frames())


def test_the_supplicant_says_who_it_is_and_repeats_what_it_is_asked_again() -> None:
    machine = supplicant()
    answer = packet(RESPONSE, 5, ID + b"BIGCO\\User")
    assert exchange(machine, packet(REQUEST, 5, ID + b"who?"), packet(REQUEST, 5, ID + b"who?")) == [answer, answer]


def test_the_supplicant_answers_md5_and_takes_success() -> None:
    machine = supplicant()
    value = hashlib.md5(b"\6" + PASSWORD + CHALLENGE).digest()
    found = exchange(machine, packet(REQUEST, 6, MD5 + b"\x10" + CHALLENGE + b"lns"))
    assert found == [packet(RESPONSE, 6, MD5 + b"\x10" + value + b"BIGCO\\User")]
    machine.receive(packet(SUCCESS, 6), 2.0)
    assert (machine.result, machine.deadline) == (True, None)


def test_the_supplicant_answers_mschapv2_and_takes_success_once_the_peer_has_proved_itself() -> None:
    machine = supplicant()
    assert exchange(machine, packet(REQUEST, 8, MS_CHALLENGE)) == [packet(RESPONSE, 8, MS_RESPONSE)]
    machine.receive(packet(SUCCESS, 8), 1.0)
    assert machine.result is None
    assert exchange(machine, packet(REQUEST, 9, ms(3, 8, PROOF + b" M=hi"))) == [packet(RESPONSE, 9, MS + b"\3")]
    machine.receive(packet(SUCCESS, 9), 1.0)
    assert machine.result is True


def test_a_success_that_is_lost_after_both_proofs_is_taken_for_granted() -> None:
    machine = supplicant()
    exchange(machine, packet(REQUEST, 8, MS_CHALLENGE), packet(REQUEST, 9, ms(3, 8, PROOF)))
    assert machine.deadline == 3.0
    machine.handle_timer(3.0)
    assert machine.result is True


def test_a_success_that_is_lost_is_replaced_by_the_first_network_packet_once_we_have_answered() -> None:
    machine = supplicant()
    machine.network_seen(0.0)
    exchange(machine, packet(REQUEST, 5, ID))
    machine.network_seen(1.0)
    assert machine.result is None
    exchange(machine, packet(REQUEST, 6, MD5 + b"\x10" + CHALLENGE))
    machine.network_seen(1.0)
    assert machine.result is True


@pytest.mark.parametrize("message", [b"", b"S=" + b"0" * 40])
def test_a_peer_that_cannot_prove_itself_is_told_so_and_not_believed(message: bytes) -> None:
    machine = supplicant()
    found = exchange(machine, packet(REQUEST, 8, MS_CHALLENGE), packet(REQUEST, 9, ms(3, 8, message)))
    assert found[1] == packet(RESPONSE, 9, MS + b"\4")
    machine.receive(packet(SUCCESS, 9), 1.0)
    machine.network_seen(1.0)
    assert (machine.result, machine.deadline) == (False, None)
    assert machine.reason == "the peer let us in without knowing our password: it is not who it should be"


def test_a_failure_of_mschapv2_is_explained() -> None:
    machine = supplicant()
    found = exchange(machine, packet(REQUEST, 8, MS_CHALLENGE), packet(REQUEST, 9, ms(4, 8, b"E=691 R=0 M=no")))
    assert found[1] == packet(RESPONSE, 9, MS + b"\4")
    machine.receive(packet(FAILURE, 9), 1.0)
    assert (machine.result, machine.reason) == (
        False, "the peer refused our password: wrong name or password (E=691): no")


def test_a_notification_is_confirmed_and_explains_a_failure() -> None:
    machine = supplicant()
    assert exchange(machine, packet(REQUEST, 4, NOTE + b"go\x07away")) == [packet(RESPONSE, 4, NOTE)]
    machine.receive(packet(FAILURE, 4), 1.0)
    assert (machine.result, machine.reason) == (False, "the peer refused us: go\\x07away")


@pytest.mark.parametrize("identifier", [6, 7])
def test_an_end_has_the_identifier_of_the_answer_or_the_next(identifier: int) -> None:
    machine = supplicant()
    exchange(machine, packet(REQUEST, 6, MD5 + b"\x10" + CHALLENGE))
    machine.receive(packet(SUCCESS, identifier), 1.0)
    assert machine.result is True


NO_ENDS = (packet(SUCCESS, 5), packet(FAILURE, 5), packet(FAILURE, 8), packet(SUCCESS, 8), b"\3\6\0")


@pytest.mark.parametrize("end", NO_ENDS)
def test_any_other_end_is_none(end: bytes) -> None:
    machine = supplicant()
    machine.receive(packet(FAILURE, 0), 0.0)
    exchange(machine, packet(REQUEST, 6, MD5 + b"\x10" + CHALLENGE))
    machine.receive(end, 1.0)
    assert machine.result is None


def test_success_without_any_method_is_none() -> None:
    machine = supplicant()
    exchange(machine, packet(REQUEST, 5, ID))
    machine.receive(packet(SUCCESS, 5), 1.0)
    assert machine.result is None


@pytest.mark.parametrize(
    ("methods", "request_type", "nak"),
    [
        (BOTH, b"\x0d\x20", b"\x1a\4"),
        ((EAP_MD5,), MS_CHALLENGE, b"\4"),
        ((EAP_MSCHAPV2,), MD5 + b"\x10" + CHALLENGE, b"\x1a"),
        ((), MD5 + b"\x10" + CHALLENGE, b"\0"),
        (BOTH, b"\xfe\0\0\0\0\0\0\x0d", b"\x1a\4"),
    ],
)
def test_what_it_is_not_willing_to_do_gets_a_nak(methods: tuple[str, ...], request_type: bytes, nak: bytes) -> None:
    assert exchange(supplicant(methods), packet(REQUEST, 9, request_type)) == [packet(RESPONSE, 9, NAK + nak)]


NO_REQUESTS = (
    *(b"", packet(REQUEST, 8), packet(REQUEST, 8, MD5), packet(REQUEST, 8, MD5 + b"\0")),
    packet(REQUEST, 8, MD5 + b"\5x"),
    *(packet(REQUEST, 8, MS), packet(REQUEST, 8, MS + b"\1\1\0\3"), packet(REQUEST, 8, ms(1, 8, b"\x0f" + bytes(15)))),
    *(packet(REQUEST, 8, ms(3, 8, PROOF)), packet(REQUEST, 8, ms(4, 8, b"E=691")), packet(REQUEST, 8, ms(9, 8, b""))),
    packet(RESPONSE, 8, ID),
)


@pytest.mark.parametrize("wrong", NO_REQUESTS)
def test_what_is_no_request_is_dropped(wrong: bytes) -> None:
    machine = supplicant()
    assert exchange(machine, wrong) == []
    assert machine.result is None


@pytest.mark.parametrize(
    ("requests", "until", "reason"),
    [
        ((), 6.0, "the peer demanded no authentication"),
        ((packet(REQUEST, 5, ID),), 7.0, "the peer did not say how the authentication ended"),
        ((packet(REQUEST, 5, NOTE + b"busy"),), 7.0, "the peer refused us: busy"),
    ],
)
def test_waiting_has_an_end(requests: tuple[bytes, ...], until: float, reason: str) -> None:
    machine = supplicant()
    exchange(machine, *requests)
    assert machine.deadline == until
    machine.handle_timer(until)
    assert (machine.result, machine.reason) == (False, reason)
    assert exchange(machine, packet(REQUEST, 5, ID)) == []


def test_an_old_request_that_comes_late_gets_its_old_answer_and_disturbs_nothing() -> None:
    machine = supplicant()
    first = exchange(machine, packet(REQUEST, 5, ID))
    exchange(machine, packet(REQUEST, 6, MD5 + b"\x10" + CHALLENGE))
    assert exchange(machine, packet(REQUEST, 5, ID)) == first
    machine.receive(packet(SUCCESS, 6), 1.0)
    assert machine.result is True


def test_a_peer_that_asks_again_later_is_answered() -> None:
    machine = supplicant()
    exchange(machine, packet(REQUEST, 6, MD5 + b"\x10" + CHALLENGE), packet(SUCCESS, 6))
    exchange(machine, packet(REQUEST, 50, ID), packet(REQUEST, 51, MD5 + b"\x10" + CHALLENGE), packet(SUCCESS, 51))
    assert machine.result is True
    exchange(machine, packet(REQUEST, 52, ID), packet(FAILURE, 52))
    assert (machine.result, machine.reason) == (False, "the peer refused us")
