"""What the layers around a packet cost, byte for byte, and the MTU and MSS that follow.

A `Stack` says how packets of a session are wrapped; it knows the length on the wire of an inner IP packet
of any length, and the largest inner packet that still fits the path. Lengths are those of what the Linux
kernel sends:

- L2TPv2 (RFC 2661 3.1): 6 bytes, 4 more with Ns and Nr; then PPP with address, control and protocol field.
- L2TPv3 (RFC 3931 4.1): over UDP 4 bytes of flags and version first, then session id, the cookie that the
  peer expects, the default L2-specific sublayer if there is one (with or without a sequence number in it),
  and an Ethernet header.
- ESP (RFC 4303 2): in transport mode around the UDP header or, for L2TP over IP, around the session id; in
  tunnel mode around an IP header more, of the same family as the outer one. Its padding depends on the
  packet's length.

The path MTU counts from the outer IP header on, like the MTU of an Ethernet device.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

from kl2tp.model.algorithms import esp_ciphers
from kl2tp.model.ciphers import CIPHERS, Cipher
from kl2tp.model.ike import IkeSpec
from kl2tp.model.spec import Encap, L2Spec, Mode, SessionSpec, TunnelSpec

IPV4_HEADER, IPV6_HEADER, UDP_HEADER, TCP_HEADER = 20, 40, 8, 20
"""Bytes, without options."""
ETHERNET_HEADER = 14
"""Bytes; a VLAN tag in the tunnelled frame is payload and takes 4 more."""
PPP_HEADER = 4
"""Bytes: address, control and protocol; the kernel compresses neither over L2TP."""
ESP_HEADER, ESP_TRAILER = 8, 2
"""Bytes: SPI and sequence number; pad length and next header."""
LEAST_MTU = {False: 68, True: 1280}
"""Smallest MTU a path may have, RFC 791 3.2 and RFC 8200 5, bytes; key: whether it is IPv6."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One part of a packet on the wire."""

    name: str
    bytes: int
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """How the packets of a session are wrapped. Raises ValueError for what cannot be combined."""

    version: int = 3
    """L2TP version: 2 carries PPP, 3 Ethernet frames."""
    encap: Encap = Encap.UDP
    ipv6: bool = False
    """Family of the outer packet."""
    cookie: int = 0
    """Bytes of the cookie we send (the peer's): 0, 4 or 8."""
    l2spec: L2Spec = L2Spec.DEFAULT
    sequencing: bool = False
    length_field: bool = False
    """L2TPv2's optional length field: other implementations send it in data packets, Linux never does."""
    cipher: Cipher | None = None
    mode: Mode = Mode.TRANSPORT
    nat_traversal: bool = False
    """ESP in UDP, RFC 3948."""

    def __post_init__(self) -> None:
        if problem := _conflict(self):
            raise ValueError(problem)

    @property
    def ip_header(self) -> int:
        """Bytes."""
        return IPV6_HEADER if self.ipv6 else IPV4_HEADER

    def layers(self, inner: int) -> tuple[Layer, ...]:
        """The packet around an inner IP packet of `inner` bytes, part by part, in the order of the wire."""
        carried = (*_l2tp_layers(self), Layer("payload", inner, "inner IP packet"))
        outer = _ip_layer(self, "outer header")
        if self.cipher is None:
            return (outer, *carried)
        if self.mode == Mode.TUNNEL:
            carried = (_ip_layer(self, "tunnel mode"), *carried)
        before, after = _esp_layers(self.cipher, sum(layer.bytes for layer in carried))
        if self.nat_traversal:
            before = (Layer("UDP", UDP_HEADER, "ESP in UDP, RFC 3948"), *before)
        return (outer, *before, *carried, *after)

    def outer_length(self, inner: int) -> int:
        """Bytes of the outer IP packet that carries an inner IP packet of `inner` bytes."""
        carried = inner + self._l2tp
        if self.cipher is None:
            return self.ip_header + carried
        protected = carried + self._inner_header
        return self._esp + _round_up(protected + ESP_TRAILER, _alignment(self.cipher))

    def mtu(self, path_mtu: int) -> int:
        """The largest inner IP packet whose outer packet fits the path, bytes. ValueError if none does."""
        inner = self._room(path_mtu)
        if path_mtu < (least := LEAST_MTU[self.ipv6]):
            raise ValueError(f"a path MTU of {path_mtu} is below the {least} that IPv{6 if self.ipv6 else 4} needs")
        if inner < LEAST_MTU[False]:
            raise ValueError(f"a path MTU of {path_mtu} is too small: no IP packet of {LEAST_MTU[False]} bytes fits")
        return inner

    def _room(self, path_mtu: int) -> int:
        """The same, whether it makes sense or not."""
        if self.cipher is None:
            return path_mtu - self.ip_header - self._l2tp
        alignment = _alignment(self.cipher)
        room = (path_mtu - self._esp) // alignment * alignment
        return room - ESP_TRAILER - self._inner_header - self._l2tp

    @property
    def _l2tp(self) -> int:
        """Bytes from behind the outer (or tunnel mode) IP header to the inner packet."""
        return sum(layer.bytes for layer in _l2tp_layers(self))

    @property
    def _inner_header(self) -> int:
        """Bytes of the IP header that tunnel mode protects."""
        return self.ip_header if self.mode == Mode.TUNNEL else 0

    @property
    def _esp(self) -> int:
        """Bytes around what ESP encrypts."""
        assert self.cipher is not None
        udp = UDP_HEADER if self.nat_traversal else 0
        return self.ip_header + udp + ESP_HEADER + self.cipher.iv + self.cipher.icv


