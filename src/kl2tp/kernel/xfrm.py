"""Codec of NETLINK_XFRM: security associations and policies (RFC 4301 4.4) as `struct xfrm_*` in linux/xfrm.h."""

import struct
from collections.abc import Callable
from typing import NamedTuple

from kl2tp.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, Message, attr, attributes
from kl2tp.model.addr import family
from kl2tp.model.objects import Direction, Policy, Sa, Secret, Selector, Template, endpoint_of
from kl2tp.model.spec import Mode

NETLINK_XFRM = 6
NEWSA, DELSA, GETSA, NEWPOLICY, DELPOLICY, GETPOLICY = range(0x10, 0x16)
UPDPOLICY, UPDSA = 0x19, 0x1A
FLUSHSA, FLUSHPOLICY, EXPIRE = 0x1C, 0x1D, 0x18
GROUP_EXPIRE, GROUP_SA, GROUP_POLICY = 2, 3, 4

_ALG_CRYPT, _ENCAP, _TMPL, _SA, _POLICY, _ALG_AEAD, _ALG_AUTH_TRUNC = 2, 4, 5, 6, 7, 18, 20
_MARK, _REPLAY_ESN_VAL, _OFFLOAD_DEV = 21, 23, 28
_ESP = 50
_UDP_ENCAP_ESPINUDP = 2
_FLAG_ESN = 128
_ALLOW, _BLOCK = 0, 1
_OFFLOAD_IPV6, _OFFLOAD_INBOUND, _OFFLOAD_PACKET = 1, 2, 4
_ALL_ALGORITHMS = 0xFFFFFFFF

_PORTS = struct.Struct("!HHHH")
_SELECTOR = struct.Struct("=16s16s8sHBBB3xiI")
"""Short addresses are padded with zeros, as the kernel's 16-byte unions want them."""
_SELECTOR_TAIL = struct.Struct("=HBBB3xiI")
_POLICY_TAIL = struct.Struct("=IIBBBB4x")
_POLICY_ID_TAIL = struct.Struct("=IB3x")
_SPI = struct.Struct("!I")
_SA_HEAD = struct.Struct("=56x16s4sB3x16s64s44xIIHBBB7x")
_SA_TAIL = struct.Struct("=IIHBBB7x")
_SA_ID = struct.Struct("=16s4sHBx")
_MARK_VALUE = struct.Struct("=II")
_TEMPLATE = struct.Struct("=16s4sB3xH2x16sIBBBxIII")
_ALGORITHM = struct.Struct("=64sI")
_ALGORITHM2 = struct.Struct("=64sII")
_ESN = struct.Struct("=6I")
_PACKETS = struct.Struct("=Q")
_HARD = 224
"""Where an EXPIRE says whether the SA is gone: `struct xfrm_user_expire`."""
_NAT = struct.Struct("=H2s2s2x16x")
_INFINITE = (1 << 64) - 1
_FOREVER = struct.pack("=8Q", *(_INFINITE,) * 4, 0, 0, 0, 0)
"""No limit on bytes, packets, age or idleness: static keys live until they are replaced."""
WORN_PACKETS = 3 << 30
"""Soft limit of an SA without ESN: its sequence numbers end at 2**32, and an SA that reaches that sends nothing more.

The kernel tells when the limit is reached, and the SA is then made anew: numbers begin at 1 again (peers with static
keys check no replay) and the IVs at a new random point.
"""
_UNTIL_WORN = struct.pack("=8Q", _INFINITE, _INFINITE, WORN_PACKETS, _INFINITE, 0, 0, 0, 0)
_ZERO32 = bytes(32)


def _selector(selector: Selector) -> bytes:
    sport, dport = selector.source_port, selector.destination_port
    ports = _PORTS.pack(dport, 0xFFFF if dport else 0, sport, 0xFFFF if sport else 0) if sport or dport else b""
    return _SELECTOR.pack(
        selector.destination,
        selector.source,
        ports,
        family(selector.source),
        selector.destination_length,
        selector.source_length,
        selector.protocol,
        0,
        0,
    )


