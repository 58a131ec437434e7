"""The door: reads objects and carries out plans, in every namespace, from one thread.

Plans are carried out stage by stage, each stage one batch per namespace. A unit in which an operation fails gets no
later operation: protection that could not go up keeps its tunnel down, and a tunnel that could not be taken down keeps
its protection.
"""

import errno
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from kl2tp.kernel import associations, l2tp, netns, nft, precedence, rtnl, xfrm
from kl2tp.kernel.associations import Association
from kl2tp.kernel.host import Host
from kl2tp.kernel.leaving import Leaving, Pace, wait_gone
from kl2tp.kernel.netlink import KernelError, Message, Netlink, Reply
from kl2tp.kernel.precedence import Outbound
from kl2tp.kernel.press import Refused, press
from kl2tp.kernel.stencil import Row, Specimen, Stencil
from kl2tp.model.objects import (
    ALIAS_PREFIX,
    Address,
    Element,
    KernelObject,
    Key,
    Link,
    Policy,
    Route,
    Sa,
    Session,
    Tunnel,
)
from kl2tp.model.plan import Operation, Unit, Verb, creations

Error = KernelError | netns.NoNamespace


@dataclass(slots=True)
class Outcome:
    """What became of a plan."""

    done: list[Operation] = field(default_factory=list)
    failed: dict[str, tuple[Operation, Error]] = field(default_factory=dict)
    """Per unit the operation that failed and why; what came after it was not tried."""
    skipped: list[Operation] = field(default_factory=list)


