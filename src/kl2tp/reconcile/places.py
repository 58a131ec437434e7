"""Protection of calls by IPsec with IKE, as units for the planner: of places where we listen, and of calls we place.

charon makes the SAs; which packets need one is ours to say. Priorities, of which the lower number wins:

    1000    our own calls and declared tunnels: they name their SAs by reqid
    1500    a place where we listen: in from anywhere, out of any SA
    2000    blocks: whatever else goes between these ends

What we answer from such a place leaves by the policies of sockets (`kl2tp.kernel.udp`), which the kernel asks first.
"""

from collections.abc import Iterator

from kl2tp.model.addr import ANY4, ANY6, text
from kl2tp.model.calls import LacSpec
from kl2tp.model.objects import (
    Binding,
    Direction,
    Guard,
    GuardedPlace,
    KernelObject,
    Marks,
    Policy,
    Selector,
    Template,
)
from kl2tp.model.plan import Unit
from kl2tp.model.spec import Mode
from kl2tp.reconcile.compile import PRIORITY_BLOCK, PRIORITY_PROTECT
from kl2tp.reconcile.engine import CALL_PREFIX

PRIORITY_PLACE = 1500
_UDP = 17


def place_name(address: bytes, port: int) -> str:
    """The unit of a place where we listen."""
    return f"{CALL_PREFIX}place.{text(address)}.{port}"


def lac_name(name: str) -> str:
    """The unit that protects the calls of an LAC profile."""
    return f"{CALL_PREFIX}lac.{name}"


def binding_name(tunnel_id: int) -> str:
    """The unit of a tunnel's binding."""
    return f"{CALL_PREFIX}bound.{tunnel_id}"


def place_unit(address: bytes, port: int, marks: Marks, *, filtered: bool = True) -> Unit:
    """Protection of a place where we listen; an address of zeros is any. `filtered`: with nftables too."""
    return Unit(place_name(address, port), tuple(_place(address, port, marks, filtered=filtered)))


def _place(address: bytes, port: int, marks: Marks, *, filtered: bool) -> Iterator[KernelObject]:
    anywhere = ANY4 if len(address) == 4 else ANY6
    length = len(address) * 8 if any(address) else 0
    sent = Selector(address, length, anywhere, 0, _UDP, source_port=port)
    heard = Selector(anywhere, 0, address, length, _UDP, destination_port=port)
    yield Policy("", Direction.OUT, sent, PRIORITY_BLOCK, None)
    if filtered:
        yield GuardedPlace("", address, port, marks)
    yield Policy("", Direction.IN, heard, PRIORITY_PLACE, Template(0, Mode.TRANSPORT))


def binding_unit(tunnel_id: int, reqid: int) -> Unit:
    """A tunnel of a client's: nobody else may speak in it."""
    return Unit(binding_name(tunnel_id), (Binding("", tunnel_id, reqid),))


def lac_unit(spec: LacSpec, reqid: int, *, beside_lns: bool = False) -> Unit:
    """Protection of the calls that we place to the servers of a profile.

    `beside_lns`: on this host there is an LNS with IPsec that listens at the port from which we call. Its clients may
    live where the server does and have other SAs; so any SA will do for what comes in.
    """
    objects: list[KernelObject] = []
    for remote in dict.fromkeys(spec.remotes):
        objects += _way(spec.local, remote, reqid, 0 if beside_lns else reqid)
    return Unit(lac_name(spec.name), tuple(objects))


def _way(local: tuple[bytes, int], remote: tuple[bytes, int], sent_by: int, heard_by: int) -> Iterator[KernelObject]:
    """Protection between us and a server; a local port of 0 is any."""
    (ours, lport), (theirs, rport) = local, remote
    bits = len(theirs) * 8
    anywhere = ANY4 if bits == 32 else ANY6
    here, length = (ours, bits) if ours and any(ours) else (anywhere, 0)
    # A block for the very same ends would take the place of what protects. Those of two halves are others.
    for block, plen in [(anywhere, 0)] if length else [(anywhere, 1), (bytes((128,)) + anywhere[1:], 1)]:
        yield Policy("", Direction.OUT, Selector(block, plen, theirs, bits, _UDP, lport, rport), PRIORITY_BLOCK, None)
        yield Policy("", Direction.IN, Selector(theirs, bits, block, plen, _UDP, rport, lport), PRIORITY_BLOCK, None)
    yield Guard("", theirs, lport, rport)
    heard = Selector(theirs, bits, here, length, _UDP, rport, lport)
    yield Policy("", Direction.IN, heard, PRIORITY_PROTECT, Template(heard_by, Mode.TRANSPORT))
    sent = Selector(here, length, theirs, bits, _UDP, lport, rport)
    yield Policy("", Direction.OUT, sent, PRIORITY_PROTECT, Template(sent_by, Mode.TRANSPORT))
