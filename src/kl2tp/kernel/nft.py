"""Our table in nftables, by nfnetlink: guards against clear L2TP, places where we listen, and TCP MSS clamping.

    table inet kl2tp {
        set  guard4_udp, guard6_udp      # remote address . local port . remote port
        set  guard4_to,  guard6_to       # remote address . remote port
        set  guard4_ip,  guard6_ip       # remote address
        map  mss4, mss6                  # interface name : MSS
        map  enter4, enter6              # our address . port : jump esp_BASE_MASK
        map  enter4_any, enter6_any      # port : jump esp_BASE_MASK
        set  place4, place6              # our address . port
        set  place4_any, place6_any      # port
        map  bound_ids                   # tunnel id : reqid
        set  bound_pairs                 # reqid . tunnel id
        chain guard_out  { type filter hook output  ... }   # in a guard set, and no IPsec on the route: drop
        chain guard_in   { type filter hook input   ... }   # in a guard set, and not from IPsec: drop
        chain clamp      { type filter hook forward ... }   # SYN: lower the MSS to what the map says
        chain place_in   { type filter hook input   ... }   # to a guarded place: as its map says
        chain place_out  { type filter hook output  ... }   # from a guarded place, and no IPsec on the route: drop
        chain esp_...    # not from IPsec: drop; bound, but not to this SA: drop; mark := BASE | reqid & MASK
        chain unmark_... { type filter hook prerouting ... } # what came in such a packet has no such mark
    }

On kernels that look for a data packet's session in the socket that it came to (`kl2tp.kernel.clients`), moreover:

        chain ports_in   { type filter hook prerouting ... } # to a guarded place, from port 1701: jump renumber
        chain ports_out  { type filter hook output ... }     # from a guarded place: jump restore
        chain renumber, restore                              # source port := 16384 | reqid & 16383; and back to 1701

The rules never change; only elements do, one per tunnel or interface, so a packet costs one look-up whatever the number
of tunnels. What the rules are is said in `kl2tp.kernel.nftrules`.
"""

import errno
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from kl2tp.kernel import nftrules
from kl2tp.kernel.netlink import (
    NLM_F_CREATE,
    KernelError,
    Message,
    Netlink,
    Reply,
    attr,
    attribute_list,
    attributes,
    string,
)
from kl2tp.kernel.nftrules import (
    DELSETELEM,
    DELTABLE,
    GETCHAIN,
    GETRULE,
    GETSETELEM,
    GETTABLE,
    NEWSETELEM,
    SETS,
    TABLE,
    message,
    nest,
)
from kl2tp.model.objects import NO_MARK, Binding, Clamp, Element, Guard, GuardedPlace, Marks

NETLINK_NETFILTER = 12
GROUP_NFTABLES = 7
_ELEMENTS_PER_MESSAGE = 500
"""A netlink attribute holds 64 KiB; 500 elements stay far below it."""
_DORMANT = 1
_DUMP_TRIES = 50
_PACKETS, _BYTES = 2, 1
_DROPS = (nftrules.IN_CLEAR, nftrules.OF_ANOTHER, nftrules.OUT_CLEAR)
Entry: TypeAlias = tuple[str, bytes, bytes]
"""(set, key, data); without data for a plain set, and a chain's name where that is what a map leads to."""
Found: TypeAlias = dict[str, dict[bytes, bytes]]
"""Data by set and key."""

BEGIN = Message(0x10, 0, struct.pack("=BB", 0, 0) + struct.pack("!H", 10))
END = Message(0x11, 0, struct.pack("=BB", 0, 0) + struct.pack("!H", 10))


class Dropped(NamedTuple):
    """Packets that guarded places did not let in, or out."""

    in_clear: int = 0
    of_another: int = 0
    """For a tunnel that is bound to another SA."""
    out_clear: int = 0


# -- objects and entries ----------------------------------------------------------------------------------------------


