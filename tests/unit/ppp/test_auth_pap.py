"""PAP, packet by packet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.model.objects import Secret
from kl2tp.ppp.auth.pap import PapAuthenticator, PapSupplicant

REQUEST = bytes.fromhex("0105000f05616c6963650468757368")
"""alice, hush."""
ANSWER = bytes.fromhex("0009046f6b2121")
"""Length and message: ok!!"""


def supplicant(secret: bytes = b"hush") -> PapSupplicant:
    return PapSupplicant("alice", Secret(secret), 3, 2.0)


def test_the_supplicant_says_name_and_password() -> None:
    machine = supplicant()
    machine.start(0.0)
    assert machine.take_frames() == [bytes([1, 1]) + REQUEST[2:]]
    assert machine.take_frames() == ()


def test_each_repetition_has_an_identifier_of_its_own_and_then_it_gives_up() -> None:
    machine = supplicant()
    machine.start(0.0)
    machine.handle_timer(1.9)
    for now in (2.0, 4.0, 6.0):
        machine.handle_timer(now)
    assert [frame[1] for frame in machine.take_frames()] == [1, 2, 3]
    assert machine.result is False
    assert machine.reason == "the peer did not answer our password"
    assert machine.deadline is None


@pytest.mark.parametrize("identifier", [1, 2])
def test_any_of_its_requests_may_be_answered(identifier: int) -> None:
    machine = supplicant()
    machine.start(0.0)
    machine.handle_timer(2.0)
    machine.receive(bytes([2, identifier, 0, 5, 0]), 3.0)
    assert machine.result is True
    assert machine.deadline is None


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"\3\1\0\x0b\x06wrong\n", "the peer refused our password: wrong\\n"),
        (b"\3\1\0\5\0", "the peer refused our password"),
        (b"\3\1\0\4", "the peer refused our password"),
    ],
)
def test_a_refusal_is_shown(packet: bytes, reason: str) -> None:
    machine = supplicant()
    machine.start(0.0)
    machine.receive(packet, 1.0)
    assert (machine.result, machine.reason) == (False, reason)
    machine.receive(b"\2\1\0\5\0", 2.0)
    assert machine.result is False


NO_ANSWERS = (
    *(b"", b"\2", b"\2\1\0\3", b"\2\1\0\5\1", b"\2\0\0\5\0", b"\2\2\0\5\0", b"\4\1\0\5\0"),
    b"\1\1\0\5\0",
)


@pytest.mark.parametrize("packet", NO_ANSWERS)
def test_what_is_no_answer_changes_nothing(packet: bytes) -> None:
    machine = supplicant()
    machine.start(0.0)
    machine.take_frames()
    machine.receive(packet, 1.0)
    assert machine.result is None
    assert machine.take_frames() == ()


def test_a_secret_that_does_not_fit_is_refused_at_once_and_not_shown() -> None:
    with pytest.raises(ValueError, match=r"^a name or secret of 256 bytes is longer than PPP can say \(255\)$"):
        supplicant(b"x" * 256)


def test_the_authenticator_waits_so_long() -> None:
    machine = PapAuthenticator(3, 2.0)
    machine.start(0.0)
    assert machine.deadline == 6.0
    machine.handle_timer(6.0)
    assert machine.result is False
    assert machine.take_frames() == ()


@pytest.mark.parametrize("ok", [True, False])
def test_a_repeated_request_gets_the_same_answer_under_its_own_identifier(ok: bool) -> None:
    machine = PapAuthenticator()
    machine.start(0.0)
    machine.receive(REQUEST, 1.0)
    assert machine.identity == "alice"
    attempt = machine.attempt
    assert attempt is not None
    assert attempt.verify(b"hush")
    assert machine.deadline is None
    machine.receive(bytes([1, 6]) + REQUEST[2:], 2.0)
    assert machine.attempt is attempt, "what waits for a verdict is not disturbed"
    assert machine.take_frames() == ()
    machine.verdict(ok, "ok!!", 3.0)
    machine.receive(bytes([1, 7]) + REQUEST[2:], 4.0)
    code = 2 if ok else 3
    assert machine.take_frames() == [bytes([code, 6]) + ANSWER, bytes([code, 7]) + ANSWER]
    assert machine.result is ok
    assert machine.attempt is None


@pytest.mark.parametrize("cut", range(len(REQUEST)))
def test_a_request_that_is_cut_short_is_none(cut: int) -> None:
    machine = PapAuthenticator()
    machine.start(0.0)
    for packet in (REQUEST[:cut], REQUEST[:2] + bytes([0, cut]) + REQUEST[4:]):
        machine.receive(packet, 1.0)
    assert machine.attempt is None


def test_a_verdict_that_nobody_waits_for_is_nothing() -> None:
    machine = PapAuthenticator()
    machine.verdict(True, "", 0.0)
    assert machine.result is None


@given(message=st.text(max_size=400))
def test_messages_of_any_kind_can_be_sent(message: str) -> None:
    machine = PapAuthenticator()
    machine.receive(REQUEST, 1.0)
    machine.verdict(False, message, 1.0)
    (frame,) = machine.take_frames()
    assert len(frame) == 5 + frame[4] <= 205
    frame[5:].decode()
    other = supplicant()
    other._identifier = 5
    other.receive(frame, 1.0)
    assert other.reason.isprintable()
