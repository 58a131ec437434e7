"""A kernel as a dictionary, with the rules by which objects take others with them. For planner tests only."""

from collections.abc import Iterable
from dataclasses import replace

from kl2tp.model.objects import Address, Clamp, Guard, KernelObject, Key, Link, Policy, Route, Session, Tunnel
from kl2tp.model.plan import Operation, Verb

SHARED = (Policy, Guard)
"""What several tunnels to one peer have in common: creating it twice in one plan is one creation."""


class Refused(Exception):
    """What a kernel would answer with an error."""


class ModelKernel:
    """Objects by key; `carry_out` refuses whatever a kernel would refuse."""

    def __init__(self, objects: Iterable[KernelObject] = ()) -> None:
        self.objects: dict[Key, KernelObject] = {o.key: o for o in objects}

    def copy(self) -> "ModelKernel":
        return ModelKernel(self.objects.values())

    def carry_out(self, operations: Iterable[Operation]) -> None:
        """Operations one after the other. Raises Refused."""
        made: set[Key] = set()
        for op in operations:
            if op.verb is Verb.DELETE:
                self.delete(op.target.key)
            elif op.verb is Verb.UPDATE:
                self._update(op.target)
            elif op.target.key not in made or not isinstance(op.target, SHARED):
                self.create(op.target)
                made.add(op.target.key)

    def delete(self, key: Key) -> None:
        """Take an object away, with all that stands on it."""
        gone = self.objects.pop(key, None)
        if isinstance(gone, Tunnel):
            for session in self._all(Session):
                if (session.netns, session.tunnel_id) == (gone.netns, gone.id):
                    self.delete(session.key)
        elif isinstance(gone, Session):
            for link in self._all(Link):
                if (link.tunnel_netns, link.birth_name) == (gone.netns, gone.ifname):
                    self.delete(link.key)
        elif isinstance(gone, Link):
            self._strip(gone.netns, gone.name)
        elif isinstance(gone, Address):
            self._lose_routes(gone.netns, gone.ifname)

    def _strip(self, netns: str, device: str) -> None:
        """What stands on a device goes with it; nftables elements only name it, and stay."""
        for address in self._all(Address):
            if (address.netns, address.ifname) == (netns, device):
                del self.objects[address.key]
        self._lose_routes(netns, device)

    def _lose_routes(self, netns: str, device: str) -> None:
        """A device loses its routes with its last address, when it goes down, and when it gets another master."""
        for route in self._all(Route):
            if (route.netns, route.device) == (netns, device):
                del self.objects[route.key]

    def create(self, thing: KernelObject) -> None:
        """Make an object; what it needs must be there, and its place must be free."""
        if isinstance(thing, Link):
            self._settle(thing)
            return
        if thing.key in self.objects and not isinstance(thing, Address | Guard | Clamp):
            raise Refused(f"EEXIST {thing}")
        if isinstance(thing, Session):
            self._bear(thing)
        elif isinstance(thing, Address):
            self._need(("link", thing.netns, thing.ifname), thing)
        elif isinstance(thing, Route) and thing.tunnel_device:
            self._need(("link", thing.netns, thing.device), thing)
        self.objects[thing.key] = thing

    def _bear(self, session: Session) -> None:
        """A session's device is born with it, where its tunnel is."""
        self._need(("tunnel", session.netns, session.tunnel_id), session)
        device = Link(session.netns, session.ifname, 1488, up=False, tunnel_netns=session.netns)
        if device.key in self.objects:
            raise Refused(f"EEXIST {session}")
        self.objects[device.key] = device

    def _settle(self, link: Link) -> None:
        """The device of a session gets its settings, and goes where it belongs."""
        born = ("link", link.tunnel_netns, link.birth_name)
        if born != link.key and link.key in self.objects:
            raise Refused(f"EEXIST {link}")
        self._need(born, link)
        del self.objects[born]
        self.objects[link.key] = link

    def _need(self, key: Key, whose: KernelObject) -> None:
        if key not in self.objects:
            raise Refused(f"ENODEV {whose}: there is no {key}")

    def _update(self, thing: KernelObject) -> None:
        if isinstance(thing, Route | Policy | Address):  # the kernel creates what it cannot replace
            self.objects.pop(thing.key, None)
            self.create(thing)
            return
        self._need(thing.key, thing)
        before = self.objects[thing.key]
        if isinstance(thing, Session) and isinstance(before, Session):
            same = replace(
                before, **{n: getattr(thing, n) for n in ("send_sequence", "require_sequence", "reorder_ms")}
            )
            if same != thing:
                raise Refused(f"EOPNOTSUPP {thing}")
        if isinstance(thing, Tunnel):
            raise Refused(f"EOPNOTSUPP {thing}")
        if isinstance(thing, Link) and isinstance(before, Link):
            if thing.mac and thing.mac != before.mac and before.up:
                raise Refused(f"EBUSY {thing}")
            if (thing.up, thing.master) != (before.up, before.master):
                self._lose_routes(thing.netns, thing.name)
        self.objects[thing.key] = thing

    def _all(self, kind: type) -> list:  # type: ignore[type-arg]
        return [o for o in self.objects.values() if isinstance(o, kind)]
