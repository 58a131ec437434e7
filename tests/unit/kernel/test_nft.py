"""Messages to nftables: well-formed, complete, read again from events and dumps; the table on a fake socket."""

import errno
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.kernel import nft
from kl2tp.kernel.netlink import KernelError, Message, Reply, attr, attribute_list, attributes, string
from kl2tp.model import addr
from kl2tp.model.objects import Clamp, Guard
from unit.kernel import objects

NEWSETELEM, DELSETELEM = nft._NEWSETELEM, nft._DELSETELEM
THERE, THERE6 = addr.parse("203.0.113.7"), addr.parse("2001:db8::7")
elements = st.lists(st.one_of(objects.guards, objects.clamps), max_size=8)


def adding(things: Iterable[Guard | Clamp]) -> list[Message]:
    return nft._elements(NEWSETELEM, 0, things, with_data=True)


# -- elements --------------------------------------------------------------------------------------------------------


def named(message: Message) -> list[Guard | Clamp]:
    """The elements that an event with this content names."""
    found = nft.event(message.type, "", message.payload)
    assert found is not None
    return found


@given(elements)
def test_events_name_the_elements_that_changed(things: list[Guard | Clamp]) -> None:
    found = [element for message in adding(things) for element in named(message)]
    assert {element.key for element in found} == {thing.key for thing in things}


@given(elements)
def test_guards_are_read_as_they_were_added(things: list[Guard | Clamp]) -> None:
    found = [element for message in adding(things) for element in named(message)]
    guards = [thing for thing in things if isinstance(thing, Guard)]
    assert all(guard in found for guard in guards)


@given(objects.clamps)
def test_a_clamp_stands_in_both_maps_with_its_values(clamp: Clamp) -> None:
    values = {}
    for message in adding([clamp]):
        found = attributes(message.payload, 4)
        values[found[2]] = nft._value(Reply(message.type, message.payload))
    assert values == {b"mss4\0": clamp.mss4, b"mss6\0": clamp.mss6}


def test_what_is_deleted_is_named_without_its_value() -> None:
    (message, _) = nft._elements(DELSETELEM, 0, [Clamp("", "l0", 1360, 1340)], with_data=False)
    element = attributes(attributes(attributes(message.payload, 4)[3])[1])
    assert list(element) == [1]


def test_many_elements_go_in_several_messages() -> None:
    many = [Guard("", THERE, port, 1701) for port in range(1, 1202)]
    sizes = [len(named(message)) for message in adding(many)]
    assert sizes == [500, 500, 201]
    assert all(len(message.payload) < 65536 for message in adding(many))


@pytest.mark.parametrize(
    ("guard", "name", "key"),
    [
        (Guard("", THERE), "guard4_ip", "cb007107"),
        (Guard("", THERE6), "guard6_ip", "20010db8000000000000000000000007"),
        (Guard("", THERE, 1701, 1702), "guard4_udp", "cb00710706a5000006a60000"),
        (Guard("", THERE6, 1, 2), "guard6_udp", "20010db80000000000000000000000070001000000020000"),
    ],
)
def test_keys_of_guards_are_addresses_and_ports_in_32_bit_words(guard: Guard, name: str, key: str) -> None:
    assert nft._place(guard) == [(name, bytes.fromhex(key), b"")]


# -- events about other things ---------------------------------------------------------------------------------------


def test_another_table_is_nobody_s_business() -> None:
    assert nft.event(NEWSETELEM, "", bytes(4) + string(1, "filter")) == []


@pytest.mark.parametrize("kind", [nft._DELTABLE, nft._NEWRULE, nft._DELCHAIN])
def test_a_change_of_our_table_itself_is_told_apart(kind: int) -> None:
    assert nft.event(kind, "", bytes(4) + string(1, "kl2tp")) is None


def test_a_set_that_is_none_of_ours_is_a_change_of_the_table() -> None:
    assert nft.event(NEWSETELEM, "", bytes(4) + string(1, "kl2tp") + string(2, "other")) is None


# -- the table -------------------------------------------------------------------------------------------------------


def tree(payload: bytes, depth: int = 0) -> Iterator[int]:
    """Check that attributes fill their nests to the last byte; yields the depth of each."""
    offset = 0
    for kind, data in attribute_list(payload):
        size, raw = struct.unpack_from("=HH", payload, offset)
        assert size == len(data) + 4
        assert raw & 0x3FFF == kind
        yield depth
        if raw & 0x8000:
            yield from tree(data, depth + 1)
        offset += (size + 3) & ~3
    assert offset == len(payload)


@given(elements)
def test_messages_are_filled_to_the_last_byte(things: list[Guard | Clamp]) -> None:
    for message in (*adding(things), *nft._create_table()):
        assert message.payload[:4] == b"\1\0\0\0"
        assert list(tree(message.payload[4:]))


def expressions(rule: bytes) -> list[str]:
    """The names of a rule's expressions, in order."""
    return [attributes(part)[1].rstrip(b"\0").decode() for _, part in attribute_list(rule)]


def test_the_table_has_sets_chains_and_rules() -> None:
    kinds = [message.type for message in nft._create_table()]
    assert kinds == [nft._NEWTABLE] + [nft._NEWSET] * 6 + [nft._NEWCHAIN] * 3 + [nft._NEWRULE] * 12


def test_guard_rules_drop_what_is_in_a_set_and_not_protected() -> None:
    rules = [body for chain, body in nft._rules() if chain in ("guard_in", "guard_out")]
    assert len(rules) == 8
    for body in rules:
        names = expressions(body)
        assert names[-3:] == ["cmp", "counter", "immediate"]
        assert names[-5] == "lookup"
        assert names[-4] in ("rt", "meta")


