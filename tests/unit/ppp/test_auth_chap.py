"""CHAP with MD5 and MS-CHAPv2, packet by packet."""

import hashlib

import pytest

from kl2tp.model.calls import CHAP, EAP_MSCHAPV2, MSCHAPV2
from kl2tp.model.objects import Secret
from kl2tp.ppp.auth.attempt import MschapAttempt
from kl2tp.ppp.auth.chap import ChapAuthenticator, ChapSupplicant
from kl2tp.ppp.auth.mschap import ERRORS, MschapAuthenticator, MschapSupplicant, failure, refusal, success
from unit.ppp.rfc2759 import CHALLENGE, NT_RESPONSE, PASSWORD, PEER_CHALLENGE, PROOF

NEW_CHALLENGE = bytes(range(16))


class Given:
    """Random bytes that are known."""

    def __init__(self, *values: bytes) -> None:
        self.values = list(values)

    def __call__(self, length: int) -> bytes:
        value = self.values.pop(0)
        assert len(value) == length
        return value


def packet(code: int, identifier: int, data: bytes) -> bytes:
    return bytes((code, identifier)) + (4 + len(data)).to_bytes(2) + data


def challenged(interval: float = 0.0) -> ChapAuthenticator:
    random = Given(b"\x06", CHALLENGE, NEW_CHALLENGE)
    machine = ChapAuthenticator("lns", random, tries=3, timeout=2.0, interval=interval)
    machine.start(0.0)
    assert machine.take_frames() == [packet(1, 7, b"\x10" + CHALLENGE + b"lns")]
    return machine


def response(
    identifier: int = 7, name: bytes = b"alice", secret: bytes = b"hush", challenge: bytes = CHALLENGE
) -> bytes:
    return packet(2, identifier, b"\x10" + hashlib.md5(bytes((identifier,)) + secret + challenge).digest() + name)


# --- MD5


def test_a_challenge_is_repeated_as_it_was_and_then_given_up() -> None:
    machine = challenged()
    frames: list[bytes] = []
    for now in (2.0, 4.0, 6.0):
        machine.handle_timer(now)
        frames += machine.take_frames()
    assert frames == [packet(1, 7, b"\x10" + CHALLENGE + b"lns")] * 2
    assert machine.result is False
    machine.receive(response(), 7.0)
    assert machine.attempt is None, "too late"


@pytest.mark.parametrize("ok", [True, False])
def test_a_response_is_judged_and_repeated_ones_get_the_same_answer(ok: bool) -> None:
    machine = challenged()
    machine.receive(response(), 1.0)
    attempt = machine.attempt
    assert attempt is not None
    assert (attempt.identity, attempt.method, machine.identity) == ("alice", CHAP, "alice")
    assert attempt.verify(b"hush")
    assert machine.deadline is None
    machine.receive(response(secret=b"other"), 1.0)
    assert machine.attempt is attempt
    machine.verdict(ok, "", 2.0)
    answer = packet(3, 7, b"Access granted") if ok else packet(4, 7, b"Access denied")
    machine.receive(response(secret=b"another guess"), 3.0)
    assert machine.take_frames() == [answer, answer]
    assert machine.result is ok
    assert machine.attempt is None


NO_RESPONSES = (
    *(response(8), response()[:20], packet(2, 7, b""), packet(2, 7, b"\x0f" + bytes(15)), b"", b"\2\7\0", b"\2\7\0\3"),
    *(packet(2, 7, b"\x10" + bytes(15)), packet(3, 7, b""), packet(1, 7, b"\x10" + bytes(16))),
)


@pytest.mark.parametrize("wrong", NO_RESPONSES)
def test_what_is_no_response_is_dropped(wrong: bytes) -> None:
    machine = challenged()
    machine.receive(wrong, 1.0)
    assert machine.attempt is None
    assert machine.take_frames() == ()
    assert machine.deadline == 2.0


def test_at_intervals_the_peer_is_challenged_again() -> None:
    machine = challenged(interval=60.0)
    machine.receive(response(), 1.0)
    machine.verdict(True, "", 1.0)
    machine.take_frames()
    assert machine.deadline == 61.0
    machine.handle_timer(60.9)
    assert machine.take_frames() == ()
    machine.handle_timer(61.0)
    assert machine.take_frames() == [packet(1, 8, b"\x10" + NEW_CHALLENGE + b"lns")]
    assert machine.result is True
    machine.receive(response(), 61.5)
    assert machine.attempt is None, "that was the old challenge"
    machine.receive(response(8, challenge=NEW_CHALLENGE), 62.0)
    assert machine.attempt is not None
    assert machine.attempt.verify(b"hush")
    machine.verdict(True, "", 62.0)
    assert machine.deadline == 122.0


