"""Many tunnels of every sort on one host, and a view of their objects by key."""

from collections.abc import Iterable
from pathlib import Path

from kernel.rig import conf
from kernel.rig.net import Host
from kernel.rig.run import Unit as Installation
from kl2tp.config import load
from kl2tp.ipsec.keys import KeyRing
from kl2tp.kernel.door import Door
from kl2tp.model.objects import KernelObject, Key
from kl2tp.model.plan import Unit, satisfied
from kl2tp.reconcile.compile import compile_unit, keying

FAR = 9
"""Number of a host that is not there."""


def name(number: int) -> str:
    """The tunnel with that number."""
    return f"t{number:03}"


def tunnel(host: Host, number: int, key: str, *, customer: str = "", bridge: str = "") -> conf.Tree:
    """A tunnel of a sort that depends on its number; to a peer that is not there."""
    interface: conf.Tree = {"addresses": [f"{conf.inner(number, 1)}/24", f"2001:db8:{number:x}::1/64"]}
    if number % 2:
        interface["routes"] = [f"10.128.{number}.0/24", {"to": f"2001:db8:{number + 4096:x}::/64", "metric": 7}]
    peer = Host.__new__(Host)
    peer.number = FAR
    sort = number % 6
    ipsec: conf.Tree = {"ipsec": {"key_file": key, "overlap": 0}} if sort else {}
    found = conf.tunnel(host, peer, number, v6=sort == 3, encapsulation="ip" if sort == 1 else "udp", **ipsec)
    lan = found["sessions"]["lan"]
    if sort == 1:
        found["remote"] = f"198.51.100.{number}"
        found["route"] = {"via": "192.0.2.254"}
    elif sort == 3:
        found["ipsec"]["mode"] = "tunnel"
    elif sort == 4 and bridge:
        interface = {"bridge": bridge}
        del lan["interface"]["address"]
    elif sort == 5 and customer:
        interface["netns"] = customer
    if sort:
        lan["cookie"] = "auto"
    if "addresses" in interface:
        del lan["interface"]["address"]
    lan["interface"] |= interface
    return found


class View:
    """What a configuration wants of the kernel, and what the kernel has of it; for a thread in the host's namespace."""

    def __init__(self, config: Path) -> None:
        ring = KeyRing()
        self._door = Door()
        specs = load(config).tunnels
        self.units: dict[str, Unit] = {s.name: compile_unit(s, ring, keying(s, ring)) for s in specs}

    @property
    def objects(self) -> list[tuple[str, KernelObject]]:
        """(tunnel, object), all of them."""
        return [(unit.name, thing) for unit in self.units.values() for thing in unit.objects]

    def wrong(self, names: Iterable[str] = ()) -> list[str]:
        """What is not as it should be, of these tunnels or of all."""
        self._door.forget_devices()
        units = [self.units[n] for n in names] or list(self.units.values())
        found: dict[Key, KernelObject] = self._door.read([o.key for unit in units for o in unit.objects])
        return [
            f"{unit.name}: {wanted}"
            for unit in units
            for wanted in unit.objects
            if wanted.key not in found or not satisfied(wanted, found[wanted.key])
        ]

    def close(self) -> None:
        self._door.close()


def install(unit: Installation, numbers: Iterable[int], **places: str) -> None:
    """Write the configuration of these tunnels."""
    key = unit.directory / "fleet.key"
    if not key.exists():
        conf.make_key(key)
    conf.write(unit.config, {name(n): tunnel(unit.host, n, str(key), **places) for n in numbers})