def test_every_set_is_looked_up_where_it_must() -> None:
    looked: dict[str, set[str]] = {}
    for chain, body in nft._rules():
        for _, part in attribute_list(body):
            found = attributes(part)
            if found[1] == b"lookup\0":
                looked.setdefault(attributes(found[2])[1].rstrip(b"\0").decode(), set()).add(chain)
    guards = {name: {"guard_in", "guard_out"} for name in ("guard4_udp", "guard6_udp", "guard4_ip", "guard6_ip")}
    assert looked == guards | {"mss4": {"clamp"}, "mss6": {"clamp"}}


def test_clamps_are_made_for_both_directions_of_the_forwarding_path() -> None:
    rules = [expressions(body) for chain, body in nft._rules() if chain == "clamp"]
    assert len(rules) == 4
    assert all(names[-2:] == ["lookup", "exthdr"] for names in rules)


class FakeSocket:
    """A table in memory, at the level of messages."""

    def __init__(self) -> None:
        self.sets: dict[bytes, dict[bytes, bytes]] | None = None
        self.rules: list[Message] = []
        self.transactions: list[list[int]] = []

    def get(self, requests: Sequence[Message]) -> list[Reply | KernelError]:
        return [self._get(request) for request in requests]

    def _get(self, request: Message) -> Reply | KernelError:
        if self.sets is None:
            return KernelError(errno.ENOENT)
        if request.type == nft._GETTABLE:
            return Reply(0, b"")
        found = attributes(request.payload, 4)
        key = attributes(attributes(attributes(found[3])[1])[1])[1]
        there = self.sets[found[2]]
        return Reply(0, self._listed(found[2], {key: there[key]})) if key in there else KernelError(errno.ENOENT)

    def _listed(self, name: bytes, entries: dict[bytes, bytes]) -> bytes:
        parts = [nft._nest(1, nft._nest(1, attr(1, k)), nft._nest(2, attr(1, v))) for k, v in entries.items()]
        return bytes(4) + attr(2, name) + nft._nest(3, *parts)

    def dump(self, kind: int, payload: bytes) -> Iterator[Reply]:
        if kind == nft._GETRULE:
            yield from (Reply(kind, rule.payload) for rule in self.rules)
            return
        assert self.sets is not None
        name = attributes(payload, 4)[2]
        yield Reply(kind, self._listed(name, self.sets[name]))

    def transaction(self, begin: Message, requests: Iterable[Message], end: Message) -> None:
        self.transactions.append([])
        for request in requests:
            self.transactions[-1].append(request.type)
            self._change(request)

    def _change(self, request: Message) -> None:
        found = attributes(request.payload, 4)
        if request.type == nft._NEWTABLE:
            self.sets, self.rules = {}, []
        elif request.type == nft._DELTABLE:
            self.sets = None
        elif request.type == nft._NEWRULE:
            self.rules.append(request)
        elif self.sets is not None and request.type == nft._NEWSET:
            self.sets[found[2]] = {}
        elif self.sets is not None and 3 in found and request.type in (NEWSETELEM, DELSETELEM):
            for _, raw in attribute_list(found[3]):
                element = attributes(raw)
                key = attributes(element[1])[1]
                if request.type == DELSETELEM:
                    del self.sets[found[2]][key]
                else:
                    self.sets[found[2]][key] = attributes(element.get(2, b"")).get(1, b"")


@pytest.fixture
def sock() -> FakeSocket:
    return FakeSocket()


@pytest.fixture
def table(sock: FakeSocket) -> nft.Table:
    fake: Any = sock
    return nft.Table(fake)


THINGS: list[Guard | Clamp] = [Guard("", THERE), Guard("", THERE6, 1, 2), Clamp("", "l0", 1360, 1340)]


def test_without_a_table_nothing_is_there(table: nft.Table, sock: FakeSocket) -> None:
    assert not table.exists()
    assert not table.intact()
    assert table.read("") == []
    assert table.get(THINGS) == []
    table.delete()
    assert sock.transactions == []


def test_what_was_created_is_read_again(table: nft.Table) -> None:
    table.create(THINGS)
    assert table.intact()
    assert sorted(map(str, table.read(""))) == sorted(map(str, THINGS))
    assert table.get([Clamp("", "l0", 0, 0), Guard("", THERE), Guard("", THERE, 9, 9)]) == [THINGS[2], THINGS[0]]


def test_elements_are_exchanged_in_one_transaction(table: nft.Table, sock: FakeSocket) -> None:
    table.create(THINGS)
    table.replace([THINGS[2]], [Clamp("", "l0", 1200, 1180)])
    assert table.get([THINGS[2]]) == [Clamp("", "l0", 1200, 1180)]
    assert sock.transactions[-1] == [DELSETELEM, DELSETELEM, NEWSETELEM, NEWSETELEM]


@pytest.mark.parametrize("damage", ["rule gone", "rule cut"])
def test_a_damaged_table_is_noticed_and_made_anew_with_its_elements(
    table: nft.Table, sock: FakeSocket, damage: str
) -> None:
    table.create(THINGS)
    whole = sock.rules.pop()
    if damage == "rule cut":
        found = attributes(whole.payload, 4)
        half = string(1, "kl2tp") + attr(2, found[2]) + nft._nest(4, found[4][:24])
        sock.rules.append(Message(whole.type, 0, bytes(4) + half))
    assert not table.intact()
    table.create(table.read(""))
    assert table.intact()
    assert sorted(map(str, table.read(""))) == sorted(map(str, THINGS))
    assert sock.transactions[-1][0] == nft._DELTABLE