def test_who_does_not_answer_a_later_challenge_is_out() -> None:
    machine = challenged(interval=60.0)
    machine.receive(response(), 1.0)
    machine.verdict(True, "", 1.0)
    for now in (61.0, 63.0, 65.0, 67.0):
        machine.handle_timer(now)
    assert machine.result is False


def test_nobody_becomes_somebody_else() -> None:
    machine = challenged(interval=60.0)
    machine.receive(response(), 1.0)
    machine.verdict(True, "", 1.0)
    machine.handle_timer(61.0)
    machine.receive(response(8, b"bob", challenge=NEW_CHALLENGE), 62.0)
    assert (machine.result, machine.attempt, machine.identity) == (False, None, "alice")


def supplicant() -> ChapSupplicant:
    machine = ChapSupplicant("alice", Secret(b"hush"), Given(), tries=3, timeout=2.0)
    machine.start(0.0)
    return machine


def test_a_challenge_is_answered_until_the_peer_says_something() -> None:
    machine = supplicant()
    machine.receive(packet(1, 7, b"\x10" + CHALLENGE + b"lns"), 1.0)
    machine.handle_timer(3.0)
    assert machine.take_frames() == [response()] * 2
    machine.receive(packet(3, 7, b"welcome"), 4.0)
    assert (machine.result, machine.deadline) == (True, None)
    machine.receive(packet(1, 9, b"\1x"), 100.0)
    assert machine.take_frames() == [response(9, challenge=b"x")], "at any time"
    machine.receive(packet(3, 9, b""), 100.0)
    assert machine.result is True
    machine.receive(packet(1, 10, b"\1x"), 200.0)
    machine.receive(packet(4, 10, b"no"), 200.0)
    assert (machine.result, machine.reason) == (False, "the peer refused our password: no")


def test_a_later_challenge_whose_success_is_lost_does_no_harm() -> None:
    machine = supplicant()
    machine.receive(packet(1, 7, b"\x10" + CHALLENGE + b"lns"), 1.0)
    machine.receive(packet(3, 7, b""), 1.0)
    machine.receive(packet(1, 9, b"\1x"), 100.0)
    for now in (102.0, 104.0, 106.0):
        machine.handle_timer(now)
    assert (machine.result, machine.deadline) == (True, None)


NO_ANSWERS = (packet(3, 8, b""), packet(4, 6, b""), packet(2, 7, b""), packet(9, 7, b""), b"\3\7\0")


@pytest.mark.parametrize("wrong", NO_ANSWERS)
def test_only_the_answer_to_our_response_counts(wrong: bytes) -> None:
    machine = supplicant()
    machine.receive(packet(3, 7, b""), 0.5)
    assert machine.result is None, "before there was a challenge"
    machine.receive(packet(1, 7, b"\x10" + CHALLENGE + b"lns"), 1.0)
    machine.receive(wrong, 1.0)
    assert machine.result is None


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (b"", "the peer demanded no authentication"),
        (packet(1, 7, b"\0"), "the peer demanded no authentication"),
        (packet(1, 7, b"\5xx"), "the peer demanded no authentication"),
        (packet(1, 7, b"\1x"), "the peer did not answer our response"),
    ],
)
def test_silence_has_an_end(first: bytes, reason: str) -> None:
    machine = supplicant()
    machine.receive(first, 0.0)
    for now in (2.0, 4.0, 6.0):
        machine.handle_timer(now)
    assert (machine.result, machine.reason) == (False, reason)
    machine.receive(packet(1, 7, b"\1x"), 7.0)
    machine.receive(packet(3, 7, b""), 7.0)
    assert machine.result is False


# --- MS-CHAPv2

MS_RESPONSE = packet(2, 7, b"\x31" + PEER_CHALLENGE + bytes(8) + NT_RESPONSE + b"\0" + b"BIGCO\\User")


def ms_challenged() -> MschapAuthenticator:
    machine = MschapAuthenticator("lns", Given(b"\x06", CHALLENGE, NEW_CHALLENGE))
    machine.start(0.0)
    assert machine.take_frames() == [packet(1, 7, b"\x10" + CHALLENGE + b"lns")]
    return machine


def test_a_right_response_gets_our_own_proof() -> None:
    machine = ms_challenged()
    machine.receive(MS_RESPONSE, 1.0)
    attempt = machine.attempt
    assert attempt is not None
    assert (attempt.identity, attempt.method) == ("BIGCO\\User", MSCHAPV2)
    assert attempt.verify(PASSWORD)
    machine.verdict(True, "welcome", 1.0)
    assert machine.take_frames() == [packet(3, 7, PROOF + b" M=welcome")]
    assert machine.result is True


