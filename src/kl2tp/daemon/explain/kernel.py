"""The layers that the kernel's objects are: the way, policies, SAs, tunnel, sessions, interfaces, addresses."""

from collections.abc import Iterable, Sequence

from kl2tp.daemon.explain import negotiating
from kl2tp.daemon.explain.facts import PROFILE, TUNNEL, Device, Facts, Thing
from kl2tp.daemon.explain.layers import Diagnosis, Layer, broken, counted, ok, unknown, waiting
from kl2tp.daemon.explain.packets import association, ways
from kl2tp.kernel.way import Way
from kl2tp.model.addr import prefix, text
from kl2tp.model.objects import Address, Binding, Clamp, Guard, GuardedPlace, Link, Policy, Route, Sa, Session, Tunnel

WAY, POLICIES, SAS, L2TP, INTERFACE, ADDRESSES = (
    *("way to the peer", "policies", "SAs in the kernel", "tunnel and session", "interface", "addresses"),
)


# -- the way ---------------------------------------------------------------------------------------------------------


def way(facts: Facts) -> list[Layer]:
    """Address, route, device and next hop."""
    found = facts.way
    if found is None:
        return []
    peer = text(facts.remote)
    if (wrong := _way_wrong(facts, found, peer)) is not None:
        return [broken(WAY, wrong)]
    via = f" via {text(found.gateway)}" if found.gateway else ""
    source = text(facts.local if any(facts.local) else found.source)
    details = [
        ("next hop", found.neighbour),
        ("MTU", f"{found.mtu} (path_mtu {facts.path_mtu})" if facts.path_mtu != found.mtu else found.mtu),
    ]
    if found.here:
        words = f"{peer} is an address of this host itself"
        cure = ("correct remote",)
        return [broken(WAY, Diagnosis(words, "the tunnel would end where it begins", cure))]
    return [ok(WAY, f"{source} -> {peer}{via} dev {found.device}", *details)]


def _way_wrong(facts: Facts, found: Way, peer: str) -> Diagnosis | None:
    local = text(facts.local)
    if not found.has_local:
        return Diagnosis(f"our address {local} is not configured on this host", "no interface has it",
                         (f"$ ip address add {local}/PREFIX dev DEVICE", "or correct local"))  # fmt: skip
    if not found.holder_up:
        return Diagnosis(f"the device {found.holder}, which has our address {local}, is down",
                         "somebody has switched it off", (f"$ ip link set {found.holder} up",))  # fmt: skip
    if found.problem:
        return Diagnosis(found.problem, "this host knows no way to the peer",
                         (f"$ ip route get {peer}" + (f" from {local}" if any(facts.local) else ""),
                          f"$ ip route add {peer} via GATEWAY", "or have kl2tp make it (route)"))  # fmt: skip
    if not found.device_up or not found.carrier:
        state = "has no carrier (cable, virtual switch, other end)" if found.device_up else "is down"
        return Diagnosis(f"the device {found.device}, by which packets to {peer} leave, {state}", "its link is down",
                         (f"$ ip link show {found.device}",))  # fmt: skip
    if found.neighbour == "does not answer":
        hop = text(found.gateway) if found.gateway else peer
        asked = "ARP" if len(facts.remote) == 4 else "neighbour discovery"
        return Diagnosis(f"the next hop {hop} on {found.device} does not answer {asked}",
                         "it is switched off, not on this network, or has another address",
                         (f"$ ip neighbour show {hop} dev {found.device}", f"$ ping {hop}"))  # fmt: skip
    return None


# -- policies and SAs ------------------------------------------------------------------------------------------------


def policies(facts: Facts) -> list[Layer]:
    """What demands IPsec, and blocks everything else."""
    mine = [t for t in facts.things if isinstance(t.wanted, Policy | Guard | GuardedPlace | Binding)]
    if not mine:
        return []
    wrong = [thing for thing in mine if not thing.present or thing.differences]
    details = [(_word(thing), _line(thing)) for thing in mine]
    if not wrong:
        return [ok(POLICIES, f"{counted(len(mine), 'object')} as wanted: only IPsec passes", *details)]
    evidence = tuple(_line(thing) for thing in wrong)
    return [broken(POLICIES, _policies_missing(facts, wrong, evidence), *details)]