def place(element: Element) -> list[Entry]:
    """The entries of an object: a clamp stands in two maps."""
    if isinstance(element, Clamp):
        name = element.ifname.encode().ljust(16, b"\0")
        values = (("mss4", element.mss4), ("mss6", element.mss6))
        return [(where, name, struct.pack("!H", mss)) for where, mss in values]
    if isinstance(element, GuardedPlace):
        return list(_place_entries(element))
    if isinstance(element, Binding):
        number, reqid = element.tunnel_id.to_bytes(2), struct.pack("=I", element.reqid)
        return [("bound_ids", number, reqid), ("bound_pairs", reqid + number + b"\0\0", b"")]
    return [_guard_entry(element)]


def _guard_entry(guard: Guard) -> Entry:
    family = 6 if len(guard.remote) == 16 else 4
    if not guard.remote_port:
        return f"guard{family}_ip", guard.remote, b""
    if not guard.local_port:
        return f"guard{family}_to", guard.remote + struct.pack("!H2x", guard.remote_port), b""
    ports = struct.pack("!H2xH2x", guard.local_port, guard.remote_port)
    return f"guard{family}_udp", guard.remote + ports, b""


def _place_entries(thing: GuardedPlace) -> Iterator[Entry]:
    family, port = 6 if len(thing.address) == 16 else 4, thing.port.to_bytes(2)
    exact = any(thing.address)
    key = thing.address + port + b"\0\0" if exact else port
    suffix = "" if exact else "_any"
    yield f"enter{family}{suffix}", key, nftrules.esp_chain(thing.marks).encode()
    yield f"place{family}{suffix}", key, b""


def _objects(netns: str, found: Found) -> list[Element]:
    """The objects that entries stand for. What is incomplete is told as one with other values."""
    things: list[Element] = []
    for name, entries in found.items():
        if name.startswith("guard"):
            things += [_element(netns, name, key) for key in entries]
        elif name.startswith("enter"):
            things += [_place_of(netns, name, key, chain, found) for key, chain in entries.items()]
    mss4, mss6 = found.get("mss4", {}), found.get("mss6", {})
    for key in mss4.keys() | mss6.keys():
        things.append(Clamp(netns, _ifname(key), _mss(mss4.get(key)), _mss(mss6.get(key))))
    pairs = found.get("bound_pairs", {})
    for number, reqid in found.get("bound_ids", {}).items():
        complete = reqid + number + b"\0\0" in pairs
        things.append(Binding(netns, int.from_bytes(number), struct.unpack("=I", reqid)[0] if complete else 0))
    return things


def _place_of(netns: str, name: str, key: bytes, chain: bytes, found: Found) -> GuardedPlace:
    thing = _element(netns, name, key)
    assert isinstance(thing, GuardedPlace)
    if key not in found.get(name.replace("enter", "place"), {}):
        return thing
    return GuardedPlace(netns, thing.address, thing.port, nftrules.marks_of(chain.decode(errors="replace")))


def _ifname(key: bytes) -> str:
    return key.rstrip(b"\0").decode(errors="replace")


def _mss(data: bytes | None) -> int:
    return int.from_bytes(data[:2]) if data else 0


def _element(netns: str, name: str, key: bytes) -> Element:
    """The object behind an entry, without its values."""
    if name.startswith("mss"):
        return Clamp(netns, _ifname(key), 0, 0)
    if name.startswith("bound"):
        return Binding(netns, int.from_bytes(key[:2] if name == "bound_ids" else key[4:6]), 0)
    size = 16 if "6" in name else 4
    if name.startswith(("enter", "place")):
        exact = len(key) > size
        address = key[:size] if exact else bytes(size)
        return GuardedPlace(netns, address, int.from_bytes(key[size : size + 2] if exact else key[:2]), NO_MARK)
    if name.endswith("_to"):
        return Guard(netns, key[:size], 0, int.from_bytes(key[size : size + 2]))
    local, remote = struct.unpack_from("!H2xH2x", key, size) if len(key) > size else (0, 0)
    return Guard(netns, key[:size], local, remote)


