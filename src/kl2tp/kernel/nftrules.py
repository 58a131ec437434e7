"""What our table in nftables consists of, as messages of nfnetlink: sets, chains, rules. See `kl2tp.kernel.nft`.

Every number in nfnetlink attributes is big-endian.
"""

import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from kl2tp.kernel.clients import BY_PORT, L2TP_PORT, OWN_REQIDS, OWN_REQIDS_MASK, PORT_BASE, PORT_MASK
from kl2tp.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, Message, attr, attribute_list, attributes, string
from kl2tp.model.objects import Marks

TABLE = "kl2tp"
INET = 1
SUBSYSTEM = 10 << 8
(NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, GETCHAIN, DELCHAIN, NEWRULE, GETRULE) = (SUBSYSTEM | n for n in range(8))
NEWSET, NEWSETELEM, GETSETELEM, DELSETELEM = (SUBSYSTEM | n for n in (9, 12, 13, 14))
NEWGEN = SUBSYSTEM | 15
_NLM_F_APPEND = 0x800
_NLA_F_NESTED = 0x8000
_HOOK_PRE, _HOOK_IN, _HOOK_FORWARD, _HOOK_OUT = 0, 1, 2, 3
_FIRST, _RAW, _MANGLE, _LATE = -450, -300, -150, 500
_SET_MAP = 0x8
_TYPE_IPADDR, _TYPE_IP6ADDR, _TYPE_INET_SERVICE, _TYPE_MARK, _TYPE_IFNAME = 7, 8, 13, 19, 41
_VERDICT = 0xFFFFFF00
_REG_VERDICT, _REG_1, _REG32_00 = 0, 1, 8
_DROP, _JUMP, _RETURN = 0, -3, -5
_HOST_KEYS_BIG_DATA = struct.pack("=BBIBBI", 0, 4, 1, 1, 4, 2)
_BIG_KEYS_HOST_DATA = struct.pack("=BBIBBI", 0, 4, 2, 1, 4, 1)
"""User data of maps, for `nft list`: the order of bytes in keys and data. For want of an MSS the type is a port."""
ESP_CHAIN, UNMARK_CHAIN = "esp_", "unmark_"
"""What the chains begin with that see packets of guarded places, and those that came in their tunnels; the rest is the
range of marks."""
IN_CLEAR, OF_ANOTHER, OUT_CLEAR = "in clear", "tunnel of another SA", "out in clear"
"""Comments of the rules whose packets are counted."""


class SetType(NamedTuple):
    """What a set holds."""

    key: int
    size: int
    """Bytes of the key."""
    data: int = 0
    """A map's data type."""
    data_size: int = 0
    order: bytes = b""


def _types(*types: int) -> int:
    """The type of a concatenation."""
    found = 0
    for kind in types:
        found = found << 6 | kind
    return found


def _set_types() -> Iterator[tuple[str, SetType]]:
    for family, address, size in (("4", _TYPE_IPADDR, 4), ("6", _TYPE_IP6ADDR, 16)):
        port = _TYPE_INET_SERVICE
        yield f"guard{family}_udp", SetType(_types(address, port, port), size + 8)
        yield f"guard{family}_to", SetType(_types(address, port), size + 4)
        yield f"guard{family}_ip", SetType(address, size)
        yield f"mss{family}", SetType(_TYPE_IFNAME, 16, port, 2, _HOST_KEYS_BIG_DATA)
        yield f"enter{family}", SetType(_types(address, port), size + 4, _VERDICT)
        yield f"enter{family}_any", SetType(port, 2, _VERDICT)
        yield f"place{family}", SetType(_types(address, port), size + 4)
        yield f"place{family}_any", SetType(port, 2)
    yield "bound_ids", SetType(_TYPE_INET_SERVICE, 2, _TYPE_MARK, 4, _BIG_KEYS_HOST_DATA)
    yield "bound_pairs", SetType(_types(_TYPE_MARK, _TYPE_INET_SERVICE), 8)


