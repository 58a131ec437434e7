"""What all control connections of a host share: their ids, what they use, their timers, and what they have to say."""

import heapq
import itertools
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from kl2tp.control.events import Event, Refusal
from kl2tp.control.flood import Flood
from kl2tp.control.ids import Entropy
from kl2tp.control.limits import TokenBucket, Usage
from kl2tp.control.profiles import Peer, Place, Profiles
from kl2tp.model.calls import LacSpec, LnsSpec
from kl2tp.wire.l2tp import encode_control

if TYPE_CHECKING:
    from kl2tp.control.call import Call
    from kl2tp.control.tunnel import Tunnel

NEVER = math.inf
Profile: TypeAlias = LnsSpec | LacSpec
Alarm: TypeAlias = list[Any]
"""Of the heap of timers: when, a number that makes it unique, and whose it is (None: nobody's any more)."""
SecretOf: TypeAlias = Callable[[Profile, Peer, str], bytes | None]
"""The secret shared with a peer, by profile, address and host name; "" where the name is not known yet."""
_LINGER_S = 31.0
"""How long a peer with the RFC's timers repeats its StopCCN, if our acknowledgement is lost (5.7, 5.8)."""
_MOST_LINGERING = 8192
_MOST_IDLE = 256
_STRANGERS_PER_S = 100.0
"""Answers to peers whom we don't let in, or don't know: past them there is silence."""
_REFUSALS_PER_S = 10.0
_MOST_REFUSALS = 100
"""Refusals that the owner is told of, and how many wait for him to listen."""


class Datagram(NamedTuple):
    """A control packet to be sent."""

    data: bytes
    peer: Peer
    local: Place
    tunnel: "Tunnel | None"


class _Past(NamedTuple):
    """A tunnel that was: its id rests, and what the peer repeats is acknowledged."""

    until: float
    peer: Peer
    local: Place
    acknowledgement: bytes


class Counters:
    """What happened that is no tunnel's business."""

    __slots__ = (
        *("duplicates", "evicted", "expired", "malformed", "replaced", "requests", "sccrq_refused", "strangers"),
        *("other_clients", "unauthorized", "unknown_tunnel"),
    )

    def __init__(self) -> None:
        self.malformed = 0
        """Packets that are no control messages."""
        self.unknown_tunnel = 0
        """Packets for a tunnel that is not there."""
        self.strangers = 0
        """Packets for a tunnel from an address that is not its peer's."""
        self.other_clients = 0
        """Packets for a tunnel from the IPsec SA of another client than its peer."""
        self.requests = 0
        """SCCRQs, without those that a flood delayed."""
        self.duplicates = 0
        """SCCRQs that came again."""
        self.sccrq_refused = 0
        self.unauthorized = 0
        """Peers that did not know the secret."""
        self.evicted = 0
        """Half-open tunnels that made room for newer ones."""
        self.expired = 0
        """Half-open tunnels of whose peer nothing more was heard."""
        self.replaced = 0
        """Tunnels whose peer began anew."""

    def values(self) -> dict[str, int]:
        """By name."""
        return {name: getattr(self, name) for name in self.__slots__}


