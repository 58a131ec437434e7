"""Security associations as charon, or whoever, made them: what they are and what they count, without their keys."""

import struct
from collections.abc import Collection, Iterable, Iterator

from kl2tp.kernel import xfrm
from kl2tp.kernel.netlink import Message, Netlink, Reply, attr, attributes
from kl2tp.model.addr import family
from kl2tp.model.objects import Sa, Secret
from kl2tp.model.spec import Mode
from kl2tp.model.value import dataclass

_LIMITS, _USED = struct.Struct("=8Q"), struct.Struct("=4Q")
_REPLAY_VAL, _REPLAY_ESN_VAL, _ADDRESS_FILTER = 10, 23, 26
_FILTER = struct.Struct("=16s16sHBB")
_INFINITE = (1 << 64) - 1
_REQID = struct.Struct("=I")
_NO_SECRET = Secret(b"")


@dataclass(frozen=True, slots=True)
class Association:
    """An SA that protects packets from `source` to `destination`."""

    netns: str
    source: bytes
    destination: bytes
    spi: int
    reqid: int
    mode: Mode
    encryption: str
    """Kernel name of the AEAD or the cipher."""
    key_bits: int
    """Of the cipher, without the salt of an AEAD."""
    integrity: str
    icv: int
    """Bytes."""
    source_port: int
    destination_port: int
    """ESP in UDP; both 0 for plain ESP."""
    mark: tuple[int, int] | None
    esn: bool
    replay_window: int
    sent: int
    received: int
    """The highest sequence number in each direction: one of them stays 0."""
    octets: int
    packets: int
    late: int
    """Packets older than the replay window."""
    replayed: int
    """Packets that had been received before."""
    unauthentic: int
    """Packets whose integrity check failed."""
    made_at: int
    first_used_at: int
    """Unix time; 0: not yet."""
    soft_s: int
    hard_s: int
    """Age at which it asks to be replaced, and at which it ends, seconds; 0: never."""
    hard_octets: int
    hard_packets: int
    """After which it ends; 0: never."""


def _limit(value: int) -> int:
    return 0 if value == _INFINITE else value


_SALTED = ("rfc4106(", "rfc4543(", "rfc7539esp(")
_SALT_BITS = 32
_CCM_SALT_BITS = 24


def decode(netns: str, data: bytes) -> Association | None:
    """An SA from a reply; None for what is no ESP SA with keys."""
    sa = xfrm.decode_sa(netns, data, str)
    if sa is None:
        return None
    limits, used = _LIMITS.unpack_from(data, 96), _USED.unpack_from(data, 160)
    late, replayed, unauthentic = struct.unpack_from("=III", data, 192)
    sent, received = _sequence(attributes(data, 224))
    return Association(
        *(netns, sa.source, sa.destination, sa.spi, sa.reqid, sa.mode, sa.encryption, _key_bits(sa)),
        *(sa.integrity, sa.icv, sa.encap_source_port, sa.encap_destination_port, sa.mark, sa.esn, sa.replay_window),
        *(sent, received, used[0], used[1], late, replayed, unauthentic, used[2], used[3]),
        *(limits[4], limits[5], _limit(limits[1]), _limit(limits[3])),
    )


def _key_bits(sa: Sa) -> int:
    bits = len(sa.key_material.reveal()) * 8
    if sa.encryption.startswith("rfc4309("):
        return bits - _CCM_SALT_BITS
    return bits - _SALT_BITS if sa.encryption.startswith(_SALTED) else bits


def _sequence(found: dict[int, bytes]) -> tuple[int, int]:
    """The highest sequence numbers: (sent, received)."""
    if (esn := found.get(_REPLAY_ESN_VAL)) is not None and len(esn) >= 20:
        _, sent, received, sent_high, received_high = struct.unpack_from("=5I", esn)
        return sent_high << 32 | sent, received_high << 32 | received
    if (plain := found.get(_REPLAY_VAL)) is not None and len(plain) >= 8:
        sent, received = struct.unpack_from("=II", plain)
        return sent, received
    return 0, 0


def _dump(sock: Netlink, ends: tuple[bytes, bytes] | None) -> Iterator[bytes]:
    """Every SA, or those from one address to another: the kernel sorts the others out."""
    payload = b""
    if ends is not None:
        bits = len(ends[0]) * 8
        payload = attr(_ADDRESS_FILTER, _FILTER.pack(*ends, family(ends[0]), bits, bits))
    for reply in sock.dump(xfrm.GETSA, payload):
        yield reply.payload


def read(
    sock: Netlink,
    netns: str,
    *,
    reqids: Collection[int] | None = None,
    ends: tuple[bytes, bytes] | None = None,
) -> list[Association]:
    """All SAs, or those with one of these reqids, or between two addresses, both ways; or both."""
    ways = (None,) if ends is None else (ends, ends[::-1])
    some = (data for way in ways for data in _dump(sock, way))
    wanted = (data for data in some if reqids is None or _REQID.unpack_from(data, 208)[0] in reqids)
    return [found for data in wanted if (found := decode(netns, data)) is not None]


def alive(sock: Netlink, wanted: Iterable[tuple[bytes, int]]) -> set[tuple[bytes, int]]:
    """Those (destination, SPI) of which there is an SA: the work for each is the same however many there are."""
    some = list(wanted)
    replies = sock.get([xfrm.sa_get(_named(destination, spi)) for destination, spi in some])
    return {pair for pair, reply in zip(some, replies, strict=True) if isinstance(reply, Reply)}


def deletion(sa: Association) -> Message:
    """What takes it out of the kernel."""
    return xfrm.sa_delete(_named(sa.destination, sa.spi))


def _named(destination: bytes, spi: int) -> Sa:
    """An SA with just its identity."""
    return Sa("", b"", destination, spi, Mode.TRANSPORT, 0, "", _NO_SECRET)


def identities(sock: Netlink) -> list[tuple[int, bytes, bytes, int]]:
    """(reqid, source, destination, SPI) of every SA that is complete."""
    whole = (data for data in _dump(sock, None) if xfrm.decode_sa("", data, str) is not None)
    return [event[:4] for data in whole if (event := xfrm.sa_event(xfrm.NEWSA, data)) is not None]
