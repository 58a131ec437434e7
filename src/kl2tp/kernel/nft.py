"""Our table in nftables, by nfnetlink: the guard against clear L2TP, and TCP MSS clamping.

    table inet kl2tp {
        set  guard4_udp, guard6_udp   # remote address . local port . remote port
        set  guard4_ip,  guard6_ip    # remote address
        map  mss4, mss6               # interface name : MSS
        chain guard_out  { type filter hook output  ... }   # in a guard set, and no IPsec on the route: drop
        chain guard_in   { type filter hook input   ... }   # in a guard set, and not from IPsec: drop
        chain clamp      { type filter hook forward ... }   # SYN: lower the MSS to what the map says
    }

The rules never change; only set elements do, one per tunnel or interface, so a packet costs one look-up whatever the
number of tunnels. Every number in nfnetlink attributes is big-endian.
"""

import socket
import struct
from collections.abc import Iterable, Mapping, Sequence

from kl2tp.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    KernelError,
    Message,
    Netlink,
    Reply,
    attr,
    attribute_list,
    attributes,
    string,
)
from kl2tp.model.objects import Clamp, Guard

NETLINK_NETFILTER = 12
GROUP_NFTABLES = 7
TABLE = "kl2tp"
_INET = 1
_SUBSYSTEM = 10 << 8
(_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN, _GETCHAIN, _DELCHAIN, _NEWRULE, _GETRULE) = (
    _SUBSYSTEM | n for n in range(8)
)
_NEWSET, _NEWSETELEM, _GETSETELEM, _DELSETELEM = (_SUBSYSTEM | n for n in (9, 12, 13, 14))
NEWGEN = _SUBSYSTEM | 15
_NLA_F_NESTED = 0x8000
_HOOK_IN, _HOOK_FORWARD, _HOOK_OUT = 1, 2, 3
_PRIORITY_MANGLE = -150
_SET_MAP = 0x8
_TYPE_IPADDR, _TYPE_IP6ADDR, _TYPE_INET_SERVICE, _TYPE_IFNAME = 7, 8, 13, 41
_REG_VERDICT, _REG_1, _REG32_00 = 0, 1, 8
_DROP = 0
_BYTE_ORDERS = struct.pack("=BBIBBI", 0, 4, 1, 1, 4, 2)
"""User data of the maps, for `nft list`: keys in host order, data big-endian. For want of an MSS the type is a port."""
_ELEMENTS_PER_MESSAGE = 500
"""A netlink attribute holds 64 KiB; 500 elements stay far below it."""

_SETS: dict[str, tuple[int, int, int]] = {
    # name: (key type, key bytes, flags)
    "guard4_udp": (_TYPE_IPADDR << 12 | _TYPE_INET_SERVICE << 6 | _TYPE_INET_SERVICE, 12, 0),
    "guard6_udp": (_TYPE_IP6ADDR << 12 | _TYPE_INET_SERVICE << 6 | _TYPE_INET_SERVICE, 24, 0),
    "guard4_ip": (_TYPE_IPADDR, 4, 0),
    "guard6_ip": (_TYPE_IP6ADDR, 16, 0),
    "mss4": (_TYPE_IFNAME, 16, _SET_MAP),
    "mss6": (_TYPE_IFNAME, 16, _SET_MAP),
}
_CHAINS = {"guard_out": _HOOK_OUT, "guard_in": _HOOK_IN, "clamp": _HOOK_FORWARD}


def _b32(kind: int, value: int) -> bytes:
    return struct.pack("=HH", 8, kind) + struct.pack("!I", value & 0xFFFFFFFF)


def _nest(kind: int, *parts: bytes) -> bytes:
    return attr(kind | _NLA_F_NESTED, b"".join(parts))


def _message(kind: int, flags: int, *parts: bytes, family: int = _INET) -> Message:
    return Message(kind, flags, struct.pack("=BB", family, 0) + b"\0\0" + b"".join(parts))


_BEGIN = Message(0x10, 0, struct.pack("=BB", 0, 0) + struct.pack("!H", 10))
_END = Message(0x11, 0, struct.pack("=BB", 0, 0) + struct.pack("!H", 10))


def _expression(name: str, *parts: bytes) -> bytes:
    return _nest(1, string(1, name), _nest(2, *parts))


def _meta(key: int, register: int = _REG_1) -> bytes:
    return _expression("meta", _b32(2, key), _b32(1, register))


