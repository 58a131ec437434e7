"""Findings about IPsec with IKE: strongSwan's charon and its settings, who is in its way, what the kernel lacks."""

import errno
import re
from collections.abc import Iterator

from kl2tp.doctor.machine import Machine
from kl2tp.doctor.neighbours import IKE_DAEMONS, owners, udp_sockets
from kl2tp.kernel import clients, rules
from kl2tp.kernel.finding import Finding, fail, ok, warn
from kl2tp.kernel.netlink import KernelError
from kl2tp.kernel.probe import cannot_guard_places
from kl2tp.model.desired import Desired
from kl2tp.model.objects import Marks

CHARON = {"charon", "charon-systemd"}
PORTS = (500, 4500)
_TELLS_MARKS = (5, 19)
"""The first kernel that tells a socket the mark of what it receives."""
SETTINGS = "/etc/strongswan.d/charon"
_CHARON_CONF = ("/etc/strongswan.d/charon.conf", "/etc/strongswan.conf")
_PLUGIN = "/etc/strongswan.d/charon/{}.conf"
_LOADED = re.compile(r"^\s*load\s*=\s*yes\b", re.MULTILINE)
_PORT = re.compile(r"^\s*(port|port_nat_t)\s*=\s*(\d+)", re.MULTILINE)
_INSTALL = "apt install charon-systemd strongswan-swanctl && systemctl enable --now strongswan"


def wants(desired: Desired | None) -> bool:
    """Whether anything in a configuration has IKE."""
    return desired is not None and any(spec.ike for spec in (*desired.tunnels, *desired.calls))


def ike(machine: Machine, desired: Desired | None) -> Iterator[Finding]:
    """All of it, where the configuration has IKE."""
    if desired is None or not wants(desired):
        return
    yield from _charon(machine, desired.daemon.charon)
    yield from _ports(machine)
    yield from _settings(machine)
    if any(lns.ike for lns in desired.lns):
        yield from _clients(machine)
        yield from _marks(desired.daemon.marks)


def _charon(machine: Machine, address: str) -> Iterator[Finding]:
    """Whether charon is there to be spoken to."""
    path = address.removeprefix("unix://")
    running = [name for _, name in machine.processes() if name in CHARON]
    if machine.exists(path):
        yield ok(f"charon listens at {path}" if running else f"there is a socket {path}")
        if not running:
            yield warn("charon does not run", f"{path} is what it left behind", "systemctl restart strongswan")
    elif running:
        why = "kl2tp speaks to charon through its plugin vici"
        yield fail(f"{running[0]} runs, but there is no {path}", why, "load its plugin vici, or set daemon.charon")
    else:
        yield fail("charon does not run", f"there is no {path}: no IPsec with IKE without it", _INSTALL)


def _ports(machine: Machine) -> Iterator[Finding]:
    """Whether somebody else has the ports of IKE."""
    held = [found for found in udp_sockets(machine) if found[1] in PORTS]
    known = owners(machine, {inode for _, _, inode in held})
    others = {known[inode]: port for _, port, inode in held if inode in known and known[inode][1] not in CHARON}
    for (number, name), port in others.items():
        what = f"{name} (process {number}) holds UDP port {port}"
        yield fail(what, "charon needs it: it hears nothing", f"systemctl disable --now {name}")
    if others:
        return
    for number, name in machine.processes():
        if name in IKE_DAEMONS - CHARON:
            why = "two daemons for IKE on one host take each other's packets and SAs"
            yield warn(f"{name} (process {number}) runs too", why, f"systemctl disable --now {name}")


def _settings(machine: Machine) -> Iterator[Finding]:
    """What charon may be told that is in the way."""
    path = _PLUGIN.format("kernel-libipsec")
    if _LOADED.search(_bare(machine.text(path))):
        why = "it does ESP by itself: the kernel, which has the tunnels, would see no IPsec"
        yield fail("charon loads its plugin kernel-libipsec", why, f"sed -i 's/load = yes/load = no/' {path}")
    for path in _CHARON_CONF:
        for name, port in _PORT.findall(_bare(machine.text(path))):
            if int(port) not in (0, *PORTS):
                why = "a peer's IKE comes to 500 and 4500"
                yield warn(f"{path} gives charon {name} {port}", why, f"take {name} out of {path}")


def _bare(text: str) -> str:
    """Settings without comments."""
    return re.sub(r"#.*", "", text)


def _clients(machine: Machine) -> Iterator[Finding]:
    """Whether an LNS can tell its clients apart."""
    if machine.version() < _TELLS_MARKS:
        why = "clients with IPsec cannot be told apart, and none is answered"
        yield fail(f"kernels before {_TELLS_MARKS[0]}.{_TELLS_MARKS[1]} tell no marks", why, "use a newer kernel")
    problem = cannot_guard_places()
    if problem is not None and problem.code in (errno.EPERM, errno.EACCES):
        yield warn("guards of LNS places were not tried", "this user may not", "sudo kl2tp doctor")
    elif problem is not None:
        why = (
            "the LNS is reachable by IPsec only all the same, but of clients behind one NAT one alone can be served, "
            "and a client that sends another's tunnel id is stopped by nobody"
        )
        yield warn(f"this kernel's nftables does not see IPsec: {problem}", why, "modprobe nft_xfrm")
    elif clients.by_port(machine.release):
        last = clients.PORT_BASE + clients.PORT_MASK
        yield ok(
            f"kernels before {clients.BY_ID_SINCE[0]}.{clients.BY_ID_SINCE[1]}: clients behind one NAT get a port each "
            f"on this host, {clients.PORT_BASE} to {last}"
        )
    else:
        yield ok("clients behind one NAT are told apart by their SAs")


def _marks(marks: Marks) -> Iterator[Finding]:
    """Whether routing looks at the marks that are ours."""
    base, mask = marks
    try:
        found = rules.by_mark()
    except KernelError:
        return
    for rule in found:
        if not (rule.mark ^ base) & rule.mask & ~mask:
            what = f"ip rule {rule.priority} is about mark {rule.mark:#x}/{rule.mask:#x}"
            why = f"clients with IPsec have marks {base:#x} to {base | mask:#x}"
            yield warn(what, why, "give one of both another range: daemon.marks")