class Host:
    """The ground on which tunnels stand. They know it, it knows them only by their ids, peers and timers."""

    def __init__(self, profiles: Profiles, random: Callable[[int], bytes], secret_of: SecretOf) -> None:
        self.profiles = profiles
        self.secret_of = secret_of
        self.entropy = Entropy(random)
        self.name = "kl2tp"
        """Host Name AVP where the profile has none."""
        self.reserved: Callable[[int], bool] = lambda number: False
        """Whether a tunnel id is somebody else's: tunnels of the operator's that the kernel has."""
        self.accept_outgoing: Callable[[Call], bool] | None = None
        """Whether to place a call that a peer asks for (OCRQ); None: we place none, and say so (4.4.3)."""
        self.manual_accept = False
        """Whether calls that are offered wait for `Endpoint.accept`."""
        self.closing = False
        self.now = 0.0

        self.tunnels: dict[int, Tunnel] = {}
        """Whose peers have shown that their address is theirs, and those that we opened."""
        self.half_open: dict[int, Tunnel] = {}
        """Whose peers were sent an SCCRP; no more is known of them."""
        self.half_open_of: dict[tuple[Peer, int], Tunnel] = {}
        """The same by peer and its tunnel id."""
        self.tunnel_of: dict[tuple[Peer, int], Tunnel] = {}
        """Established tunnels by peer and its tunnel id."""
        self.latest_of: dict[tuple[Peer, str], Tunnel] = {}
        """The newest tunnel that a peer of this host name opened."""
        self.dialing: dict[Peer, list[Tunnel]] = {}
        """Tunnels that wait for their SCCRP."""
        self.flood = Flood()
        self.counters = Counters()

        self.events: list[Event] = []
        self.refusals: list[Refusal] = []
        self.datagrams: list[Datagram] = []
        self.dirty: dict[Tunnel | Call, None] = {}
        self.touched: dict[Tunnel, None] = {}
        """Tunnels that may have something to send."""
        self._past: dict[int, _Past] = {}
        self._usages: dict[str, Usage] = {}
        self._heap: list[Alarm] = []
        self._idle = 0
        """Entries of the heap that belong to no tunnel any more."""
        self._order = itertools.count()
        self._sweep_at = NEVER
        self._serial = int.from_bytes(self.entropy.take(4), "big")
        self._answers = TokenBucket()
        self._told = TokenBucket()

    def usage(self, profile: LnsSpec) -> Usage:
        """What a profile uses; it is the same after the profile was changed."""
        usage = self._usages.get(profile.name)
        if usage is None:
            usage = self._usages[profile.name] = Usage()
        return usage

    @property
    def usages(self) -> Iterable[tuple[str, Usage]]:
        """By profile name."""
        return self._usages.items()

    # -- ids -------------------------------------------------------------------------------------------------------

    def free_id(self) -> int:
        """A tunnel id for a new tunnel; 0 if there is none."""
        return self.entropy.free_id(self._taken)

    def _taken(self, number: int) -> bool:
        return number in self.tunnels or number in self.half_open or number in self._past or self.reserved(number)

    def next_serial(self) -> int:
        """A Call Serial Number: the next one, from a random one on (4.4.4)."""
        self._serial = (self._serial + 1) & 0xFFFFFFFF
        return self._serial

    # -- tunnels that are over -------------------------------------------------------------------------------------

    def bury(self, tunnel: "Tunnel", acknowledgement: bytes, now: float) -> None:
        """Let an id rest, and acknowledge what the peer repeats until it knows (5.7)."""
        past = self._past
        if len(past) >= _MOST_LINGERING:
            del past[next(iter(past))]
        past[tunnel.id] = _Past(now + _LINGER_S, tunnel.peer, tunnel.local, acknowledgement)
        self._arm_sweep(now + _LINGER_S)

    def late(self, tunnel_id: int, peer: Peer, payload: bytes) -> bool:
        """A packet for a tunnel that is not there: whether it was there a moment ago."""
        past = self._past.get(tunnel_id)
        if past is None:
            return False
        if payload and past.acknowledgement and past.peer == peer:
            self.datagrams.append(Datagram(past.acknowledgement, past.peer, past.local, None))
        return True

    # -- answers to strangers --------------------------------------------------------------------------------------

    def answer(self, payload: bytes, peer_tunnel_id: int, numbers: tuple[int, int], peer: Peer, local: Place) -> None:
        """Say something, with Ns and Nr, to somebody of whom nothing is kept, unless there are too many of them."""
        if self._answers.take(_STRANGERS_PER_S, self.now):
            data = encode_control(peer_tunnel_id, 0, *numbers, payload)
            self.datagrams.append(Datagram(data, peer, local, None))

    def refused(self, peer: Peer, local: Place, host_name: str, reason: str) -> None:
        """Tell that somebody was not let in."""
        if len(self.refusals) < _MOST_REFUSALS and self._told.take(_REFUSALS_PER_S, self.now):
            self.refusals.append(Refusal(peer, local, host_name, reason))

    # -- timers ----------------------------------------------------------------------------------------------------

    def touch(self, tunnel: "Tunnel") -> None:
        """Something was done to a tunnel: see to its timer, and later to what it sends.

        A timer that moves away stays where it is in the heap, which is noticed when its time comes.
        """
        self.touched[tunnel] = None
        at = tunnel.deadline
        alarm = tunnel.alarm
        if at < (NEVER if alarm is None else alarm[0]):
            self._disarm(alarm)
            tunnel.alarm = alarm = [at, next(self._order), tunnel]
            heapq.heappush(self._heap, alarm)

    def forget(self, tunnel: "Tunnel") -> None:
        """A tunnel has no time left, and nothing to send."""
        self.touched.pop(tunnel, None)
        self._disarm(tunnel.alarm)
        tunnel.alarm = None

    def _disarm(self, alarm: Alarm | None) -> None:
        """Leave an entry of the heap to itself; of too many such the heap is freed."""
        if alarm is None:
            return
        alarm[2] = None
        self._idle += 1
        if self._idle > _MOST_IDLE and self._idle > len(self._heap) // 2:
            self._heap = [entry for entry in self._heap if entry[2] is not None]
            heapq.heapify(self._heap)
            self._idle = 0

    def _first(self) -> float:
        """When the first tunnel's time comes."""
        heap = self._heap
        while heap:
            if heap[0][2] is not None:
                return float(heap[0][0])
            heapq.heappop(heap)
            self._idle -= 1
        return NEVER

    def _arm_sweep(self, at: float) -> None:
        self._sweep_at = min(self._sweep_at, at)

    @property
    def deadline(self) -> float | None:
        """When something is due."""
        at = min(self._first(), self._sweep_at)
        return None if at == NEVER else at

    def due(self, now: float) -> list["Tunnel"]:
        """The tunnels whose time has come; `touch` each of them afterwards."""
        found = []
        while self._first() <= now:
            tunnel = heapq.heappop(self._heap)[2]
            tunnel.alarm = None
            found.append(tunnel)
        return found

    def note_half_open(self, tunnel: "Tunnel") -> None:
        """A peer was sent an SCCRP."""
        assert tunnel.usage is not None
        self.half_open[tunnel.id] = tunnel.usage.half_open[tunnel.id] = tunnel
        self.half_open_of[tunnel.peer, tunnel.peer_id] = tunnel
        self._arm_sweep(tunnel.wake_at)

    def drop_half_open(self, tunnel: "Tunnel") -> None:
        """It is a tunnel now, or nothing."""
        assert tunnel.usage is not None
        if self.half_open.pop(tunnel.id, None) is not None:
            del tunnel.usage.half_open[tunnel.id]
            del self.half_open_of[tunnel.peer, tunnel.peer_id]

    def sweep(self, now: float) -> list["Tunnel"]:
        """Forget what is long over; the half-open tunnels whose time is over too, which the caller ends."""
        if now < self._sweep_at:
            return []
        self._sweep_at = NEVER
        past = self._past
        while past:
            oldest = next(iter(past))
            if past[oldest].until > now:
                self._arm_sweep(past[oldest].until)
                break
            del past[oldest]
        return [tunnel for usage in self._usages.values() for tunnel in self._expired(usage, now)]

    def _expired(self, usage: Usage, now: float) -> list["Tunnel"]:
        found = []
        for tunnel in usage.half_open.values():
            if tunnel.wake_at > now:
                self._arm_sweep(tunnel.wake_at)
                break
            found.append(tunnel)
        return found