def _decode_selector(data: bytes, offset: int) -> Selector:
    dport, dmask, sport, smask = _PORTS.unpack_from(data, offset + 32)
    fam, dlen, slen, proto, _, _ = _SELECTOR_TAIL.unpack_from(data, offset + 40)
    size = 4 if fam == 2 else 16
    return Selector(
        data[offset + 16 : offset + 16 + size],
        slen,
        data[offset : offset + size],
        dlen,
        proto,
        sport if smask else 0,
        dport if dmask else 0,
    )


def _mark(mark: tuple[int, int] | None) -> bytes:
    return attr(_MARK, _MARK_VALUE.pack(*mark)) if mark else b""


def _decode_mark(found: dict[int, bytes]) -> tuple[int, int] | None:
    mark = found.get(_MARK)
    if mark is None:
        return None
    value, mask = _MARK_VALUE.unpack(mark)
    return (value, mask) if mask else None


def _template(template: Template, fam: int) -> bytes:
    spi = template.spi.to_bytes(4)
    everything = (_ALL_ALGORITHMS,) * 3
    return _TEMPLATE.pack(
        template.destination, spi, _ESP, fam, template.source, template.reqid, template.mode, 0, 0, *everything
    )


def policy_set(policy: Policy, device: Callable[[str], int], *, replace: bool = True) -> Message:
    """Create a policy or, with `replace`, atomically put it in the place of the one with the same selector."""
    action = _BLOCK if policy.template is None else _ALLOW
    body = [
        _selector(policy.selector),
        _FOREVER,
        _ZERO32,
        _POLICY_TAIL.pack(policy.priority, 0, policy.direction, action, 0, 0),
    ]
    if policy.template:
        body.append(attr(_TMPL, _template(policy.template, family(policy.selector.source))))
    body.append(_mark(policy.mark))
    if policy.offload_device:
        body.append(attr(_OFFLOAD_DEV, struct.pack("=iB3x", device(policy.offload_device), _OFFLOAD_PACKET)))
    if replace:
        return Message(UPDPOLICY, 0, b"".join(body))
    return Message(NEWPOLICY, NLM_F_CREATE | NLM_F_EXCL, b"".join(body))


def socket_policy(reqid: int, direction: Direction, fam: int) -> bytes:
    """The policy of one socket (IP_XFRM_POLICY): all that it sends, or takes, is protected by an SA with this reqid."""
    everything = _SELECTOR.pack(b"", b"", b"", fam, 0, 0, 0, 0, 0)
    body = (everything, _FOREVER, _ZERO32, _POLICY_TAIL.pack(0, 0, direction, _ALLOW, 0, 0))
    return b"".join((*body, _template(Template(reqid, Mode.TRANSPORT), fam)))


def _policy_id(policy: Policy) -> bytes:
    return _selector(policy.selector) + _POLICY_ID_TAIL.pack(0, policy.direction) + _mark(policy.mark)


def policy_delete(policy: Policy) -> Message:
    return Message(DELPOLICY, 0, _policy_id(policy))


def policy_get(policy: Policy) -> Message:
    return Message(GETPOLICY, 0, _policy_id(policy))


def decode_policy(netns: str, data: bytes, device: Callable[[int], str], offset: int = 0) -> Policy | None:
    """A policy from a dump, a reply or an event; None for per-socket policies, directions 3 and 4 in dumps."""
    priority, _, direction, action, _, _ = _POLICY_TAIL.unpack_from(data, offset + 152)
    if direction > Direction.FORWARD:
        return None
    found = attributes(data, offset + 168)
    return _policy(netns, _decode_selector(data, offset), priority, direction, action, found, device)


def _policy(
    netns: str,
    selector: Selector,
    priority: int,
    direction: int,
    action: int,
    found: dict[int, bytes],
    device: Callable[[int], str],
) -> Policy:
    template = None
    raw = found.get(_TMPL)
    if raw and action == _ALLOW:
        reqid, mode = struct.unpack_from("=IB", raw, 44)
        size = len(selector.source)
        source, destination = raw[28 : 28 + size], raw[:size]
        template = Template(
            reqid,
            Mode(mode) if mode in (0, 1) else Mode.TUNNEL,
            source if any(source) else b"",
            destination if any(destination) else b"",
            _SPI.unpack_from(raw, 16)[0],
        )
    elif action == _ALLOW:  # lets everything through in clear: no policy of ours ever looks so
        template = Template(0, Mode.TRANSPORT)
    offload = found.get(_OFFLOAD_DEV)
    return Policy(
        netns,
        Direction(direction),
        selector,
        priority,
        template,
        _decode_mark(found),
        device(struct.unpack_from("=i", offload)[0]) if offload else "",
    )


