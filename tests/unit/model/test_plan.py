"""The planner: what it does in every situation, and that its order keeps every promise at every moment."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.model.objects import (
    NO_SUBLAYER,
    Address,
    Clamp,
    Direction,
    Guard,
    KernelObject,
    Key,
    Link,
    Policy,
    Route,
    Sa,
    Secret,
    Selector,
    Session,
    Template,
    Tunnel,
)
from kl2tp.model.plan import Operation, Plan, Stage, Unit, Verb, differences, plan, satisfied
from kl2tp.model.spec import Encap, L2Spec, Mode
from unit.model.kernel_model import SHARED, ModelKernel

HERE, THERE = b"\x0a\0\0\1", b"\x0a\0\0\2"
L2TP = 115


@dataclass(frozen=True, slots=True)
class Wish:
    """One tunnel with a session, as far as plans depend on it."""

    number: int = 1
    local: bytes = HERE
    remote: bytes = THERE
    peer: int = 7
    device: str = "l0"
    protected: bool = False
    spi: int = 0x100
    session: int = 1
    netns: str = ""
    mtu: int = 1400
    master: str = ""
    mac: bytes = b""
    sequence: bool = False
    cookie: bytes = b""
    addresses: tuple[bytes, ...] = ()
    routed: bool = False
    clamped: bool = False

    @cache  # noqa: B019 there are few, and they are small
    def unit(self, name: str) -> Unit:
        return Unit(name, tuple(self._objects(name)))

    def _objects(self, name: str) -> list[KernelObject]:
        found = protection(self.local, self.remote, self.number, self.spi) if self.protected else []
        found.append(Tunnel("", self.number, self.peer, Encap.IP, self.local, self.remote))
        cookie = self.cookie
        born = f"b{self.number}-{self.session}" if self.netns else ""
        alias = f"kl2tp:{name}/s"
        link = Link(self.netns, self.device, self.mtu, self.master, True, self.mac, "", alias, born)
        found.append(
            Session("", self.number, self.session, 1, link.birth_name, cookie, cookie, send_sequence=self.sequence)
        )
        found.append(link)
        found += [Address(self.netns, self.device, address, 24) for address in self.addresses]
        if self.routed:
            destination = bytes((192, 168, self.number, 0))
            found.append(Route(self.netns, 254, destination, 24, 0, device=self.device, tunnel_device=True))
        if self.clamped:
            found.append(Clamp(self.netns, self.device, self.mtu - 40, self.mtu - 60))
        return found


def protection(local: bytes, remote: bytes, reqid: int, spi: int) -> list[KernelObject]:
    """Blocks and guard of a peer, SAs and policies of a tunnel to it."""
    out, back = Selector(local, 32, remote, 32, L2TP), Selector(remote, 32, local, 32, L2TP)
    key = Secret(bytes(36))
    return [
        *blocks(remote),
        Guard("", remote),
        Sa("", remote, local, spi, Mode.TRANSPORT, reqid, "rfc4106(gcm(aes))", key),
        Sa("", local, remote, spi, Mode.TRANSPORT, reqid, "rfc4106(gcm(aes))", key, outbound=True),
        Policy("", Direction.IN, back, 1000, Template(reqid, Mode.TRANSPORT)),
        Policy("", Direction.OUT, out, 1000, Template(reqid, Mode.TRANSPORT, spi=spi)),
    ]


def blocks(remote: bytes) -> list[KernelObject]:
    """The policies that let nothing pass in clear."""
    anywhere = bytes(4)
    return [
        Policy("", Direction.OUT, Selector(anywhere, 0, remote, 32, L2TP), 2000, None),
        Policy("", Direction.IN, Selector(remote, 32, anywhere, 0, L2TP), 2000, None),
    ]


def one(wish: Wish, kernel: ModelKernel, owned: Collection[Key] = (), *, adopt: bool = False) -> Plan:
    """The plan for a single tunnel."""
    return plan([wish.unit("t")], kernel.objects, {"t": owned}, adopt=adopt)


def made(wish: Wish) -> tuple[ModelKernel, set[Key]]:
    """A kernel as kl2tp leaves it for a tunnel, and what of it is owned."""
    kernel = ModelKernel()
    kernel.carry_out(one(wish, kernel).operations)
    return kernel, set(wish.unit("t").keys())


def brief(result: Plan) -> list[str]:
    """Verbs and kinds, in order."""
    return [op.verb.value + op.target.kind for op in result.operations]


BASE = Wish(protected=True, addresses=(b"\x0a\1\0\1",), routed=True, clamped=True)


# -- single situations -----------------------------------------------------------------------------------------------


def test_a_new_tunnel_is_built_from_the_bottom_up() -> None:
    expected = ["+policy"] * 2 + ["+guard"] + ["+sa"] * 2 + ["+policy"] * 2
    expected += ["+tunnel", "+session", "+link", "+address", "+route", "+clamp"]
    assert brief(one(BASE, ModelKernel())) == expected


def test_what_is_there_already_needs_nothing() -> None:
    kernel, owned = made(BASE)
    assert not one(BASE, kernel, owned)


def test_a_tunnel_that_goes_is_taken_down_from_the_top_and_its_protection_last() -> None:
    kernel, owned = made(BASE)
    result = plan([Unit("t")], kernel.objects, {"t": owned})
    assert brief(result) == ["-clamp", "-tunnel", *["-policy"] * 2, *["-sa"] * 2, "-guard", *["-policy"] * 2]
    assert [op.stage for op in result.operations if op.target in blocks(THERE)] == [Stage.UNPROTECT_BLOCK] * 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"mtu": 1300, "clamped": False}, ["-clamp", "~link"]),
        ({"mtu": 1300}, ["~link", "~clamp"]),
        ({"sequence": True}, ["~session"]),
        ({"cookie": b"1234"}, ["-session", "+session", "+link", "+address", "+route"]),
        ({"peer": 8}, ["-tunnel", "+tunnel", "+session", "+link", "+address", "+route"]),
        ({"device": "l1"}, ["-clamp", "-address", "-session", "+session", "+link", "+address", "+route", "+clamp"]),
        ({"session": 2}, ["-session", "+session", "+link", "+address", "+route"]),
        (
            {"netns": "x", "routed": False, "clamped": False},
            ["-clamp", "-route", "-address", "-session", "+session", "+link", "+address"],
        ),
        ({"addresses": ()}, ["-address", "~route"]),
        ({"addresses": (b"\x0a\1\0\2", b"\x0a\1\0\1")}, ["+address"]),
        ({"routed": False}, ["-route"]),
        ({"spi": 0x200}, ["+sa", "+sa", "~policy", "-sa", "-sa"]),
        ({"protected": False}, ["-policy", "-policy", "-sa", "-sa", "-guard", "-policy", "-policy"]),
    ],
    ids=str,
)
def test_a_changed_wish_changes_what_it_must(change: dict[str, object], expected: list[str]) -> None:
    kernel, owned = made(BASE)
    wish = replace(BASE, **change)  # type: ignore[arg-type]
    result = one(wish, kernel, owned)
    assert brief(result) == expected
    kernel.carry_out(result.operations)
    assert not one(wish, kernel, owned | set(wish.unit("t").keys()))


@pytest.mark.parametrize("kind", ["policy", "guard", "sa", "tunnel", "session", "link", "address", "route", "clamp"])
def test_what_somebody_deletes_comes_back(kind: str) -> None:
    for key in BASE.unit("t").keys():  # noqa: SIM118
        if key[0] == kind:
            kernel, owned = made(BASE)
            kernel.delete(key)
            kernel.carry_out(one(BASE, kernel, owned).operations)
            assert not one(BASE, kernel, owned)


def test_a_device_that_somebody_renamed_comes_back_with_a_new_session() -> None:
    kernel, owned = made(BASE)
    lost = kernel.objects.pop(("link", "", "l0"))
    assert isinstance(lost, Link)
    kernel.objects["link", "", "other"] = replace(lost, name="other")
    result = one(BASE, kernel, owned)
    assert brief(result)[:2] == ["-session", "+session"]
    assert result.operations[0].differences == ("device l0 is gone",)


def test_a_changed_sublayer_which_the_kernel_does_not_report_makes_a_new_session() -> None:
    session = Session("", 1, 1, 2, "l0")
    link = Link("", "l0", 1400, alias="kl2tp:t/s")
    actual: dict[Key, KernelObject] = {session.key: session, link.key: link}
    wanted = Unit("t", (session, replace(link, alias=f"kl2tp:t/s{NO_SUBLAYER}")))
    result = plan([wanted], actual, {"t": actual.keys()})
    assert brief(result) == ["-session", "+session", "+link"]


def test_a_lost_device_and_a_changed_session_are_one_replacement() -> None:
    kernel, owned = made(BASE)
    kernel.delete(("link", "", "l0"))
    wish = replace(BASE, sequence=True)
    result = one(wish, kernel, owned)
    assert [op for op in brief(result) if "session" in op] == ["-session", "+session"]
    kernel.carry_out(result.operations)
    assert not one(wish, kernel, owned)


def test_a_missing_tunnel_takes_nothing_else_to_be_there() -> None:
    kernel, owned = made(BASE)
    kernel.delete(("tunnel", "", 1))
    assert brief(one(BASE, kernel, owned)) == ["+tunnel", "+session", "+link", "+address", "+route"]


# -- what is not ours ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["policy", "sa", "tunnel", "session", "link"])
def test_a_place_in_foreign_hands_is_a_conflict_and_nothing_is_built(kind: str) -> None:
    kernel, _ = made(BASE)
    foreign = [o for o in kernel.objects.values() if o.kind == kind]
    result = one(BASE, ModelKernel(foreign))
    assert {c.found.key for c in result.conflicts} == {o.key for o in foreign}
    assert result.operations == []
    assert "was not made by kl2tp" in str(result.conflicts[0])


@pytest.mark.parametrize("kind", ["guard", "address", "route", "clamp"])
def test_an_equal_element_that_somebody_else_made_is_shared(kind: str) -> None:
    kernel, owned = made(BASE)
    others = {key for key in owned if key[0] == kind}
    assert not one(BASE, kernel, owned - others)


def test_a_conflict_leaves_what_is_ours_as_it_is() -> None:
    kernel, owned = made(BASE)
    foreign = Sa("", HERE, THERE, 0x200, Mode.TRANSPORT, 9, "rfc4106(gcm(aes))", Secret(bytes(36)))
    kernel.create(foreign)
    result = one(replace(BASE, spi=0x200, mtu=1200), kernel, owned)
    assert [c.found for c in result.conflicts] == [foreign]
    assert result.operations == []


def test_adoption_takes_over_what_stands_in_the_place() -> None:
    kernel, _ = made(BASE)
    assert not one(BASE, kernel, adopt=True)
    result = one(replace(BASE, mtu=1300, clamped=False), kernel, adopt=True)
    assert brief(result) == ["~link"]


def test_an_adopted_tunnel_that_differs_is_replaced_with_its_sessions() -> None:
    kernel, _ = made(BASE)
    wish = replace(BASE, peer=8)
    kernel.carry_out(one(wish, kernel, adopt=True).operations)
    assert not one(wish, kernel, adopt=True)


def test_what_another_tunnel_needs_too_is_retained() -> None:
    kernel, owned = made(BASE)
    shared = {o.key for o in [*blocks(THERE), Guard("", THERE)]}
    result = plan([Unit("t")], kernel.objects, {"t": owned}, retained=lambda unit, key: key in shared)
    assert not shared & {op.target.key for op in result.operations}
    assert brief(result) == ["-clamp", "-tunnel", *["-policy"] * 2, *["-sa"] * 2]


# -- what differs ----------------------------------------------------------------------------------------------------


def test_differences_name_field_old_and_new() -> None:
    old, new = Link("", "l0", 1400, up=False), Link("", "l0", 1300, "br0")
    assert differences(new, old) == ("mtu: 1400 -> 1300", "master: none -> br0", "up: False -> True")


def test_differences_never_show_a_key() -> None:
    sa = Sa("", HERE, THERE, 1, Mode.TRANSPORT, 1, "cbc(aes)", Secret(b"a" * 32), integrity_key=Secret(b"b" * 32))
    other = replace(sa, key_material=Secret(b"c" * 32), integrity_key=None)
    assert differences(other, sa) == ("key changed", "key changed")


def test_objects_of_different_kinds_differ() -> None:
    assert differences(Guard("", THERE), Clamp("", "l0", 1, 1)) == ("kind",)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Link("", "l0", 1400), Link("", "l0", 1400, mac=b"123456")),
        (Link("", "l0", 1400, tunnel_netns="a"), Link("", "l0", 1400)),
        (Route("", 254, THERE, 32, 0, via=HERE), Route("", 254, THERE, 32, 0, via=HERE, device="eth0")),
        (Session("", 1, 1, 1, "l0", l2spec=L2Spec.NONE), Session("", 1, 1, 1, "l0")),
    ],
    ids=["mac", "birthplace", "route-device", "sublayer"],
)
def test_what_the_wish_leaves_open_is_no_difference(wanted: KernelObject, found: KernelObject) -> None:
    assert satisfied(wanted, found)


# -- tunnels that exchange what they have ----------------------------------------------------------------------------


class World:
    """Units by name, what is owned, and a kernel: applies wishes as the engine does."""

    def __init__(self, kernel: ModelKernel) -> None:
        self.kernel = kernel
        self.owned: dict[str, set[Key]] = {}

    def plan(self, wishes: Mapping[str, Wish]) -> tuple[Plan, dict[str, Unit]]:
        names = [n for n in self.owned if n not in wishes] + list(wishes)
        units = {name: wishes[name].unit(name) if name in wishes else Unit(name) for name in names}
        needed = {name: set(unit.keys()) & SHARED_KEYS for name, unit in units.items()}
        shared = set().union(*self.owned.values()) & SHARED_KEYS if self.owned else set()
        owned = {name: self.owned.get(name, set()) | needed[name] & shared for name in names}

        def retained(unit: str, key: Key) -> bool:
            return any(key in keys for name, keys in needed.items() if name != unit)

        return plan(units.values(), self.kernel.objects, owned, retained=retained), units

    def begin(self, units: Mapping[str, Unit]) -> None:
        """What may be made from now on is owned."""
        for name, unit in units.items():
            self.owned.setdefault(name, set()).update(unit.keys())

    def end(self, units: Mapping[str, Unit]) -> None:
        self.owned = {name: set(unit.keys()) for name, unit in units.items() if unit.objects}

    def apply(self, wishes: Mapping[str, Wish]) -> list[Operation]:
        result, units = self.plan(wishes)
        assert result.conflicts == []
        self.begin(units)
        self.kernel.carry_out(result.operations)
        self.end(units)
        return result.operations

    def converged(self, wishes: Mapping[str, Wish], foreign: Mapping[Key, KernelObject]) -> bool:
        """Whether exactly the wishes and what is foreign are there."""
        objects = dict(foreign)
        for name, wish in wishes.items():
            objects |= {o.key: o for o in wish.unit(name).objects}
        there = self.kernel.objects
        return objects.keys() == there.keys() and all(satisfied(o, there[k]) for k, o in objects.items())


REMOTES = (THERE, b"\x0a\0\0\3")
SHARED_KEYS = {o.key for remote in REMOTES for o in [*blocks(remote), Guard("", remote)]}


def test_a_tunnel_with_another_name_is_handed_over_as_it_stands() -> None:
    world = World(ModelKernel())
    world.apply({"old": BASE})
    assert [str(op.verb.value + op.target.kind) for op in world.apply({"new": BASE})] == ["~link"]  # its alias


def test_two_tunnels_can_exchange_their_ids() -> None:
    world = World(ModelKernel())
    world.apply({"a": Wish(1, REMOTES[0], device="l0"), "b": Wish(2, REMOTES[1], device="l1")})
    wishes = {"a": Wish(2, REMOTES[0], device="l0"), "b": Wish(1, REMOTES[1], device="l1")}
    world.apply(wishes)
    assert world.converged(wishes, {})


def test_a_tunnel_in_conflict_takes_nothing_over() -> None:
    world = World(ModelKernel([Session("", 1, 2, 1, "x")]))
    world.apply({"old": Wish(1)})
    result, _ = world.plan({"new": Wish(1, session=2)})
    assert [c.unit for c in result.conflicts] == ["new"]
    assert brief(result) == ["-tunnel"]


# -- properties ------------------------------------------------------------------------------------------------------

FOREIGN: list[KernelObject] = [
    Tunnel("", 900, 900, Encap.IP, HERE, THERE),
    Session("", 900, 9, 9, "foreign"),
    Link("", "foreign", 1500),
    Address("", "foreign", b"\x0a\x09\0\1", 24),
    Route("", 254, b"\xc0\xa8\x63\0", 24, 0, device="foreign"),
    Policy("", Direction.OUT, Selector(HERE, 32, THERE, 32, 17), 1, None),
    Sa("", HERE, THERE, 0x999, Mode.TUNNEL, 5, "cbc(aes)", Secret(bytes(16))),
    Guard("", b"\x0a\0\0\x09"),
    Clamp("", "foreign", 1000, 1000),
]
FOREIGN_BY_KEY = {o.key: o for o in FOREIGN}


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Wish]:
    """Up to three tunnels: as in a valid configuration, no two have an id, a device or an SPI in common."""
    names = draw(st.lists(st.sampled_from("abcd"), max_size=3, unique=True))
    numbers, devices = draw(st.permutations((1, 2, 3, 4))), draw(st.permutations(("l0", "l1", "l2", "l3")))
    safe = dict(zip(REMOTES, draw(st.tuples(st.booleans(), st.booleans())), strict=True))
    return {
        name: draw(
            st.builds(
                Wish,
                number=st.just(numbers[i]),
                local=st.just(bytes((10, 0, 1, i))),
                device=st.just(devices[i]),
                remote=st.just(remote),
                protected=st.just(safe[remote]),
                peer=st.sampled_from((7, 8)),
                spi=st.sampled_from((0x100 + 16 * i, 0x101 + 16 * i)),
                session=st.sampled_from((1, 2)),
                netns=st.just("") if draw(st.booleans()) else st.just("x"),
                mtu=st.sampled_from((1300, 1400)),
                master=st.sampled_from(("", "br0")),
                mac=st.sampled_from((b"", bytes((2, 0, 0, 0, 0, i)))),
                sequence=st.booleans(),
                cookie=st.sampled_from((b"", b"abcd")),
                addresses=st.sampled_from(((), (bytes((10, 1, i, 1)),), (bytes((10, 1, i, 2)), bytes((10, 1, i, 1))))),
                routed=st.booleans(),
                clamped=st.booleans(),
            )
        )
        for i, name in enumerate(names)
        for remote in (draw(st.sampled_from(REMOTES)),)
    }


def disturb(draw: st.DrawFn, kernel: ModelKernel, wishes: Mapping[str, Wish]) -> None:
    """Delete and change some of what is ours, behind its back."""
    ours = [key for name, wish in wishes.items() for key in wish.unit(name).keys()]  # noqa: SIM118
    if not ours:
        return
    for key in draw(st.lists(st.sampled_from(ours), max_size=3)):
        found = kernel.objects.get(key)
        if isinstance(found, Link) and draw(st.booleans()):
            kernel.objects[key] = replace(found, mtu=1000, up=False)
        elif isinstance(found, Policy) and draw(st.booleans()):
            kernel.objects[key] = replace(found, priority=5)
        elif isinstance(found, Session) and draw(st.booleans()):
            kernel.objects[key] = replace(found, send_sequence=not found.send_sequence)
        else:
            kernel.delete(key)


@st.composite
def changes(draw: st.DrawFn) -> tuple[World, dict[str, Wish], dict[str, Wish]]:
    """A world as some configuration made it, disturbed; that configuration, and the next one."""
    world, before, after = World(ModelKernel(FOREIGN)), draw(configurations()), draw(configurations())
    world.apply(before)
    disturb(draw, world.kernel, before)
    return world, before, after


@given(changes())
def test_one_pass_converges_and_the_second_does_nothing(case: tuple[World, dict[str, Wish], dict[str, Wish]]) -> None:
    world, _, wishes = case
    world.apply(wishes)
    assert world.converged(wishes, FOREIGN_BY_KEY)
    again, _ = world.plan(wishes)
    assert again.operations == []


@given(changes())
def test_nothing_foreign_is_in_any_operation(case: tuple[World, dict[str, Wish], dict[str, Wish]]) -> None:
    world, _, wishes = case
    assert not FOREIGN_BY_KEY.keys() & {op.target.key for op in world.plan(wishes)[0].operations}


@given(changes())
def test_operations_stand_in_the_order_of_their_stages(case: tuple[World, dict[str, Wish], dict[str, Wish]]) -> None:
    world, _, wishes = case
    stages = [op.stage for op in world.plan(wishes)[0].operations]
    assert stages == sorted(stages)


@given(changes(), st.data())
def test_after_a_crash_anywhere_the_next_pass_ends_in_the_same_state(
    case: tuple[World, dict[str, Wish], dict[str, Wish]], data: st.DataObject
) -> None:
    world, _, wishes = case
    result, units = world.plan(wishes)
    world.begin(units)
    world.kernel.carry_out(result.operations[: data.draw(st.integers(0, len(result.operations)))])
    result, units = world.plan(wishes)  # and once more, before it is done
    world.begin(units)
    world.kernel.carry_out(result.operations[: data.draw(st.integers(0, len(result.operations)))])
    world.apply(wishes)
    assert world.converged(wishes, FOREIGN_BY_KEY)


def _shield(wish: Wish) -> list[KernelObject]:
    """What must stand as long as a protected tunnel does."""
    return [*blocks(wish.remote), Guard("", wish.remote)] if wish.protected else []


def _exposed(kernel: ModelKernel, versions: Sequence[Mapping[str, Wish]]) -> list[Tunnel]:
    """Tunnels of one of the configurations that stand without the shield which all of them that have it ask for."""
    exposed = []
    for tunnel in kernel.objects.values():
        if not isinstance(tunnel, Tunnel):
            continue
        owners = [w for wishes in versions for w in wishes.values() if tunnel in w.unit("").objects]
        if shields := [_shield(w) for w in owners]:
            needed = [o for o in shields[0] if all(o in shield for shield in shields)]
            if any(kernel.objects.get(o.key) != o for o in needed):
                exposed.append(tunnel)
    return exposed


@given(configurations(), configurations())
def test_a_protected_tunnel_is_never_without_its_blocks_and_guard(
    before: dict[str, Wish], after: dict[str, Wish]
) -> None:
    world = World(ModelKernel(FOREIGN))
    for versions in ([{}, before], [before, after], [after, {}]):
        result, units = world.plan(versions[1])
        world.begin(units)
        done: list[Operation] = []
        for op in result.operations:
            again = (op.target.key, op.verb) in {(d.target.key, d.verb) for d in done}
            if not (op.verb is Verb.CREATE and again and isinstance(op.target, SHARED)):
                world.kernel.carry_out([op])
            done.append(op)
            assert _exposed(world.kernel, versions) == []
        world.end(units)


@given(changes())
def test_after_any_drift_protection_stands_before_a_tunnel_is_built(
    case: tuple[World, dict[str, Wish], dict[str, Wish]],
) -> None:
    world, _, wishes = case
    result, _ = world.plan(wishes)
    world.kernel.carry_out(op for op in result.operations if op.stage < Stage.DISMANTLE_CLAMP)
    needed = [o for wish in wishes.values() for o in _shield(wish)]
    assert all(world.kernel.objects.get(o.key) == o for o in needed)