# -- messages ---------------------------------------------------------------------------------------------------------


def _pack(entry: Entry, *, with_data: bool) -> bytes:
    name, key, data = entry
    parts = [nest(1, attr(1, key))]
    if data and with_data:
        whole = nftrules.jump_data(data.decode()) if name.startswith("enter") else attr(1, data)
        parts.append(nest(2, whole))
    return nest(1, *parts)


def entries(element: Element, *, with_data: bool = True) -> list[tuple[str, bytes]]:
    """(set, packed entry) of an object."""
    return [(entry[0], _pack(entry, with_data=with_data)) for entry in place(element)]


def _elements(kind: int, flags: int, elements: Iterable[Element], *, with_data: bool) -> list[Message]:
    return _of_entries(kind, flags, (e for element in elements for e in place(element)), with_data=with_data)


def _of_entries(kind: int, flags: int, some: Iterable[Entry], *, with_data: bool) -> list[Message]:
    by_set: dict[str, list[bytes]] = {}
    for entry in some:
        by_set.setdefault(entry[0], []).append(_pack(entry, with_data=with_data))
    return _packed(kind, flags, by_set)


def _packed(kind: int, flags: int, by_set: Mapping[str, Sequence[bytes]]) -> list[Message]:
    many = _ELEMENTS_PER_MESSAGE
    return [
        message(kind, flags, string(1, TABLE), string(2, name), nest(3, *packed[start : start + many]))
        for name, packed in by_set.items()
        for start in range(0, len(packed), many)
    ]


def _data(raw: dict[int, bytes]) -> bytes:
    """The data of an entry: a value, or the chain of a verdict."""
    data = attributes(raw.get(2, b""))
    if 2 in data:
        return attributes(data[2]).get(2, b"").rstrip(b"\0")
    return data.get(1, b"")


def event(kind: int, netns: str, payload: bytes) -> list[Element] | None:
    """What an nftables event is about: the elements of our sets that it names; [] for anybody else's table.

    None: something else in our table changed (a rule, a set, the table itself).
    """
    found = attributes(payload, 4)
    if found.get(1) != TABLE.encode() + b"\0":
        return []
    if kind not in (NEWSETELEM, DELSETELEM):
        return None
    name = found.get(2, b"").rstrip(b"\0").decode(errors="replace")
    if name not in SETS:
        return None
    keys = [attributes(attributes(raw).get(1, b"")).get(1, b"") for _, raw in attribute_list(found.get(3, b""))]
    return [_element(netns, name, key) for key in keys]


# -- the table --------------------------------------------------------------------------------------------------------


