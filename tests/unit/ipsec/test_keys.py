"""Keys derived for tunnels: both ends agree, tunnels differ, nothing is shown."""

import base64
import dataclasses
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.ipsec.keyfile import KeyFile, KeyFileError, parse
from kl2tp.ipsec.keys import SaKeys, cookie, derive, generate, is_left
from kl2tp.model.ciphers import CIPHERS
from kl2tp.model.objects import Secret
from kl2tp.model.spec import Encap, InterfaceSpec, IpsecSpec, SessionSpec, TunnelSpec

KEYS = [f"key {base64.b64encode(bytes(range(n, n + 32))).decode()}" for n in range(4)]
SHARED = parse("f", "\n".join(KEYS[:2]).encode())

ids = st.one_of(st.integers(1, 2**20 - 1), st.integers(1, 2**32 - 1))
addresses = st.one_of(
    st.tuples(st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4)),
    st.tuples(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16)),
)


@st.composite
def tunnels(draw: st.DrawFn) -> TunnelSpec:
    """A tunnel whose ends can be told apart."""
    (local, remote), ours, theirs = draw(addresses), draw(ids), draw(ids)
    udp = draw(st.booleans())
    ports = (draw(st.integers(1, 65535)), draw(st.integers(1, 65535))) if udp else (0, 0)
    side = draw(st.sampled_from(["", "left", "right"]))
    if (local, ports[0], ours) == (remote, ports[1], theirs) and not side:
        side = "left"
    ipsec = IpsecSpec(draw(st.sampled_from(sorted(CIPHERS))), "f", side=side)
    encap = Encap.UDP if udp else Encap.IP
    return TunnelSpec("t", local, remote, ours, theirs, encap, *ports, ipsec=ipsec)


def mirror(tunnel: TunnelSpec) -> TunnelSpec:
    """The same tunnel as its other end declares it."""
    assert tunnel.ipsec is not None
    side = {"left": "right", "right": "left", "": ""}[tunnel.ipsec.side]
    return dataclasses.replace(
        tunnel,
        local=tunnel.remote,
        remote=tunnel.local,
        id=tunnel.peer_id,
        peer_id=tunnel.id,
        local_port=tunnel.remote_port,
        remote_port=tunnel.local_port,
        ipsec=dataclasses.replace(tunnel.ipsec, side=side),
    )


def tunnel(ours: int = 1001, theirs: int = 2001, cipher: str = "aes256gcm16", **ipsec: str) -> TunnelSpec:
    here, there = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
    return TunnelSpec("t", here, there, ours, theirs, ipsec=IpsecSpec(cipher, "f", **ipsec))  # type: ignore[arg-type]


def session(ours: int = 1, theirs: int = 2) -> SessionSpec:
    return SessionSpec("s", ours, theirs, InterfaceSpec("s0"))


def materials(*associations: SaKeys) -> set[bytes]:
    return {sa.encryption.reveal() for sa in associations}


@given(tunnels())
def test_both_ends_derive_mirrored_associations(one: TunnelSpec) -> None:
    here, there = derive(SHARED, one), derive(SHARED, mirror(one))
    assert here.outbound == there.inbound
    assert here.inbound == there.outbound
    assert is_left(one) != is_left(mirror(one))


@given(tunnels())
def test_every_association_has_the_lengths_of_its_cipher_and_a_valid_spi(one: TunnelSpec) -> None:
    assert one.ipsec is not None
    cipher = CIPHERS[one.ipsec.cipher]
    associations = derive(SHARED, one)
    for sa in (*associations.outbound, *associations.inbound):
        assert len(sa.encryption.reveal()) == cipher.key
        assert (sa.integrity is None) == cipher.aead
        assert sa.integrity is None or len(sa.integrity.reveal()) == cipher.integrity_key
        assert 0x1000 <= sa.spi <= 0xFFFFFFFF
    assert len(materials(*associations.outbound, *associations.inbound)) == 4


@given(tunnels(), ids, ids)
def test_both_ends_derive_mirrored_cookies(one: TunnelSpec, ours: int, theirs: int) -> None:
    for length in (4, 8):
        expected, sent = cookie(SHARED, one, session(ours, theirs), length)
        assert cookie(SHARED, mirror(one), session(theirs, ours), length) == (sent, expected)
        assert len(expected) == len(sent) == length


