"""Does the running kernel have what kl2tp drives? Asked of the kernel itself, so that modules get loaded."""

from __future__ import annotations

import errno
import os
import socket
import struct

_NETLINK_GENERIC = 16
_NETLINK_XFRM = 6
_AF_PPPOX = 24
_PX_PROTO_OL2TP = 1
_IPPROTO_L2TP = 115


def missing_features() -> list[str]:
    """What the kernel lacks, in words that name the kernel option; empty if it can do everything."""
    checks = {
        "L2TP over netlink (CONFIG_L2TP, CONFIG_L2TP_V3)": has_l2tp_family(),
        "L2TP over IP (CONFIG_L2TP_IP)": can_open(socket.AF_INET, socket.SOCK_DGRAM, _IPPROTO_L2TP),
        "PPP over L2TP (CONFIG_PPPOL2TP)": can_open(_AF_PPPOX, socket.SOCK_DGRAM, _PX_PROTO_OL2TP),
        "PPP (CONFIG_PPP, /dev/ppp)": can_open_device("/dev/ppp"),
        "IPsec (CONFIG_XFRM_USER)": can_open(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_XFRM),
    }
    return [name for name, present in checks.items() if not present]


def can_open(family: int, kind: int, protocol: int) -> bool:
    """Whether the kernel knows a kind of socket."""
    try:
        socket.socket(family, kind, protocol).close()
    except OSError as error:
        return error.errno in (errno.EPERM, errno.EACCES)
    return True


def can_open_device(path: str) -> bool:
    """Whether a driver stands behind a device node."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in (errno.EPERM, errno.EACCES)
    return True


def has_l2tp_family() -> bool:
    """Look the l2tp family up in generic netlink's controller, which loads the module if there is one."""
    name = b"l2tp\0"
    attribute = struct.pack("=HH", 4 + len(name), 2) + name.ljust(8, b"\0")  # CTRL_ATTR_FAMILY_NAME
    controller, request, get_family = 16, 1, 3
    body = struct.pack("=BBH", get_family, 1, 0) + attribute
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC) as sock:
        sock.send(struct.pack("=IHHII", 16 + len(body), controller, request, 1, 0) + body)
        (kind,) = struct.unpack_from("=H", sock.recv(8192), 4)
    return bool(kind == controller)