def _conflict(stack: Stack) -> str:
    """What cannot be combined, and what to do instead; empty if all is well."""
    if stack.version not in (2, 3):
        return f"there is no L2TP version {stack.version}; use 2 or 3"
    if stack.cookie not in (0, 4, 8):
        return f"a cookie has 4 or 8 bytes (0 for none), not {stack.cookie}"
    if stack.cipher is None and stack.nat_traversal:
        return "NAT traversal is ESP in UDP: it needs a cipher"
    if stack.cipher is None and stack.mode == Mode.TUNNEL:
        return "tunnel mode is a mode of IPsec: it needs a cipher"
    return _version_2_conflict(stack) if stack.version == 2 else _version_3_conflict(stack)


def _version_2_conflict(stack: Stack) -> str:
    if stack.encap == Encap.IP:
        return "L2TPv2 runs over UDP only; use encapsulation udp, or L2TPv3"
    if stack.cookie:
        return "L2TPv2 has no cookies; use cookie 0, or L2TPv3"
    return ""


def _version_3_conflict(stack: Stack) -> str:
    if stack.length_field:
        return "L2TPv3 data packets have no length field; leave it out, or use L2TPv2"
    if stack.sequencing and stack.l2spec == L2Spec.NONE:
        return "L2TPv3 sequence numbers are in the default L2-specific sublayer: it cannot be none"
    return ""


