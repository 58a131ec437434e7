"""Messages with holes: thousands of tunnels that differ in some values only are packed by filling in these values.

A stencil is cut from a specimen: a unit of objects whose values are marks, which occur nowhere else. The specimen is
packed as every unit is, and where a mark is found there is a hole. So the layout of a message is known to its codec
alone.
"""

import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from kl2tp.kernel import l2tp, nft, rtnl, xfrm
from kl2tp.kernel.netlink import HEADER, NLM_F_REQUEST, Message
from kl2tp.model.objects import Address, Element, KernelObject, Link, Policy, Sa, Session, Tunnel
from kl2tp.model.plan import Operation, Unit, creations
from kl2tp.model.value import dataclass

Value: TypeAlias = int | bytes | str
"""What differs: a number of 16 or 32 bits, an address or a key, a name."""
Forms: TypeAlias = list[bytes]
"""Values as messages show them."""
_Form: TypeAlias = Callable[[Any], bytes]

_NATIVE16, _NATIVE32 = struct.Struct("=H").pack, struct.Struct("=I").pack
_BIG16, _BIG32 = struct.Struct("!H").pack, struct.Struct("!I").pack


class NotAlike(Exception):
    """A unit holds something that no stencil can be cut for."""


@dataclass(frozen=True, slots=True)
class Specimen:
    """What a stencil is cut from."""

    unit: Unit
    text: str
    """Something written about the unit, in which there are the same holes."""
    marks: Sequence[Value] = ()
    """A mark below 65536 stands for a number of 16 bits; one that is 0 or empty for a value that there is not."""
    devices: Mapping[str, int] = field(default_factory=dict)
    """The unit's own devices, with marks for their numbers, which are not known before they are there."""


class Row(NamedTuple):
    """A unit to be filled in."""

    name: str
    devices: Sequence[str]
    """Its devices, in the order of the specimen's."""
    forms: Forms


class Cut:
    """Bytes with holes."""

    __slots__ = ("_pattern", "_pick")

    def __init__(self, pattern: bytes, slots: Sequence[int]) -> None:
        """`pattern` has `%b` for each hole, `slots` says which of the forms fills it."""
        self._pattern = pattern
        self._pick: Callable[[Forms], tuple[bytes, ...]] = lambda forms: tuple(forms[slot] for slot in slots)
        if len(slots) > 1:  # of one alone it makes no tuple
            self._pick = itemgetter(*slots)

    def fill(self, forms: Forms) -> bytes:
        return self._pattern % self._pick(forms)


class Cutter:
    """Finds marks; gives each form of a value that is needed somewhere a slot."""

    def __init__(self, marks: Iterable[Value]) -> None:
        self._meaning: dict[bytes, tuple[_Form, int]] = {}
        for place, mark in enumerate(marks):
            for form in _forms_of(mark) if mark else ():
                self._meaning.setdefault(form(mark), (form, place))
        longest_first = sorted(self._meaning, key=len, reverse=True)
        self._search = re.compile(b"(" + (b"|".join(map(re.escape, longest_first)) or b"(?!)") + b")")
        self._slots: dict[bytes, int] = {}

    def cut(self, data: bytes) -> Cut:
        """Make holes where marks are."""
        pieces = self._search.split(data)
        slots = [self._slots.setdefault(mark, len(self._slots)) for mark in pieces[1::2]]
        return Cut(b"%b".join(piece.replace(b"%", b"%%") for piece in pieces[::2]), slots)

    def slot(self, mark: bytes) -> int | None:
        """The slot of a form of a mark, if it was found."""
        return self._slots.get(mark)

    def fillings(self) -> list[tuple[_Form, int]]:
        """For each slot the form, and the place of the value among the marks."""
        return [self._meaning[mark] for mark in self._slots]


def _hex(value: bytes) -> bytes:
    return value.hex().encode()


def _decimal(value: int) -> bytes:
    return b"%d" % value


def _forms_of(mark: Value) -> tuple[_Form, ...]:
    """The forms in which a value may occur, in messages and in text."""
    if isinstance(mark, int):
        return (_NATIVE16, _BIG16, _decimal) if mark < 1 << 16 else (_NATIVE32, _BIG32, _decimal)
    return (bytes, _hex) if isinstance(mark, bytes) else (str.encode,)


@dataclass(frozen=True, slots=True)
class Requests:
    """The messages of a stage."""

    protocol: int
    """Of their socket."""
    block: Cut
    """One behind the other, without sequence numbers."""
    offsets: tuple[int, ...]
    """Where in the block each of them begins."""
    positions: tuple[int, ...]
    """Which operation each of them is, in the order of creation."""
    on_devices: bool
    """Whether they need the numbers of devices, which an earlier stage made."""


