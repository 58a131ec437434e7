"""The kernel's half of L2TPv2 tunnels and of the PPP sessions in them: made, taken away and taken over, many at a time.

Everything here blocks and belongs in worker threads. What fails for one tunnel or session is an error in the results.
"""

import errno
import os
import random
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeAlias

from kl2tp.kernel import l2tp, netns, ppp, pppox, rtnl, udp
from kl2tp.kernel.door import Door
from kl2tp.kernel.holds import (
    CLOSED,
    DEFAULT_MRU,
    Broken,
    Kept,
    Loss,
    SessionHold,
    SessionWish,
    TunnelHold,
    TunnelWish,
    sort_kept,
)
from kl2tp.kernel.host import Host
from kl2tp.kernel.netlink import KernelError, Reply
from kl2tp.kernel.threads import side_by_side

__all__ = [
    "Broken",
    "Kept",
    "Loss",
    "Plane",
    "SessionHold",
    "SessionWish",
    "TunnelHold",
    "TunnelWish",
    "sort_kept",
]

_DELETED_TOGETHER = 250
"""Devices: the kernel changes no other device meanwhile."""
_PATIENCE_S, _FIRST_WAIT_S, _LONGEST_WAIT_S = 5.0, 0.0005, 0.05


_Errors: TypeAlias = dict[int, KernelError]
_Step: TypeAlias = Callable[[SessionWish, SessionHold], None]