class Door:
    """Access to the kernel in all namespaces. Blocking; for one thread."""

    def __init__(self) -> None:
        self._hosts: dict[str, Host] = {}
        self.ports: set[int] = set()
        """Port ids of all request sockets, now and before: what tells our own events from others'."""
        self._leaving = Leaving()
        self._pace = Pace()

    def close(self) -> None:
        for host in self._hosts.values():
            host.close()
        self._hosts.clear()

    def host(self, name: str) -> Host:
        """The host of a namespace. A namespace that was deleted and made anew gets new sockets. Raises NoNamespace."""
        host = self._hosts.get(name)
        if host is not None and name:
            try:
                if netns.identity(name) == host.identity:
                    return host
            except netns.NoNamespace:
                self._hosts.pop(name).close()
                raise
            self._hosts.pop(name).close()
            host = None
        if host is None:
            host = self._hosts[name] = Host(name, self.ports)
        return host

    def sent(self) -> int:
        """Changes sent to the kernel so far, in all namespaces."""
        return sum(host.sent() for host in self._hosts.values())

    def forget_devices(self) -> None:
        """Forget device numbers; call it at the start of a pass."""
        for host in self._hosts.values():
            host.forget_devices()

    def vrf_table(self, netns_name: str, name: str) -> int:
        """The routing table of a VRF; `main` if there is no such VRF: then its interface fails before its routes."""
        try:
            return self.host(netns_name).vrf_table(name)
        except (KernelError, netns.NoNamespace):
            return rtnl.MAIN_TABLE

    # -- reading ---------------------------------------------------------------------------------------------------

    def read(self, keys: Iterable[Key]) -> dict[Key, KernelObject]:
        """The objects with these keys that exist."""
        parts: dict[str, set[Key]] = {}
        for key in keys:
            parts.setdefault(str(key[1]), set()).add(key)
        found: dict[Key, KernelObject] = {}
        for name, part in parts.items():
            try:
                found.update(self.host(name).read(part))
            except netns.NoNamespace:
                continue  # nothing exists there; creating something will say so
        return found

    def counters(self, objects: Iterable[KernelObject]) -> dict[Key, dict[str, int]]:
        """What the kernel counts for sessions and SAs."""
        found: dict[Key, dict[str, int]] = {}
        for thing in objects:
            host = self.host(thing.netns)
            if isinstance(thing, Session):
                reply = host.genl.get([host.l2tp.session_get(thing.tunnel_id, thing.id)])[0]
                if isinstance(reply, Reply):
                    found[thing.key] = l2tp.decode_statistics(reply.payload)
            elif isinstance(thing, Sa):
                reply = host.xfrm.get([xfrm.sa_get(thing)])[0]
                if isinstance(reply, Reply):
                    found[thing.key] = xfrm.sa_counters(reply.payload)
        return found

    def associations(
        self, name: str = "", *, reqids: Collection[int] | None = None, ends: tuple[bytes, bytes] | None = None
    ) -> list[Association]:
        """SAs in a namespace, whoever made them: all, those with these reqids, those between two addresses.

        It takes time with the number of all SAs there; see `alive`. Raises NoNamespace, KernelError.
        """
        return associations.read(self.host(name).xfrm, name, reqids=reqids, ends=ends)

    def alive(self, wanted: Iterable[tuple[bytes, int]], name: str = "") -> set[tuple[bytes, int]]:
        """Those (destination, SPI) of which there is an SA. Raises NoNamespace, KernelError."""
        return associations.alive(self.host(name).xfrm, wanted)

    def prefer(self, some: Collection[Outbound]) -> int:
        """Give outbound SAs of our own namespace precedence over those that come later; how many there were."""
        return precedence.prefer(self.host("").xfrm, some)

    def level(self, some: Collection[Outbound]) -> int:
        """Take it from them again; how many had it."""
        return precedence.level(self.host("").xfrm, some)

    def preferred(self) -> Iterable[Outbound]:
        """All that have it."""
        return precedence.preferred(self.host("").xfrm)

    def sweep(self, reqid: int, ends: tuple[bytes, bytes], known: Collection[int], spi: int) -> int:
        """Delete what an earlier charon has left: SAs between two ends that were made before the one with that inbound
        SPI, with its reqid, and are not known; how many. Raises KernelError."""
        sock = self.host("").xfrm
        found = associations.read(sock, "", reqids=(reqid,), ends=ends)
        born = next((sa.made_at for sa in found if sa.spi == spi), 0)
        old = [sa for sa in found if sa.spi not in known and sa.made_at < born]
        sock.batch([associations.deletion(sa) for sa in old])
        return len(old)

    def identities(self, name: str = "") -> list[tuple[int, bytes, bytes, int]]:
        """(reqid, source, destination, SPI) of all SAs in a namespace; [] where there can be none. Raises OSError."""
        try:
            return associations.identities(self.host(name).xfrm)
        except netns.NoNamespace:
            return []
        except OSError as error:
            if error.errno != errno.EPROTONOSUPPORT:  # a kernel without IPsec
                raise
            return []

    def finish_dismantling(self, keys: Iterable[Key]) -> None:
        """See the deletion of tunnels through that somebody began: one on its way out looks like any other."""
        for key in keys:
            try:
                host = self.host(str(key[1]))
            except netns.NoNamespace:
                continue
            number = int(key[2])
            host.genl.batch([host.l2tp.tunnel_delete(number)])
            for error in wait_gone(host.genl, [(0, host.l2tp.tunnel_get(number))], self._pace).values():
                raise error

    def mend_table(self, name: str) -> bool:
        """Put back the rules of our nftables table in a namespace, if somebody damaged it. True if that was needed."""
        table = self._table(name)
        if table is None or not table.exists() or table.intact():
            return False
        table.create(table.read(name))
        return True

    def drop_table(self, name: str) -> None:
        """Remove our nftables table from a namespace, if nothing is in it any more."""
        table = self._table(name)
        if table is not None and table.exists() and not table.read(name):
            table.delete()

    def dropped(self, name: str = "") -> nft.Dropped:
        """What guarded places in a namespace did not let in or out."""
        table = self._table(name)
        return table.dropped() if table is not None else nft.Dropped()

    def _table(self, name: str) -> nft.Table | None:
        """Our table in a namespace; None where there can be none."""
        try:
            return self.host(name).table
        except netns.NoNamespace:
            return None
        except OSError as error:
            if error.errno != errno.EPROTONOSUPPORT:  # a kernel without nftables
                raise
            return None

    # -- carrying out ----------------------------------------------------------------------------------------------

    def execute(self, operations: Sequence[Operation]) -> Outcome:
        """Carry out a plan's operations, which stand in the order of their stages."""
        outcome = Outcome()
        for _, stage in groupby(operations, key=lambda op: op.stage):
            runnable: dict[str, list[Operation]] = {}
            for op in stage:
                if op.unit in outcome.failed:
                    outcome.skipped.append(op)
                else:
                    runnable.setdefault(_place(op), []).append(op)
            for name, ops in runnable.items():
                self._stage(name, ops, outcome)
        return outcome

    def cut(self, specimen: Specimen) -> Stencil:
        """A stencil for units like this one. Raises NotAlike, NoNamespace, KernelError."""
        host = self.host(specimen.unit.objects[0].netns)
        return Stencil(specimen, host.l2tp, host.device_index)

    def stamp(self, stencil: Stencil, rows: Iterable[Row], unit: Callable[[str], Unit]) -> Outcome:
        """Create units of which nothing is there. What was done is told only of those in which something failed.

        `unit` gives a unit by its name. What the kernel refuses is tried once more in the ordinary way, which knows
        when to wait, and whose failure it is.
        """
        outcome = Outcome()
        left = list(rows)
        for stage in stencil.stages:
            try:
                refused = press(self.host(stencil.netns), stencil, stage, left)
            except (netns.NoNamespace, KernelError) as error:
                for row in left:
                    _break_off(creations(unit(row.name)), stage.positions[0], error, outcome)
                break
            if refused:
                self._once_more({name: creations(unit(name)) for name in refused}, refused, stage.positions, outcome)
                left = [row for row in left if row.name not in outcome.failed]
        return outcome

    def _once_more(
        self, creation: Mapping[str, Sequence[Operation]], refused: Refused, stage: Sequence[int], outcome: Outcome
    ) -> None:
        """Try again what was refused in a stage of the creation of units."""
        again = self.execute([creation[name][position] for name, some in refused.items() for position in some])
        outcome.failed |= again.failed
        outcome.skipped += again.skipped
        outcome.done += [op for op in again.done if op.unit in again.failed]
        for name in again.failed:
            operations = creation[name]
            outcome.done += operations[: stage[0]]
            outcome.done += [operations[position] for position in stage if position not in refused[name]]
            outcome.skipped += operations[stage[-1] + 1 :]

    def _stage(self, name: str, ops: list[Operation], outcome: Outcome) -> None:
        try:
            host = self.host(name)
            errors: dict[int, Error] = {}
            errors.update(_HANDLERS[ops[0].target.kind](self, host, ops))
        except netns.NoNamespace as missing:
            gone = all(op.verb is Verb.DELETE for op in ops)
            errors = {} if gone else dict.fromkeys(range(len(ops)), missing)
        except KernelError as error:
            errors = dict.fromkeys(range(len(ops)), error)
        for index, op in enumerate(ops):
            if (problem := errors.get(index)) is None:
                outcome.done.append(op)
            else:
                outcome.failed.setdefault(op.unit, (op, problem))

    def _policies(self, host: Host, ops: list[Operation]) -> dict[int, KernelError]:
        errors: dict[int, KernelError] = {}
        # Tunnels to one peer have block policies in common: one request, whose error is everybody's.
        requests: dict[tuple[str, Key], Message] = {}
        places = [(op.verb.value, op.target.key) for op in ops]
        for index, (op, place) in enumerate(zip(ops, places, strict=True)):
            assert isinstance(op.target, Policy)
            if place in requests:
                continue
            try:
                requests[place] = _policy_request(op.verb, op.target, host)
            except KernelError as error:
                errors[index] = error
        if refused := host.xfrm.batch(list(requests.values())):
            failures = {place: refused[position] for position, place in enumerate(requests) if position in refused}
            errors |= {index: failures[place] for index, place in enumerate(places) if place in failures}
        return _deletions_forgiven(ops, errors)

    def _sas(self, host: Host, ops: list[Operation]) -> dict[int, KernelError]:
        errors: dict[int, KernelError] = {}
        requests: list[Message] = []
        owners: list[int] = []
        for index, op in enumerate(ops):
            target, before = op.target, op.before
            assert isinstance(target, Sa)
            assert isinstance(before, Sa | None)
            parts = [] if op.verb is Verb.CREATE else [xfrm.sa_delete(before or target)]
            try:
                parts += [] if op.verb is Verb.DELETE else [xfrm.sa_add(target, host.device_index)]
            except KernelError as error:
                errors[index] = error
                continue
            requests += parts
            owners += [index] * len(parts)
        for position, refusal in host.xfrm.batch(requests).items():
            if requests[position].type == xfrm.DELSA and refusal.code in rtnl.GONE:
                continue
            errors[owners[position]] = refusal
        return errors

    def _elements(self, host: Host, ops: list[Operation]) -> dict[int, KernelError]:
        """What is in our table: one transaction, or one for each operation if that fails, to find the culprit."""
        try:
            self._element_batch(host, ops)
        except KernelError:
            errors: dict[int, KernelError] = {}
            for index, op in enumerate(ops):
                try:
                    self._element_batch(host, [op])
                except KernelError as error:
                    errors[index] = error
            return errors
        return {}

    @staticmethod
    def _element_batch(host: Host, ops: list[Operation]) -> None:
        old: dict[Key, Element] = {}
        new: list[Element] = []
        for op in ops:
            target, before = op.target, op.before
            assert isinstance(target, Element)
            assert isinstance(before, Element | None)
            if op.verb is Verb.CREATE:
                new.append(target)
                continue
            old[target.key] = before or target  # once, though tunnels to one peer share it
            if op.verb is Verb.UPDATE:
                new.append(target)
        table = host.table
        if not table.exists():
            if new:
                table.create(new)
            return
        table.replace(list(old.values()), new)

    def _tunnels(self, host: Host, ops: list[Operation]) -> dict[int, KernelError]:
        codec = host.l2tp
        if ops[0].verb is Verb.DELETE:
            return self._in_turns(host, ops, self._delete_tunnels)
        requests = [codec.tunnel_create(op.target) for op in ops if isinstance(op.target, Tunnel)]
        return self._leaving.create(host.genl, requests, [op.target for op in ops])

    def _sessions(self, host: Host, ops: list[Operation]) -> dict[int, KernelError]:
        codec = host.l2tp
        sessions = [op.target for op in ops if isinstance(op.target, Session)]
        if ops[0].verb is Verb.DELETE:
            return self._in_turns(host, ops, self._delete_sessions)
        requests = [
            codec.session_modify(s) if op.verb is Verb.UPDATE else codec.session_create(s)
            for op, s in zip(ops, sessions, strict=True)
        ]
        return self._leaving.create(host.genl, requests, sessions)

    def _in_turns(
        self, host: Host, ops: list[Operation], delete: Callable[[Host, list[Operation]], dict[int, KernelError]]
    ) -> dict[int, KernelError]:
        """Delete as many at once as is good for all others on this machine, see them gone, and so on."""
        errors: dict[int, KernelError] = {}
        for turn in self._pace.turns(len(ops)):
            errors |= {turn.start + index: error for index, error in delete(host, ops[turn]).items()}
        self.forget_devices()
        return errors

    def _delete_tunnels(self, host: Host, ops: list[Operation]) -> dict[int, KernelError]:
        tunnels = [op.target for op in ops if isinstance(op.target, Tunnel)]
        sessions = [(i, thing) for i, op in enumerate(ops) for thing in op.takes if isinstance(thing, Session)]
        self._leaving.note([*tunnels, *(session for _, session in sessions)])
        errors = _deletions_forgiven(ops, host.genl.batch([host.l2tp.tunnel_delete(t.id) for t in tunnels]))
        waiting = [(i, host.l2tp.tunnel_get(t.id)) for i, t in enumerate(tunnels) if i not in errors]
        errors |= wait_gone(host.genl, waiting, self._pace)
        return errors | self._await_devices(host, [(i, session) for i, session in sessions if i not in errors])

    def _delete_sessions(self, host: Host, ops: list[Operation]) -> dict[int, KernelError]:
        codec = host.l2tp
        sessions = [op.target for op in ops if isinstance(op.target, Session)]
        self._leaving.note(sessions)
        errors = _deletions_forgiven(ops, host.genl.batch([codec.session_delete(s) for s in sessions]))
        waiting = [(i, codec.session_get(s.tunnel_id, s.id)) for i, s in enumerate(sessions) if i not in errors]
        errors |= wait_gone(host.genl, waiting, self._pace)
        return errors | self._await_devices(host, [(i, s) for i, s in enumerate(sessions) if i not in errors])

    def _await_devices(self, host: Host, sessions: Iterable[tuple[int, Session]]) -> dict[int, KernelError]:
        """Wait for the devices of sessions to go: they do so by themselves, after their sessions."""
        waiting = [(index, rtnl.link_get(session.ifname)) for index, session in sessions]
        return wait_gone(host.route, waiting, self._pace, _is_ours)

    def _links(self, host: Host, ops: list[Operation]) -> dict[int, Error]:
        errors: dict[int, Error] = {}
        requests: list[Message] = []
        owners: list[int] = []
        for index, op in enumerate(ops):
            link, before = op.target, op.before
            assert isinstance(link, Link)
            assert isinstance(before, Link | None)
            try:
                if op.verb is Verb.CREATE and link.tunnel_netns != link.netns:
                    self._move(link)
                master = host.device_index(link.master) if link.master else 0
            except (KernelError, netns.NoNamespace) as error:
                errors[index] = error
                continue
            enslave = link.master != (before.master if before else "")
            requests.append(rtnl.link_set(link, master, set_master=enslave))
            owners.append(index)
        for position, refusal in host.route.batch(requests).items():
            errors[owners[position]] = refusal
        return errors

    def _move(self, link: Link) -> None:
        """Move a device from the namespace of its session into its own."""
        born = self.host(link.tunnel_netns)
        born.forget_devices()
        index = born.device_index(link.birth_name)
        target = netns.open_namespace(link.netns)
        try:
            born.route.request(rtnl.link_move(index, link.name, target))
        finally:
            os.close(target)

    def _addresses(self, host: Host, ops: list[Operation]) -> dict[int, KernelError]:
        devices = host.device_indexes(op.target.ifname for op in ops if isinstance(op.target, Address))
        return _on_devices(host.route, ops, devices, _address_requests)

    def _routes(self, host: Host, ops: list[Operation]) -> dict[int, KernelError]:
        devices = host.device_indexes(
            op.target.device for op in ops if isinstance(op.target, Route) and op.target.device
        )
        return _on_devices(host.route, ops, {**devices, "": 0}, _route_requests)