class Table:
    """The table in one namespace. Every change is one transaction."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink

    def _state(self) -> Reply | KernelError:
        return self._netlink.get([message(GETTABLE, 0, string(1, TABLE))])[0]

    def exists(self) -> bool:
        return not isinstance(self._state(), KernelError)

    def intact(self) -> bool:
        """Whether every rule is there as we would make it."""
        state = self._state()
        if isinstance(state, KernelError) or int.from_bytes(attributes(state.payload, 4).get(2, b"")) & _DORMANT:
            return False
        chains = self._chains()
        some = nftrules.ranges(chains)
        if chains != nftrules.wanted_chains(some):
            return False
        wanted, found = nftrules.wanted_rules(some), self._rules()
        return all(
            len(bodies) == len(found.get(chain, ()))
            and all(nftrules.same_rule(a, b) for a, (_, b) in zip(bodies, found.get(chain, ()), strict=True))
            for chain, bodies in wanted.items()
        )

    def _chains(self) -> dict[str, tuple[int, int] | None]:
        """(hook, priority) of every chain of the table; None for those without."""
        found: dict[str, tuple[int, int] | None] = {}
        for fields in self._ours(GETCHAIN):
            hook = attributes(fields[4]) if 4 in fields else None
            name = fields.get(3, b"").rstrip(b"\0").decode(errors="replace")
            found[name] = (_signed(hook.get(1, b"")), _signed(hook.get(2, b""))) if hook else None
        return found

    def _rules(self) -> dict[str, list[tuple[str, bytes]]]:
        """(comment, body) of every rule of the table, by chain."""
        found: dict[str, list[tuple[str, bytes]]] = {}
        for fields in self._ours(GETRULE):
            chain = fields.get(2, b"").rstrip(b"\0").decode(errors="replace")
            comment = fields.get(7, b"")[2:].rstrip(b"\0").decode(errors="replace")
            found.setdefault(chain, []).append((comment, fields.get(4, b"")))
        return found

    def _ours(self, kind: int) -> Iterator[dict[int, bytes]]:
        """Chains or rules of the table, by a dump: the kernel may tell of others' too."""
        payload = struct.pack("=BBH", nftrules.INET, 0, 0)
        for reply in self._dumped(kind, payload + (string(1, TABLE) if kind == GETRULE else b"")):
            fields = attributes(reply.payload, 4)
            if fields.get(1, b"") == TABLE.encode() + b"\0":
                yield fields

    def _dumped(self, kind: int, payload: bytes) -> list[Reply]:
        """A dump, begun again while others change something: of any table, each change interrupts it."""
        for _ in range(_DUMP_TRIES - 1):
            try:
                return list(self._netlink.dump(kind, payload))
            except KernelError as error:
                if error.code != errno.EAGAIN:
                    raise
        return list(self._netlink.dump(kind, payload))

    def _counted(self) -> nftrules.Counted:
        """What the rules with comments have counted."""
        counted: nftrules.Counted = {}
        for rules in self._rules().values():
            for comment, body in rules:
                for name, data in _expressions(body) if comment else ():
                    if name == b"counter\0":
                        before = counted.get(comment, (0, 0))
                        packets, octets = (int.from_bytes(data.get(kind, b"")) for kind in (_PACKETS, _BYTES))
                        counted[comment] = before[0] + packets, before[1] + octets
        return counted

    def dropped(self) -> Dropped:
        """What guarded places did not let in or out, since there are any."""
        counted = self._counted() if self.exists() else {}
        return Dropped(*(counted.get(comment, (0, 0))[0] for comment in _DROPS))

    def create(self, elements: Sequence[Element] = ()) -> None:
        """Make the table anew with these elements, in one transaction, in the place of a damaged or older one."""
        requests, counted = [], nftrules.Counted()
        if self.exists():
            counted = self._counted()
            requests.append(message(DELTABLE, 0, string(1, TABLE)))
        requests += nftrules.new_table(counted)
        requests += _esp_chains(elements, (), counted)
        requests += _elements(NEWSETELEM, NLM_F_CREATE, elements, with_data=True)
        self._netlink.transaction(BEGIN, requests, END)

    def add(self, elements: Sequence[Element]) -> None:
        """Add elements; an equal one that is there already is no error."""
        self.replace((), elements)

    def insert(self, by_set: Mapping[str, Sequence[bytes]]) -> None:
        """Add packed entries (see `entries`) by set, in one transaction."""
        self._netlink.transaction(BEGIN, _packed(NEWSETELEM, NLM_F_CREATE, by_set), END)

    def replace(self, old: Sequence[Element], new: Sequence[Element]) -> None:
        """Take elements out, as far as they are there, and put others in, in one transaction."""
        wanted = [entry for element in old for entry in place(element)]
        there = self._ask(wanted)
        gone = [entry for entry, data in zip(wanted, there, strict=True) if data is not None]
        requests = _of_entries(DELSETELEM, 0, gone, with_data=False)
        if any(isinstance(element, GuardedPlace) for element in new):
            requests += _esp_chains(new, self._chains())
        requests += _elements(NEWSETELEM, NLM_F_CREATE, new, with_data=True)
        self._netlink.transaction(BEGIN, requests, END)

    def remove(self, elements: Sequence[Element]) -> None:
        """Remove elements that are there. Raises KernelError ENOENT, and removes none, if one of them is not."""
        self._netlink.transaction(BEGIN, _elements(DELSETELEM, 0, elements, with_data=False), END)

    def delete(self) -> None:
        """Remove the table and all in it, if it is there."""
        if self.exists():
            self._netlink.transaction(BEGIN, [message(DELTABLE, 0, string(1, TABLE))], END)

    def get(self, elements: Sequence[Element]) -> list[Element]:
        """Those of the elements that are there, with the values that they have there."""
        found: Found = {}
        self._look_up([entry for element in elements for entry in place(element)], found)
        # Of a binding it is its id that says to which SA: only now the pair is known.
        numbers = found.get("bound_ids", {})
        self._look_up([("bound_pairs", reqid + number + b"\0\0", b"") for number, reqid in numbers.items()], found)
        return _objects(elements[0].netns if elements else "", found)

    def _look_up(self, wanted: Sequence[Entry], found: Found) -> None:
        for (name, key, _), data in zip(wanted, self._ask(wanted), strict=True):
            if data is not None:
                found.setdefault(name, {})[key] = data

    def _ask(self, wanted: Sequence[Entry]) -> list[bytes | None]:
        """The data of each of these entries; None for those that are not there."""
        requests = [m for entry in wanted for m in _of_entries(GETSETELEM, 0, [entry], with_data=False)]
        return [
            None if isinstance(reply, KernelError) else _data(attributes(_first(reply.payload)))
            for reply in self._netlink.get(requests)
        ]

    def read(self, netns: str) -> list[Element]:
        """Every element in the sets; [] without a table."""
        if not self.exists():
            return []
        return _objects(netns, {name: dict(self._dump(name)) for name in SETS})

    def _dump(self, name: str) -> list[tuple[bytes, bytes]]:
        payload = struct.pack("=BBH", nftrules.INET, 0, 0) + string(1, TABLE) + string(2, name)
        found = []
        try:
            for reply in self._dumped(GETSETELEM, payload):
                for _, raw in attribute_list(attributes(reply.payload, 4).get(3, b"")):
                    element = attributes(raw)
                    found.append((attributes(element.get(1, b"")).get(1, b""), _data(element)))
        except KernelError as error:
            if error.code != errno.ENOENT:  # somebody removed the set, or an older version never made it
                raise
        return found


