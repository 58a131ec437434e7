"""The kernel's objects, flat and immutable, each with a key.

Desired objects are compiled from the configuration, actual ones decoded from the kernel; both are of these types, so
that `==` is the whole comparison. An object's `key` says which one it is: its first element is the kind, its second the
network namespace ("" is the daemon's own). Addresses are packed bytes. Nothing here knows netlink.
"""

import enum
import hmac
from dataclasses import field
from typing import ClassVar, TypeAlias

from kl2tp.model.addr import prefix, text
from kl2tp.model.spec import Encap, L2Spec, Mode
from kl2tp.model.value import dataclass

Key: TypeAlias = tuple[str | int, ...]
"""Kind, namespace, and what tells objects of the kind apart: only text and numbers, so that JSON can hold it."""

NO_MARK = (0, 0)

ALIAS_PREFIX = "kl2tp:"
"""What the alias of every device of ours begins with."""
NO_SUBLAYER = " l2_sublayer=none"


class Direction(enum.IntEnum):
    """Direction of a policy, with the kernel's numbers (XFRM_POLICY_*)."""

    IN = 0
    OUT = 1
    FORWARD = 2


class Secret:
    """Key material. Compares in constant time, hashes never, and shows nothing."""

    __slots__ = ("_material",)

    def __init__(self, material: bytes) -> None:
        self._material = material

    def reveal(self) -> bytes:
        """The bytes themselves: for packing into a netlink message, nothing else."""
        return self._material

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._material, other._material)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<secret, {len(self._material)} bytes>"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a secret does not leave the process")


@dataclass(frozen=True, slots=True)
class Tunnel:
    """An L2TPv3 tunnel whose socket the kernel made ("unmanaged": it outlives every process)."""

    netns: str
    id: int
    peer_id: int
    encap: Encap
    local: bytes
    remote: bytes
    local_port: int = 0
    remote_port: int = 0
    checksum: bool = True

    kind: ClassVar[str] = "tunnel"

    @property
    def key(self) -> Key:
        return ("tunnel", self.netns, self.id)

    def __str__(self) -> str:
        ports = (f" port {self.local_port}", f" port {self.remote_port}") if self.encap == Encap.UDP else ("", "")
        return (
            f"tunnel {self.id} peer {self.peer_id} {self.encap.name.lower()} "
            f"{text(self.local)}{ports[0]} -> {text(self.remote)}{ports[1]}"
        )


@dataclass(frozen=True, slots=True)
class Session:
    """An Ethernet pseudowire in a tunnel; its network device comes and goes with it."""

    netns: str
    tunnel_id: int
    id: int
    peer_id: int
    ifname: str
    cookie: bytes = b""
    peer_cookie: bytes = b""
    l2spec: L2Spec = field(default=L2Spec.DEFAULT, compare=False)
    """Not compared: the kernel takes it and never reports it."""
    send_sequence: bool = False
    require_sequence: bool = False
    reorder_ms: int = 0

    kind: ClassVar[str] = "session"

    @property
    def key(self) -> Key:
        return ("session", self.netns, self.tunnel_id, self.id)

    def __str__(self) -> str:
        cookie = f" cookie {len(self.cookie)}/{len(self.peer_cookie)} bytes" if self.cookie or self.peer_cookie else ""
        sequence = " seq" if self.send_sequence or self.require_sequence else ""
        return f"session {self.tunnel_id}/{self.id} peer {self.peer_id} dev {self.ifname}{cookie}{sequence}"


@dataclass(frozen=True, slots=True)
class Link:
    """Settings of a session's network device. It exists by its session: only its settings are ours to set."""

    netns: str
    name: str
    mtu: int
    master: str = ""
    """Bridge or VRF it is enslaved to; "" for none."""
    up: bool = True
    mac: bytes = b""
    """6 bytes; empty: whatever the kernel chose."""
    tunnel_netns: str = ""
    """Namespace of its session, where the device is born; equal to `netns` unless it is moved."""
    alias: str = ""
    """`kl2tp:TUNNEL/SESSION`: the mark by which a renamed device is found again. With NO_SUBLAYER at its end it tells
    what the kernel does not: that the session was made without an L2-specific sublayer."""
    name_at_birth: str = field(default="", compare=False)
    """Its session's name for it, where it gets another one when it is moved; empty: `name`."""

    kind: ClassVar[str] = "link"

    @property
    def birth_name(self) -> str:
        """The name that its session knows it by."""
        return self.name_at_birth or self.name

    @property
    def key(self) -> Key:
        return ("link", self.netns, self.name)

    def __str__(self) -> str:
        master = f" master {self.master}" if self.master else ""
        mac = f" address {self.mac.hex(':')}" if self.mac else ""
        return f"link {self.name} mtu {self.mtu}{master}{mac} {'up' if self.up else 'down'}"