def decode_deleted_policy(netns: str, data: bytes, device: Callable[[int], str]) -> Policy | None:
    """The policy in a DELPOLICY event, which wraps it in an attribute."""
    whole = attributes(data, 64).get(_POLICY)
    if whole is None or len(whole) < 168:
        return None
    # Attributes of the policy stand beside the wrapper, not inside it.
    priority, _, direction, action, _, _ = _POLICY_TAIL.unpack_from(whole, 152)
    if direction > Direction.FORWARD:
        return None
    return _policy(netns, _decode_selector(whole, 0), priority, direction, action, attributes(data, 64), device)


def _algorithms(sa: Sa) -> bytes:
    key = sa.key_material.reveal()
    name = sa.encryption.encode()
    if sa.aead:
        return attr(_ALG_AEAD, _ALGORITHM2.pack(name, len(key) * 8, sa.icv * 8) + key)
    assert sa.integrity_key is not None
    mac = sa.integrity_key.reveal()
    return attr(_ALG_CRYPT, _ALGORITHM.pack(name, len(key) * 8) + key) + attr(
        _ALG_AUTH_TRUNC, _ALGORITHM2.pack(sa.integrity.encode(), len(mac) * 8, sa.icv * 8) + mac
    )


def sa_add(sa: Sa, device: Callable[[str], int]) -> Message:
    """Create an SA; EEXIST if its (destination, SPI) is taken."""
    wide_window = sa.esn or sa.replay_window > 32
    body = [
        _SA_HEAD.pack(
            sa.destination,
            sa.spi.to_bytes(4),
            _ESP,
            sa.source,
            _FOREVER if sa.esn else _UNTIL_WORN,
            0,
            sa.reqid,
            family(sa.source),
            sa.mode,
            0 if wide_window else sa.replay_window,
            _FLAG_ESN if sa.esn else 0,
        ),
        _algorithms(sa),
        _mark(sa.mark),
    ]
    if wide_window:
        words = (sa.replay_window + 31) // 32
        body.append(attr(_REPLAY_ESN_VAL, _ESN.pack(words, 0, 0, 0, 0, sa.replay_window) + bytes(4 * words)))
    if sa.encap_source_port:
        body.append(
            attr(
                _ENCAP,
                _NAT.pack(
                    _UDP_ENCAP_ESPINUDP,
                    sa.encap_source_port.to_bytes(2),
                    sa.encap_destination_port.to_bytes(2),
                ),
            )
        )
    if sa.offload_device:
        flags = (
            (_OFFLOAD_IPV6 if len(sa.source) == 16 else 0)
            | (0 if sa.outbound else _OFFLOAD_INBOUND)
            | (_OFFLOAD_PACKET if sa.offload_packet else 0)
        )
        body.append(attr(_OFFLOAD_DEV, struct.pack("=iB3x", device(sa.offload_device), flags)))
    return Message(NEWSA, NLM_F_CREATE | NLM_F_EXCL, b"".join(body))


def _sa_id(sa: Sa) -> bytes:
    return _SA_ID.pack(sa.destination, sa.spi.to_bytes(4), family(sa.destination), _ESP) + _mark(sa.mark)


def sa_delete(sa: Sa) -> Message:
    return Message(DELSA, 0, _sa_id(sa))


def sa_get(sa: Sa) -> Message:
    return Message(GETSA, 0, _sa_id(sa))


def _name(raw: bytes) -> str:
    return raw[:64].rstrip(b"\0").decode(errors="replace")


def decode_sa(netns: str, data: bytes, device: Callable[[int], str], offset: int = 0) -> Sa | None:
    """An ESP SA from a dump, a reply or an event; None for other protocols and for larval SAs."""
    return _sa(netns, data, offset, attributes(data, offset + 224), device)