class Plane:
    """Tunnels and sessions in one namespace. For several threads at a time."""

    def __init__(self, name: str = "", ports: set[int] | None = None) -> None:
        """`ports` collects the port ids of the netlink sockets, by which our own events are known."""
        self.name = name
        self._door = Door()
        if ports is not None:
            self._door.ports = ports
        self._lock = threading.RLock()
        """Netlink sockets are for one thread at a time."""

    def close(self) -> None:
        """Close the netlink sockets; tunnels and sessions stay with their holds."""
        with self._lock:
            self._door.close()

    @contextmanager
    def _host(self, name: str) -> Iterator[Host]:
        """The netlink sockets of a namespace. Raises KernelError, also for one that is not there."""
        with self._lock:
            try:
                yield self._door.host(name)
            except netns.NoNamespace as missing:
                raise KernelError(errno.ENOENT, str(missing)) from None

    # -- tunnels ---------------------------------------------------------------------------------------------------

    def open_tunnels(self, wishes: Sequence[TunnelWish], patience: float = 0.0) -> list[TunnelHold | KernelError]:
        """Make tunnels. Seconds of `patience` are for ids that the kernel has not yet given back (EEXIST)."""
        try:
            socks = self._sockets(wishes)
        except KernelError as error:
            return [error] * len(wishes)
        errors = self._make_tunnels(wishes, socks, patience)
        results: list[TunnelHold | KernelError] = []
        for index, (wish, sock) in enumerate(zip(wishes, socks, strict=True)):
            if isinstance(sock, KernelError):
                results.append(sock)
            elif index in errors:
                if wish.sock is None:
                    sock.close()
                results.append(errors[index])
            else:
                results.append(TunnelHold(wish.id, sock, udp.strays(sock)))
        return results

    def _sockets(self, wishes: Sequence[TunnelWish]) -> list[socket.socket | KernelError]:
        with self._inside():
            return [wish.sock or _socket(wish) for wish in wishes]

    def _make_tunnels(
        self, wishes: Sequence[TunnelWish], socks: Sequence[socket.socket | KernelError], patience: float
    ) -> _Errors:
        results: list[KernelError | None] = [None] * len(wishes)
        numbers = {i: sock.fileno() for i, sock in enumerate(socks) if isinstance(sock, socket.socket)}

        def make(indexes: Sequence[int]) -> None:
            with self._host(self.name) as host:
                create = host.l2tp.managed_tunnel_create
                refused = host.genl.batch([create(wishes[i].id, wishes[i].peer_id, numbers[i]) for i in indexes])
            for position, index in enumerate(indexes):
                results[index] = refused.get(position)

        try:
            make(list(numbers))
            for taken in _while_errors(results, errno.EEXIST, patience):
                make(taken)
        except KernelError as error:
            return dict.fromkeys(numbers, error)
        return {
            index: KernelError(error.code, f"tunnel {wishes[index].id}{_more(error)}")
            for index, error in enumerate(results)
            if error
        }

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """This thread in the namespace: what is looked up by number there is looked up here. Raises KernelError."""
        try:
            with netns.entered(self.name):
                yield
        except netns.NoNamespace as missing:
            raise KernelError(errno.ENOENT, str(missing)) from None

    def adopt_tunnels(self, wishes: Sequence[TunnelWish], fds: Sequence[int]) -> list[TunnelHold | KernelError]:
        """Take over tunnels by the descriptors that were kept. Those of tunnels that are gone stay open."""
        try:
            with self._host(self.name) as host:
                replies = host.genl.get([host.l2tp.tunnel_get(wish.id) for wish in wishes])
        except KernelError as error:
            return [error] * len(wishes)
        results: list[TunnelHold | KernelError] = []
        for wish, fd, reply in zip(wishes, fds, replies, strict=True):
            if isinstance(reply, KernelError):
                results.append(KernelError(reply.code, f"tunnel {wish.id}"))
                continue
            try:
                sock = socket.socket(fileno=fd)
                sock.setblocking(False)
                results.append(TunnelHold(wish.id, sock, []))
            except OSError as error:
                results.append(_explained(error, f"the socket of tunnel {wish.id}"))
        return results

    def close_tunnels(self, holds: Sequence[TunnelHold]) -> None:
        """Take tunnels away, with what sessions are left in them; the kernel finishes that in the background."""
        with suppress(KernelError), self._host(self.name) as host:
            host.genl.batch([host.l2tp.tunnel_delete(hold.id) for hold in holds])
        for hold in holds:
            hold.sock.close()

    # -- sessions --------------------------------------------------------------------------------------------------

    def attach(self, wishes: Sequence[SessionWish]) -> list[SessionHold | KernelError]:
        """Make sessions and their devices. What fails leaves nothing behind, and hurts no other."""
        holds = [SessionHold(w.tunnel_id, w.id, self.name if w.netns is None else w.netns) for w in wishes]
        return self._complete(wishes, holds, 0.0)

    def adopt(self, wishes: Sequence[SessionWish], fds: Sequence[tuple[int, int]]) -> list[SessionHold | Broken]:
        """Take over sessions by the descriptors (socket, unit) that were kept; what the channel got meanwhile waits."""
        holds = [
            SessionHold(w.tunnel_id, w.id, self.name if w.netns is None else w.netns, *pair)
            for w, pair in zip(wishes, fds, strict=True)
        ]
        errors = {
            index: KernelError(errno.ENODEV, f"{_words(loss)} of {_title(wishes[index])}")
            for index, loss in enumerate(self.losses(wishes, holds))
            if loss
        }
        _each(wishes, holds, errors, _identify)
        self._make(wishes, holds, errors, 0.0)
        return [Broken(hold, errors[i]) if i in errors else hold for i, hold in enumerate(holds)]

    def _complete(
        self, wishes: Sequence[SessionWish], holds: Sequence[SessionHold], patience: float
    ) -> list[SessionHold | KernelError]:
        """Make what is missing of sessions; those of which that fails are taken away."""
        errors: _Errors = {}
        self._make(wishes, holds, errors, patience)
        if errors:
            self.detach([holds[index] for index in errors])
        return [errors.get(index, hold) for index, hold in enumerate(holds)]

    def _make(
        self, wishes: Sequence[SessionWish], holds: Sequence[SessionHold], errors: _Errors, patience: float
    ) -> None:
        """Make what is missing of each session, step by step; `errors` has those that are not to be touched."""
        try:
            with self._inside():
                _open_sessions(wishes, holds, errors, patience)
                _open_channels(wishes, holds, errors)
                self._make_devices(wishes, holds, errors)
                _each(wishes, holds, errors, _connect)
            self._switch_on(wishes, holds, errors)
        except KernelError as error:
            for index in range(len(wishes)):
                errors.setdefault(index, error)

    def _make_devices(self, wishes: Sequence[SessionWish], holds: Sequence[SessionHold], errors: _Errors) -> None:
        """Units with their devices, for the sessions that have none."""
        missing = [i for i, hold in enumerate(holds) if i not in errors and hold.unit_fd == CLOSED]
        _each(wishes, holds, errors, _open_unit, missing)
        for name, indexes in _by_namespace(holds, (i for i in missing if i not in errors)).items():
            try:
                made = self._devices(name, [wishes[i] for i in indexes], [holds[i] for i in indexes])
            except KernelError as error:
                errors |= dict.fromkeys(indexes, error)
                continue
            for index, result in zip(indexes, made, strict=True):
                if isinstance(result, KernelError):
                    errors[index] = KernelError(result.code, f"the device of {_title(wishes[index])}{_more(result)}")
                else:
                    holds[index].ifindex = result

    def _devices(
        self, name: str, wishes: Sequence[SessionWish], holds: Sequence[SessionHold]
    ) -> list[int | KernelError]:
        """Make devices in a namespace: their numbers."""
        namespace = CLOSED if name == self.name else _namespace(name)
        requests = [rtnl.ppp_create(w.ifname, h.unit_fd, w.mtu, namespace) for w, h in zip(wishes, holds, strict=True)]
        gets = [rtnl.link_get(wish.ifname) for wish in wishes]

        def make(indexes: Sequence[int]) -> list[Reply | KernelError]:
            with self._host(self.name) as here, self._host(name) as there:
                if here is there:
                    return here.route.make([(requests[i], gets[i]) for i in indexes])
                refused = here.route.batch([requests[i] for i in indexes])
                replies = there.route.get([gets[i] for i in indexes])
                return [refused.get(position, reply) for position, reply in enumerate(replies)]

        try:
            results = make(range(len(wishes)))
            # The kernel says so when another thread is inside PPP, and waits for nobody.
            for busy in _while_errors(results, errno.EBUSY, _PATIENCE_S):
                for index, result in zip(busy, make(busy), strict=True):
                    results[index] = result
        finally:
            _close_all((namespace,))
        return [rtnl.link_index(r.payload) if isinstance(r, Reply) else r for r in results]

    def _switch_on(self, wishes: Sequence[SessionWish], holds: Sequence[SessionHold], errors: _Errors) -> None:
        up = (i for i, wish in enumerate(wishes) if wish.up and i not in errors)
        for name, indexes in _by_namespace(holds, up).items():
            with self._host(name) as host:
                refused = host.route.batch([rtnl.link_up(holds[i].ifindex) for i in indexes])
            errors |= {indexes[position]: error for position, error in refused.items()}

    def detach(self, holds: Sequence[SessionHold]) -> None:
        """Take sessions away with their devices: these together, then the sockets side by side, then what is left.

        Nobody else may hold their descriptors any more, or they stay.
        """
        for name, indexes in _by_namespace(holds, (i for i, hold in enumerate(holds) if hold.ifindex)).items():
            with suppress(KernelError), self._host(name) as host:
                _delete_links(host, [holds[i].ifindex for i in indexes])
        side_by_side(os.close, [hold.px_fd for hold in holds if hold.px_fd != CLOSED])
        left = [fd for hold in holds for fd in (hold.channel_fd, hold.unit_fd) if fd != CLOSED]
        side_by_side(os.close, left)
        for hold in holds:
            hold.px_fd = hold.channel_fd = hold.unit_fd = CLOSED
            hold.ifindex = 0

    # -- what others do to them ------------------------------------------------------------------------------------

    def losses(self, wishes: Sequence[SessionWish], holds: Sequence[SessionHold]) -> list[Loss]:
        """What is no longer there. Where a hold has no device number yet, it learns it."""
        found = [Loss.NOTHING] * len(holds)
        with suppress(KernelError), self._host(self.name) as host:
            replies = host.genl.get([host.l2tp.session_get(hold.tunnel_id, hold.id) for hold in holds])
            found = [Loss.NOTHING if isinstance(reply, Reply) else Loss.SESSION for reply in replies]
        dead = _dead(hold.unit_fd for hold in holds)
        for name, indexes in _by_namespace(holds, range(len(holds))).items():
            try:
                with self._host(name) as host:
                    links = host.route.get([rtnl.link_get(wishes[i].ifname) for i in indexes])
            except KernelError as error:
                links = [error] * len(indexes)
            for index, link in zip(indexes, links, strict=True):
                number, hold = rtnl.link_index(link.payload) if isinstance(link, Reply) else 0, holds[index]
                if hold.unit_fd in dead or not number or hold.ifindex not in (0, number):
                    found[index] |= Loss.DEVICE
                else:
                    hold.ifindex = number
        return found

    def lost_tunnels(self, ids: Sequence[int]) -> set[int]:
        """Those of these tunnels that are no longer there."""
        try:
            with self._host(self.name) as host:
                replies = host.genl.get([host.l2tp.tunnel_get(number) for number in ids])
        except KernelError:
            return set()
        return {number for number, reply in zip(ids, replies, strict=True) if isinstance(reply, KernelError)}

    def rebuild(
        self, wishes: Sequence[SessionWish], holds: Sequence[SessionHold], losses: Sequence[Loss]
    ) -> list[SessionHold | KernelError]:
        """Make anew what sessions lost; the device stays if it is there, with all that is on it.

        A tunnel that was lost is to be opened first. Sessions for which that fails are taken away.
        """
        lost = [hold for hold, loss in zip(holds, losses, strict=True) if loss & Loss.SESSION]
        gone = [hold for hold, loss in zip(holds, losses, strict=True) if loss & Loss.DEVICE]
        # Whoever else holds the old socket, its channel must leave the unit: the first one there sends.
        side_by_side(ppp.disconnect, [h.channel_fd for h in (*lost, *gone) if h.channel_fd != CLOSED])
        self._drop_devices(gone)
        for hold in lost:
            _close_all((hold.channel_fd, hold.px_fd))
            hold.channel_fd = hold.px_fd = CLOSED
        return self._complete(wishes, holds, _PATIENCE_S)

    def _drop_devices(self, holds: Sequence[SessionHold]) -> None:
        """Give up units whose devices are not where they should be."""
        for name, indexes in _by_namespace(holds, (i for i, hold in enumerate(holds) if hold.ifindex)).items():
            with suppress(KernelError), self._host(name) as host:
                _delete_links(host, [holds[i].ifindex for i in indexes])
        side_by_side(os.close, [hold.unit_fd for hold in holds if hold.unit_fd != CLOSED])
        for hold in holds:
            hold.unit_fd, hold.unit, hold.ifindex = CLOSED, -1, 0

    # -- while they live -------------------------------------------------------------------------------------------

    def counters(self, ids: Sequence[tuple[int, int]]) -> list[dict[str, int] | None]:
        """What the kernel counts for sessions (tunnel, session); None for those that are not there."""
        try:
            with self._host(self.name) as host:
                replies = host.genl.get([host.l2tp.session_get(tunnel, session) for tunnel, session in ids])
        except KernelError:
            return [None] * len(ids)
        return [l2tp.decode_statistics(r.payload) if isinstance(r, Reply) else None for r in replies]

    @staticmethod
    def set_network(hold: SessionHold, *, ipv4: bool, ipv6: bool) -> None:
        """Let packets of these network protocols pass, and drop those of the others. Raises OSError."""
        ppp.pass_packets(hold.unit_fd, ppp.IPV4, ipv4)
        ppp.pass_packets(hold.unit_fd, ppp.IPV6, ipv6)


