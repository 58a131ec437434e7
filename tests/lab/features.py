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
        "IPsec (CONFIG_XFRM_USER, CONFIG_INET_ESP, CONFIG_CRYPTO_GCM)": can_protect(),
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
    controller, get_family = 16, 3
    return ask(_NETLINK_GENERIC, controller, struct.pack("=BBH", get_family, 1, 0) + attribute) == 0


def can_protect() -> bool:
    """Add an ESP security association and delete it: nothing less loads the protocol and the cipher."""
    new, delete, esp, family = 0x10, 0x11, 50, socket.AF_INET
    address, spi = bytes([192, 0, 2, 1]).ljust(16, b"\0"), b"\0\0\xff\xff"
    selector = struct.pack("=40xH14x", family)
    identity = address + spi + bytes([esp, 0, 0, 0])
    unlimited = struct.pack("=4Q4Q", *[2**64 - 1] * 4, *[0] * 4)
    association = selector + identity + address + unlimited + struct.pack("=32x12xIIHBBB7x", 0, 0, family, 0, 0, 0)
    key = bytes(20)
    cipher = struct.pack("=64sII", b"rfc4106(gcm(aes))", len(key) * 8, 128) + key
    aead = struct.pack("=HH", 4 + len(cipher), 18) + cipher  # XFRMA_ALG_AEAD
    try:
        result = ask(_NETLINK_XFRM, new, association + aead)
        ask(_NETLINK_XFRM, delete, address + spi + struct.pack("=HBx", family, esp))
    except OSError:
        return False
    return result in (0, errno.EEXIST, errno.EPERM)


def ask(protocol: int, kind: int, body: bytes) -> int:
    """Send one netlink request; the error number that comes back, 0 for none."""
    request_and_ack = 5
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as sock:
        sock.send(struct.pack("=IHHII", 16 + len(body), kind, request_and_ack, 1, 0) + body)
        answer = sock.recv(8192)
    (answered,) = struct.unpack_from("=H", answer, 4)
    error_message = 2
    (code,) = struct.unpack_from("=i", answer, 16) if answered == error_message else (0,)
    return -int(code)