def _policies_missing(facts: Facts, wrong: Sequence[Thing], evidence: tuple[str, ...]) -> Diagnosis:
    ways = {t.wanted.direction.name.lower() for t in wrong if isinstance(t.wanted, Policy) and t.wanted.template}
    if ways:
        what = " and ".join(sorted(ways))
        broken_words = f"the {what} {'policy is' if len(ways) == 1 else 'policies are'} missing or changed: packets" + (
            " of the peer are dropped after they are decrypted" if ways == {"in"} else
            " of ours are dropped" if ways == {"out"} else " are dropped both ways"
        )  # fmt: skip
    else:
        broken_words = "what blocks packets in clear is not complete"
    cause = facts.problem or "somebody has deleted or changed them (ip xfrm policy flush, nft flush, a key daemon)"
    return Diagnosis(broken_words, cause, _put_back(facts), evidence)


def _put_back(facts: Facts) -> tuple[str, ...]:
    if facts.daemon:
        return ("the daemon puts them back by itself; if they go again, another program takes them away:"
                " $ journalctl -u kl2tp -n 50", "$ kl2tp apply")  # fmt: skip
    return ("$ kl2tp apply", "or have it looked after: $ systemctl enable --now kl2tp")


def _word(thing: Thing) -> str:
    return "" if thing.present and not thing.differences else "missing" if not thing.present else "differs"


def _line(thing: Thing) -> str:
    mark = _word(thing)
    more = f" ({'; '.join(thing.differences)})" if thing.differences else " (missing)" if mark else ""
    return f"{thing.wanted}{more}"


def sas(facts: Facts) -> list[Layer]:
    """Whether the kernel has a pair of SAs."""
    if not facts.protection or facts.kind == PROFILE:
        return []
    leaving, coming = ways(facts, facts.after.sas)
    there = [("out", association(sa, into=False)) for sa in leaving]
    there += [("in", association(sa, into=True)) for sa in coming]
    mine = [t for t in facts.things if isinstance(t.wanted, Sa)]
    if mine:
        return [_static(facts, mine, there)]
    if leaving and coming:
        return [ok(SAS, f"{counted(len(facts.after.sas), 'SA')}, both ways", *there)]
    child = negotiating.child_of(facts.ike) if facts.ike is not None else None
    if child is None or child.orphaned:
        return [waiting(SAS, "there are none; IKE makes them", *there)]
    gone = "in" if leaving else "out" if coming else "both ways"
    return [broken(SAS, Diagnosis(
        f"strongSwan has an IPsec SA, and the kernel does not ({gone})",
        "somebody has deleted it (ip xfrm state flush), or the kernel let it expire",
        (f"have it made anew: $ swanctl --terminate --ike kl2tp:{facts.name}", "$ ip xfrm state"),
    ), *there)]  # fmt: skip


def _static(facts: Facts, mine: Sequence[Thing], there: Sequence[tuple[str, str]]) -> Layer:
    wrong = [thing for thing in mine if not thing.present or thing.differences]
    if not wrong:
        first = mine[0].wanted
        assert isinstance(first, Sa)
        cipher = first.encryption + (f"+{first.integrity}" if first.integrity else "")
        return ok(SAS, f"{counted(len(mine), 'SA')} with static keys, {cipher}, {first.mode.name.lower()} mode", *there)
    if facts.problem and "key" in facts.problem:
        cause = facts.problem
    else:
        cause = facts.problem or "somebody has deleted them (ip xfrm state flush, a key daemon that started or stopped)"
    ways = sorted({"out" if t.wanted.outbound else "in" for t in wrong if isinstance(t.wanted, Sa)})
    words = f"the SA {' and '.join(ways)} is missing or not as it should be"
    return broken(SAS, Diagnosis(words, cause, _put_back(facts), tuple(_line(t) for t in wrong)), *there)