# -- steps of what is made ------------------------------------------------------------------------------------------


def _each(
    wishes: Sequence[SessionWish],
    holds: Sequence[SessionHold],
    errors: _Errors,
    step: _Step,
    indexes: Iterable[int] | None = None,
) -> None:
    """Do a step for every session that is still whole."""
    for index in range(len(wishes)) if indexes is None else indexes:
        if index in errors:
            continue
        try:
            step(wishes[index], holds[index])
        except OSError as error:
            errors[index] = _explained(error, _title(wishes[index]))


def _open_sessions(
    wishes: Sequence[SessionWish], holds: Sequence[SessionHold], errors: _Errors, patience: float
) -> None:
    """Sockets for the sessions that have none; with patience for ids that the kernel has not yet given back."""
    _each(wishes, holds, errors, _open_session)
    if not patience:
        return
    results = [errors.get(index) for index in range(len(wishes))]
    for taken in _while_errors(results, errno.EEXIST, patience):
        for index in taken:
            del errors[index]
        _each(wishes, holds, errors, _open_session, taken)
        for index in taken:
            results[index] = errors.get(index)


def _open_session(wish: SessionWish, hold: SessionHold) -> None:
    if hold.px_fd != CLOSED:
        return
    hold.px_fd = pppox.open_session(pppox.Ids(wish.tunnel_id, wish.id, wish.peer_tunnel_id, wish.peer_id))
    pppox.set_options(
        hold.px_fd,
        lns=wish.lns,
        send_sequence=wish.send_sequence,
        require_sequence=wish.require_sequence,
        reorder_ms=wish.reorder_ms,
    )