def _break_off(operations: Sequence[Operation], position: int, error: Error, outcome: Outcome) -> None:
    """Note that a unit's creation came to an end at an operation."""
    failed = operations[position]
    outcome.done += operations[:position]
    outcome.failed[failed.unit] = (failed, error)
    outcome.skipped += operations[position + 1 :]


_DELETIONS = (rtnl.RTM_DELADDR, rtnl.RTM_DELROUTE)
_ROUTE = {Verb.CREATE: rtnl.route_add, Verb.UPDATE: rtnl.route_replace, Verb.DELETE: rtnl.route_delete}


def _address_requests(op: Operation, index: int) -> list[Message]:
    target, before = op.target, op.before
    assert isinstance(target, Address)
    assert isinstance(before, Address | None)
    if op.verb is Verb.DELETE:
        return [rtnl.address_delete(target, index)]
    requests = [rtnl.address_add(target, index)]
    if before and before.peer != target.peer and len(target.address) == 4:
        # IPv4 addresses with different peers are different ones. The old goes last: a device's last takes its routes.
        requests.append(rtnl.address_delete(before, index))
    return requests


def _route_requests(op: Operation, index: int) -> list[Message]:
    assert isinstance(op.target, Route)
    return [_ROUTE[op.verb](op.target, index)]