# -- L2TP of declared tunnels ----------------------------------------------------------------------------------------


def l2tp(facts: Facts) -> list[Layer]:
    """The kernel's tunnel and its sessions."""
    mine = [t for t in facts.things if isinstance(t.wanted, Tunnel | Session)]
    if facts.kind != TUNNEL or not mine:
        return []
    wrong = [thing for thing in mine if not thing.present or thing.differences]
    details = [(name, _statistics(values)) for name, values in facts.after.sessions.items()]
    if wrong:
        cause = facts.problem or "somebody has deleted or changed them, or nobody has made them yet"
        found = Diagnosis(f"{wrong[0].wanted.kind} is missing or not as it should be", cause, _put_back(facts),
                          tuple(_line(t) for t in wrong))  # fmt: skip
        return [broken(L2TP, found, *details)]
    return [ok(L2TP, "; ".join(str(t.wanted) for t in mine), *details)]


def _statistics(values: "dict[str, int] | object") -> str:
    assert hasattr(values, "get")
    parts = [f"{values.get('rx_packets', 0):,} packets in, {values.get('tx_packets', 0):,} out"]
    names = ("rx_errors", "tx_errors", "rx_seq_discards", "rx_oos_packets", "rx_cookie_discards", "rx_invalid")
    parts += [f"{values.get(name):,} {name.replace('_', ' ')}" for name in names if values.get(name)]
    return ", ".join(parts)


# -- interfaces and addresses ----------------------------------------------------------------------------------------


def interfaces(facts: Facts) -> list[Layer]:
    """Devices, as they are and as they should be."""
    if not facts.devices:
        return []
    found = []
    for device in facts.devices:
        found.append(_interface(facts, device))
        if (layer := _addresses(facts, device)) is not None:
            found.append(layer)
    return found


def _interface(facts: Facts, device: Device) -> Layer:
    links = [t for t in facts.things if isinstance(t.wanted, Link) and t.wanted.name == device.name]
    details = [("MTU", device.mtu), ("bridge", device.bridge), *_cost(device)]
    if device.mtu is None:
        if facts.kind == TUNNEL:
            cause = facts.problem or "its session is not there either"
            return broken(INTERFACE, Diagnosis(f"there is no interface {device.name}", cause, _put_back(facts)))
        return waiting(INTERFACE, "comes with PPP")
    if (missing := _bridge_missing(facts, device)) is not None:
        return broken(INTERFACE, missing, *details)
    if not device.up:
        if facts.protection == "IKE" and (links and isinstance(links[0].wanted, Link) and not links[0].wanted.up):
            return waiting(INTERFACE, f"{device.name} is down until there is an IPsec SA", *details)
        how = f"$ ip link set {device.name} up"
        found = Diagnosis(f"{device.name} is down", "somebody has switched it off", (how, *_put_back(facts)))
        return broken(INTERFACE, found, *details)
    if wrong := [t for t in links if t.differences]:
        lines = tuple(_line(t) for t in wrong)
        return broken(INTERFACE, Diagnosis(f"{device.name} is not as it should be",
                                           facts.problem or "somebody has changed it", _put_back(facts), lines),
                      *details)  # fmt: skip
    return ok(INTERFACE, f"{device.name} up, MTU {device.mtu}", *details)


def _bridge_missing(facts: Facts, device: Device) -> Diagnosis | None:
    if not device.bridge or f"no device {device.bridge}" not in facts.problem:
        return None
    return Diagnosis(f"the bridge {device.bridge}, to which {device.name} belongs, does not exist", facts.problem,
                     (f"$ ip link add {device.bridge} type bridge && ip link set {device.bridge} up",))  # fmt: skip


def _cost(device: Device) -> list[tuple[str, object]]:
    stack, expected = device.stack, device.overhead
    if stack is None or expected is None or device.mtu is None:
        return []
    whole = stack.outer_length(device.mtu)
    layers = ", ".join(f"{layer.name} {layer.bytes}" for layer in stack.layers(device.mtu) if layer.name != "payload")
    return [("overhead", f"{whole - device.mtu} bytes ({layers})"), ("largest packet on the wire", f"{whole} bytes")]


