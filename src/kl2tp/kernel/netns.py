"""Named network namespaces (/run/netns/NAME, as `ip netns` keeps them); "" is the one the process was started in.

A netlink socket belongs for ever to the namespace in which it was made: a thread enters one only to open a socket.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

RUN_NETNS = "/run/netns"
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class NoNamespace(LookupError):
    """The named namespace does not exist."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no network namespace {name!r} (make it with: ip netns add {name})")


def open_namespace(name: str) -> int:
    """A descriptor of the namespace, for setns(2) and IFLA_NET_NS_FD. Raises NoNamespace."""
    path = f"{RUN_NETNS}/{name}" if name else "/proc/self/ns/net"
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NoNamespace(name) from None


def identity(name: str) -> int:
    """The inode that tells this namespace from a later one of the same name. Raises NoNamespace."""
    path = f"{RUN_NETNS}/{name}" if name else "/proc/self/ns/net"
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        raise NoNamespace(name) from None


def _setns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"entering a network namespace: {os.strerror(code)}")


@contextmanager
def entered(name: str) -> Iterator[None]:
    """Run the block in a namespace; only this thread moves. Raises NoNamespace, OSError (CAP_SYS_ADMIN is needed)."""
    if not name:
        yield
        return
    target = open_namespace(name)
    try:
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                _setns(target)
            except OSError as error:
                if error.errno == errno.EINVAL:  # a file that no namespace is mounted on (any more)
                    raise NoNamespace(name) from None
                raise
            try:
                yield
            finally:
                _setns(back)
        finally:
            os.close(back)
    finally:
        os.close(target)
