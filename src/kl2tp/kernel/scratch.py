"""A network namespace for trials, made for the purpose and thrown away: what works there works on this kernel.

The kernel loads modules when they are asked for; so trying is also what makes them load, and a list of modules
would tell less. Nothing in the host's own namespace is ever touched.
"""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from kl2tp.kernel import l2tp, nft, ppp, pppox, rtnl, xfrm
from kl2tp.kernel.netlink import KernelError, Message, Netlink
from kl2tp.model import ciphers
from kl2tp.model.objects import Direction, Policy, Sa, Secret, Selector, Session, Tunnel
from kl2tp.model.spec import Encap, Mode

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_RTM_NEWLINK = 16
_IFINFO = struct.Struct("=BxHiII")
_LOOPBACK_INDEX, _IFF_UP = 1, 1
_HERE = {False: bytes((127, 0, 0, 1)), True: bytes(15) + b"\1"}
_THERE = {False: bytes((127, 0, 0, 2)), True: bytes(15) + b"\1"}
_SPI, _REQID, _UDP = 0x1000, 1, 17
PPP_NODE = "/dev/ppp"
_PPP_DEVICE, _PPP_MTU = "kl2tp-probe-ppp", 1400
_libc = ctypes.CDLL(None, use_errno=True)


def _unshare(flags: int) -> None:
    if _libc.unshare(flags) < 0:
        code = ctypes.get_errno()
        raise KernelError(code, "a network namespace for trials")


@contextmanager
def scratch() -> Iterator["Scratch"]:
    """A namespace of its own; only sockets in it hold it, this thread is back home when the block begins.

    Raises KernelError EPERM without CAP_SYS_ADMIN.
    """
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _unshare(_CLONE_NEWNET)
        try:
            inside = Scratch()
        finally:
            if _libc.setns(back, _CLONE_NEWNET) < 0:
                raise SystemError("cannot leave the network namespace made for trials")
    finally:
        os.close(back)
    try:
        yield inside
    finally:
        inside.close()


def enter_scratch() -> "Scratch":
    """Move this process for good into new user and network namespaces: for a child without privileges."""
    _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    return Scratch()