_TRIAL = "kl2t~"
"""A name as long as that of our table."""
_TRIED: Marks = (1 << 16, 1)


def refusal(netlink: Netlink) -> KernelError | None:
    """Why this kernel cannot guard places; None: it can. Changes nothing: the trial ends with an error of its own."""
    requests = [*nftrules.new_table(), *nftrules.new_esp_chain(_TRIED)]
    names = string(1, TABLE), string(1, _TRIAL)
    trial = [request._replace(payload=request.payload.replace(*names)) for request in requests]
    try:
        netlink.transaction(BEGIN, [*trial, trial[0]], END)
    except KernelError as error:
        return error if error.code != errno.EEXIST else None
    return KernelError(errno.EPROTO, "a table was made twice")


def _esp_chains(
    elements: Iterable[Element], there: Iterable[str], counted: nftrules.Counted | None = None
) -> Iterator[Message]:
    """The chains that guarded places need and that are not there."""
    known = set(there)
    for marks in dict.fromkeys(element.marks for element in elements if isinstance(element, GuardedPlace)):
        if nftrules.esp_chain(marks) not in known:
            yield from nftrules.new_esp_chain(marks, counted)
            counted = None  # once is enough


def _expressions(body: bytes) -> Iterator[tuple[bytes, dict[int, bytes]]]:
    """(name, attributes) of a rule's expressions."""
    for _, raw in attribute_list(body):
        fields = attributes(raw)
        yield fields.get(1, b""), attributes(fields.get(2, b""))


def _first(payload: bytes) -> bytes:
    """The first entry in a reply."""
    return attributes(attributes(payload, 4).get(3, b"")).get(1, b"")


def _signed(data: bytes) -> int:
    return int.from_bytes(data, signed=True)