@dataclass(frozen=True, slots=True)
class Address:
    """An address on a device."""

    netns: str
    ifname: str
    address: bytes
    prefix_length: int
    peer: bytes = b""
    """The address at the other end of a point-to-point device, to which the prefix then belongs; empty: none."""

    kind: ClassVar[str] = "address"

    @property
    def key(self) -> Key:
        return ("address", self.netns, self.ifname, self.address.hex(), self.prefix_length)

    def __str__(self) -> str:
        if self.peer:
            return f"address {text(self.address)} peer {prefix(self.peer, self.prefix_length)} dev {self.ifname}"
        return f"address {prefix(self.address, self.prefix_length)} dev {self.ifname}"


@dataclass(frozen=True, slots=True)
class Route:
    """A unicast route with our protocol number."""

    netns: str
    table: int
    destination: bytes
    prefix_length: int
    metric: int
    via: bytes = b""
    device: str = ""
    tunnel_device: bool = field(default=False, compare=False)
    """Whether the device is a session's, not one that the outer packets use."""

    kind: ClassVar[str] = "route"

    @property
    def key(self) -> Key:
        return ("route", self.netns, self.table, self.destination.hex(), self.prefix_length, self.metric)

    def __str__(self) -> str:
        via = f" via {text(self.via)}" if self.via else ""
        dev = f" dev {self.device}" if self.device else ""
        table = f" table {self.table}" if self.table != 254 else ""
        metric = f" metric {self.metric}" if self.metric else ""
        return f"route {prefix(self.destination, self.prefix_length)}{via}{dev}{table}{metric}"


@dataclass(frozen=True, slots=True, eq=True)
class Sa:
    """An ESP security association, RFC 4301 4.4.2."""

    netns: str
    source: bytes
    destination: bytes
    spi: int
    mode: Mode
    reqid: int
    encryption: str
    """Kernel name of the AEAD or the cipher."""
    key_material: Secret
    aead: bool = True
    icv: int = 16
    """Bytes."""
    integrity: str = ""
    integrity_key: Secret | None = None
    replay_window: int = 0
    esn: bool = False
    encap_source_port: int = 0
    encap_destination_port: int = 0
    """ESP in UDP, RFC 3948; both 0 for plain ESP."""
    mark: tuple[int, int] | None = None
    offload_device: str = ""
    offload_packet: bool = False
    worn: bool = False
    """Whether its 32-bit sequence numbers are running out: it is made anew before it goes mute."""
    outbound: bool = field(default=False, compare=False)
    """Which way it protects; the kernel wants it for offload only, and does not tell."""

    kind: ClassVar[str] = "sa"
    __hash__ = None  # type: ignore[assignment]

    @property
    def key(self) -> Key:
        return ("sa", self.netns, self.destination.hex(), self.spi, *(self.mark or NO_MARK))

    def __str__(self) -> str:
        nat = f" udp {self.encap_source_port}->{self.encap_destination_port}" if self.encap_source_port else ""
        algorithm = self.encryption + (f"+{self.integrity}" if self.integrity else "")
        return (
            f"sa {text(self.source)} -> {text(self.destination)} spi {self.spi:#010x} reqid {self.reqid:#x} "
            f"{self.mode.name.lower()} {algorithm}{nat}{' esn' if self.esn else ''}"
        )


@dataclass(frozen=True, slots=True)
class Selector:
    """What a policy applies to, RFC 4301 4.4.1.1. Port 0 is any port; a prefix length of 0 is any address."""

    source: bytes
    source_length: int
    destination: bytes
    destination_length: int
    protocol: int
    source_port: int = 0
    destination_port: int = 0

    def __str__(self) -> str:
        def end(address: bytes, length: int, port: int) -> str:
            host = text(address) if length == len(address) * 8 else "any" if not length else prefix(address, length)
            return f"{host} port {port}" if port else host

        name = {17: "udp", 115: "l2tp"}.get(self.protocol, str(self.protocol))
        return (
            f"{name} {end(self.source, self.source_length, self.source_port)} -> "
            f"{end(self.destination, self.destination_length, self.destination_port)}"
        )