SETS: dict[str, SetType] = dict(_set_types())
_BASE_CHAINS = {
    "guard_out": (_HOOK_OUT, _MANGLE),
    "guard_in": (_HOOK_IN, _MANGLE),
    "clamp": (_HOOK_FORWARD, _MANGLE),
    # After all that firewalls decide by marks of their own.
    "place_in": (_HOOK_IN, _LATE),
    "place_out": (_HOOK_OUT, _MANGLE),
}
_PORT_CHAINS = {
    # Before connection tracking both ways: to it, too, each client is another port.
    "ports_in": (_HOOK_PRE, _RAW),
    "ports_out": (_HOOK_OUT, _MANGLE),
}
CHAINS: dict[str, tuple[int, int] | None] = {
    **(dict.fromkeys(("renumber", "restore")) if BY_PORT else {}),
    **_BASE_CHAINS,
    **(_PORT_CHAINS if BY_PORT else {}),
}
"""(hook, priority) of each chain; None: others jump to it."""


# -- attributes and messages -----------------------------------------------------------------------------------------


def b32(kind: int, value: int) -> bytes:
    """An attribute with a number of 32 bits."""
    return struct.pack("=HH", 8, kind) + struct.pack("!I", value & 0xFFFFFFFF)


def nest(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds others."""
    return attr(kind | _NLA_F_NESTED, b"".join(parts))


def message(kind: int, flags: int, *parts: bytes, family: int = INET) -> Message:
    """A message of nftables."""
    return Message(kind, flags, struct.pack("=BB", family, 0) + b"\0\0" + b"".join(parts))


def verdict(code: int, chain: str = "") -> bytes:
    """The data of a verdict."""
    return nest(2, b32(1, code), *([string(2, chain)] if chain else []))


def jump_data(chain: str) -> bytes:
    """The data of a map's element by which a packet goes to a chain."""
    return verdict(_JUMP, chain)


# -- expressions ------------------------------------------------------------------------------------------------------


def _expression(name: str, *parts: bytes) -> bytes:
    return nest(1, string(1, name), nest(2, *parts))


def _meta(key: int, register: int = _REG_1) -> bytes:
    return _expression("meta", b32(2, key), b32(1, register))


def _compare(value: bytes, register: int = _REG_1, *, equal: bool = True) -> bytes:
    return _expression("cmp", b32(1, register), b32(2, 0 if equal else 1), nest(3, attr(1, value)))


def _payload(base: int, offset: int, size: int, register: int = _REG_1) -> bytes:
    return _expression("payload", b32(1, register), b32(2, base), b32(3, offset), b32(4, size))


def _write(offset: int, size: int, *, checksum: bool) -> bytes:
    """Put register 1 into the transport header; with the checksum of UDP kept right, or left alone."""
    parts = [b32(2, _TRANSPORT), b32(3, offset), b32(4, size), b32(5, _REG_1), b32(6, 1 if checksum else 0)]
    return _expression("payload", *parts, *([b32(7, _UDP_CHECKSUM)] if checksum else []))


def _masked(mask: bytes, flip: bytes = b"", register: int = _REG_1) -> bytes:
    """The register & mask ^ flip."""
    flip = flip or bytes(len(mask))
    values = (nest(4, attr(1, mask)), nest(5, attr(1, flip)))
    return _expression("bitwise", b32(1, register), b32(2, register), b32(3, len(mask)), *values)


def _shifted(bits: int) -> bytes:
    """Register 1 as a number of the machine's, to the left."""
    data = nest(7, attr(1, struct.pack("=I", bits)))
    return _expression("bitwise", b32(1, _REG_1), b32(2, _REG_1), b32(3, 4), b32(6, 1), data)


def _lookup(name: str, register: int, result: int | None = None, *, absent: bool = False) -> bytes:
    parts = [string(1, name), b32(2, register)]
    if result is not None:
        parts.append(b32(3, result))
    return _expression("lookup", *parts, *([b32(5, 1)] if absent else []))


def _reqid(*, outgoing: bool = False, register: int = _REG_1) -> bytes:
    """The reqid of the SA that a packet came out of, or will go into; without one the rule ends here."""
    return _expression("xfrm", b32(1, register), b32(2, _XFRM_REQID), attr(3, bytes((outgoing,))), b32(4, 0))


def _number(value: int) -> bytes:
    """A number of the machine's, as registers hold it."""
    return struct.pack("=I", value)


_META_OIFNAME, _META_IIFNAME, _META_NFPROTO, _META_L4PROTO, _META_SECPATH, _META_MARK = 7, 6, 15, 16, 25, 3
_XFRM_REQID = 5
_NETWORK, _TRANSPORT = 1, 2
_UDP_SOURCE, _UDP_DESTINATION, _UDP_CHECKSUM, _UDP_DATA = 0, 2, 6, 8
_COUNT = _expression("counter")


def _decide(code: int, chain: str = "") -> bytes:
    return _expression("immediate", b32(1, _REG_VERDICT), nest(2, verdict(code, chain)))


_COUNT_AND_DROP = _COUNT + _decide(_DROP)
_CAME_IN_CLEAR = _meta(_META_SECPATH) + _compare(b"\0")
_ROUTE_IN_CLEAR = _expression("rt", b32(1, _REG_1), b32(2, 4)) + _compare(b"\0")


def _family(*, v6: bool, protocol: int) -> bytes:
    """Only packets of this family and protocol."""
    family = bytes((socket.AF_INET6 if v6 else socket.AF_INET,))
    return b"".join((_meta(_META_NFPROTO), _compare(family), _meta(_META_L4PROTO), _compare(bytes((protocol,)))))


def _address(*, v6: bool, source: bool) -> tuple[int, int]:
    """(offset, size) of an address in the IP header."""
    return (8 if source else 24, 16) if v6 else (12 if source else 16, 4)


# -- rules ------------------------------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """A rule of a chain."""

    chain: str
    body: bytes
    comment: str = ""


def _guard_rule(kind: str, *, v6: bool, outgoing: bool) -> Rule:
    """Drop packets between a guarded pair of endpoints that no IPsec protects."""
    # The peer's address is the destination when we send, the source when we receive.
    offset, size = _address(v6=v6, source=not outgoing)
    body = [_family(v6=v6, protocol=115 if kind == "ip" else 17), _payload(_NETWORK, offset, size, _REG32_00)]
    local, remote = (_UDP_SOURCE, _UDP_DESTINATION) if outgoing else (_UDP_DESTINATION, _UDP_SOURCE)
    ports = {"udp": (local, remote), "to": (remote,), "ip": ()}[kind]
    body += [_payload(_TRANSPORT, port, 2, _REG32_00 + size // 4 + n) for n, port in enumerate(ports)]
    body.append(_lookup(f"guard{6 if v6 else 4}_{kind}", _REG32_00))
    body += [_ROUTE_IN_CLEAR if outgoing else _CAME_IN_CLEAR, _COUNT_AND_DROP]
    return Rule("guard_out" if outgoing else "guard_in", b"".join(body))


def _clamp_rule(*, v6: bool, outgoing: bool) -> Rule:
    """Lower the MSS option of SYN segments to the interface's value; the kernel never raises it."""
    body = (
        _family(v6=v6, protocol=6),
        _payload(_TRANSPORT, 13, 1),
        _masked(b"\x06"),
        _compare(b"\x02"),
        _meta(_META_OIFNAME if outgoing else _META_IIFNAME),
        _lookup("mss6" if v6 else "mss4", _REG_1, _REG_1),
        _expression("exthdr", b32(7, _REG_1), attr(2, b"\x02"), b32(3, 2), b32(4, 2), b32(6, 1)),
    )
    return Rule("clamp", b"".join(body))


def _ours(name: str, *, v6: bool, exact: bool, source: bool) -> tuple[bytes, str]:
    """Loads our address and port of a packet, and the name of the set in which to look them up."""
    load = [_family(v6=v6, protocol=17)]
    if exact:
        offset, size = _address(v6=v6, source=source)
        load.append(_payload(_NETWORK, offset, size, _REG32_00))
    port = _UDP_SOURCE if source else _UDP_DESTINATION
    load.append(_payload(_TRANSPORT, port, 2, _REG32_00 + (size // 4 if exact else 0)))
    return b"".join(load), f"{name}{6 if v6 else 4}{'' if exact else '_any'}"


_EACH_PLACE = tuple((v6, exact) for v6 in (False, True) for exact in (True, False))


def _place_rules() -> Iterator[Rule]:
    """What comes to a guarded place goes to the chain that its map names; out of one goes only what IPsec protects."""
    for v6, exact in _EACH_PLACE:
        load, name = _ours("enter", v6=v6, exact=exact, source=False)
        yield Rule("place_in", load + _lookup(name, _REG32_00, _REG_VERDICT))
        load, name = _ours("place", v6=v6, exact=exact, source=True)
        yield Rule("place_out", load + _lookup(name, _REG32_00) + _ROUTE_IN_CLEAR + _COUNT_AND_DROP, OUT_CLEAR)


_TUNNEL_ID = ((False, 2), (True, 4))
"""(with a length, offset) of the tunnel id in an L2TPv2 header, RFC 2661 3.1."""
_WITH_LENGTH, _VERSION, _V2 = b"\x40", b"\x0f", b"\x02"


def esp_rules(marks: Marks) -> Iterator[Rule]:
    """For packets to a guarded place: out of ESP only; a bound tunnel's only from its SA; and with its mark."""
    chain = esp_chain(marks)
    yield Rule(chain, _CAME_IN_CLEAR + _COUNT_AND_DROP, IN_CLEAR)
    for length, offset in _TUNNEL_ID:
        body = (
            _is_v2(),
            _payload(_TRANSPORT, _UDP_DATA, 1),
            _masked(_WITH_LENGTH),
            _compare(_WITH_LENGTH if length else b"\0"),
            _payload(_TRANSPORT, _UDP_DATA + offset, 2, _REG32_00 + 1),
            _lookup("bound_ids", _REG32_00 + 1, _REG32_00 + 2),
            _compare(bytes(4), _REG32_00 + 2, equal=False),  # always: for `nft list`, which shows what is of use
            _reqid(register=_REG32_00),
            _lookup("bound_pairs", _REG32_00, absent=True),
        )
        yield Rule(chain, b"".join((*body, _COUNT_AND_DROP)), OF_ANOTHER)
    base, mask = marks
    if mask:
        yield Rule(chain, _is_own(outgoing=False) + _decide(_RETURN))
        yield Rule(chain, _reqid() + _masked(_number(mask), _number(base)) + _SET_MARK)
        # The kernel leaves a packet's mark on what was in it: there it would be taken for somebody else's.
        marked = _meta(_META_MARK) + _masked(_number(~mask & 0xFFFFFFFF)) + _compare(_number(base))
        none = _expression("immediate", b32(1, _REG_1), nest(2, attr(1, bytes(4))))
        yield Rule(unmark_chain(marks), marked + none + _SET_MARK)


_SET_MARK = _expression("meta", b32(2, _META_MARK), b32(3, _REG_1))


def _is_v2() -> bytes:
    return _payload(_TRANSPORT, _UDP_DATA + 1, 1) + _masked(_VERSION) + _compare(_V2)


def _is_own(*, outgoing: bool) -> bytes:
    """Whether the SA is of a declared tunnel or of one of our calls."""
    return _reqid(outgoing=outgoing) + _masked(_number(OWN_REQIDS_MASK)) + _compare(_number(OWN_REQIDS))


def _port_rules() -> Iterator[Rule]:
    """In: a source port for each client. Out: the one that it really has."""
    for v6, exact in _EACH_PLACE:
        load, name = _ours("place", v6=v6, exact=exact, source=False)
        from_l2tp = _payload(_TRANSPORT, _UDP_SOURCE, 2) + _compare(L2TP_PORT.to_bytes(2))
        yield Rule("ports_in", load + _lookup(name, _REG32_00) + from_l2tp + _is_v2() + _decide(_JUMP, "renumber"))
        load, name = _ours("place", v6=v6, exact=exact, source=True)
        yield Rule("ports_out", load + _lookup(name, _REG32_00) + _decide(_JUMP, "restore"))
    yield Rule("renumber", _is_own(outgoing=False) + _decide(_RETURN))
    yield Rule("restore", _is_own(outgoing=True) + _decide(_RETURN))
    # The low half of the reqid as a port: in network order it stands first.
    order = _expression("byteorder", b32(1, _REG_1), b32(2, _REG_1), b32(3, 1), b32(4, 4), b32(5, 4))
    mask, base = ((value << 16).to_bytes(4) for value in (PORT_MASK, PORT_BASE))
    number = _reqid() + _shifted(16) + order + _masked(mask, base)
    given = _reqid(outgoing=True) + _payload(_TRANSPORT, _UDP_DESTINATION, 2)
    given += _masked((0xFFFF & ~PORT_MASK).to_bytes(2)) + _compare(PORT_BASE.to_bytes(2))
    real = _expression("immediate", b32(1, _REG_1), nest(2, attr(1, L2TP_PORT.to_bytes(2))))
    # A datagram without a checksum has none afterwards either.
    for checksum in (True, False):
        summed = _payload(_TRANSPORT, _UDP_CHECKSUM, 2) + _compare(bytes(2), equal=not checksum)
        yield Rule("renumber", summed + number + _write(_UDP_SOURCE, 2, checksum=checksum))
        yield Rule("restore", summed + given + real + _write(_UDP_DESTINATION, 2, checksum=checksum))


def _constant_rules() -> Iterator[Rule]:
    both = (False, True)
    for outgoing in (True, False):
        yield from (_guard_rule(kind, v6=v6, outgoing=outgoing) for v6 in both for kind in ("ip", "udp", "to"))
    yield from (_clamp_rule(v6=v6, outgoing=out) for v6 in both for out in both)
    yield from _place_rules()
    if BY_PORT:
        yield from _port_rules()


RULES = tuple(_constant_rules())
"""The rules that there are in every table."""


def esp_chain(marks: Marks) -> str:
    """The chain for guarded places with this range of marks."""
    return f"{ESP_CHAIN}{marks[0]:x}_{marks[1]:x}"


def unmark_chain(marks: Marks) -> str:
    """The chain that takes marks of this range from what was in tunnels."""
    return f"{UNMARK_CHAIN}{marks[0]:x}_{marks[1]:x}"


def marks_of(chain: str) -> Marks:
    """The range of marks of a chain; (0, 0) for a chain that is none of these."""
    base, _, mask = chain.removeprefix(ESP_CHAIN).partition("_")
    try:
        marks = int(base, 16), int(mask, 16)
    except ValueError:
        return 0, 0
    return marks if esp_chain(marks) == chain else (0, 0)


# -- the table --------------------------------------------------------------------------------------------------------

_USERDATA_COMMENT = 0


def _new_rule(rule: Rule, counted: Sequence[int]) -> Message:
    body = rule.body
    if any(counted):
        packets, octets = counted
        body = body.replace(_COUNT, _expression("counter", _b64(1, octets), _b64(2, packets)))
    parts = [string(1, TABLE), string(2, rule.chain), nest(4, body)]
    if rule.comment:
        comment = rule.comment.encode() + b"\0"
        parts.append(attr(7, bytes((_USERDATA_COMMENT, len(comment))) + comment))
    return message(NEWRULE, NLM_F_CREATE | _NLM_F_APPEND, *parts)


def _b64(kind: int, value: int) -> bytes:
    return attr(kind, value.to_bytes(8))


Counted: TypeAlias = dict[str, tuple[int, int]]
"""(packets, bytes) by the comments of rules."""


def chains_of(marks: Marks) -> dict[str, tuple[int, int] | None]:
    """(hook, priority) of the chains of a range of marks."""
    return {esp_chain(marks): None, unmark_chain(marks): (_HOOK_PRE, _FIRST)}


def new_chain(name: str, where: tuple[int, int] | None) -> Message:
    parts = [string(1, TABLE), string(3, name)]
    if where is not None:
        parts += [nest(4, b32(1, where[0]), b32(2, where[1])), string(7, "filter"), b32(5, 1)]
    return message(NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL, *parts)


def new_esp_chain(marks: Marks, counted: Counted | None = None) -> Iterator[Message]:
    """The chains of a range of marks; their counters go on from what was counted before."""
    left = dict(counted or {})
    yield from (new_chain(name, where) for name, where in chains_of(marks).items())
    yield from (_new_rule(rule, left.pop(rule.comment, (0, 0))) for rule in esp_rules(marks))


def new_table(counted: Counted | None = None) -> Iterator[Message]:
    """The table with its sets, chains and rules, empty of elements. Its counters go on from what was counted before."""
    left = dict(counted or {})
    table = string(1, TABLE)
    yield message(NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, table)
    for number, (name, kind) in enumerate(SETS.items(), 1):
        flags = _SET_MAP if kind.data else 0
        parts = [table, string(2, name), b32(3, flags), b32(4, kind.key), b32(5, kind.size), b32(10, number)]
        if kind.data:
            parts.append(b32(6, kind.data))
        if kind.data_size:
            parts += [b32(7, kind.data_size), attr(13, kind.order)]
        yield message(NEWSET, NLM_F_CREATE | NLM_F_EXCL, *parts)
    yield from (new_chain(name, where) for name, where in CHAINS.items())
    yield from (_new_rule(rule, left.pop(rule.comment, (0, 0))) for rule in RULES)


# -- as the kernel has it ---------------------------------------------------------------------------------------------


def ranges(chains: Iterable[str]) -> list[Marks]:
    """The ranges of marks of these chains."""
    return [marks_of(name) for name in chains if name.startswith(ESP_CHAIN)]


def wanted_chains(some: Iterable[Marks]) -> dict[str, tuple[int, int] | None]:
    """(hook, priority) of all chains that there should be, with those of ranges of marks."""
    wanted = dict(CHAINS)
    for marks in some:
        wanted |= chains_of(marks)
    return wanted


def wanted_rules(some: Iterable[Marks]) -> dict[str, list[bytes]]:
    """The bodies of the rules that there should be, by chain."""
    some = list(some)
    wanted: dict[str, list[bytes]] = {name: [] for name in wanted_chains(some)}
    for rule in (*RULES, *(rule for marks in some for rule in esp_rules(marks))):
        wanted[rule.chain].append(rule.body)
    return wanted


def same_rule(wanted: bytes, found: bytes) -> bool:
    """Whether the kernel's expressions are ours: it adds to ours what it takes for granted."""
    ours, theirs = list(attribute_list(wanted)), list(attribute_list(found))
    return len(ours) == len(theirs) and all(_covers(a, b) for (_, a), (_, b) in zip(ours, theirs, strict=True))


def _covers(wanted: bytes, found: bytes) -> bool:
    """Whether all attributes of an expression are there, with these values."""
    name, theirs = attributes(wanted).get(1), attributes(found)
    if name != theirs.get(1):
        return False
    return _contains(name or b"", attributes(wanted).get(2, b""), theirs.get(2, b""))


_NESTS = {(b"cmp\0", 3), (b"bitwise\0", 4), (b"bitwise\0", 5), (b"bitwise\0", 7), (b"immediate\0", 2)}
_REGISTERS = {
    b"payload\0": (1, 5),
    b"meta\0": (1, 3),
    b"cmp\0": (1,),
    b"bitwise\0": (1, 2),
    b"lookup\0": (2, 3),
    b"xfrm\0": (1,),
    b"rt\0": (1,),
    b"byteorder\0": (1, 2),
    b"immediate\0": (1,),
    b"exthdr\0": (1, 7),
}


def _contains(name: bytes, wanted: bytes, found: bytes) -> bool:
    theirs = attributes(found)
    for kind, value in attributes(wanted).items():
        there = theirs.get(kind)
        if there is None:
            return False
        if (name, kind) in _NESTS:
            if not _contains(b"", value, there):
                return False
        elif name == b"" and kind == 2:  # a verdict
            if not _contains(b"-", value, there):
                return False
        elif kind in _REGISTERS.get(name, ()):
            if _register(value) != _register(there):
                return False
        elif value != there and name != b"counter\0":
            return False
    return True


def _register(value: bytes) -> int:
    """The first word of a register: instead of one of 32 bits the kernel names the one of 128 that begins there."""
    number = int.from_bytes(value)
    return number * 4 if number < _REG32_00 else number - _REG32_00 + 4