def _compare(value: bytes, register: int = _REG_1) -> bytes:
    return _expression("cmp", _b32(1, register), _b32(2, 0), _nest(3, attr(1, value)))


def _payload(base: int, offset: int, size: int, register: int) -> bytes:
    return _expression("payload", _b32(1, register), _b32(2, base), _b32(3, offset), _b32(4, size))


def _lookup(name: str, register: int, result: int | None = None) -> bytes:
    return _expression("lookup", string(1, name), _b32(2, register), *([_b32(3, result)] if result is not None else []))


_META_OIFNAME, _META_IIFNAME, _META_NFPROTO, _META_L4PROTO, _META_SECPATH = 7, 6, 15, 16, 25
_NETWORK, _TRANSPORT = 1, 2
_COUNT_AND_DROP = _expression("counter") + _expression(
    "immediate", _b32(1, _REG_VERDICT), _nest(2, _nest(2, _b32(1, _DROP)))
)


def _guard_rule(*, v6: bool, udp: bool, outgoing: bool) -> bytes:
    """Drop packets between a guarded pair of endpoints that no IPsec protects."""
    size = 16 if v6 else 4
    # Offsets of the peer's address in the IP header: destination when we send, source when we receive.
    address = (24 if outgoing else 8) if v6 else (16 if outgoing else 12)
    body = [
        _meta(_META_NFPROTO),
        _compare(bytes((socket.AF_INET6 if v6 else socket.AF_INET,))),
        _meta(_META_L4PROTO),
        _compare(bytes((17 if udp else 115,))),
        _payload(_NETWORK, address, size, _REG32_00),
    ]
    if udp:
        local, remote = (0, 2) if outgoing else (2, 0)
        after = _REG32_00 + size // 4
        body += [_payload(_TRANSPORT, local, 2, after), _payload(_TRANSPORT, remote, 2, after + 1)]
    body.append(_lookup(f"guard{6 if v6 else 4}_{'udp' if udp else 'ip'}", _REG32_00))
    if outgoing:
        body.append(_expression("rt", _b32(1, _REG_1), _b32(2, 4)))
    else:
        body.append(_meta(_META_SECPATH))
    body += [_compare(b"\0"), _COUNT_AND_DROP]
    return b"".join(body)


def _clamp_rule(*, v6: bool, outgoing: bool) -> bytes:
    """Lower the MSS option of SYN segments to the interface's value; the kernel never raises it."""
    return b"".join(
        (
            _meta(_META_NFPROTO),
            _compare(bytes((socket.AF_INET6 if v6 else socket.AF_INET,))),
            _meta(_META_L4PROTO),
            _compare(bytes((6,))),
            _payload(_TRANSPORT, 13, 1, _REG_1),
            _expression(
                "bitwise",
                _b32(1, _REG_1),
                _b32(2, _REG_1),
                _b32(3, 1),
                _nest(4, attr(1, b"\x06")),
                _nest(5, attr(1, b"\0")),
            ),
            _compare(b"\x02"),
            _meta(_META_OIFNAME if outgoing else _META_IIFNAME),
            _lookup("mss6" if v6 else "mss4", _REG_1, _REG_1),
            _expression("exthdr", _b32(7, _REG_1), attr(2, b"\x02"), _b32(3, 2), _b32(4, 2), _b32(6, 1)),
        )
    )


def _rules() -> list[tuple[str, bytes]]:
    both = (False, True)
    rules = [("guard_out", _guard_rule(v6=v6, udp=udp, outgoing=True)) for v6 in both for udp in both]
    rules += [("guard_in", _guard_rule(v6=v6, udp=udp, outgoing=False)) for v6 in both for udp in both]
    rules += [("clamp", _clamp_rule(v6=v6, outgoing=out)) for v6 in both for out in both]
    return rules


def _create_table() -> list[Message]:
    """The table with its sets, chains and rules, empty of elements."""
    table = string(1, TABLE)
    requests = [_message(_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, table)]
    for number, (name, (kind, size, flags)) in enumerate(_SETS.items(), 1):
        parts = [table, string(2, name), _b32(3, flags), _b32(4, kind), _b32(5, size), _b32(10, number)]
        if flags & _SET_MAP:
            parts += [_b32(6, _TYPE_INET_SERVICE), _b32(7, 2), attr(13, _BYTE_ORDERS)]
        requests.append(_message(_NEWSET, NLM_F_CREATE | NLM_F_EXCL, *parts))
    for name, hook in _CHAINS.items():
        where = _nest(4, _b32(1, hook), _b32(2, _PRIORITY_MANGLE))
        requests.append(
            _message(
                _NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL, table, string(3, name), where, string(7, "filter"), _b32(5, 1)
            )
        )
    requests += [
        _message(_NEWRULE, NLM_F_CREATE | 0x800, table, string(2, chain), _nest(4, body)) for chain, body in _rules()
    ]
    return requests