@given(st.sets(st.integers(1, 2**20 - 1), min_size=2, max_size=30))
def test_tunnels_of_one_hub_share_a_file_and_no_spi_and_no_key(tunnel_ids: set[int]) -> None:
    associations = [derive(SHARED, tunnel(tid, tid)) for tid in tunnel_ids]
    for direction in ("inbound", "outbound"):
        sas = [sa for a in associations for sa in getattr(a, direction)]
        assert len({sa.spi for sa in sas}) == len(sas)
    both = [sa for a in associations for sa in (*a.inbound, *a.outbound)]
    assert len(materials(*both)) == len(both)


def test_an_spi_carries_the_receivers_tunnel_id_and_the_keys_generation() -> None:
    associations = derive(SHARED, tunnel(1001, 2001))
    assert associations.outbound[0].spi == SHARED.shared[0].generations[0] << 20 | 2001
    assert associations.inbound[1].spi == SHARED.shared[1].generations[1] << 20 | 1001


def test_tunnels_with_the_same_peer_id_have_different_keys() -> None:
    one, two = derive(SHARED, tunnel(1, 7)), derive(SHARED, tunnel(2, 7))
    assert not materials(*one.outbound) & materials(*two.outbound)


def test_ciphers_of_one_tunnel_share_no_key_material() -> None:
    found = {derive(SHARED, tunnel(cipher=name)).outbound[0].encryption.reveal()[:16] for name in CIPHERS}
    assert len(found) == len(CIPHERS)


def test_derivation_never_changes_between_versions() -> None:
    """Ends of different versions must agree: these values are for ever."""
    associations = derive(SHARED, tunnel())
    assert [sa.spi for sa in associations.outbound] == OUTBOUND_SPIS
    assert associations.outbound[0].encryption.reveal().hex() == OUTBOUND_KEY
    assert [part.hex() for part in cookie(SHARED, tunnel(), session(), 8)] == COOKIES


OUTBOUND_SPIS = [1314916305, 3232761809]
OUTBOUND_KEY = "bdfbc4402b1cd54b47a166ad58899dd446574534ace8d3fbab6234fc7cc6aaa159b6e6a0"
COOKIES = ["5f1c63a40afd678f", "6e05e0fba95f5c88"]


# --- rotation


def accepts(receiver: KeyFile, sender: KeyFile) -> bool:
    """Whether what one end sends is accepted by the other."""
    return derive(sender, tunnel()).outbound[0] in derive(receiver, mirror(tunnel())).inbound


def test_every_step_of_a_rotation_is_accepted_in_both_orders() -> None:
    old, both, swapped, new = (
        parse("f", "\n".join(lines).encode())
        for lines in ([KEYS[0]], [KEYS[0], KEYS[1]], [KEYS[1], KEYS[0]], [KEYS[1]])
    )
    for before, after in ((old, both), (both, swapped), (swapped, new)):
        assert accepts(before, after)
        assert accepts(after, before)
    assert not accepts(old, new)


def test_a_cookie_line_keeps_cookies_through_a_rotation() -> None:
    seed = KEYS[3].replace("key", "cookie")
    old, new = (parse("f", f"{key}\n{seed}".encode()) for key in KEYS[:2])
    assert cookie(old, tunnel(), session(), 8) == cookie(new, tunnel(), session(), 8)
    bare = parse("f", KEYS[0].encode())
    assert cookie(bare, tunnel(), session(), 8) != cookie(old, tunnel(), session(), 8)


def test_cookies_differ_by_direction_session_and_tunnel() -> None:
    one, two, three = (
        cookie(SHARED, tunnel(), session(1, 1), 8),
        cookie(SHARED, tunnel(), session(2, 2), 8),
        cookie(SHARED, tunnel(1002, 2002), session(1, 1), 8),
    )
    assert len({*one, *two, *three}) == 6


# --- sides


def test_the_side_is_that_of_the_smaller_end_unless_given() -> None:
    assert is_left(tunnel())
    assert not is_left(mirror(tunnel()))
    assert not is_left(tunnel(side="right"))


