"""Findings about others on this machine: who holds the port, who meddles with interfaces, who forbids modules."""

import os
import re
from collections.abc import Iterator

from kl2tp.doctor.machine import Machine
from kl2tp.kernel.finding import Finding, fail, ok, warn
from kl2tp.model.addr import ANY4, ANY6
from kl2tp.model.desired import Desired

PORT = 1701
L2TP_DAEMONS = {"xl2tpd", "accel-pppd", "openl2tpd", "kl2tpd", "l2tpns", "prol2tpd"}
IKE_DAEMONS = {"charon", "charon-systemd", "pluto", "iked", "racoon"}
MODULES = ("l2tp_core", "l2tp_netlink", "l2tp_eth", "l2tp_ip", "l2tp_ip6", "esp4", "esp6", "xfrm_user", "nf_tables",
           "ppp_generic", "pppox", "l2tp_ppp")
MODPROBE = ("/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d")
RULES = ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d")
NETWORKS = ("/etc/systemd/network", "/run/systemd/network", "/usr/lib/systemd/network", "/lib/systemd/network")
_LOCKS = ("lock", "keeper.lock")
"""Files in the run directory that the daemon and the keeper hold locked."""
_RULE, _NETWORK = "kl2tp.rules", "kl2tp.network"


def ports(machine: Machine, desired: Desired | None, run_dir: str) -> Iterator[Finding]:
    """Who holds UDP 1701, or another port that the configuration wants."""
    wanted = _wanted(desired) if desired else set()
    numbers = {port for _, port in wanted} | {PORT}
    held = [socket for socket in udp_sockets(machine) if socket[1] in numbers]
    ours = {machine.locker(os.path.join(run_dir, name)) for name in _LOCKS} - {None}
    known = owners(machine, {inode for _, _, inode in held})
    others = False
    for address, port, inode in held:
        if (owner := known.get(inode)) is None or owner[0] in ours:
            continue  # the kernel's own, of a tunnel; or that of our daemon
        others = True
        yield _held(*owner, port, needed=any(port == p and _collide(address, local) for local, p in wanted))
    if not others:
        yield ok(f"UDP port {PORT} is {'ours, or a tunnel has it' if held else 'free'}")


def _wanted(desired: Desired) -> set[tuple[bytes, int]]:
    """Local addresses and UDP ports of the configuration."""
    wanted = {(t.local, t.local_port) for t in desired.tunnels if t.local_port}
    for lns in desired.lns:
        wanted |= set(lns.listen or ((ANY4, PORT), (ANY6, PORT)))
    return wanted | {(lac.local[0] or bytes(len(lac.remotes[0][0])), lac.local[1]) for lac in desired.lac}


def _collide(one: bytes, other: bytes) -> bool:
    """Whether sockets on the same port are in each other's way, by their addresses."""
    return one == other or one in (ANY4, ANY6) or other in (ANY4, ANY6)


def _held(number: int, name: str, port: int, *, needed: bool) -> Finding:
    what = f"{name} (process {number}) holds UDP port {port}"
    mend = f"systemctl disable --now {name}, or give the tunnels other ports"
    if name == "xl2tpd":
        mend = "systemctl disable --now xl2tpd   # what it did: kl2tp import xl2tpd"
    if needed:
        return fail(what, "the configuration needs it: one of both would hear nothing", mend)
    return warn(what, "no tunnel can have that port on the same address", mend)


def udp_sockets(machine: Machine) -> Iterator[tuple[bytes, int, int]]:
    """(address, port, inode) of every UDP socket."""
    for name in ("udp", "udp6"):
        for line in machine.text(f"/proc/net/{name}").splitlines()[1:]:
            fields = line.split()
            if len(fields) < 10:
                continue
            address, _, port = fields[1].partition(":")
            yield _address(address), int(port, 16), int(fields[9])


def _address(text: str) -> bytes:
    """An address as /proc/net prints it: words of 32 bits in the machine's order."""
    words = [bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8)]
    return b"".join(words)


