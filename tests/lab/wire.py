"""The frames between the host and a guest's init: type (1 byte), length (4 bytes, little-endian), payload."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

_HEADER = struct.Struct("<cI")
# The longest piece of stdin in one frame. A tty holds 4 KiB; beyond that it throttles, and User Mode Linux then
# sometimes forgets to go on. One frame of this size at a time never comes near.
MAX_STDIN = 2048


class FromGuest(IntEnum):
    """Types of frame that init sends."""

    READY = ord("r")
    TAKEN = ord("t")
    STDOUT = ord("o")
    STDERR = ord("e")
    STATUS = ord("x")
    FAILED = ord("f")


class ToGuest(IntEnum):
    """Types of frame that init understands."""

    STDIN = ord("i")
    WINDOW = ord("w")
    SIGNAL = ord("k")


def encode(kind: ToGuest, payload: bytes = b"") -> bytes:
    """One frame for the guest; an empty STDIN frame is the end of the input."""
    return _HEADER.pack(bytes([kind]), len(payload)) + payload


class Decoder:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[FromGuest, bytes]]:
        """Yield the frames that `data` completes."""
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            kind, size = _HEADER.unpack_from(self._buffer)
            end = _HEADER.size + size
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            yield FromGuest(kind[0]), payload
