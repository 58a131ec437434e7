"""What a configuration needs and this machine lacks, named before anything is touched."""

import errno
from collections.abc import Callable, Collection, Iterable, Iterator

from kl2tp.kernel import ethtool, netns, nft, rtnl, xfrm
from kl2tp.kernel.features import PPP, PPP_SESSION, attempt, lacking, needed
from kl2tp.kernel.finding import Finding, fail, warn
from kl2tp.kernel.netlink import KernelError, Netlink
from kl2tp.kernel.scratch import Scratch, scratch
from kl2tp.model.desired import Desired
from kl2tp.model.spec import TunnelSpec

__all__ = [
    *("CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN"),
    *("Finding", "capable", "missing", "namespaces", "some", "surroundings"),
]

CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN = 12, 13, 21


def capable(number: int) -> bool:
    """Whether this thread has a capability, in its own user namespace."""
    with open("/proc/thread-self/status", encoding="ascii") as status:
        effective = next(line for line in status if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> number & 1)


def missing(desired: Desired) -> list[Finding]:
    """What the configuration needs and this machine lacks. Failures stop everything, warnings single tunnels.

    Some milliseconds: only what is needed is tried. Without CAP_SYS_ADMIN there is no namespace for trials,
    and only what can be asked without one is found out.
    """
    if not capable(CAP_NET_ADMIN):
        return [fail("no capability CAP_NET_ADMIN", "the kernel lets nobody else make tunnels", "sudo kl2tp apply")]
    keys = needed(desired)
    findings = [] if not keys else _lacking_features(keys)
    return [*findings, *surroundings(desired)]


def cannot_guard_places() -> KernelError | None:
    """Why nftables cannot tell clients with IPsec apart, here; None: it can. Changes nothing."""
    try:
        with Netlink(nft.NETLINK_NETFILTER) as sock:
            return nft.refusal(sock)
    except OSError as error:
        return KernelError(error.errno or errno.EIO, "nftables")


def surroundings(desired: Desired) -> Iterator[Finding]:
    """What the tunnels expect to find: namespaces, bridges, VRFs, outgoing devices, devices that do ESP."""
    yield from _namespaces(desired)
    yield from _devices(desired)
    yield from offload(desired.tunnels)


def _lacking_features(keys: set[str]) -> list[Finding]:
    try:
        with scratch() as space:
            found = attempt(space, keys)
    except KernelError as error:
        if error.code != errno.EPERM:
            raise
        found = _without_trial(keys)
    return [lacking(key, error, why="the configuration needs it") for key, error in found.items() if error]


def _without_trial(keys: set[str]) -> dict[str, KernelError | None]:
    """What the kernel tells without a trial."""
    space = Scratch()  # not in a namespace of its own: only questions are asked
    found: dict[str, KernelError | None] = {}
    try:
        for key, question in _QUESTIONS.items():
            if key in keys:
                try:
                    question(space)
                except KernelError as error:
                    found[key] = error
    finally:
        space.close()
    return found


_QUESTIONS: dict[str, Callable[[Scratch], object]] = {
    "l2tp": lambda s: s.family(),
    "xfrm": lambda s: s.netlink(xfrm.NETLINK_XFRM),
    "nftables": lambda s: s.netlink(nft.NETLINK_NETFILTER),
    PPP: lambda s: s.ppp_node(),
    PPP_SESSION: lambda s: s.ppp_socket(),
}


def namespaces(desired: Desired) -> dict[str, list[str]]:
    """The network namespaces that a configuration names, and who needs each."""
    users: dict[str, list[str]] = {}
    for tunnel in desired.tunnels:
        for name in {tunnel.netns, *(s.interface.netns or "" for s in tunnel.sessions)} - {""}:
            users.setdefault(name, []).append(tunnel.name)
    for profile in desired.calls:
        if profile.interface.netns:
            users.setdefault(profile.interface.netns, []).append(profile.name)
    return users