class Scratch:
    """An empty namespace, and trials in it. Each raises KernelError for what does not work."""

    def __init__(self) -> None:
        self._namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._sockets: dict[int, Netlink | OSError] = {}
        for protocol in (l2tp.NETLINK_GENERIC, rtnl.NETLINK_ROUTE, xfrm.NETLINK_XFRM, nft.NETLINK_NETFILTER):
            try:
                self._sockets[protocol] = Netlink(protocol)
            except OSError as error:
                self._sockets[protocol] = error
        self._tunnel_id = 0
        self._codec: l2tp.Codec | None = None
        self._loopback_up = False
        self.cipher = ciphers.DEFAULT
        """For trials in which any cipher will do: one that works."""

    def close(self) -> None:
        """Give the namespace up: with its last socket the kernel takes it away, and all that is in it."""
        for sock in self._sockets.values():
            if isinstance(sock, Netlink):
                sock.close()
        os.close(self._namespace)

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """This thread in the namespace: PPP looks up numbers in that of the caller. Raises KernelError."""
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _libc.setns(self._namespace, _CLONE_NEWNET) < 0:
                raise KernelError(ctypes.get_errno(), "the network namespace for trials")
            try:
                yield
            finally:
                if _libc.setns(back, _CLONE_NEWNET) < 0:
                    raise SystemError("cannot leave the network namespace made for trials")
        finally:
            os.close(back)

    def netlink(self, protocol: int) -> Netlink:
        """The socket of a netlink protocol."""
        sock = self._sockets[protocol]
        if isinstance(sock, OSError):
            raise KernelError(sock.errno or errno.EPROTONOSUPPORT)
        return sock

    def _loopback(self) -> None:
        """Switch the loopback device on, so that there are addresses."""
        if not self._loopback_up:
            body = _IFINFO.pack(0, 0, _LOOPBACK_INDEX, _IFF_UP, _IFF_UP)
            self.netlink(rtnl.NETLINK_ROUTE).request(Message(_RTM_NEWLINK, 0, body))
            self._loopback_up = True

    def family(self) -> l2tp.Codec:
        """The l2tp family of generic netlink."""
        if self._codec is None:
            self._codec = l2tp.Codec(l2tp.resolve(self.netlink(l2tp.NETLINK_GENERIC))[0])
        return self._codec

    def tunnel(self, encap: Encap, *, v6: bool) -> int:
        """A tunnel with a socket of the kernel's; its id."""
        codec = self.family()
        self._loopback()
        self._tunnel_id += 1
        port = 2000 + self._tunnel_id if encap == Encap.UDP else 0
        tunnel = Tunnel("", self._tunnel_id, 1, encap, _HERE[v6], _THERE[v6], port, 1701 if port else 0, checksum=v6)
        self.netlink(l2tp.NETLINK_GENERIC).request(codec.tunnel_create(tunnel))
        return self._tunnel_id

    def pseudowire(self) -> None:
        """An Ethernet session, with its device."""
        tunnel = self.tunnel(Encap.UDP, v6=False)
        session = Session("", tunnel, tunnel, 1, f"kl2tp-probe{tunnel}")
        self.netlink(l2tp.NETLINK_GENERIC).request(self.family().session_create(session))

    def ppp_session(self) -> None:
        """A session of PPP over L2TPv2, as far as its channel."""
        codec = self.family()
        self._loopback()
        self._tunnel_id += 1
        with self._inside():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            with sock, _explained("PPP over L2TP"):
                sock.connect((socket.inet_ntoa(_THERE[False]), 1701))
                create = codec.managed_tunnel_create(self._tunnel_id, 1, sock.fileno())
                self.netlink(l2tp.NETLINK_GENERIC).request(create)
                session = pppox.open_session(pppox.Ids(self._tunnel_id, 1, 1, 1))
                try:
                    pppox.channel_number(session)
                finally:
                    os.close(session)

    def ppp_device(self) -> None:
        """A unit of PPP, with its network device."""
        with self._inside(), _explained(PPP_NODE):
            unit = ppp.open_unit()
            try:
                self.netlink(rtnl.NETLINK_ROUTE).request(rtnl.ppp_create(_PPP_DEVICE, unit, _PPP_MTU))
            finally:
                os.close(unit)

    @staticmethod
    def ppp_node() -> None:
        """/dev/ppp, opened and closed: that makes nothing, so it needs no namespace of its own."""
        with _explained(PPP_NODE):
            os.close(ppp.open_unit())

    @staticmethod
    def ppp_socket() -> None:
        """A socket of PPP over L2TP, of no session: the same."""
        os.close(pppox.open_socket())

    def policy(self) -> None:
        """A policy that blocks."""
        selector = Selector(_HERE[False], 32, _THERE[False], 32, _UDP)
        policy = Policy("", Direction.OUT, selector, 1, None)
        self.netlink(xfrm.NETLINK_XFRM).request(xfrm.policy_set(policy, _no_device))

    def sa(
        self,
        name: str = "",
        *,
        v6: bool = False,
        mode: Mode = Mode.TRANSPORT,
        nat: bool = False,
        esn: bool = False,
    ) -> None:
        """A security association, made and deleted."""
        cipher = ciphers.find(name or self.cipher)
        mac = Secret(os.urandom(cipher.integrity_key)) if cipher.integrity_key else None
        sa = Sa(
            "",
            _HERE[v6],
            _THERE[v6],
            _SPI,
            mode,
            _REQID,
            cipher.kernel_encryption,
            Secret(os.urandom(cipher.key)),
            cipher.aead,
            cipher.icv,
            cipher.kernel_integrity,
            mac,
            64 if esn else 0,
            esn,
            4500 if nat else 0,
            4500 if nat else 0,
        )
        sock = self.netlink(xfrm.NETLINK_XFRM)
        sock.request(xfrm.sa_add(sa, _no_device))
        sock.request(xfrm.sa_delete(sa))

    def table(self) -> None:
        """Our table in nftables, with all its chains, rules and sets."""
        nft.Table(self.netlink(nft.NETLINK_NETFILTER)).create()


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """What the C library says as an error of the kernel's."""
    try:
        yield
    except KernelError:
        raise
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, what) from None


def _no_device(name: str) -> int:
    raise KernelError(errno.ENODEV, f"there is no device {name}")
