"""Peers with IPsec that share an address, behind one NAT: how this kernel tells their packets apart.

Since 6.11 the kernel finds the session of a data packet by the ids in it, whatever socket the packet came to. Before,
it looks in the tunnel of the socket, and of several sockets with the same four ends the newest gets everything: there
nftables gives each peer a source port of its own, as long as a packet is on this host.
"""

import os

from kl2tp.kernel.release import version
from kl2tp.model.objects import Marks

BY_ID_SINCE = (6, 11)
PORT_BASE, PORT_MASK = 0x4000, 0x3FFF
"""The source ports: in a range that systems take no ports from by themselves."""
OWN_REQIDS, OWN_REQIDS_MASK = 0x6B6C0000, 0xFFFE0000
"""The reqids of SAs that are no client's: of declared tunnels, and from 0x6B6D0000 on of our own calls
(`kl2tp.model.ike`). They are neither marked nor told apart by port."""
L2TP_PORT = 1701
"""The port that clients send from which do not choose one."""


def by_port(release: str) -> bool:
    """Whether a kernel of this release needs a port for each peer."""
    return version(release) < BY_ID_SINCE


BY_PORT = by_port(os.uname().release)


def port_of(reqid: int) -> int:
    """The source port that packets of a client have on this host."""
    return PORT_BASE | (reqid & PORT_MASK)


def mark_of(reqid: int, marks: Marks) -> int:
    """The mark of packets that came out of an SA with this reqid; 0 for those of our own tunnels and calls."""
    base, mask = marks
    return 0 if reqid & OWN_REQIDS_MASK == OWN_REQIDS else base | reqid & mask


def reqid_of(found: int, marks: Marks) -> int:
    """The reqid that a mark stands for; 0 if it is none of ours."""
    base, mask = marks
    return found & mask if found & ~mask == base else 0