def _open_channels(wishes: Sequence[SessionWish], holds: Sequence[SessionHold], errors: _Errors) -> None:
    """Channels for the sessions that have none open."""
    missing = [i for i, hold in enumerate(holds) if i not in errors and hold.channel_fd == CLOSED]
    numbers = side_by_side(pppox.channel_number, [holds[i].px_fd for i in missing])
    for index, number in zip(missing, numbers, strict=True):
        try:
            if isinstance(number, OSError):
                raise number
            holds[index].channel_fd = ppp.open_channel(number)
        except OSError as error:
            errors[index] = _explained(error, f"the channel of {_title(wishes[index])}")


def _open_unit(wish: SessionWish, hold: SessionHold) -> None:
    hold.unit_fd = ppp.open_unit()


def _connect(wish: SessionWish, hold: SessionHold) -> None:
    """Have the unit use the channel, unless it does already."""
    new = hold.unit < 0
    if new:
        hold.unit = ppp.unit_number(hold.unit_fd)
    try:
        ppp.connect(hold.channel_fd, hold.unit)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return
    if wish.mru > DEFAULT_MRU:
        ppp.set_mru(hold.unit_fd, wish.mru)
    for protocol, wanted in ((ppp.IPV4, wish.ipv4), (ppp.IPV6, wish.ipv6)):
        if not wanted:  # of a new unit everything passes
            ppp.pass_packets(hold.unit_fd, protocol, False)