@pytest.mark.parametrize("secret", [b"wrong", None])
def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(secret: bytes | None) -> None:
    machine = ms_challenged()
    machine.receive(MS_RESPONSE, 1.0)
    assert machine.attempt is not None
    assert not machine.attempt.verify(secret)
    machine.verdict(False, "", 1.0)
    text = b"E=691 R=0 C=000102030405060708090A0B0C0D0E0F V=3 M=Access denied"
    assert machine.take_frames() == [packet(4, 7, text)]
    assert machine.result is False


def test_success_without_a_verified_response_is_an_error_of_ours() -> None:
    machine = ms_challenged()
    machine.receive(MS_RESPONSE, 1.0)
    with pytest.raises(ValueError, match="verified"):
        machine.verdict(True, "", 1.0)
    assert machine.result is None
    machine.verdict(False, "", 1.0)
    assert machine.result is False


@pytest.mark.parametrize("length", [0, 16, 48, 50])
def test_a_response_of_another_length_is_none(length: int) -> None:
    machine = ms_challenged()
    machine.receive(packet(2, 7, bytes((length,)) + bytes(length) + b"User"), 1.0)
    assert machine.attempt is None


def ms_supplicant(name: str = "BIGCO\\User") -> MschapSupplicant:
    machine = MschapSupplicant(name, Secret(PASSWORD), Given(PEER_CHALLENGE), tries=3, timeout=2.0)
    machine.start(0.0)
    machine.receive(packet(1, 7, b"\x10" + CHALLENGE + b"lns"), 0.0)
    return machine


def test_the_supplicant_answers_as_the_rfc_does() -> None:
    machine = ms_supplicant()
    machine.receive(packet(1, 7, b"\x10" + CHALLENGE + b"lns"), 0.1)
    assert machine.take_frames() == [MS_RESPONSE] * 2


@pytest.mark.parametrize("message", [PROOF, PROOF + b" M=hi", PROOF.lower().replace(b"s=", b"S=")])
def test_a_peer_that_proves_itself_is_accepted(message: bytes) -> None:
    machine = ms_supplicant()
    machine.receive(packet(3, 7, message), 1.0)
    assert machine.result is True


@pytest.mark.parametrize("message", [b"", b"S=", PROOF[:-1], b"S=" + b"0" * 40, b"M=hi " + PROOF])
def test_a_peer_that_does_not_is_not(message: bytes) -> None:
    machine = ms_supplicant()
    machine.receive(packet(3, 7, message), 1.0)
    assert machine.result is False
    assert machine.reason == "the peer let us in without knowing our password: it is not who it should be"


@pytest.mark.parametrize("size", [0, 8, 15, 17])
def test_a_challenge_of_another_length_is_not_answered(size: int) -> None:
    machine = MschapSupplicant("User", Secret(PASSWORD), Given(), tries=3, timeout=2.0)
    machine.start(0.0)
    machine.receive(packet(1, 7, bytes((size,)) + bytes(size) + b"lns"), 1.0)
    assert machine.take_frames() == ()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (failure(CHALLENGE, b"no"), "wrong name or password (E=691): no"),
        (b"E=0000000691 R=1 C=" + b"0" * 32 + b" V=3", "wrong name or password (E=691)"),
        (b"E=648 R=0 V=3 M=", f"{ERRORS[648]} (E=648)"),
        (b"E=649 R=0 M=x\x1b", "the account may not dial in (E=649): x\\x1b"),
        (b"E=12 R=0", "for a reason of its own (E=12)"),
        (b"go away", "go away"),
        (b"E=99999999999", "for a reason of its own (E=9999999999)"),
    ],
)
def test_a_refusal_is_explained(message: bytes, reason: str) -> None:
    assert refusal(message) == f"the peer refused our password: {reason}"
    machine = ms_supplicant()
    machine.receive(packet(4, 7, message), 1.0)
    assert (machine.result, machine.reason) == (False, refusal(message))


def test_every_error_of_the_rfc_is_known_and_passwords_are_not_changed() -> None:
    assert "we do not change passwords" in ERRORS[648]
    assert sorted(ERRORS) == [646, 647, 648, 649, 691, 709]


def test_success_in_eap_is_the_same() -> None:
    attempt = MschapAttempt(b"User", CHALLENGE, PEER_CHALLENGE, NT_RESPONSE, EAP_MSCHAPV2)
    attempt.verify(PASSWORD)
    assert success(attempt, b"x") == PROOF + b" M=x"


def test_no_machine_shows_its_secret() -> None:
    machine = ms_supplicant()
    assert PASSWORD.decode() not in repr(machine) + repr([getattr(machine, name) for name in ("_secret", "_sent")])
