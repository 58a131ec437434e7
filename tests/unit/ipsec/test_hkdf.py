"""HKDF against the vectors of RFC 5869, appendix A."""

import hmac

import pytest

from kl2tp.ipsec.hkdf import expand, extract

# (salt, input key material, info, pseudorandom key, output), RFC 5869 A.1 to A.3, in hex.
VECTORS = {
    "A.1": (
        "000102030405060708090a0b0c",
        "0b" * 22,
        "f0f1f2f3f4f5f6f7f8f9",
        "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    "A.2": (
        "".join(f"{byte:02x}" for byte in range(0x60, 0xB0)),
        "".join(f"{byte:02x}" for byte in range(0x50)),
        "".join(f"{byte:02x}" for byte in range(0xB0, 0x100)),
        "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
        "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
        "cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    "A.3": (
        "",
        "0b" * 22,
        "",
        "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_rfc_5869_vectors(name: str) -> None:
    salt, material, info, pseudorandom_key, output = (bytes.fromhex(part) for part in VECTORS[name])
    assert extract(salt, material) == pseudorandom_key
    assert expand(pseudorandom_key, info, len(output)) == output


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 64, 8160])
def test_a_shorter_output_is_a_prefix_of_a_longer_one(length: int) -> None:
    output = expand(bytes(32), b"info", length)
    assert len(output) == length
    assert expand(bytes(32), b"info", 8160).startswith(output)


def test_more_than_255_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="8160"):
        expand(bytes(32), b"", 8161)


@pytest.mark.parametrize("length", [0, 1, 32, 64, 65, 200])
def test_a_key_of_any_length_is_used_as_hmac_does(length: int) -> None:
    key = bytes(range(length))
    assert expand(key, b"info", 32) == hmac.digest(key, b"info\x01", "sha256")
