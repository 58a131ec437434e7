"""What a network device can do in hardware, by the ioctl of ethtool (linux/ethtool.h): every kernel has it."""

import array
import errno
import fcntl
import socket
import struct

from kl2tp.kernel import netns
from kl2tp.kernel.netlink import KernelError

ESP_OFFLOAD = "esp-hw-offload"
_SIOCETHTOOL = 0x8946
_GSTRINGS, _GSSET_INFO, _GFEATURES = 0x1B, 0x37, 0x3A
_SET_FEATURES = 4
_NAME = 32
"""Bytes of a feature's name."""
_REQUEST = struct.Struct("@16sP16x")
_SET_INFO = struct.Struct("@IIQI")
_HEADER = struct.Struct("@III")
_BLOCK = struct.Struct("@IIII")


def device_features(space: str, device: str) -> set[str]:
    """Names of the features that a device has, switched on or not. Raises KernelError, NoNamespace."""
    with netns.entered(space):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    with sock:
        count = _SET_INFO.unpack(_ask(sock, device, _SET_INFO.pack(_GSSET_INFO, 0, 1 << _SET_FEATURES, 0)))[3]
        strings = _ask(sock, device, _HEADER.pack(_GSTRINGS, _SET_FEATURES, count) + bytes(_NAME * count))
        blocks = (count + 31) // 32
        state = _ask(sock, device, struct.pack("@II", _GFEATURES, blocks) + bytes(_BLOCK.size * blocks))
    able = [available | active for available, _, active, _ in _BLOCK.iter_unpack(state[8:])]
    names = [strings[start : start + _NAME] for start in range(_HEADER.size, len(strings), _NAME)]
    return {
        name.rstrip(b"\0").decode(errors="replace") for bit, name in enumerate(names) if able[bit // 32] >> bit % 32 & 1
    }


def _ask(sock: socket.socket, device: str, request: bytes) -> bytes:
    """One question; the answer has the request's length."""
    buffer = array.array("B", request)
    try:
        fcntl.ioctl(sock, _SIOCETHTOOL, _REQUEST.pack(device.encode(), buffer.buffer_info()[0]))
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, f"features of device {device}") from None
    return buffer.tobytes()
