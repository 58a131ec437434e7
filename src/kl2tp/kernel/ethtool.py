"""What a network device can do in hardware, by the generic netlink family `ethtool` (since kernel 5.6)."""

import struct

from kl2tp.kernel import l2tp, netns
from kl2tp.kernel.netlink import Message, Netlink, Reply, attr, attribute_list, attributes, string

_FEATURES_GET, _HEADER, _DEVICE_NAME = 11, 1, 2
_FEATURES_HW, _BITSET_BITS, _BIT, _BIT_NAME = 2, 3, 1, 2
_NLA_F_NESTED = 0x8000
ESP_OFFLOAD = "esp-hw-offload"


def device_features(space: str, device: str) -> set[str]:
    """Names of the features that a device's hardware has. Raises KernelError, NoNamespace."""
    with netns.entered(space):
        sock = Netlink(l2tp.NETLINK_GENERIC)
    with sock:
        family = l2tp.resolve(sock, "ethtool")[0]
        header = attr(_HEADER | _NLA_F_NESTED, string(_DEVICE_NAME, device))
        reply = sock.get([Message(family, 0, struct.pack("=BBH", _FEATURES_GET, 1, 0) + header)])[0]
    if not isinstance(reply, Reply):
        raise reply
    bits = attributes(attributes(reply.payload, 4).get(_FEATURES_HW, b"")).get(_BITSET_BITS, b"")
    names = (attributes(bit).get(_BIT_NAME, b"") for kind, bit in attribute_list(bits) if kind == _BIT)
    return {name.rstrip(b"\0").decode() for name in names}