def _round_up(length: int, alignment: int) -> int:
    return -(-length // alignment) * alignment


def _alignment(cipher: Cipher) -> int:
    """Bytes to which ESP pads, RFC 4303 2.4."""
    return max(4, cipher.block)


def _ip_layer(stack: Stack, note: str) -> Layer:
    return Layer("IPv6" if stack.ipv6 else "IPv4", stack.ip_header, note)


def _esp_layers(cipher: Cipher, protected: int) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """Layers before and after the `protected` bytes."""
    alignment = _alignment(cipher)
    padding = _round_up(protected + ESP_TRAILER, alignment) - protected - ESP_TRAILER
    before = (Layer("ESP", ESP_HEADER, "SPI, sequence number"), Layer("ESP IV", cipher.iv, cipher.name))
    after = (
        Layer("ESP padding", padding, f"to a multiple of {alignment}"),
        Layer("ESP trailer", ESP_TRAILER, "pad length, next header"),
        Layer("ESP ICV", cipher.icv, cipher.name),
    )
    return before, after


@lru_cache(maxsize=1024)
def _l2tp_layers(stack: Stack) -> tuple[Layer, ...]:
    """Layers between the IP header and the payload."""
    udp = (Layer("UDP", UDP_HEADER),) if stack.encap == Encap.UDP else ()
    return udp + (_version_2_layers(stack) if stack.version == 2 else _version_3_layers(stack))


def _version_2_layers(stack: Stack) -> tuple[Layer, ...]:
    """RFC 2661 3.1 and RFC 1662 3.1."""
    layers = [Layer("L2TPv2", 6, "flags, tunnel id, session id")]
    if stack.length_field:
        layers.append(Layer("L2TP length", 2, "not sent by Linux"))
    if stack.sequencing:
        layers.append(Layer("L2TP sequence", 4, "Ns, Nr"))
    layers.append(Layer("PPP", PPP_HEADER, "address, control, protocol"))
    return tuple(layers)


def _version_3_layers(stack: Stack) -> tuple[Layer, ...]:
    """RFC 3931 4.1.1 (over IP) and 4.1.2 (over UDP), 4.6."""
    over_udp = stack.encap == Encap.UDP
    layers = [Layer("L2TPv3", 8, "flags, session id") if over_udp else Layer("L2TPv3", 4, "session id")]
    if stack.cookie:
        layers.append(Layer("L2TP cookie", stack.cookie))
    if stack.l2spec == L2Spec.DEFAULT:
        layers.append(Layer("L2 sublayer", 4, "sequence number" if stack.sequencing else "no sequence number"))
    layers.append(Layer("Ethernet", ETHERNET_HEADER))
    return tuple(layers)


def mss4(mtu: int) -> int:
    """The TCP MSS over IPv4 for an interface MTU, bytes."""
    return max(0, mtu - IPV4_HEADER - TCP_HEADER)


def mss6(mtu: int) -> int:
    """The TCP MSS over IPv6 for an interface MTU, bytes; 0 below 1280: no IPv6 there (RFC 8200 5)."""
    return mtu - IPV6_HEADER - TCP_HEADER if mtu >= LEAST_MTU[True] else 0


@dataclass(frozen=True, slots=True)
class Overhead:
    """What a session's packets cost on its path."""

    stack: Stack
    path_mtu: int
    mtu: int
    """The largest inner IP packet that leaves in one piece, bytes."""
    mss4: int
    """TCP MSS over IPv4, bytes."""
    mss6: int
    """TCP MSS over IPv6, bytes; 0: the MTU is too small for IPv6."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of the largest packet."""
        return self.stack.layers(self.mtu)


@lru_cache(maxsize=1024)
def overhead(stack: Stack, path_mtu: int) -> Overhead:
    """Overhead of a stack on a path. Raises ValueError if the path MTU is too small."""
    mtu = stack.mtu(path_mtu)
    return Overhead(stack, path_mtu, mtu, mss4(mtu), mss6(mtu))


def with_ike(stack: Stack, ike: IkeSpec | None, path_mtu: int) -> Stack:
    """The same packets within ESP whose keys IKE negotiates; `stack` itself if it does not.

    Cipher and NAT traversal turn out only when it has: so they are the ones that leave the least room on this path,
    which are ESP in UDP and one of the proposals.
    """
    return stack if ike is None else _least_room(stack, ike.esp_proposals, ike.mode, path_mtu)


@lru_cache(maxsize=1024)
def _least_room(stack: Stack, proposals: tuple[str, ...], mode: Mode, path_mtu: int) -> Stack:
    stacks = (replace(stack, cipher=one, mode=mode, nat_traversal=True) for one in esp_ciphers(proposals))
    return min(stacks, key=lambda one: one._room(path_mtu))


def stack_of(tunnel: TunnelSpec, session: SessionSpec) -> Stack:
    """How the packets of a session are wrapped. Raises ValueError for what cannot be combined."""
    ipsec = tunnel.ipsec
    stack = Stack(
        encap=tunnel.encap,
        ipv6=len(tunnel.remote) == 16,
        cookie=session.cookie.length if session.cookie.peer is None else len(session.cookie.peer),
        l2spec=session.l2spec,
        sequencing=session.send_sequence,
        cipher=CIPHERS[ipsec.cipher] if ipsec else None,
        mode=ipsec.mode if ipsec else Mode.TRANSPORT,
        nat_traversal=bool(ipsec and ipsec.nat_remote_port),
    )
    return with_ike(stack, tunnel.ike, tunnel.path_mtu)


def for_session(tunnel: TunnelSpec, session: SessionSpec) -> Overhead:
    """Overhead of a session on its tunnel's path. Raises ValueError if the path MTU is too small."""
    return overhead(stack_of(tunnel, session), tunnel.path_mtu)
