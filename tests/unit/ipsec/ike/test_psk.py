"""Files with pre-shared keys."""

import pytest

from kl2tp.access.secretfile import SecretFileError
from kl2tp.ipsec.ike.psk import ANY, parse

GOOD = [
    ("secret", {ANY: b"secret"}),
    ("# a comment\n\nsecret\n", {ANY: b"secret"}),
    ("se#cret", {ANY: b"se#cret"}),
    ("%any secret", {ANY: b"secret"}),
    ("203.0.113.7 one\nbranch.example two\n%any three\r\n",
     {"203.0.113.7": b"one", "branch.example": b"two", ANY: b"three"}),
    ('"with spaces"', {ANY: b"with spaces"}),
    ('10.0.0.1 "with spaces"', {"10.0.0.1": b"with spaces"}),
    ("0x00ff", {ANY: b"\x00\xff"}),
    ("0sc2VjcmV0", {ANY: b"secret"}),
    ('"0x00ff"', {ANY: b"0x00ff"}),
    ("fd00::1\tgeheim", {"fd00::1": b"geheim"}),
    ("schlüssel", {ANY: "schlüssel".encode()}),
]  # fmt: skip
BAD = [
    ("", "no key"),
    ("# nothing\n", "no key"),
    ("one two three", "not understood"),
    ("one\ntwo", "second key for everybody"),
    ("10.0.0.1 a\n10.0.0.1 b", "second key for the same peer"),
    ("0xabc", "cannot be decoded"),
    ("0s***", "cannot be decoded"),
    ('""', "empty key"),
    ("0x", "empty key"),
    ("k" * 600, "more than 512"),
]


@pytest.mark.parametrize(("text", "keys"), GOOD)
def test_keys_by_identity(text: str, keys: dict[str, bytes]) -> None:
    assert {who: key.reveal() for who, key in parse("f", text.encode()).items()} == keys


@pytest.mark.parametrize(("text", "problem"), BAD)
def test_mistakes_are_told_without_the_key(text: str, problem: str) -> None:
    with pytest.raises(SecretFileError, match=problem) as caught:
        parse("f", text.encode())
    words = [word for word in text.split() if len(word) > 3 and word not in ("nothing",)]
    assert not any(word in str(caught.value) for word in words if word != "three")


def test_what_is_not_text_is_refused() -> None:
    with pytest.raises(SecretFileError, match="f:2: line is not UTF-8"):
        parse("f", b"# x\n\xff\xfe\n")
