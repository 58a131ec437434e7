"""Drift: whatever other tools do to what kl2tp made, the daemon repairs it at once, and nothing else."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from kernel.conftest import Bench
from kernel.rig import fleet, foreign
from kernel.rig.fleet import View
from kernel.rig.net import Host
from kernel.rig.run import Daemon
from kl2tp.kernel import l2tp, nft, nftrules, rtnl, xfrm
from kl2tp.kernel.netlink import KernelError, Message, attr, attributes, string, u32
from kl2tp.model.objects import Address, Clamp, Guard, Link, Route, Secret, Template
from kl2tp.model.spec import Mode

TUNNELS = 60
DRIFTS = 200
AT_ONCE = 60
SEED = 20250612
DEADLINE_S = 10.0
"""Generous, for loaded machines; what is promised, and printed, is less than one."""
FLOOD = 20_000
BRIDGE = "br-lan"
Act = Callable[[Host, Any], None]


# -- what other tools do, by the kind of object that they do it to ---------------------------------------------------


def _genl(request: Callable[[l2tp.Codec, Any], Message]) -> Act:
    return lambda host, thing: host.request(l2tp.NETLINK_GENERIC, request(host.l2tp, thing))


def _xfrm(*requests: Callable[[Any], Message]) -> Act:
    return lambda host, thing: host.request(xfrm.NETLINK_XFRM, *(request(thing) for request in requests))


def _set(host: Host, link: Link, flags: int, *attributes: bytes) -> Message:
    body = rtnl._IFINFO.pack(0, 0, 0, host.index(link.name), flags, 1 if flags < _UNCHANGED else 0)
    return Message(rtnl.RTM_NEWLINK, 0, body + b"".join(attributes))


def _link(host: Host, link: Link, flags: int, *attributes: bytes) -> None:
    host.request(rtnl.NETLINK_ROUTE, _set(host, link, flags, *attributes))


_UNCHANGED = 2


def _set_mtu(host: Host, link: Link) -> None:
    _link(host, link, _UNCHANGED, u32(4, 1000))


def _switch_off(host: Host, link: Link) -> None:
    _link(host, link, 0)


def _forget_alias(host: Host, link: Link) -> None:
    _link(host, link, _UNCHANGED, string(20, "mine"))


def _rename(host: Host, link: Link) -> None:
    # Before 6.2 a device must be down for it: in one go, or the daemon switches it on again in between.
    down, renamed = _set(host, link, 0), _set(host, link, _UNCHANGED, string(3, f"x{link.name}"))
    host.request(rtnl.NETLINK_ROUTE, down, renamed)


def _change_master(host: Host, link: Link) -> None:
    _link(host, link, _UNCHANGED, u32(10, 0 if link.master else host.index("br-foreign")))


def _delete_address(host: Host, address: Address) -> None:
    host.request(rtnl.NETLINK_ROUTE, rtnl.address_delete(address, host.index(address.ifname)))


def _delete_route(host: Host, route: Route) -> None:
    index = host.index(route.device) if route.device else 0
    host.request(rtnl.NETLINK_ROUTE, rtnl.route_delete(route, index))


def _redirect_route(host: Host, route: Route) -> None:
    other = replace(route, via=b"", device="br-foreign")
    host.request(rtnl.NETLINK_ROUTE, rtnl.route_replace(other, host.index("br-foreign")))


def _delete_element(host: Host, element: Guard | Clamp) -> None:
    host.table.remove([element])


def _change_clamp(host: Host, clamp: Clamp) -> None:
    host.table.replace([clamp], [replace(clamp, mss4=500)])


_OTHER_KEY = Secret(b"x" * 36)
ACTS: dict[str, tuple[Act, ...]] = {
    "tunnel": (_genl(lambda codec, t: codec.tunnel_delete(t.id)),),
    "session": (
        _genl(l2tp.Codec.session_delete),
        _genl(lambda codec, s: codec.session_modify(replace(s, send_sequence=not s.send_sequence))),
        _genl(lambda codec, s: codec.session_modify(replace(s, reorder_ms=s.reorder_ms + 70))),
    ),
    "link": (_set_mtu, _switch_off, _forget_alias, _rename, _change_master),
    "address": (_delete_address,),
    "route": (_delete_route, _redirect_route),
    "sa": (
        _xfrm(xfrm.sa_delete),
        _xfrm(xfrm.sa_delete, lambda sa: xfrm.sa_add(replace(sa, key_material=_OTHER_KEY), int)),
        _xfrm(xfrm.sa_delete, lambda sa: xfrm.sa_add(replace(sa, reqid=sa.reqid + 1), int)),
    ),
    "policy": (
        _xfrm(xfrm.policy_delete),
        _xfrm(lambda policy: xfrm.policy_set(replace(policy, priority=50), int)),
        _xfrm(lambda policy: xfrm.policy_set(replace(policy, template=Template(5, Mode.TRANSPORT)), int)),
    ),
    "guard": (_delete_element,),
    "clamp": (_delete_element, _change_clamp),
}


def _delete_rule(host: Host) -> None:
    """The first rule of a chain of ours."""
    sock = host.netlink(nft.NETLINK_NETFILTER)
    head = b"\x01\0\0\0" + string(1, nftrules.TABLE)
    rules = list(sock.dump(nftrules.GETRULE, head))
    fields = attributes(rules[0].payload, 4)
    body = head + attr(2, fields[2]) + attr(3, fields[3])
    sock.transaction(nft.BEGIN, [Message(nftrules.SUBSYSTEM | 8, 0, body)], nft.END)


WHOLE: dict[str, Callable[[Host], None]] = {
    "policies flushed": Host.flush_policies,
    "associations flushed": Host.flush_associations,
    "table deleted": lambda host: host.table.delete(),
    "rule deleted": _delete_rule,
}


# -- the daemon that holds them --------------------------------------------------------------------------------------


class Scene:
    """A daemon that holds many tunnels, beside what others have, in two namespaces."""

    def __init__(self, bench: Bench, customer: Host) -> None:
        self.hosts = {"": bench.near.host, customer.name: customer}
        bench.near.host.add_bridge(BRIDGE)
        customer.add_bridge("br-foreign")
        self.foreign = foreign.settle(bench.near.host)
        fleet.install(bench.near, range(1, TUNNELS + 1), customer=customer.name, bridge=BRIDGE)
        with bench.near.host.entered():
            self.view = View(bench.near.config)

    def wrong(self, *names: str) -> list[str]:
        with self.hosts[""].entered():
            return self.view.wrong(names)

    def repaired(self, names: tuple[str, ...], act: Callable[[], None]) -> float:
        """Do something and wait for the repair of these tunnels (of all, if none is named); how long it took."""
        with self.hosts[""].events() as near, self.hosts["customer"].events() as other:
            near.add(other)
            began = time.monotonic()
            act()
            done = time.monotonic()
            near.until(lambda: not self.wrong(*names), DEADLINE_S)
            assert done - began < DEADLINE_S
            return time.monotonic() - done


@pytest.fixture
def scene(bench: Bench) -> Iterator[Scene]:
    customer = Host("customer")
    scene = Scene(bench, customer)
    yield scene
    scene.view.close()
    customer.delete()


@pytest.fixture
def daemon(bench: Bench, scene: Scene) -> Iterator[Daemon]:
    with bench.near.daemon() as running:
        running.wait_up()
        assert scene.wrong() == []
        yield running


def _random_drift(scene: Scene, rng: random.Random) -> tuple[str, str, Callable[[], None]]:
    """(kind and deed, tunnel, what to call)."""
    kind = rng.choice(list(ACTS))
    name, thing = rng.choice([(n, o) for n, o in scene.view.objects if o.kind == kind])
    act = rng.choice(ACTS[kind])
    host = scene.hosts[thing.netns]
    return f"{kind} {ACTS[kind].index(act)} of {name}", name, lambda: act(host, thing)


def test_two_hundred_random_drifts_are_repaired_at_once_and_what_is_foreign_stays(scene: Scene, daemon: Daemon) -> None:
    rng = random.Random(SEED)
    took: list[tuple[float, str]] = []
    for number in range(DRIFTS):
        what, name, act = _random_drift(scene, rng)
        try:
            took.append((scene.repaired((name,), act), what))
        except AssertionError as error:
            raise AssertionError(f"drift {number}, {what}: {scene.wrong(name)}\n{daemon.log()[-3000:]}") from error
    assert scene.wrong() == []
    foreign.assert_untouched(scene.hosts[""], scene.foreign)
    drift = daemon.call("status")["drift"]
    slowest = ", ".join(f"{seconds * 1000:.0f} ms: {what}" for seconds, what in sorted(took, reverse=True)[:3])
    print(f"\n{DRIFTS} drifts in {TUNNELS} tunnels; slowest as seen from outside {slowest}; the daemon says {drift}")
    assert drift["seen"] >= DRIFTS * 0.9
    # Before 6.12 the kernel still shows a tunnel that it is deleting: a first try may meet that, and is not the last.
    daemon.wait_up()


def test_what_is_flushed_comes_back_for_all_tunnels(scene: Scene, daemon: Daemon) -> None:
    host = scene.hosts[""]
    kept = {n: o for n, o in scene.foreign.items() if not n.startswith(("policy", "sa"))}
    for what, flush in WHOLE.items():
        seconds = scene.repaired((), lambda flush=flush: flush(host))  # type: ignore[misc]
        assert host.table.intact()
        print(f"\n{what}: {TUNNELS} tunnels repaired {seconds * 1000:.0f} ms after", end="")
        foreign.assert_untouched(host, kept)


def test_many_drifts_at_once_are_repaired_together(scene: Scene, daemon: Daemon) -> None:
    rng = random.Random(SEED + 1)
    drifts = [_random_drift(scene, rng) for _ in range(AT_ONCE)]

    def all_of_them() -> None:
        for _, _, act in drifts:
            with contextlib.suppress(KernelError, AssertionError):  # gone with another already
                act()

    seconds = scene.repaired((), all_of_them)
    print(f"\n{AT_ONCE} drifts at once repaired {seconds * 1000:.0f} ms after")
    foreign.assert_untouched(scene.hosts[""], scene.foreign)


def test_after_lost_events_everything_is_looked_at(scene: Scene, daemon: Daemon) -> None:
    host = scene.hosts[""]
    victims = [(n, o) for n, o in scene.view.objects if isinstance(o, Address) and not o.netns][:5]
    daemon.freeze()
    _flood(host)
    for _, address in victims:
        _delete_address(host, address)
    scene.repaired(tuple(name for name, _ in victims), daemon.thaw)
    assert "events were lost" in daemon.log()
    assert scene.wrong() == []


def _flood(host: Host) -> None:
    """More events than any socket holds: a device that changes its alias again and again."""
    index = host.index("br-foreign")
    head = rtnl._IFINFO.pack(0, 0, 0, index, 0, 0)
    aliases = ["a" * 200, "b" * 200] * 100
    requests = [Message(rtnl.RTM_NEWLINK, 0, head + string(20, alias)) for alias in aliases]
    for _ in range(FLOOD // len(requests)):
        host.request(rtnl.NETLINK_ROUTE, *requests)