def _identify(wish: SessionWish, hold: SessionHold) -> None:
    """Refuse descriptors that are not of the session that is wished for."""
    found = pppox.identity(hold.px_fd)
    if found != (wish.tunnel_id, wish.id, wish.peer_tunnel_id, wish.peer_id):
        raise KernelError(errno.EINVAL, f"the socket is of session {found.tunnel}/{found.session}")


def _dead(fds: Iterable[int]) -> set[int]:
    """Those of units' descriptors whose device is gone."""
    poll = select.poll()
    for fd in fds:
        if fd != CLOSED:
            poll.register(fd, 0)
    return {fd for fd, _ in poll.poll(0)}


def _while_errors(results: Sequence[object], code: int, patience: float) -> Iterator[list[int]]:
    """The indexes of results that are this error, again and again until there are none or patience ends."""
    pause, deadline = _FIRST_WAIT_S, 0.0
    while indexes := [i for i, r in enumerate(results) if isinstance(r, KernelError) and r.code == code]:
        now = time.monotonic()
        deadline = deadline or now + patience
        if now >= deadline:
            return
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_WAIT_S)
        yield indexes


def _delete_links(host: Host, numbers: Sequence[int]) -> None:
    """Delete devices; many wait together for what each would wait for."""
    if len(numbers) == 1:
        host.route.batch([rtnl.link_delete(numbers[0])])
        return
    for start in range(0, len(numbers), _DELETED_TOGETHER):
        group = random.randrange(1 << 24, 1 << 31)  # that nobody else has
        part = numbers[start : start + _DELETED_TOGETHER]
        host.route.batch([*(rtnl.link_group(number, group) for number in part), rtnl.group_delete(group)])


def _by_namespace(holds: Sequence[SessionHold], indexes: Iterable[int]) -> dict[str, list[int]]:
    """Sessions by the namespace of their devices."""
    found: dict[str, list[int]] = {}
    for index in indexes:
        found.setdefault(holds[index].netns, []).append(index)
    return found


def _socket(wish: TunnelWish) -> socket.socket | KernelError:
    try:
        return udp.open_connected(wish.local, wish.remote, wish.mark, wish.reqid)
    except KernelError as error:
        return error


def _namespace(name: str) -> int:
    try:
        return netns.open_namespace(name)
    except netns.NoNamespace as missing:
        raise KernelError(errno.ENOENT, str(missing)) from None


def _close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        if fd != CLOSED:
            with suppress(OSError):
                os.close(fd)


def _explained(error: OSError, what: str) -> KernelError:
    if isinstance(error, KernelError):
        return error
    return KernelError(error.errno or errno.EIO, what)


def _more(error: KernelError) -> str:
    return f": {error.detail}" if error.detail else ""


def _title(wish: SessionWish) -> str:
    return f"session {wish.tunnel_id}/{wish.id}"


def _words(loss: Loss) -> str:
    return "the kernel's part" if Loss.SESSION in loss else "the device"
