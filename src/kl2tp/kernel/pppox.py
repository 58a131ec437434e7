"""Session sockets of PPP over L2TP (linux/if_pppol2tp.h): one carries a session's frames, and lends PPP its channel.

A session is made by connecting its socket, not by netlink: between the two the kernel would know the session and have
nowhere to put its frames. What such a socket is given before its channel is asked for waits for the channel.
"""

import ctypes
import errno
import fcntl
import os
import socket
import struct
from typing import NamedTuple

from kl2tp.kernel.netlink import KernelError

_AF_PPPOX, _PX_PROTO_OL2TP, _SOL_PPPOL2TP = 24, 1, 273
_RECVSEQ, _SENDSEQ, _LNSMODE, _REORDERTO = 2, 3, 4, 5
_GCHAN = 0x80047437
_ADDRESS = struct.Struct("=HIii16x4H")
"""struct sockaddr_pppol2tp: family, protocol, process, descriptor, an address, our and the peer's tunnel and session.

Process, descriptor and address do not matter where the session ids are given: so it serves IPv6 tunnels too."""
_IDS, _IDS6 = struct.Struct("=30x4H"), struct.Struct("=14x4H")
"""Where the ids are in what getsockname tells; in a tunnel over IPv6 (50 bytes) they come before the address."""
_ADDRESS_SIZE, _ADDRESS6_SIZE = 38, 50
_NUMBER = struct.Struct("=i")

_libc = ctypes.CDLL(None, use_errno=True)
_socket, _connect, _setsockopt = _libc.socket, _libc.connect, _libc.setsockopt
_KIND = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
_INT = ctypes.c_int


class Ids(NamedTuple):
    """Which session a socket belongs to."""

    tunnel: int
    session: int
    peer_tunnel: int
    peer_session: int


def _failed(what: str) -> KernelError:
    return KernelError(ctypes.get_errno(), what)


def open_socket() -> int:
    """A socket that no session has yet. Raises KernelError."""
    fd: int = _socket(_AF_PPPOX, _KIND, _PX_PROTO_OL2TP)
    if fd < 0:
        raise _failed("a socket of PPP over L2TP")
    return fd


def open_session(ids: Ids) -> int:
    """Make a session, and the socket that it lives and dies with. Raises KernelError; EEXIST: the id is taken."""
    fd = open_socket()
    address = _ADDRESS.pack(
        _AF_PPPOX, _PX_PROTO_OL2TP, 0, -1, ids.tunnel, ids.session, ids.peer_tunnel, ids.peer_session
    )
    if _connect(fd, address, _ADDRESS_SIZE) < 0:
        error = _failed(f"session {ids.session} in tunnel {ids.tunnel}")
        os.close(fd)
        raise error
    return fd


def set_options(
    fd: int, *, lns: bool, send_sequence: bool = False, require_sequence: bool = False, reorder_ms: int = 0
) -> None:
    """Who decides about sequence numbers (the LNS), and whether there are any. Raises KernelError."""
    options = ((_LNSMODE, lns), (_SENDSEQ, send_sequence), (_RECVSEQ, require_sequence), (_REORDERTO, reorder_ms))
    for option, value in options:
        if value and _setsockopt(fd, _SOL_PPPOL2TP, option, ctypes.byref(_INT(value)), 4) < 0:
            raise _failed("an option of a session")


def channel_number(fd: int) -> int:
    """The number of the socket's channel. Slow where it waits for a grace period. Raises OSError."""
    number: int = _NUMBER.unpack(fcntl.ioctl(fd, _GCHAN, bytes(4)))[0]
    return number


def identity(fd: int) -> Ids:
    """The session of a socket. Raises KernelError for one that is not, or no longer, connected."""
    address, size = ctypes.create_string_buffer(64), _INT(64)
    if _libc.getsockname(fd, address, ctypes.byref(size)) < 0:
        raise _failed("the session of a socket")
    if size.value not in (_ADDRESS_SIZE, _ADDRESS6_SIZE):
        raise KernelError(errno.EINVAL, "a socket that is none of PPP over L2TP")
    layout = _IDS if size.value == _ADDRESS_SIZE else _IDS6
    return Ids(*layout.unpack_from(address.raw))
