"""Messages to nftables: well-formed, complete, read again from events and dumps; the table on a fake socket."""

import errno
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.kernel import clients, nft, nftrules
from kl2tp.kernel.netlink import KernelError, Message, Reply, attr, attribute_list, attributes, string
from kl2tp.model import addr
from kl2tp.model.objects import Binding, Clamp, Element, Guard, GuardedPlace
from unit.kernel import objects

NEWSETELEM, DELSETELEM = nftrules.NEWSETELEM, nftrules.DELSETELEM
MARKS = (0x5000000, 0xFFFF)
THERE, THERE6 = addr.parse("203.0.113.7"), addr.parse("2001:db8::7")
elements = st.lists(st.one_of(objects.guards, objects.clamps, objects.guarded_places, objects.bindings), max_size=8)


def adding(things: Iterable[Element]) -> list[Message]:
    return nft._elements(NEWSETELEM, 0, things, with_data=True)


# -- elements --------------------------------------------------------------------------------------------------------


def named(message: Message) -> list[Element]:
    """The elements that an event with this content names."""
    found = nft.event(message.type, "", message.payload)
    assert found is not None
    return found


@given(elements)
def test_events_name_the_elements_that_changed(things: list[Element]) -> None:
    found = [element for message in adding(things) for element in named(message)]
    assert {element.key for element in found} == {thing.key for thing in things}


@given(elements)
def test_guards_are_read_as_they_were_added(things: list[Element]) -> None:
    found = [element for message in adding(things) for element in named(message)]
    guards = [thing for thing in things if isinstance(thing, Guard)]
    assert all(guard in found for guard in guards)


@given(objects.clamps)
def test_a_clamp_stands_in_both_maps_with_its_values(clamp: Clamp) -> None:
    values = {}
    for message in adding([clamp]):
        found = attributes(message.payload, 4)
        values[found[2]] = int.from_bytes(nft._data(attributes(nft._first(message.payload))))
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
        (Guard("", THERE, 0, 1701), "guard4_to", "cb00710706a50000"),
        (Guard("", THERE6, 1, 2), "guard6_udp", "20010db80000000000000000000000070001000000020000"),
    ],
)
def test_keys_of_guards_are_addresses_and_ports_in_32_bit_words(guard: Guard, name: str, key: str) -> None:
    assert nft.place(guard) == [(name, bytes.fromhex(key), b"")]


# -- events about other things ---------------------------------------------------------------------------------------


def test_another_table_is_nobody_s_business() -> None:
    assert nft.event(NEWSETELEM, "", bytes(4) + string(1, "filter")) == []


@pytest.mark.parametrize("kind", [nftrules.DELTABLE, nftrules.NEWRULE, nftrules.DELCHAIN])
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
def test_messages_are_filled_to_the_last_byte(things: list[Element]) -> None:
    for message in (*adding(things), *nftrules.new_table()):
        assert message.payload[:4] == b"\1\0\0\0"
        assert list(tree(message.payload[4:]))


def expressions(rule: bytes) -> list[str]:
    """The names of a rule's expressions, in order."""
    return [attributes(part)[1].rstrip(b"\0").decode() for _, part in attribute_list(rule)]


def test_the_table_has_sets_chains_and_rules() -> None:
    kinds = [message.type for message in nftrules.new_table()]
    parts = ((nftrules.NEWSET, nftrules.SETS), (nftrules.NEWCHAIN, nftrules.CHAINS), (nftrules.NEWRULE, nftrules.RULES))
    assert kinds == [nftrules.NEWTABLE, *(kind for kind, some in parts for _ in some)]


def test_guard_rules_drop_what_is_in_a_set_and_not_protected() -> None:
    rules = [rule.body for rule in nftrules.RULES if rule.chain in ("guard_in", "guard_out")]
    assert len(rules) == 12
    for body in rules:
        names = expressions(body)
        assert names[-3:] == ["cmp", "counter", "immediate"]
        assert names[-5] == "lookup"
        assert names[-4] in ("rt", "meta")