def _place(op: Operation) -> str:
    """The namespace in which an operation is carried out."""
    return op.target.netns


_HANDLERS: dict[str, Callable[[Door, Host, list[Operation]], dict[int, Error] | dict[int, KernelError]]] = {
    "policy": Door._policies,
    "guard": Door._elements,
    "clamp": Door._elements,
    "place": Door._elements,
    "binding": Door._elements,
    "sa": Door._sas,
    "tunnel": Door._tunnels,
    "session": Door._sessions,
    "link": Door._links,
    "address": Door._addresses,
    "route": Door._routes,
}


def _policy_request(verb: Verb, policy: Policy, host: Host) -> Message:
    """The request of an operation. Raises KernelError ENODEV if its offload device is not there."""
    if verb is Verb.DELETE:
        return xfrm.policy_delete(policy)
    return xfrm.policy_set(policy, host.device_index, replace=verb is Verb.UPDATE)


def _deletions_forgiven(ops: Sequence[Operation], errors: dict[int, KernelError]) -> dict[int, KernelError]:
    """What was to be deleted and is not there is no failure."""
    return {i: e for i, e in errors.items() if not (ops[i].verb is Verb.DELETE and e.code in rtnl.GONE)}


def _on_devices(
    sock: Netlink,
    ops: Sequence[Operation],
    devices: Mapping[str, int],
    make: Callable[[Operation, int], list[Message]],
) -> dict[int, KernelError]:
    """Additions and deletions of things that stand on devices."""
    errors: dict[int, KernelError] = {}
    requests: list[Message] = []
    owners: list[int] = []
    for index, op in enumerate(ops):
        target = op.target
        assert isinstance(target, Address | Route)
        device = target.ifname if isinstance(target, Address) else target.device
        number = devices.get(device)
        if number is None:
            if op.verb is not Verb.DELETE:
                errors[index] = KernelError(errno.ENODEV, f"there is no device {device}")
            continue
        parts = make(op, number)
        requests += parts
        owners += [index] * len(parts)
    for position, error in sock.batch(requests).items():
        if not (requests[position].type in _DELETIONS and error.code in rtnl.GONE):
            errors[owners[position]] = error
    return errors


def _is_ours(reply: Reply) -> bool:
    """Whether a device is one that we made."""
    return rtnl.LinkState(reply.payload).alias.startswith(ALIAS_PREFIX)