def _addresses(facts: Facts, device: Device) -> Layer | None:
    if facts.kind != TUNNEL or device.mtu is None:
        return None
    wanted = [t for t in facts.things if isinstance(t.wanted, Address | Route | Clamp) and _on(t, device.name)]
    if not wanted and not device.addresses:
        return None
    wrong = [thing for thing in wanted if not thing.present or thing.differences]
    if wrong and not device.up:
        return waiting(ADDRESSES, "some of them come when the interface is up")
    if wrong:
        found = Diagnosis("addresses or routes are missing", facts.problem or "somebody has taken them away",
                          _put_back(facts), tuple(_line(t) for t in wrong))  # fmt: skip
        return broken(ADDRESSES, found)
    return ok(ADDRESSES, ", ".join(device.addresses) or "routes as wanted")


def _on(thing: Thing, name: str) -> bool:
    wanted = thing.wanted
    return name == (wanted.device if isinstance(wanted, Route) else getattr(wanted, "ifname", ""))


def named(addresses: Iterable[tuple[bytes, int]]) -> tuple[str, ...]:
    """Addresses for people."""
    return tuple(prefix(raw, length) for raw, length in addresses)


# -- the MTU ---------------------------------------------------------------------------------------------------------


def mtu(facts: Facts) -> list[Layer]:
    """Whether the largest packets pass: what the path lets through, against what our interfaces send."""
    largest = max((_wire(device) for device in facts.devices), default=0)
    probe = facts.probe
    if probe is None:
        return _unprobed(facts, largest)
    if probe.problem and not probe.passes:
        return [unknown("MTU", f"the path could not be probed: {probe.problem}")]
    if not probe.answers:
        return [unknown("MTU", f"{text(facts.remote)} does not answer pings: the path cannot be probed")]
    if probe.passes >= probe.wanted:
        return [ok("MTU", f"packets of {probe.wanted} bytes pass in one piece ({probe.seconds:.1f} s)")]
    return [broken("MTU", _black_hole(facts, probe.passes, largest, told=probe.told))]


def _wire(device: Device) -> int:
    """The largest packet that a device makes on the wire, bytes; 0 where that is not known."""
    if device.stack is None or device.mtu is None:
        return 0
    return device.stack.outer_length(device.mtu)


def _unprobed(facts: Facts, largest: int) -> list[Layer]:
    found = facts.way
    if found is None or found.problem or not largest:
        return []
    if found.mtu and largest > found.mtu:
        return [broken("MTU", _black_hole(facts, found.mtu, largest, told=True))]
    return [ok("MTU", f"largest packets are {largest} bytes on the wire; the way takes {found.mtu} as far as this host"
                      " knows (--probe tries it)")]  # fmt: skip


def _black_hole(facts: Facts, passes: int, largest: int, *, told: bool) -> Diagnosis:
    silent = "swallows what is larger without a word: a black hole, ICMP is dropped"
    name = f"a router or link on the way takes less than it should, and {'says so' if told else silent}"
    cure = [f"path_mtu: {passes} for this {'tunnel' if facts.kind == TUNNEL else 'profile'}; then: $ kl2tp reload"]
    cure += [
        f"the MTU of {device.name} then is {fits} (now {device.mtu})"
        + (": it is configured, so change it there" if device.configured else "")
        for device in facts.devices
        if (fits := _fitting(device, passes))
    ]
    cure.append("or mend the path: let ICMP 'fragmentation needed' / 'packet too big' pass")
    evidence = [f"packets of {passes} bytes pass, larger ones do not"]
    if largest:
        evidence.append(f"our largest packets are {largest} bytes on the wire")
    words = "large packets do not get to the peer in one piece: small ones pass, so pings work and transfers hang"
    return Diagnosis(words, name, tuple(cure), tuple(evidence))


def _fitting(device: Device, path: int) -> int:
    if device.stack is None or device.mtu is None:
        return 0
    try:
        return device.stack.mtu(path)
    except ValueError:
        return 0
