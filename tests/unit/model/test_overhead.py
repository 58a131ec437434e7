"""Overhead, MTU and MSS: figures worked out by hand, and what must hold for every combination of layers."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.model.algorithms import ALGORITHMS, esp_ciphers
from kl2tp.model.ciphers import CIPHERS, Cipher
from kl2tp.model.ike import IkeSpec
from kl2tp.model.overhead import Layer, Stack, for_session, mss4, mss6, overhead, with_ike
from kl2tp.model.spec import (
    CookieSpec,
    Encap,
    InterfaceSpec,
    IpsecSpec,
    L2Spec,
    Mode,
    SessionSpec,
    TunnelSpec,
)

GCM, CHACHA = CIPHERS["aes256gcm16"], CIPHERS["chacha20poly1305"]
CBC256, CBC512 = CIPHERS["aes128-sha256"], CIPHERS["aes256-sha512"]
UDP, IP = Encap.UDP, Encap.IP
NONE = L2Spec.NONE
TUNNEL = Mode.TUNNEL

PROTECTIONS: list[tuple[Cipher | None, Mode, bool]] = [
    (None, Mode.TRANSPORT, False),
    *itertools.product(CIPHERS.values(), Mode, (False, True)),
]
"""(cipher, mode, NAT traversal)."""
EVERY_STACK = [
    *(
        Stack(
            version=3,
            encap=encap,
            ipv6=v6,
            cookie=cookie,
            l2spec=l2spec,
            sequencing=sequencing,
            cipher=cipher,
            mode=mode,
            nat_traversal=nat,
        )
        for encap, v6, cookie, (l2spec, sequencing), (cipher, mode, nat) in itertools.product(
            Encap,
            (False, True),
            (0, 4, 8),
            ((NONE, False), (L2Spec.DEFAULT, False), (L2Spec.DEFAULT, True)),
            PROTECTIONS,
        )
    ),
    *(
        Stack(
            version=2,
            ipv6=v6,
            sequencing=sequencing,
            length_field=length,
            cipher=cipher,
            mode=mode,
            nat_traversal=nat,
        )
        for v6, sequencing, length, (cipher, mode, nat) in itertools.product(
            (False, True), (False, True), (False, True), PROTECTIONS
        )
    ),
]
stacks = st.sampled_from(EVERY_STACK)


def test_there_are_as_many_combinations_as_it_takes() -> None:
    protections = 1 + 9 * 2 * 2
    assert len(CIPHERS) == 9
    assert len(EVERY_STACK) == 2 * 2 * 3 * 3 * protections + 2 * 2 * 2 * protections


BY_HAND: list[tuple[Stack, int, int]] = [
    # stack, path MTU, MTU
    (Stack(version=2), 1500, 1500 - 20 - 8 - 6 - 4),
    (Stack(version=2, sequencing=True), 1500, 1500 - 20 - 8 - 10 - 4),
    (Stack(version=2, length_field=True), 1500, 1500 - 20 - 8 - 8 - 4),
    (Stack(version=2, ipv6=True), 1500, 1500 - 40 - 8 - 6 - 4),
    (Stack(), 1500, 1446),  # what Linux gives the device
    (Stack(l2spec=NONE), 1500, 1450),
    (Stack(encap=IP), 1500, 1500 - 20 - 4 - 4 - 14),
    (Stack(encap=IP, l2spec=NONE, cookie=8), 1500, 1500 - 20 - 4 - 8 - 14),
    (Stack(cookie=4, ipv6=True, sequencing=True), 1492, 1492 - 40 - 8 - 8 - 4 - 4 - 14),
    # ESP in transport mode: 1500 - 20 - 8 - 8 - 16 is 1448, a multiple of 4; less 2, less 8 + 6 + 4.
    (Stack(version=2, cipher=GCM), 1500, 1428),
    # With ESP in UDP 8 less, and 16-byte blocks: 1500 - 20 - 8 - 8 - 16 - 16 is 1432, cut to 1424.
    (Stack(version=2, cipher=CBC256, nat_traversal=True), 1500, 1404),
    # 1500 - 40 - 8 - 8 - 8 - 16 is 1420; less 2, less the header of tunnel mode, less 4 + 8 + 4 + 14.
    (Stack(encap=IP, ipv6=True, cookie=8, cipher=CHACHA, mode=TUNNEL, nat_traversal=True), 1500, 1348),
    # 1500 - 20 - 8 - 16 - 32 is 1424, a multiple of 16; less 2, 20, and 8 + 8 + 14.
    (Stack(l2spec=NONE, cipher=CBC512, mode=TUNNEL), 1500, 1372),
    (Stack(l2spec=NONE, cipher=CBC512, mode=TUNNEL), 1499, 1356),
    (Stack(cipher=GCM), 9000, 9000 - 20 - 8 - 8 - 16 - 2 - 8 - 12 - 14),
]


@pytest.mark.parametrize(("stack", "path_mtu", "mtu"), BY_HAND)
def test_mtu_is_what_one_finds_with_pencil_and_paper(stack: Stack, path_mtu: int, mtu: int) -> None:
    assert stack.mtu(path_mtu) == mtu


@pytest.mark.parametrize("path_mtu", [1280, 1420, 1492, 1500, 9000, 65535])
def test_the_mtu_fits_the_path_and_one_byte_more_does_not(path_mtu: int) -> None:
    for stack in EVERY_STACK:
        mtu = stack.mtu(path_mtu)
        assert stack.outer_length(mtu) <= path_mtu < stack.outer_length(mtu + 1)


@given(stacks, st.integers(1280, 65535))
def test_the_mtu_is_exact_for_any_path(stack: Stack, path_mtu: int) -> None:
    mtu = stack.mtu(path_mtu)
    assert stack.outer_length(mtu) <= path_mtu < stack.outer_length(mtu + 1)


@given(stacks, st.integers(0, 65535))
def test_the_layers_add_up_to_the_outer_length(stack: Stack, inner: int) -> None:
    layers = stack.layers(inner)
    assert sum(layer.bytes for layer in layers) == stack.outer_length(inner)
    assert all(layer.bytes >= 0 for layer in layers)


@given(stacks, st.integers(0, 65535))
def test_esp_pads_to_its_alignment_and_no_further(stack: Stack, inner: int) -> None:
    padding = [layer.bytes for layer in stack.layers(inner) if layer.name == "ESP padding"]
    assert len(padding) == (stack.cipher is not None)
    if stack.cipher:
        alignment = max(4, stack.cipher.block)
        fixed = stack.outer_length(inner) - stack.ip_header - 8 * stack.nat_traversal - 8
        assert padding[0] < alignment
        assert (fixed - stack.cipher.iv - stack.cipher.icv) % alignment == 0


def test_layers_are_named_in_the_order_of_the_wire() -> None:
    stack = Stack(cookie=8, cipher=GCM, mode=TUNNEL, nat_traversal=True, ipv6=True)
    assert [(layer.name, layer.bytes) for layer in stack.layers(101)] == [
        ("IPv6", 40),
        ("UDP", 8),
        ("ESP", 8),
        ("ESP IV", 8),
        ("IPv6", 40),
        ("UDP", 8),
        ("L2TPv3", 8),
        ("L2TP cookie", 8),
        ("L2 sublayer", 4),
        ("Ethernet", 14),
        ("payload", 101),
        ("ESP padding", 3),
        ("ESP trailer", 2),
        ("ESP ICV", 16),
    ]


def test_layers_of_version_2_carry_ppp() -> None:
    stack = Stack(version=2, sequencing=True, length_field=True)
    assert [(layer.name, layer.bytes) for layer in stack.layers(100)] == [
        ("IPv4", 20),
        ("UDP", 8),
        ("L2TPv2", 6),
        ("L2TP length", 2),
        ("L2TP sequence", 4),
        ("PPP", 4),
        ("payload", 100),
    ]


def test_sequence_numbers_take_no_room_of_their_own_in_version_3() -> None:
    assert Stack(sequencing=True).outer_length(100) == Stack().outer_length(100)
    assert Layer("L2 sublayer", 4, "sequence number") in Stack(sequencing=True).layers(100)


# Each needs mending of one setting; the error says which.
CONFLICTS: dict[str, tuple[dict[str, object], str]] = {
    "version": ({"version": 4}, "no L2TP version 4"),
    "cookie": ({"cookie": 5}, "4 or 8 bytes"),
    "v2 over ip": ({"version": 2, "encap": IP}, "UDP only"),
    "v2 cookie": ({"version": 2, "cookie": 8}, "no cookies"),
    "v3 length": ({"length_field": True}, "no length field"),
    "sequence without sublayer": ({"l2spec": NONE, "sequencing": True}, "cannot be none"),
    "nat without cipher": ({"nat_traversal": True}, "needs a cipher"),
    "tunnel mode without cipher": ({"mode": TUNNEL}, "needs a cipher"),
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_what_cannot_be_combined_is_refused_with_the_reason(name: str) -> None:
    settings, words = CONFLICTS[name]
    with pytest.raises(ValueError, match=words):
        Stack(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("ipv6", "least"), [(False, 68), (True, 1280)])
def test_a_path_mtu_below_what_ip_guarantees_is_refused(ipv6: bool, least: int) -> None:
    with pytest.raises(ValueError, match=f"below the {least} that IPv"):
        Stack(ipv6=ipv6, encap=IP).mtu(least - 1)


def test_a_path_mtu_in_which_nothing_fits_is_refused() -> None:
    stack = Stack(cipher=CBC512, mode=TUNNEL)
    with pytest.raises(ValueError, match="too small"):
        stack.mtu(150)
    assert stack.mtu(220) >= 68


def test_the_smallest_ipv6_path_carries_every_stack() -> None:
    assert min(stack.mtu(1280) for stack in EVERY_STACK) > 1000


def test_mss_is_the_mtu_less_ip_and_tcp_headers() -> None:
    assert (mss4(1500), mss6(1500)) == (1460, 1440)
    assert mss6(1280) == 1220
    assert mss6(1279) == 0, "IPv6 does not run over such a link"


def session(**settings: object) -> SessionSpec:
    return SessionSpec("s", 1, 1, InterfaceSpec("s0"), **settings)  # type: ignore[arg-type]


def tunnel(v6: bool = False, **settings: object) -> TunnelSpec:
    size = 16 if v6 else 4
    return TunnelSpec("t", bytes(size), b"\1" * size, 1, 1, **settings)  # type: ignore[arg-type]


def test_a_session_takes_its_layers_from_tunnel_ipsec_and_session() -> None:
    ipsec = IpsecSpec("aes128-sha384", "f", Mode.TUNNEL, nat_local_port=4500, nat_remote_port=4500)
    found = for_session(
        tunnel(True, encap=UDP, local_port=1701, remote_port=1701, path_mtu=1492, ipsec=ipsec),
        session(cookie=CookieSpec(8), send_sequence=True),
    )
    assert found.stack == Stack(
        encap=UDP,
        ipv6=True,
        cookie=8,
        sequencing=True,
        cipher=CIPHERS["aes128-sha384"],
        mode=TUNNEL,
        nat_traversal=True,
    )
    assert found.mtu == found.stack.mtu(1492)
    assert (found.mss4, found.mss6) == (found.mtu - 40, found.mtu - 60)
    assert sum(layer.bytes for layer in found.layers) <= 1492


@pytest.mark.parametrize(
    ("cookie", "sent"),
    [
        (CookieSpec(0, b"", b""), 0),
        (CookieSpec(4), 4),
        (CookieSpec(8, b"12345678", b"1234"), 4),
        (CookieSpec(8, b"12345678", b""), 0),
    ],
)
def test_the_cookie_that_counts_is_the_one_we_send(cookie: CookieSpec, sent: int) -> None:
    assert for_session(tunnel(), session(cookie=cookie)).stack.cookie == sent


def test_a_plain_session_has_the_overhead_of_l2tp_alone() -> None:
    found = for_session(tunnel(), session(l2spec=NONE))
    assert (found.mtu, found.stack) == (1462, Stack(encap=IP, l2spec=NONE))


def test_equal_sessions_share_one_value() -> None:
    assert for_session(tunnel(), session()) is for_session(tunnel(), session())
    assert overhead(Stack(), 1500) == dataclasses.replace(overhead(Stack(), 1500))


# What IKE negotiates


def test_with_ike_the_layers_are_those_that_leave_the_least_room() -> None:
    ike = IkeSpec(esp_proposals=("aes256gcm16", "aes256-sha512", "aes128-sha256"), mode=Mode.TUNNEL)
    found = for_session(tunnel(encap=UDP, ike=ike), session())
    assert found.stack == Stack(encap=UDP, cipher=CIPHERS["aes256-sha512"], mode=TUNNEL, nat_traversal=True)
    for name in ("aes256gcm16", "aes256-sha512", "aes128-sha256"):
        for nat in (False, True):
            assert Stack(encap=UDP, cipher=CIPHERS[name], mode=TUNNEL, nat_traversal=nat).mtu(1500) >= found.mtu


@pytest.mark.parametrize("path_mtu", range(1400, 1432))
def test_which_cipher_is_the_worst_depends_on_the_path(path_mtu: int) -> None:
    """Blocks of 16 bytes waste up to 15, so that a shorter ICV may come to cost more."""
    ike = IkeSpec(esp_proposals=("aes256-sha1", "aes256ctr-sha512"))
    worst = with_ike(Stack(version=2), ike, path_mtu)
    rooms = [
        dataclasses.replace(worst, cipher=cipher).mtu(path_mtu)
        for cipher in esp_ciphers(("aes256-sha1", "aes256ctr-sha512"))
    ]
    assert worst.mtu(path_mtu) == min(rooms)


def test_without_ike_nothing_changes() -> None:
    stack = Stack(version=2)
    assert with_ike(stack, None, 1500) is stack


@pytest.mark.parametrize(
    ("proposals", "names"),
    [
        (("aes256gcm16",), ["aes256gcm16"]),
        (("aes256gcm16-aes128gcm16-ecp256-esn",), ["aes256gcm16", "aes128gcm16"]),
        (("aes256-aes128-sha256-sha1",), ["aes256-sha256", "aes256-sha1", "aes128-sha256", "aes128-sha1"]),
        (("aes256-sha256", "aes256-sha256-modp2048"), ["aes256-sha256"]),
    ],
)
def test_every_transform_of_the_proposals_is_reckoned_with(proposals: tuple[str, ...], names: list[str]) -> None:
    assert [cipher.name for cipher in esp_ciphers(proposals)] == names


@pytest.mark.parametrize("name", list(CIPHERS))
def test_ciphers_for_static_keys_cost_the_same_with_ike(name: str) -> None:
    """The lengths of the two tables agree."""
    (cipher,) = esp_ciphers((name,))
    assert cipher is CIPHERS[name]
    encryption, *integrity = (ALGORITHMS[word] for word in name.split("-"))
    icv = integrity[0].icv if integrity else encryption.icv
    assert (encryption.iv, encryption.block, icv) == (cipher.iv, cipher.block, cipher.icv)