def _place(element: Guard | Clamp) -> list[tuple[str, bytes, bytes]]:
    """(set, key, data) of an object: a clamp stands in two maps."""
    if isinstance(element, Clamp):
        name = element.ifname.encode().ljust(16, b"\0")
        values = (("mss4", element.mss4), ("mss6", element.mss6))
        return [(where, name, struct.pack("!H", mss)) for where, mss in values]
    family = 6 if len(element.remote) == 16 else 4
    if not element.local_port:
        return [(f"guard{family}_ip", element.remote, b"")]
    ports = struct.pack("!H2xH2x", element.local_port, element.remote_port)
    return [(f"guard{family}_udp", element.remote + ports, b"")]


def entries(element: Guard | Clamp, *, with_data: bool = True) -> list[tuple[str, bytes]]:
    """(set, packed element) of an object."""
    result = []
    for name, key, data in _place(element):
        parts = [_nest(1, attr(1, key))]
        if data and with_data:
            parts.append(_nest(2, attr(1, data)))
        result.append((name, _nest(1, *parts)))
    return result


def _elements(kind: int, flags: int, elements: Iterable[Guard | Clamp], *, with_data: bool) -> list[Message]:
    by_set: dict[str, list[bytes]] = {}
    for element in elements:
        for name, entry in entries(element, with_data=with_data):
            by_set.setdefault(name, []).append(entry)
    return _packed(kind, flags, by_set)


def _packed(kind: int, flags: int, by_set: Mapping[str, Sequence[bytes]]) -> list[Message]:
    many = _ELEMENTS_PER_MESSAGE
    return [
        _message(kind, flags, string(1, TABLE), string(2, name), _nest(3, *packed[start : start + many]))
        for name, packed in by_set.items()
        for start in range(0, len(packed), many)
    ]


def _value(reply: Reply | KernelError) -> int | None:
    """The data of the one element in a reply."""
    if isinstance(reply, KernelError):
        return None
    element = attributes(attributes(attributes(reply.payload, 4).get(3, b"")).get(1, b""))
    return int.from_bytes(attributes(element.get(2, b"")).get(1, b"\0\0")[:2])


def event(kind: int, netns: str, payload: bytes) -> list[Guard | Clamp] | None:
    """What an nftables event is about: the elements of our sets that it names; [] for anybody else's table.

    None: something else in our table changed (a rule, a set, the table itself).
    """
    found = attributes(payload, 4)
    if found.get(1) != TABLE.encode() + b"\0":
        return []
    if kind not in (_NEWSETELEM, _DELSETELEM):
        return None
    name = found.get(2, b"").rstrip(b"\0").decode(errors="replace")
    if name not in _SETS:
        return None
    keys = [attributes(attributes(raw).get(1, b"")).get(1, b"") for _, raw in attribute_list(found.get(3, b""))]
    return [_element(netns, name, key) for key in keys]


def _element(netns: str, name: str, key: bytes) -> Guard | Clamp:
    """The object behind a set element, without a clamp's values."""
    if name.startswith("mss"):
        return Clamp(netns, key.rstrip(b"\0").decode(errors="replace"), 0, 0)
    size = 16 if "6" in name else 4
    local, remote = struct.unpack_from("!H2xH2x", key, size) if len(key) > size else (0, 0)
    return Guard(netns, key[:size], local, remote)