def test_every_set_is_looked_up_where_it_must() -> None:
    looked: dict[str, set[str]] = {}
    for rule in (*nftrules.RULES, *nftrules.esp_rules(MARKS)):
        for _, part in attribute_list(rule.body):
            found = attributes(part)
            if found[1] == b"lookup\0":
                looked.setdefault(attributes(found[2])[1].rstrip(b"\0").decode(), set()).add(rule.chain)
    wanted = {
        "guard": {"guard_in", "guard_out"},
        "mss": {"clamp"},
        "enter": {"place_in"},
        "place": {"place_out", *(("ports_in", "ports_out") if clients.BY_PORT else ())},
        "bound": {nftrules.esp_chain(MARKS)},
    }
    assert looked == {n: chains for n in nftrules.SETS for kind, chains in wanted.items() if n.startswith(kind)}


def test_clamps_are_made_for_both_directions_of_the_forwarding_path() -> None:
    rules = [expressions(rule.body) for rule in nftrules.RULES if rule.chain == "clamp"]
    assert len(rules) == 4
    assert all(names[-2:] == ["lookup", "exthdr"] for names in rules)


class FakeSocket:
    """A table in memory, at the level of messages."""

    def __init__(self) -> None:
        self.sets: dict[bytes, dict[bytes, bytes]] | None = None
        self.rules: list[Message] = []
        self.chains: list[Message] = []
        self.transactions: list[list[int]] = []
        self.flags = 0

    def get(self, requests: Sequence[Message]) -> list[Reply | KernelError]:
        return [self._get(request) for request in requests]

    def _get(self, request: Message) -> Reply | KernelError:
        if self.sets is None:
            return KernelError(errno.ENOENT)
        if request.type == nftrules.GETTABLE:
            return Reply(0, bytes(4) + string(1, "kl2tp") + nftrules.b32(2, self.flags))
        found = attributes(request.payload, 4)
        key = attributes(attributes(attributes(found[3])[1])[1])[1]
        there = self.sets[found[2]]
        return Reply(0, self._listed(found[2], {key: there[key]})) if key in there else KernelError(errno.ENOENT)

    def _listed(self, name: bytes, entries: dict[bytes, bytes]) -> bytes:
        parts = [nftrules.nest(1, nftrules.nest(1, attr(1, k)), attr(2, v)) for k, v in entries.items()]
        return bytes(4) + attr(2, name) + nftrules.nest(3, *parts)

    def dump(self, kind: int, payload: bytes) -> Iterator[Reply]:
        if kind == nftrules.GETRULE:
            yield from (Reply(kind, rule.payload) for rule in self.rules)
            return
        if kind == nftrules.GETCHAIN:
            yield from (Reply(kind, chain.payload) for chain in self.chains)
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
        if request.type == nftrules.NEWTABLE:
            self.sets, self.rules, self.chains, self.flags = {}, [], [], 0
        elif request.type == nftrules.DELTABLE:
            self.sets = None
        elif request.type == nftrules.NEWRULE:
            self.rules.append(request)
        elif request.type == nftrules.NEWCHAIN:
            self.chains.append(request)
        elif self.sets is not None and request.type == nftrules.NEWSET:
            self.sets[found[2]] = {}
        elif self.sets is not None and 3 in found and request.type in (NEWSETELEM, DELSETELEM):
            for _, raw in attribute_list(found[3]):
                element = attributes(raw)
                key = attributes(element[1])[1]
                if request.type == DELSETELEM:
                    del self.sets[found[2]][key]
                else:
                    self.sets[found[2]][key] = element.get(2, b"")


@pytest.fixture
def sock() -> FakeSocket:
    return FakeSocket()


@pytest.fixture
def table(sock: FakeSocket) -> nft.Table:
    fake: Any = sock
    return nft.Table(fake)


