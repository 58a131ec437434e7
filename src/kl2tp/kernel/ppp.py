"""The kernel's generic PPP, by /dev/ppp: channels carry frames, units are network devices.

LCP and authentication come and go by the channel, the network control protocols by the unit; what neither knows, the
kernel keeps to itself. A frame is two bytes of protocol and what follows. The kernel keeps 32 unread frames for a
descriptor. Numbers of channels and units are looked up in the namespace of the calling thread.
"""

import errno
import fcntl
import os
import struct

CHANNEL_NUMBERS = 0xC000
"""Protocols from here on are the channel's, RFC 1661 2."""
IPV4, IPV6 = 0x0021, 0x0057
_ATTCHAN, _CONNECT, _DISCONN, _GUNIT, _SMRU = 0x40047438, 0x4004743A, 0x7439, 0x80047456, 0x40047452
_SNPMODE, _GIDLE = 0x4008744B, 0x8010743F
_PASS, _DROP = 0, 1
_NUMBER, _MODE, _IDLE = struct.Struct("=i"), struct.Struct("=ii"), struct.Struct("=qq")
_DEVICE = "/dev/ppp"
_FLAGS = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
_LONGEST_FRAME = 2048
"""Bytes. Data never comes this way, and control frames are much shorter."""
FRAMES = 32
"""What the kernel keeps at most for one descriptor."""


def open_unit() -> int:
    """A descriptor that a unit can be made with. Raises OSError."""
    return os.open(_DEVICE, _FLAGS)


def open_channel(number: int) -> int:
    """A descriptor of a channel. Raises OSError; ENXIO: there is no such channel in this namespace."""
    fd = os.open(_DEVICE, _FLAGS)
    try:
        fcntl.ioctl(fd, _ATTCHAN, _NUMBER.pack(number))
    except BaseException:
        os.close(fd)
        raise
    return fd


def unit_number(fd: int) -> int:
    """The number of a unit. Raises OSError."""
    number: int = _NUMBER.unpack(fcntl.ioctl(fd, _GUNIT, bytes(4)))[0]
    return number


def connect(channel: int, unit: int) -> None:
    """Have a unit, by its number, use a channel.

    Raises OSError: EINVAL if the channel is connected already, ENXIO if there is no such unit, ENOTCONN if the session
    of the channel is gone.
    """
    fcntl.ioctl(channel, _CONNECT, _NUMBER.pack(unit))


def disconnect(channel: int) -> None:
    """Take a channel away from its unit; slow where that waits for a grace period. Raises OSError."""
    fcntl.ioctl(channel, _DISCONN)


def set_mru(unit: int, mru: int) -> None:
    """The longest packet that may come, bytes. Raises OSError."""
    fcntl.ioctl(unit, _SMRU, _NUMBER.pack(mru))


def pass_packets(unit: int, protocol: int, allowed: bool) -> None:
    """Let the packets of a network protocol pass, both ways, or drop them. Raises OSError."""
    fcntl.ioctl(unit, _SNPMODE, _MODE.pack(protocol, _PASS if allowed else _DROP))


def idle(unit: int) -> tuple[int, int]:
    """Seconds since the last packet was (sent, received). Raises OSError."""
    sent, received = _IDLE.unpack(fcntl.ioctl(unit, _GIDLE, bytes(_IDLE.size)))
    return sent, received


def read_frames(fd: int, limit: int = FRAMES) -> tuple[list[bytes], bool]:
    """The frames that wait, at most `limit`, and whether there can be more, ever: not if session or device is gone.

    Where events tell of each frame, a limit of 1 saves the call that finds nothing.
    """
    frames: list[bytes] = []
    while len(frames) < limit:
        try:
            frame = os.read(fd, _LONGEST_FRAME)
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno == errno.EOVERFLOW:  # too long for anything that we know: it is lost
                continue
            return frames, False
        if not frame:
            return frames, False
        frames.append(frame)
    return frames, True


def write_frame(fd: int, frame: bytes) -> bool:
    """Send a frame; whether the kernel took it. (A dead session takes everything, and sends nothing.)"""
    try:
        return os.write(fd, frame) == len(frame)
    except OSError:
        return False