def _namespaces(desired: Desired) -> Iterator[Finding]:
    users = namespaces(desired)
    if users and not capable(CAP_SYS_ADMIN):
        why = f"{some(users)} are network namespaces of the configuration: entering them needs it"
        yield fail("no capability CAP_SYS_ADMIN", why, "sudo kl2tp apply")
    for name, names in users.items():
        try:
            netns.identity(name)
        except netns.NoNamespace:
            yield warn(f"there is no network namespace {name}", f"needed by {some(names)}", f"ip netns add {name}")


def _devices(desired: Desired) -> Iterator[Finding]:
    users: dict[str, dict[tuple[str, str], list[str]]] = {}
    for tunnel in desired.tunnels:
        for space, kind, device in _expected(tunnel):
            users.setdefault(space, {}).setdefault((kind, device), []).append(tunnel.name)
    for profile in desired.calls:
        if vrf := profile.interface.vrf:
            space = profile.interface.netns or ""
            users.setdefault(space, {}).setdefault(("VRF", vrf), []).append(profile.name)
    for space, devices in users.items():
        try:
            absent = _absent(space, [device for _, device in devices])
        except (netns.NoNamespace, OSError):
            continue  # that is a finding of its own
        for (kind, device), names in devices.items():
            if device in absent:
                yield warn(
                    f"there is no {kind} {device}", f"needed by {some(names)}", _how_to_make(space, kind, device)
                )


def _expected(tunnel: TunnelSpec) -> Iterator[tuple[str, str, str]]:
    """(namespace, kind, name) of the devices that others must have made."""
    if tunnel.route_device:
        yield tunnel.netns, "device", tunnel.route_device
    for session in tunnel.sessions:
        interface = session.interface
        space = tunnel.netns if interface.netns is None else interface.netns
        if interface.bridge:
            yield space, "bridge", interface.bridge
        if interface.vrf:
            yield space, "VRF", interface.vrf


def _absent(space: str, devices: list[str]) -> set[str]:
    """Those that are not there. Raises NoNamespace, OSError."""
    with netns.entered(space):
        sock = Netlink(rtnl.NETLINK_ROUTE)
    with sock:
        replies = sock.get([rtnl.link_get(device) for device in devices])
    return {device for device, reply in zip(devices, replies, strict=True) if isinstance(reply, KernelError)}


def _how_to_make(space: str, kind: str, device: str) -> str:
    ip = f"ip -n {space}" if space else "ip"
    if kind == "bridge":
        return f"{ip} link add {device} up type bridge"
    return f"{ip} link add {device} up type vrf table TABLE" if kind == "VRF" else ""


def some(names: Collection[str], most: int = 3) -> str:
    """A few names, and how many more there are."""
    first = ", ".join(list(names)[:most])
    return first if len(names) <= most else f"{first} and {len(names) - most} more"


def offload(tunnels: Iterable[TunnelSpec]) -> Iterator[Finding]:
    """Devices that shall do ESP and cannot. Without this the kernel would silently do it in software."""
    users: dict[tuple[str, str], list[str]] = {}
    for tunnel in tunnels:
        if tunnel.ipsec and tunnel.ipsec.offload_device:
            users.setdefault((tunnel.netns, tunnel.ipsec.offload_device), []).append(tunnel.name)
    for (space, device), names in users.items():
        if space and not capable(CAP_SYS_ADMIN):
            continue
        try:
            able = ethtool.ESP_OFFLOAD in ethtool.device_features(space, device)
        except netns.NoNamespace:
            continue
        except KernelError as error:
            if error.code == errno.ENODEV:
                yield warn(f"there is no device {device}", f"it shall do ESP for {some(names)}")
            continue
        if not able:
            why = f"offload is set for {some(names)}"
            yield warn(f"device {device} cannot do ESP", why, f"ethtool -k {device} | grep esp; or remove offload")