def test_the_address_counts_before_the_port_and_the_port_before_the_id() -> None:
    here = bytes((10, 0, 0, 1))
    assert is_left(TunnelSpec("t", here, here, 9, 1, Encap.UDP, 1701, 1702))
    assert is_left(TunnelSpec("t", here, here, 1, 9, Encap.UDP, 1701, 1701))


def test_ends_that_cannot_be_told_apart_are_refused() -> None:
    here = bytes((10, 0, 0, 1))
    with pytest.raises(ValueError, match="set `side`"):
        is_left(TunnelSpec("t", here, here, 1, 1))


# --- raw keys

AEAD_HEX = bytes(range(36)).hex()
CBC_HEX = bytes(range(32)).hex()


def raw(key: str, auth: str = "") -> KeyFile:
    tail = f" auth {auth}" if auth else ""
    return parse("/k", f"in spi 0x1001 key {key}{tail}\nout spi 0x2001 key {key}{tail}\n".encode())


def test_raw_keys_are_used_as_they_stand() -> None:
    associations = derive(raw(AEAD_HEX), tunnel())
    assert associations.inbound == (SaKeys(0x1001, Secret(bytes(range(36))), None),)
    assert associations.outbound == (SaKeys(0x2001, Secret(bytes(range(36))), None),)
    cbc = derive(raw(CBC_HEX, CBC_HEX), tunnel(cipher="aes256-sha256")).outbound[0]
    assert cbc.encryption.reveal() == bytes(range(32))
    assert cbc.integrity == Secret(bytes(range(32)))


@pytest.mark.parametrize(
    ("keyfile", "cipher", "message"),
    [
        (
            raw(CBC_HEX),
            "aes256gcm16",
            "/k:2: line has `key` of 32 bytes; aes256gcm16 takes 36 bytes, 72 hex digits",
        ),
        (raw(AEAD_HEX, CBC_HEX), "aes256gcm16", "/k:2: line has `auth`, aes256gcm16 takes none"),
        (raw(CBC_HEX), "aes256-sha256", "/k:2: line has no `auth`, aes256-sha256 needs one"),
        (
            raw(CBC_HEX, CBC_HEX),
            "aes256-sha512",
            "/k:2: line has `auth` of 32 bytes; aes256-sha512 takes 64 bytes",
        ),
        (
            raw(CBC_HEX, CBC_HEX),
            "aes128-sha256",
            "/k:2: line has `key` of 32 bytes; aes128-sha256 takes 16 bytes",
        ),
    ],
)
def test_raw_keys_of_the_wrong_length_are_refused(keyfile: KeyFile, cipher: str, message: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        derive(keyfile, tunnel(cipher=cipher))
    assert str(caught.value).startswith(message)
    assert CBC_HEX[:12] not in str(caught.value)


def test_raw_keys_give_no_cookie_without_a_cookie_line() -> None:
    with pytest.raises(KeyFileError, match="append a `cookie` line"):
        cookie(raw(AEAD_HEX), tunnel(), session(), 8)


def test_a_file_with_nothing_but_a_cookie_gives_no_keys() -> None:
    only = parse("/k", KEYS[0].replace("key", "cookie").encode())
    assert len(cookie(only, tunnel(), session(), 4)[0]) == 4
    with pytest.raises(KeyFileError, match="has a `cookie` but no key"):
        derive(only, tunnel())


def test_a_tunnel_without_ipsec_has_no_associations_but_may_have_cookies() -> None:
    clear = dataclasses.replace(tunnel(), ipsec=None)
    with pytest.raises(ValueError, match="has no ipsec"):
        derive(SHARED, clear)
    assert cookie(SHARED, clear, session(), 4) == cookie(SHARED, tunnel(), session(), 4)


def test_equal_spis_of_long_tunnel_ids_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kl2tp.ipsec.keys._hashed_spi", lambda random: 0x1234)
    with pytest.raises(KeyFileError, match="make another key"):
        derive(SHARED, tunnel(2**31, 2**31 + 1))


def test_associations_show_no_secret_and_cannot_be_pickled() -> None:
    associations = derive(parse("f", generate().encode()), tunnel(cipher="aes128-sha384"))
    assert "<secret, 16 bytes>" in repr(associations)
    assert associations.outbound[0].encryption.reveal().hex() not in repr(associations)
    with pytest.raises(TypeError, match="does not leave the process"):
        pickle.dumps(associations)