@dataclass(frozen=True, slots=True)
class Elements:
    """What a stage puts into the sets of our table."""

    entries: tuple[tuple[str, Cut], ...]
    """(set, entry)."""
    positions: tuple[int, ...]


def _stage(placed: Mapping[int, Operation], pack: "_Packer", cutter: Cutter) -> Requests | Elements:
    targets = [op.target for op in placed.values()]
    if isinstance(targets[0], Element):
        entries = [entry for thing in targets if isinstance(thing, Element) for entry in nft.entries(thing)]
        return Elements(tuple((name, cutter.cut(entry)) for name, entry in entries), tuple(placed))
    packed = [pack(target) for target in targets]
    offsets = tuple(accumulate(map(len, packed[:-1]), initial=0))
    block = cutter.cut(b"".join(packed))
    kind = targets[0].kind
    return Requests(_PROTOCOLS[kind], block, offsets, tuple(placed), on_devices=kind == "address")


class Stencil:
    """A unit with holes."""

    def __init__(self, specimen: Specimen, codec: l2tp.Codec, index: Callable[[str], int]) -> None:
        """`index` gives the number of a device that is not the unit's own. Raises NotAlike, KernelError."""
        own = specimen.devices
        pack = _Packer(codec, lambda name: own[name] if name in own else index(name))
        operations = creations(specimen.unit)
        self.size = len(operations)
        """Objects in the unit."""
        self.netns = operations[0].target.netns
        if any(op.target.netns != self.netns for op in operations):
            raise NotAlike("a unit in two namespaces")
        cutter = Cutter([*specimen.marks, *own.values()])
        self._text = cutter.cut(specimen.text.encode())
        stages = groupby(enumerate(operations), lambda placed: placed[1].stage)
        self.stages = tuple(_stage(dict(placed), pack, cutter) for _, placed in stages)
        self._fillings = cutter.fillings()
        self._numbers = [cutter.slot(_NATIVE32(number)) for number in own.values()]

    def row(self, name: str, values: Sequence[Value], devices: Sequence[str]) -> Row:
        """One unit, with its values in the order of the marks."""
        values = [*values, *(0 for _ in devices)]
        return Row(name, devices, [form(values[place]) for form, place in self._fillings])

    def text(self, row: Row) -> str:
        """The text, filled in."""
        return self._text.fill(row.forms).decode()

    def number_devices(self, row: Row, numbers: Mapping[str, int]) -> None:
        """Fill in the numbers of a unit's devices. Raises KeyError for one that is not there."""
        for name, slot in zip(row.devices, self._numbers, strict=True):
            if slot is not None:
                row.forms[slot] = _NATIVE32(numbers[name])

    def filled(self, row: Row) -> list[bytes]:
        """All messages and entries that a row becomes, in the order of the stages."""
        out: list[bytes] = []
        for stage in self.stages:
            cuts = [stage.block] if isinstance(stage, Requests) else [cut for _, cut in stage.entries]
            out += [cut.fill(row.forms) for cut in cuts]
        return out


class _Packer:
    """Objects to netlink messages that create them, with sequence number 0."""

    def __init__(self, codec: l2tp.Codec, index: Callable[[str], int]) -> None:
        self._codec, self._index = codec, index

    def __call__(self, thing: KernelObject) -> bytes:
        """Raises NotAlike, KernelError."""
        kind, flags, payload = self._message(thing)
        return HEADER.pack(16 + len(payload), kind, flags | NLM_F_REQUEST, 0, 0) + payload + bytes(-len(payload) & 3)

    def _message(self, thing: KernelObject) -> Message:
        if isinstance(thing, Policy):
            return xfrm.policy_set(thing, self._index, replace=False)
        if isinstance(thing, Sa):
            return xfrm.sa_add(thing, self._index)
        if isinstance(thing, Tunnel):
            return self._codec.tunnel_create(thing)
        if isinstance(thing, Session):
            return self._codec.session_create(thing)
        if isinstance(thing, Link) and thing.netns == thing.tunnel_netns:
            master = self._index(thing.master) if thing.master else 0
            return rtnl.link_set(thing, master, set_master=bool(thing.master))
        if isinstance(thing, Address):
            return rtnl.address_add(thing, self._index(thing.ifname))
        raise NotAlike(f"{thing.kind} in a unit")


_PROTOCOLS = {
    "policy": xfrm.NETLINK_XFRM,
    "sa": xfrm.NETLINK_XFRM,
    "tunnel": l2tp.NETLINK_GENERIC,
    "session": l2tp.NETLINK_GENERIC,
    "link": rtnl.NETLINK_ROUTE,
    "address": rtnl.NETLINK_ROUTE,
}
