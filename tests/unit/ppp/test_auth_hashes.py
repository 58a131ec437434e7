"""What the methods compute, against the vectors of the RFCs."""

import hashlib

import pytest

from kl2tp.ppp.auth import hashes
from kl2tp.ppp.auth.attempt import Attempt, ChapAttempt, MschapAttempt, PapAttempt
from unit.ppp.rfc2759 import CHALLENGE, HASH, HASH_HASH, MIXED, NAME, NT_RESPONSE, PASSWORD, PEER_CHALLENGE, PROOF


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"", "31d6cfe0d16ae931b73c59d7e0c089c0"),
        (b"abc", "a448017aaf21d8525fc10ae87aa6729d"),
        (b"abcdefghijklmnopqrstuvwxyz", "d79e1c308aa5bbcdeea8ed63df412da9"),
        (b"1234567890" * 8, "e33b4ddc9c38f2199c3e7b164fcc0536"),
    ],
)
def test_md4_rfc_1320(data: bytes, digest: str) -> None:
    assert hashes._md4(data).hex() == digest


def test_mschapv2_rfc_2759() -> None:
    assert hashes.password_hash(PASSWORD) == HASH
    assert hashes._md4(HASH) == HASH_HASH
    assert hashes.challenge_hash(PEER_CHALLENGE, CHALLENGE, NAME) == MIXED
    assert hashes.nt_response(HASH, MIXED) == NT_RESPONSE
    assert hashes.authenticator_response(HASH, NT_RESPONSE, MIXED) == PROOF


@pytest.mark.parametrize("name", [b"BIGCO\\User", b"\\User", b"a\\b\\User"])
def test_a_domain_is_no_part_of_the_hash(name: bytes) -> None:
    assert hashes.challenge_hash(PEER_CHALLENGE, CHALLENGE, name) == MIXED


def test_a_realm_is() -> None:
    assert hashes.challenge_hash(PEER_CHALLENGE, CHALLENGE, b"User@example.net") != MIXED


def test_des_keys_are_seven_bits_a_byte() -> None:
    # RFC 2759 9.3: the first of the three keys of this password's hash
    key = hashes._des_key(bytes.fromhex("FC156AF7EDCD6C"))
    assert bytes(byte | (byte.bit_count() + 1) % 2 for byte in key).hex() == "fd0b5b5e7f6e34d9"


def test_passwords_are_unicode() -> None:
    assert hashes.password_hash("pässwörd€".encode()) == hashes._md4("pässwörd€".encode("utf-16-le"))
    assert hashes.password_hash(b"p\xe4ss") == hashes._md4("päss".encode("utf-16-le"))
    assert hashes.password_hash("\U0001f511".encode()) == hashes._md4(b"\x3d\xd8\x11\xdd")


def test_of_a_password_256_characters_count() -> None:
    assert hashes.password_hash(b"x" * 300) == hashes.password_hash(b"x" * 256)


def test_chap_rfc_1994() -> None:
    assert hashes.chap_response(7, b"secret", b"challenge") == hashlib.md5(b"\x07secretchallenge").digest()


ATTEMPTS = (
    PapAttempt(NAME, PASSWORD),
    ChapAttempt(NAME, 9, CHALLENGE, hashes.chap_response(9, PASSWORD, CHALLENGE)),
    MschapAttempt(b"BIGCO\\User", CHALLENGE, PEER_CHALLENGE, NT_RESPONSE),
)


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=repr)
def test_an_attempt_is_right_with_the_right_secret_only(attempt: Attempt) -> None:
    assert attempt.verify(PASSWORD)
    for wrong in (b"", b"clientpass", PASSWORD + b"x", b"x" * 300):
        assert not attempt.verify(wrong)
    assert attempt.verify(PASSWORD)


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=repr)
def test_nobodys_secret_is_never_right(attempt: Attempt) -> None:
    assert not attempt.verify(None)


def test_not_even_for_somebody_who_guesses_what_stands_for_it() -> None:
    assert not PapAttempt(NAME, b"a secret that nobody has").verify(None)


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=repr)
def test_an_attempt_shows_the_name_and_nothing_else(attempt: Attempt) -> None:
    assert "User" in repr(attempt)
    for what in (PASSWORD.decode(), NT_RESPONSE.hex(), repr(NT_RESPONSE)):
        assert what not in repr(attempt) + str(attempt)


def test_only_a_right_response_gets_a_proof() -> None:
    attempt = MschapAttempt(NAME, CHALLENGE, PEER_CHALLENGE, NT_RESPONSE)
    attempt.verify(PASSWORD)
    assert attempt.proof == PROOF
    attempt.verify(b"wrong")
    assert attempt.proof == b""
    attempt.verify(None)
    assert attempt.proof == b""


@pytest.mark.parametrize(
    ("name", "identity"),
    [(b"alice", "alice"), ("é".encode(), "é"), (b"\xff\n\x1b[0m", "\\xff\\n\\x1b[0m"), (b"", "")],
)
def test_an_identity_is_fit_to_be_shown(name: bytes, identity: str) -> None:
    assert PapAttempt(name, b"").identity == identity
