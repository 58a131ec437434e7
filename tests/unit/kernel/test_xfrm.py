"""XFRM messages: the kernel's own structures byte for byte, and every object there and back."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import given

from kl2tp.kernel import xfrm
from kl2tp.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, attr, attributes
from kl2tp.model import addr
from kl2tp.model.objects import Direction, Policy, Sa, Secret, Selector, Template
from kl2tp.model.spec import Mode
from unit.kernel import objects

# What a C compiler makes of the structures in linux/xfrm.h (little endian).
VECTORS = {
    "POLICY_OUT": bytes.fromhex(
        "cb007107000000000000000000000000c000020100000000000000000000000006a6ffff06a5ffff0200202011000000"
        "0000000000000000ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff0000000000000000"
        "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000e8030000000000000100000000000000"
    ),
    "TMPL_TRANSPORT": bytes.fromhex(
        "000000000000000000000000000000000000100132000000020000000000000000000000000000000000000010000000"
        "00000000ffffffffffffffffffffffff"
    ),
    "TMPL_TUNNEL6": bytes.fromhex(
        "20010db800000000000000000000000200000000320000000a00000020010db800000000000000000000000111000000"
        "01000000ffffffffffffffffffffffff"
    ),
    "POLICY_BLOCK6": bytes.fromhex(
        "0000000000000000000000000000000020010db800000000000000000000000200000000000000000a00008073000000"
        "0000000000000000ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff0000000000000000"
        "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000d0070000000000000001000000000000"
    ),
    "POLICY_ID": bytes.fromhex(
        "cb007107000000000000000000000000c000020100000000000000000000000006a6ffff06a5ffff0200202011000000"
        "00000000000000000000000001000000"
    ),
    "SA": bytes.fromhex(
        "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000cb0071070000000000000000000000000000100132000000c0000201000000000000000000000000"
        "ffffffffffffffffffffffffffffffff000000c000000000ffffffffffffffff00000000000000000000000000000000"
        "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000010000000020000200000000000000000"
    ),
    "SA_ESN6": bytes.fromhex(
        "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "000000000000000020010db8000000000000000000000002ffffffff3200000020010db8000000000000000000000001"
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff00000000000000000000000000000000"
        "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "00000000000000000000000000000000110000000a0001008000000000000000"
    ),
    "SA_ID": bytes.fromhex("cb0071070000000000000000000000000000100102003200"),
    "ALG_AEAD": bytes.fromhex(
        "726663343130362867636d28616573292900000000000000000000000000000000000000000000000000000000000000"
        "000000000000000000000000000000002001000080000000000102030405060708090a0b0c0d0e0f1011121314151617"
        "18191a1b1c1d1e1f20212223"
    ),
    "ALG_CRYPT": bytes.fromhex(
        "636263286165732900000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000080000000000102030405060708090a0b0c0d0e0f"
    ),
    "ALG_AUTH_TRUNC": bytes.fromhex(
        "686d61632873686132353629000000000000000000000000000000000000000000000000000000000000000000000000"
        "000000000000000000000000000000000001000080000000000102030405060708090a0b0c0d0e0f1011121314151617"
        "18191a1b1c1d1e1f"
    ),
    "ENCAP": bytes.fromhex("020011941195000000000000000000000000000000000000"),
    "ESN": bytes.fromhex("04000000000000000000000000000000000000008000000000000000000000000000000000000000"),
    "MARK": bytes.fromhex("2a000000ff000000"),
    "OFFLOAD": bytes.fromhex("0700000003000000"),
}
HERE, THERE = addr.parse("192.0.2.1"), addr.parse("203.0.113.7")
HERE6, THERE6 = addr.parse("2001:db8::1"), addr.parse("2001:db8::2")
OUT = Selector(HERE, 32, THERE, 32, 17, 1701, 1702)
KEY36, KEY32, KEY16 = (Secret(bytes(range(size))) for size in (36, 32, 16))

TRANSPORT = Policy("", Direction.OUT, OUT, 1000, Template(0x10, Mode.TRANSPORT, spi=0x1001), (0x2A, 0xFF))
BLOCK6 = Policy("", Direction.IN, Selector(THERE6, 128, bytes(16), 0, 115), 2000, None)
GCM = Sa("", HERE, THERE, 0x1001, Mode.TRANSPORT, 0x10, "rfc4106(gcm(aes))", KEY36, replay_window=32)
CBC6 = Sa(
    "",
    HERE6,
    THERE6,
    0xFFFFFFFF,
    Mode.TUNNEL,
    0x11,
    "cbc(aes)",
    KEY16,
    False,
    16,
    "hmac(sha256)",
    KEY32,
    128,
    True,
    4500,
    4501,
    offload_device="dev7",
)


def vectors(*names: str) -> bytes:
    """A structure, and attributes as TYPE:NAME after it."""
    parts = []
    for name in names:
        kind, _, vector = name.rpartition(":")
        parts.append(attr(int(kind), VECTORS[vector]) if kind else VECTORS[vector])
    return b"".join(parts)


# -- byte for byte ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (xfrm.policy_set(TRANSPORT, objects.index).payload, vectors("POLICY_OUT", "5:TMPL_TRANSPORT", "21:MARK")),
        (xfrm.policy_set(BLOCK6, objects.index).payload, vectors("POLICY_BLOCK6")),
        (xfrm.policy_get(TRANSPORT).payload, vectors("POLICY_ID", "21:MARK")),
        (xfrm.policy_delete(TRANSPORT).payload, vectors("POLICY_ID", "21:MARK")),
        (xfrm.sa_add(GCM, objects.index).payload, vectors("SA", "18:ALG_AEAD")),
        (
            xfrm.sa_add(CBC6, objects.index).payload,
            vectors("SA_ESN6", "2:ALG_CRYPT", "20:ALG_AUTH_TRUNC", "23:ESN", "4:ENCAP", "28:OFFLOAD"),
        ),
        (xfrm.sa_get(GCM).payload, vectors("SA_ID")),
        (xfrm.sa_delete(GCM).payload, vectors("SA_ID")),
    ],
    ids=["policy", "block", "policy-get", "policy-delete", "sa", "sa-esn", "sa-get", "sa-delete"],
)
def test_messages_are_the_structures_of_the_kernel(payload: bytes, expected: bytes) -> None:
    assert payload == expected


def test_templates_of_tunnel_mode_name_the_outer_ends() -> None:
    policy = Policy("", Direction.IN, BLOCK6.selector, 1, Template(0x11, Mode.TUNNEL, HERE6, THERE6))
    found = attributes(xfrm.policy_set(policy, objects.index).payload, 168)
    assert found[5] == VECTORS["TMPL_TUNNEL6"]


def test_types_and_flags_of_requests() -> None:
    new = NLM_F_CREATE | NLM_F_EXCL
    assert xfrm.policy_set(BLOCK6, objects.index, replace=False)[:2] == (0x13, new)
    assert xfrm.policy_set(BLOCK6, objects.index)[:2] == (0x19, 0)
    assert xfrm.sa_add(GCM, objects.index)[:2] == (0x10, new)
    kinds = [make(GCM).type for make in (xfrm.sa_delete, xfrm.sa_get)]
    kinds += [make(BLOCK6).type for make in (xfrm.policy_delete, xfrm.policy_get)]
    assert kinds == [0x11, 0x12, 0x14, 0x15]


# -- there and back --------------------------------------------------------------------------------------------------


@given(objects.policies())
def test_a_policy_is_read_as_it_was_set(policy: Policy) -> None:
    assert xfrm.decode_policy("", xfrm.policy_set(policy, objects.index).payload, objects.name) == policy


@given(objects.policies())
def test_a_policy_at_an_offset_is_the_same(policy: Policy) -> None:
    payload = b"12345678" + xfrm.policy_set(policy, objects.index).payload
    assert xfrm.decode_policy("", payload, objects.name, 8) == policy


@given(objects.policies())
def test_the_event_of_a_deletion_names_the_policy(policy: Policy) -> None:
    payload = xfrm.policy_set(policy, objects.index).payload
    event = xfrm.policy_get(policy).payload[:64] + attr(7, payload[:168]) + payload[168:]
    assert xfrm.decode_deleted_policy("", event, objects.name) == policy


@given(objects.sas())
def test_an_association_is_read_as_it_was_added(sa: Sa) -> None:
    assert xfrm.decode_sa("", xfrm.sa_add(sa, objects.index).payload, objects.name) == sa


@given(objects.sas())
def test_the_event_of_a_deletion_names_the_association(sa: Sa) -> None:
    payload = xfrm.sa_add(sa, objects.index).payload
    event = xfrm.sa_get(sa).payload[:24] + attr(1, b"x") + attr(6, payload[:224]) + payload[224:]
    assert xfrm.decode_deleted_sa("", event, objects.name) == sa


def test_per_socket_policies_are_none_of_ours() -> None:
    payload = bytearray(xfrm.policy_set(BLOCK6, objects.index).payload)
    payload[160] = 3
    assert xfrm.decode_policy("", bytes(payload), objects.name) is None


def test_a_policy_that_lets_clear_packets_pass_is_no_block() -> None:
    payload = bytearray(xfrm.policy_set(BLOCK6, objects.index).payload)
    payload[161] = 0
    found = xfrm.decode_policy("", bytes(payload), objects.name)
    assert found
    assert found.template == Template(0, Mode.TRANSPORT)
    assert found != BLOCK6


@pytest.mark.parametrize(("offset", "value"), [(76, 51), (76, 0)], ids=["ah", "larval"])
def test_what_is_no_esp_is_no_association_of_ours(offset: int, value: int) -> None:
    payload = bytearray(xfrm.sa_add(GCM, objects.index).payload)
    payload[offset] = value
    assert xfrm.decode_sa("", bytes(payload), objects.name) is None


def test_an_association_without_keys_is_none() -> None:
    assert xfrm.decode_sa("", xfrm.sa_add(GCM, objects.index).payload[:224], objects.name) is None


# -- counters, wear, events ------------------------------------------------------------------------------------------


def _counted(sa: Sa, packets: int) -> bytes:
    payload = xfrm.sa_add(sa, objects.index).payload
    return (
        payload[:160] + struct.pack("=QQ", 7, packets) + payload[176:192] + struct.pack("=III", 1, 2, 3) + payload[204:]
    )


def test_counters_of_an_association() -> None:
    expected = {"bytes": 7, "packets": 9, "replay_window": 1, "replay": 2, "integrity_failed": 3}
    assert xfrm.sa_counters(_counted(GCM, 9)) == expected


@pytest.mark.parametrize(
    ("sa", "packets", "worn"), [(GCM, 2**31, False), (GCM, xfrm.WORN_PACKETS, True), (CBC6, 2**40, False)]
)
def test_an_association_wears_out_before_its_sequence_numbers_end(sa: Sa, packets: int, worn: bool) -> None:
    found = xfrm.decode_sa("", _counted(sa, packets), objects.name)
    assert found
    assert found.worn is worn


def _policy(policy: Policy) -> bytes:
    return xfrm.policy_set(policy, objects.index).payload


_THIS = (0x10, HERE, THERE, GCM.spi)


@pytest.mark.parametrize(
    ("kind", "payload", "event"),
    [
        (xfrm.NEWSA, xfrm.sa_add(GCM, objects.index).payload, (*_THIS, False)),
        (xfrm.UPDSA, xfrm.sa_add(GCM, objects.index).payload, (*_THIS, False)),
        (xfrm.EXPIRE, xfrm.sa_add(GCM, objects.index).payload[:224] + bytes(8), (*_THIS, False)),
        (xfrm.EXPIRE, xfrm.sa_add(GCM, objects.index).payload[:224] + bytes((1, *bytes(7))), (*_THIS, True)),
        (xfrm.DELSA, xfrm.sa_get(GCM).payload + attr(6, VECTORS["SA"]), (*_THIS, True)),
        (xfrm.DELSA, xfrm.sa_get(GCM).payload, None),
        (xfrm.NEWPOLICY, _policy(BLOCK6), None),
    ],
)
def test_the_association_of_an_event(kind: int, payload: bytes, event: tuple[int, bytes, bytes, int, bool]) -> None:
    assert xfrm.sa_event(kind, payload) == event


@pytest.mark.parametrize(
    ("kind", "payload", "endpoint"),
    [
        (xfrm.NEWPOLICY, _policy(TRANSPORT), (THERE, 1701, 1702)),
        (xfrm.UPDPOLICY, _policy(BLOCK6), (THERE6, 0, 0)),
        (xfrm.DELPOLICY, xfrm.policy_get(TRANSPORT).payload + attr(7, _policy(TRANSPORT)), (THERE, 1701, 1702)),
        (xfrm.DELPOLICY, xfrm.policy_get(BLOCK6).payload, (THERE6, 0, 0)),
        (xfrm.NEWSA, xfrm.sa_add(GCM, objects.index).payload, None),
    ],
)
def test_the_endpoint_of_an_event(kind: int, payload: bytes, endpoint: tuple[bytes, int, int] | None) -> None:
    assert xfrm.event_endpoint(kind, payload) == endpoint


@pytest.mark.parametrize("decode", [xfrm.decode_sa, xfrm.decode_policy])
def test_every_byte_matters(decode: Callable[[str, bytes, Callable[[int], str]], object]) -> None:
    payload = xfrm.sa_add(GCM, objects.index).payload if decode is xfrm.decode_sa else _policy(TRANSPORT)
    with pytest.raises((struct.error, IndexError)):
        decode("", payload[:60], objects.name)