def endpoint_of(direction: Direction, selector: Selector) -> tuple[bytes, int, int]:
    """(remote address, local port, remote port) of what a policy in or out applies to."""
    if direction == Direction.OUT:
        return selector.destination, selector.source_port, selector.destination_port
    return selector.source, selector.destination_port, selector.source_port


@dataclass(frozen=True, slots=True)
class Template:
    """The SA that a policy demands."""

    reqid: int
    mode: Mode
    source: bytes = b""
    destination: bytes = b""
    """Outer endpoints; needed in tunnel mode, empty in transport mode."""
    spi: int = 0
    """The very SA that must be used; 0: any with this reqid. An outbound policy names it: re-keying is one switch."""

    def __str__(self) -> str:
        ends = f" {text(self.source)} -> {text(self.destination)}" if self.source else ""
        spi = f" spi {self.spi:#010x}" if self.spi else ""
        return f"esp reqid {self.reqid:#x}{spi} {self.mode.name.lower()}{ends}"


@dataclass(frozen=True, slots=True)
class Policy:
    """A security policy. Without a template it blocks: that is the catch-all that stands when all else is gone."""

    netns: str
    direction: Direction
    selector: Selector
    priority: int
    """The lower number wins."""
    template: Template | None
    mark: tuple[int, int] | None = None
    offload_device: str = ""

    kind: ClassVar[str] = "policy"

    @property
    def key(self) -> Key:
        s = self.selector
        ends = (s.source.hex(), s.source_length, s.destination.hex(), s.destination_length)
        mark = self.mark or NO_MARK
        return ("policy", self.netns, int(self.direction), *ends, s.protocol, s.source_port, s.destination_port, *mark)

    def __str__(self) -> str:
        what = "block" if self.template is None else str(self.template)
        return f"policy {self.direction.name.lower()} {self.selector} {what}"


@dataclass(frozen=True, slots=True)
class Guard:
    """Endpoints whose L2TP nftables drops unless IPsec protects it: the second lock, for the day the SPD is flushed."""

    netns: str
    remote: bytes
    local_port: int = 0
    """0: any."""
    remote_port: int = 0
    """UDP ports; both 0 for IP protocol 115."""

    kind: ClassVar[str] = "guard"

    @property
    def key(self) -> Key:
        return ("guard", self.netns, self.remote.hex(), self.local_port, self.remote_port)

    def __str__(self) -> str:
        ports = f" udp {self.local_port or 'any'}<->{self.remote_port}" if self.remote_port else " l2tp"
        return f"guard {text(self.remote)}{ports}: drop what IPsec does not protect"


@dataclass(frozen=True, slots=True)
class Clamp:
    """TCP MSS limit on a device, in nftables."""

    netns: str
    ifname: str
    mss4: int
    mss6: int

    kind: ClassVar[str] = "clamp"

    @property
    def key(self) -> Key:
        return ("clamp", self.netns, self.ifname)

    def __str__(self) -> str:
        return f"mss clamp {self.ifname} ipv4 {self.mss4} ipv6 {self.mss6}"


Marks: TypeAlias = tuple[int, int]
"""(base, mask): the mark of a packet that came out of an SA is base | (reqid & mask). They have no bit in common."""


@dataclass(frozen=True, slots=True)
class GuardedPlace:
    """Where we listen for peers with IPsec: nftables lets in only what came out of ESP, and marks it with its SA."""

    netns: str
    address: bytes
    """Zeros: every address of the family."""
    port: int
    marks: Marks

    kind: ClassVar[str] = "place"

    @property
    def key(self) -> Key:
        return ("place", self.netns, self.address.hex(), self.port)

    def __str__(self) -> str:
        where = text(self.address) if any(self.address) else "any"
        return f"place {where} udp {self.port}: only out of ESP, mark {self.marks[0]:#x}/{self.marks[1]:#x}"


@dataclass(frozen=True, slots=True)
class Binding:
    """A tunnel of one peer: at guarded places nftables lets its id in only from this peer's SAs."""

    netns: str
    tunnel_id: int
    """Ours, of 16 bits: it stands in every packet of L2TPv2."""
    reqid: int

    kind: ClassVar[str] = "binding"

    @property
    def key(self) -> Key:
        return ("binding", self.netns, self.tunnel_id)

    def __str__(self) -> str:
        return f"binding of tunnel {self.tunnel_id} to reqid {self.reqid:#x}"


Element: TypeAlias = Guard | Clamp | GuardedPlace | Binding
"""What stands in the sets and maps of our nftables table."""
KernelObject: TypeAlias = Tunnel | Session | Link | Address | Route | Sa | Policy | Element