def decode_deleted_sa(netns: str, data: bytes, device: Callable[[int], str]) -> Sa | None:
    """The SA in a DELSA event, which wraps it in an attribute."""
    beside = attributes(data, 24)
    whole = beside.get(_SA)
    return _sa(netns, whole, 0, beside, device) if whole is not None and len(whole) >= 224 else None


def _sa(netns: str, data: bytes, offset: int, found: dict[int, bytes], device: Callable[[int], str]) -> Sa | None:
    if data[offset + 76] != _ESP:
        return None
    _, reqid, fam, mode, window, flags = _SA_TAIL.unpack_from(data, offset + 204)
    size = 4 if fam == 2 else 16
    aead = found.get(_ALG_AEAD)
    crypt, auth = found.get(_ALG_CRYPT), found.get(_ALG_AUTH_TRUNC)
    if aead is None and crypt is None:
        return None
    integrity_key = None
    integrity = ""
    if aead is not None:
        encryption, icv, key = _name(aead), struct.unpack_from("=I", aead, 68)[0] // 8, aead[72:]
    else:
        assert crypt is not None
        encryption, icv, key = _name(crypt), 0, crypt[68:]
        if auth is not None:
            integrity, icv = _name(auth), struct.unpack_from("=I", auth, 68)[0] // 8
            integrity_key = Secret(auth[72:])
    if esn := found.get(_REPLAY_ESN_VAL):
        window = _ESN.unpack_from(esn)[5]
    nat = found.get(_ENCAP)
    offload = found.get(_OFFLOAD_DEV)
    offload_index, offload_flags = struct.unpack_from("=iB", offload) if offload else (0, 0)
    return Sa(
        netns,
        data[offset + 80 : offset + 80 + size],
        data[offset + 56 : offset + 56 + size],
        _SPI.unpack_from(data, offset + 72)[0],
        Mode(mode) if mode in (0, 1) else Mode.TUNNEL,
        reqid,
        encryption,
        Secret(key),
        aead is not None,
        icv,
        integrity,
        integrity_key,
        window,
        bool(flags & _FLAG_ESN),
        int.from_bytes(nat[2:4]) if nat else 0,
        int.from_bytes(nat[4:6]) if nat else 0,
        _decode_mark(found),
        device(offload_index) if offload else "",
        bool(offload_flags & _OFFLOAD_PACKET),
        not flags & _FLAG_ESN and _PACKETS.unpack_from(data, offset + 168)[0] >= WORN_PACKETS,
    )


def sa_counters(data: bytes) -> dict[str, int]:
    """Bytes and packets protected so far, from a reply; replay and integrity failures beside them."""
    used, packets = struct.unpack_from("=QQ", data, 160)
    replay_window, replay, failed = struct.unpack_from("=III", data, 192)
    return {
        "bytes": used,
        "packets": packets,
        "replay_window": replay_window,
        "replay": replay,
        "integrity_failed": failed,
    }


class SaEvent(NamedTuple):
    """What an event says about an SA."""

    reqid: int
    source: bytes
    destination: bytes
    spi: int
    gone: bool


def sa_event(kind: int, data: bytes) -> SaEvent | None:
    """The SA that an event is about; None if it is about something else."""
    gone = kind == DELSA
    if gone:
        whole = attributes(data, 24).get(_SA)
        return _event_of(whole, gone=True) if whole else None
    if kind in (NEWSA, UPDSA, EXPIRE):
        return _event_of(data, gone=kind == EXPIRE and bool(data[_HARD]))
    return None


def _event_of(data: bytes, *, gone: bool) -> SaEvent:
    reqid, family_number = struct.unpack_from("=IH", data, 208)
    size = 4 if family_number == 2 else 16
    spi = _SPI.unpack_from(data, 72)[0]
    return SaEvent(reqid, data[80 : 80 + size], data[56 : 56 + size], spi, gone)


def event_endpoint(kind: int, data: bytes) -> tuple[bytes, int, int] | None:
    """(remote address, local port, remote port) of the policy that an event is about; None if it is about no policy."""
    if kind in (NEWPOLICY, UPDPOLICY):
        direction = data[160]
    elif kind == DELPOLICY:
        direction = data[60]
    else:
        return None
    if direction not in (Direction.IN, Direction.OUT):
        return None
    return endpoint_of(Direction(direction), _decode_selector(data, 0))
