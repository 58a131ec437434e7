"""Many datagrams by one system call: recvmmsg(2) and sendmmsg(2), which Python's socket module lacks."""

import ctypes
import errno
import os
import threading
from typing import Final

COUNT: Final = 64
"""Datagrams received at once, at most."""
SIZE: Final = 32 << 10
"""Bytes that a datagram may have: the kernel makes netlink messages no longer than this."""
_MSG_WAITFORONE = 0x10000
MSG_TRUNC = 0x20


class Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("header", Header), ("length", ctypes.c_uint))


_libc = ctypes.CDLL(None, use_errno=True)
recvmmsg, sendmmsg = _libc.recvmmsg, _libc.sendmmsg


class Slots(threading.local):
    """Room for datagrams, one set for all sockets of a thread. Memory is taken only as far as datagrams fill it."""

    def __init__(self) -> None:
        self._buffer = ctypes.create_string_buffer(COUNT * SIZE)
        start = ctypes.addressof(self._buffer)
        self._vectors = (Vector * COUNT)(*(Vector(start + n * SIZE, SIZE) for n in range(COUNT)))
        self._messages = (Message * COUNT)()
        for message, vector in zip(self._messages, self._vectors, strict=True):
            message.header.vectors, message.header.vector_count = ctypes.pointer(vector), 1
        words = memoryview(self._messages).cast("B").cast("I")
        step = ctypes.sizeof(Message) // 4
        self._lengths = words[Message.length.offset // 4 :: step]
        self._flags = words[(Message.header.offset + Header.flags.offset) // 4 :: step]
        self._view = memoryview(self._buffer).cast("B")

    def receive(self, descriptor: int) -> list[bytes]:
        """Wait for one datagram and take all that are there. Raises OSError; EMSGSIZE if one is too long."""
        while (count := recvmmsg(descriptor, self._messages, COUNT, _MSG_WAITFORONE, None)) < 0:
            if (code := ctypes.get_errno()) != errno.EINTR:
                raise OSError(code, os.strerror(code))
        if any(flags & MSG_TRUNC for flags in self._flags[:count]):
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        view = self._view
        return [
            bytes(view[start : start + length])
            for start, length in zip(range(0, COUNT * SIZE, SIZE), self._lengths[:count], strict=False)
        ]