THINGS: list[Element] = [
    Guard("", THERE),
    Guard("", THERE6, 1, 2),
    Clamp("", "l0", 1360, 1340),
    Guard("", THERE, 0, 1701),
    GuardedPlace("", THERE, 1701, MARKS),
    GuardedPlace("", bytes(4), 1702, MARKS),
    GuardedPlace("", bytes(16), 1701, (0x10000, 0xFFF)),
    Binding("", 77, 0x12345),
]


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
    found = table.get([Clamp("", "l0", 0, 0), Guard("", THERE), Guard("", THERE, 9, 9), Binding("", 77, 1)])
    assert sorted(map(str, found)) == sorted(map(str, (THINGS[2], THINGS[0], THINGS[7])))


def test_elements_are_exchanged_in_one_transaction(table: nft.Table, sock: FakeSocket) -> None:
    table.create(THINGS)
    table.replace([THINGS[2]], [Clamp("", "l0", 1200, 1180)])
    assert table.get([THINGS[2]]) == [Clamp("", "l0", 1200, 1180)]
    assert sock.transactions[-1] == [DELSETELEM, DELSETELEM, NEWSETELEM, NEWSETELEM]


def test_what_is_not_there_needs_not_go(table: nft.Table) -> None:
    table.create(THINGS)
    table.replace([Guard("", THERE, 5, 6), Clamp("", "other", 1, 1), Binding("", 78, 1)], [Binding("", 78, 2)])
    assert table.get([Binding("", 78, 0)]) == [Binding("", 78, 2)]


def test_a_place_with_other_marks_gets_a_chain_of_its_own_beside_the_first(table: nft.Table, sock: FakeSocket) -> None:
    table.create(THINGS)
    other = GuardedPlace("", THERE, 1701, (0x7000000, 0xFF))
    chains, rules = len(sock.chains), len(sock.rules)
    table.replace([THINGS[4]], [other])
    assert table.get([THINGS[4]]) == [other]
    assert (len(sock.chains) - chains, len(sock.rules) - rules) == (2, 6)
    table.replace([other], [THINGS[4]])
    assert len(sock.chains) - chains == 2
    assert table.intact()


def test_half_a_binding_is_one_to_nobody_and_can_be_completed(table: nft.Table, sock: FakeSocket) -> None:
    table.create(THINGS)
    assert sock.sets is not None
    sock.sets[b"bound_pairs\0"].clear()
    (found,) = table.get([THINGS[7]])
    assert found == Binding("", 77, 0)
    table.replace([found], [THINGS[7]])
    assert table.get([THINGS[7]]) == [THINGS[7]]


def test_a_table_that_sleeps_is_damaged(table: nft.Table, sock: FakeSocket) -> None:
    table.create(THINGS)
    sock.flags = 1
    assert not table.intact()


@pytest.mark.parametrize("change", ["mark", "order", "hook"])
def test_a_rule_with_another_value_or_in_another_place_is_noticed(
    table: nft.Table, sock: FakeSocket, change: str
) -> None:
    table.create(THINGS)
    if change == "mark":
        last = sock.rules[-1]
        sock.rules[-1] = last._replace(payload=last.payload.replace(*map(nftrules._number, (0x10000, 0x20000))))
    elif change == "order":
        sock.rules[-2], sock.rules[-3] = sock.rules[-3], sock.rules[-2]
    else:
        index = next(n for n, chain in enumerate(sock.chains) if string(3, "place_in") in chain.payload)
        sock.chains[index] = nftrules.new_chain("place_in", (1, -150))
    assert not table.intact()


@pytest.mark.parametrize("damage", ["rule gone", "rule cut"])
def test_a_damaged_table_is_noticed_and_made_anew_with_its_elements(
    table: nft.Table, sock: FakeSocket, damage: str
) -> None:
    table.create(THINGS)
    whole = sock.rules.pop()
    if damage == "rule cut":
        found = attributes(whole.payload, 4)
        half = string(1, "kl2tp") + attr(2, found[2]) + nftrules.nest(4, found[4][:24])
        sock.rules.append(Message(whole.type, 0, bytes(4) + half))
    assert not table.intact()
    table.create(table.read(""))
    assert table.intact()
    assert sorted(map(str, table.read(""))) == sorted(map(str, THINGS))
    assert sock.transactions[-1][0] == nftrules.DELTABLE