class Table:
    """The table in one namespace. Every change is one transaction."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink

    def exists(self) -> bool:
        reply = self._netlink.get([_message(_GETTABLE, 0, string(1, TABLE))])[0]
        return not isinstance(reply, KernelError)

    def intact(self) -> bool:
        """Whether every rule that we would make is there."""
        if not self.exists():
            return False
        counts: dict[str, int] = {}
        for reply in self._netlink.dump(_GETRULE, struct.pack("=BBH", _INET, 0, 0) + string(1, TABLE)):
            found = attributes(reply.payload, 4)
            if found.get(1, b"") != TABLE.encode() + b"\0":
                continue
            chain = found.get(2, b"").rstrip(b"\0").decode(errors="replace")
            size = len(list(attribute_list(found.get(4, b""))))
            counts[chain] = counts.get(chain, 0) + size
        wanted: dict[str, int] = {}
        for chain, body in _rules():
            wanted[chain] = wanted.get(chain, 0) + len(list(attribute_list(body)))
        return counts == wanted

    def create(self, elements: Sequence[Guard | Clamp] = ()) -> None:
        """Make the table anew with these elements, in one transaction, in the place of a damaged one."""
        requests = [_message(_DELTABLE, 0, string(1, TABLE))] if self.exists() else []
        requests += _create_table()
        requests += _elements(_NEWSETELEM, NLM_F_CREATE, elements, with_data=True)
        self._netlink.transaction(_BEGIN, requests, _END)

    def add(self, elements: Sequence[Guard | Clamp]) -> None:
        """Add elements; an equal one that is there already is no error."""
        self._netlink.transaction(_BEGIN, _elements(_NEWSETELEM, NLM_F_CREATE, elements, with_data=True), _END)

    def insert(self, by_set: Mapping[str, Sequence[bytes]]) -> None:
        """Add packed elements (see `entries`) by set, in one transaction."""
        self._netlink.transaction(_BEGIN, _packed(_NEWSETELEM, NLM_F_CREATE, by_set), _END)

    def replace(self, old: Sequence[Guard | Clamp], new: Sequence[Guard | Clamp]) -> None:
        """Take elements out and put others in, in one transaction."""
        requests = _elements(_DELSETELEM, 0, old, with_data=False)
        requests += _elements(_NEWSETELEM, NLM_F_CREATE, new, with_data=True)
        self._netlink.transaction(_BEGIN, requests, _END)

    def remove(self, elements: Sequence[Guard | Clamp]) -> None:
        """Remove elements that are there. Raises KernelError ENOENT, and removes none, if one of them is not."""
        self._netlink.transaction(_BEGIN, _elements(_DELSETELEM, 0, elements, with_data=False), _END)

    def delete(self) -> None:
        """Remove the table and all in it, if it is there."""
        if self.exists():
            self._netlink.transaction(_BEGIN, [_message(_DELTABLE, 0, string(1, TABLE))], _END)

    def get(self, elements: Sequence[Guard | Clamp]) -> list[Guard | Clamp]:
        """Those of the elements that are there, clamps with the values they have there."""
        requests: list[Message] = []
        for element in elements:
            requests += _elements(_GETSETELEM, 0, [element], with_data=False)
        replies = iter(self._netlink.get(requests))
        found: list[Guard | Clamp] = []
        for element in elements:
            if isinstance(element, Guard):
                if not isinstance(next(replies), KernelError):
                    found.append(element)
                continue
            four, six = (_value(next(replies)), _value(next(replies)))
            if four is not None or six is not None:
                found.append(Clamp(element.netns, element.ifname, four or 0, six or 0))
        return found

    def read(self, netns: str) -> list[Guard | Clamp]:
        """Every element in the sets; [] without a table."""
        if not self.exists():
            return []
        found: list[Guard | Clamp] = []
        for name in ("guard4_udp", "guard6_udp", "guard4_ip", "guard6_ip"):
            found += [_element(netns, name, key) for key, _ in self._dump(name)]
        mss6 = {key: int.from_bytes(data[:2]) for key, data in self._dump("mss6")}
        mss4 = {key: int.from_bytes(data[:2]) for key, data in self._dump("mss4")}
        found += [
            Clamp(netns, key.rstrip(b"\0").decode(errors="replace"), mss4.get(key, 0), mss6.get(key, 0))
            for key in mss4.keys() | mss6.keys()
        ]
        return found

    def _dump(self, name: str) -> list[tuple[bytes, bytes]]:
        payload = struct.pack("=BBH", _INET, 0, 0) + string(1, TABLE) + string(2, name)
        found = []
        try:
            for reply in self._netlink.dump(_GETSETELEM, payload):
                for _, raw in attribute_list(attributes(reply.payload, 4).get(3, b"")):
                    element = attributes(raw)
                    key = attributes(element.get(1, b"")).get(1, b"")
                    found.append((key, attributes(element.get(2, b"")).get(1, b"")))
        except KernelError as error:
            if error.code != 2:  # ENOENT: somebody removed the set
                raise
        return found