def owners(machine: Machine, inodes: set[int]) -> dict[int, tuple[int, str]]:
    """The process that has each socket open, as far as we may see."""
    links = {f"socket:[{inode}]": inode for inode in inodes if inode}
    found: dict[int, tuple[int, str]] = {}
    for number, name in machine.processes() if links else ():
        for fd in machine.names(f"/proc/{number}/fd"):
            try:
                target = os.readlink(machine.path(f"/proc/{number}/fd/{fd}"))
            except OSError:
                continue
            if target in links:
                found[links[target]] = (number, name)
    return found


def daemons(machine: Machine, *, ike: bool = False) -> Iterator[Finding]:
    """Others who make tunnels or security associations; with `ike` charon makes them for us."""
    for number, name in machine.processes():
        if name in L2TP_DAEMONS:
            why = "it may want the same ports and ids; what it made, kl2tp never touches"
            yield warn(f"{name} (process {number}) runs too", why, f"systemctl disable --now {name}")
        elif name in IKE_DAEMONS and not ike:
            why = "it flushes the kernel's SAs when it starts or stops; kl2tp daemon puts ours back within a second"
            yield warn(f"{name} (process {number}) runs too", why)


def managers(machine: Machine) -> Iterator[Finding]:
    """Programs that configure every interface that appears, unless they are told not to."""
    running = {name for _, name in machine.processes()}
    if "NetworkManager" in running and not _installed(machine, RULES, _RULE):
        why = "it would run DHCP on every new tunnel device"
        mend = "install -m 644 systemd/kl2tp.rules /etc/udev/rules.d/90-kl2tp.rules && udevadm control --reload"
        yield warn("NetworkManager is not told to leave tunnel devices alone", why, mend)
    if "systemd-network" in running and not _installed(machine, NETWORKS, _NETWORK):
        why = "a .network file that matches every device would match tunnel devices too"
        mend = "install -m 644 systemd/kl2tp.network /etc/systemd/network/05-kl2tp.network && networkctl reload"
        yield warn("systemd-networkd is not told to leave tunnel devices alone", why, mend)


def _installed(machine: Machine, directories: tuple[str, ...], suffix: str) -> bool:
    return any(name.endswith(suffix) for directory in directories for name in machine.names(directory))


_BLACKLIST = re.compile(r"^\s*blacklist\s+(\S+)", re.MULTILINE)
_REFUSED = re.compile(r"^\s*install\s+(\S+)\s+(?:/usr)?/bin/(?:true|false)\b", re.MULTILINE)


def modules(machine: Machine) -> Iterator[Finding]:
    """Modules that modprobe.d forbids; what is loaded, or built in, is not in the way any more."""
    loaded = {line.split()[0] for line in machine.text("/proc/modules").splitlines() if line}
    seen: set[str] = set()
    for directory in MODPROBE:
        for name in machine.names(directory):
            if not name.endswith(".conf") or name in seen:  # the first directory wins (modprobe.d(5))
                continue
            seen.add(name)
            yield from _forbidden(machine.text(f"{directory}/{name}"), f"{directory}/{name}", loaded)


def _forbidden(text: str, path: str, loaded: set[str]) -> Iterator[Finding]:
    refused = {name.replace("-", "_") for name in _REFUSED.findall(text)}
    for module in [name for name in MODULES if name in refused and name not in loaded]:
        yield fail(f"{path} keeps module {module} from being loaded", "tunnels need it", _lift(path, module))
    listed = {name.replace("-", "_") for name in _BLACKLIST.findall(text)} - refused
    for module in [name for name in MODULES if name in listed and name not in loaded]:
        why = "the kernel cannot load it by itself"
        yield warn(f"{path} blacklists module {module}", why, _lift(path, module))


def _lift(path: str, module: str) -> str:
    """The command that lifts a ban: in a file of the administrator's, or over one of a package's."""
    if path.startswith("/etc/"):
        return f"sed -i 's/^.*{module}/# &/' {path}"
    return f"ln -s /dev/null /etc/modprobe.d/{os.path.basename(path)}"
