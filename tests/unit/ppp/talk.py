"""One link, and a peer that says what the test wants it to say; time passes as the test wants it."""

import random
from typing import Any, NamedTuple

from kl2tp.ppp.auth.protocol import Attempt
from kl2tp.ppp.events import AuthNeeded, Down, Event
from kl2tp.ppp.ipcp import Ipv4Settings
from kl2tp.ppp.ipv6cp import Ipv6Settings
from kl2tp.ppp.lcp import LinkSettings
from kl2tp.ppp.link import Link
from kl2tp.wire.ppp import Code, Protocol, decode_packet, encode_option, encode_packet

OUR_ADDRESS, PEERS_ADDRESS = bytes((10, 0, 0, 1)), bytes((10, 9, 0, 5))
DNS, DNS2, NBNS = bytes((10, 0, 0, 53)), bytes((10, 0, 0, 54)), bytes((10, 0, 0, 42))
OUR_IID, PEERS_IID = bytes.fromhex("00000000000000a1"), bytes.fromhex("00000000000000b2")
MAGIC = bytes.fromhex("11223344")
IPV4 = Ipv4Settings(OUR_ADDRESS, PEERS_ADDRESS, (DNS, DNS2), (NBNS,))
IPV6 = Ipv6Settings(OUR_IID)


class Packet(NamedTuple):
    """A control packet that the link sent."""

    protocol: int
    code: int
    identifier: int
    data: bytes


def option(kind: int, value: bytes | int = b"", size: int = 2) -> bytes:
    """An option; numbers take `size` octets."""
    return encode_option(kind, value if isinstance(value, bytes) else value.to_bytes(size, "big"))


def parse(frame: bytes) -> Packet:
    """A frame with a control packet, taken apart."""
    return Packet(int.from_bytes(frame[:2], "big"), *decode_packet(frame[2:]))


class Talk:
    """The link under test is `link`."""

    def __init__(self, **settings: Any) -> None:
        self.settings = LinkSettings(**settings)
        self.random = random.Random(7).randbytes
        self.link = Link(self.settings, self.random)
        self.now = 100.0
        self.events: list[Event] = []

    # -- the peer's words ------------------------------------------------------------------------------------------

    def hear(self, protocol: int | None = None) -> list[Packet]:
        """What the link sent since it was last heard, of one protocol if wanted."""
        self.events += self.link.take_events()
        packets = [parse(frame) for frame in self.link.take_frames()]
        return [packet for packet in packets if protocol in (None, packet.protocol)]

    def say(self, code: int, identifier: int, data: bytes = b"", protocol: int = Protocol.LCP) -> None:
        """Send the link a control packet."""
        self.frame(encode_packet(protocol, code, identifier, data))

    def frame(self, frame: bytes) -> None:
        """Send it any frame."""
        self.link.receive(frame, self.now)
        self.events += self.link.take_events()

    def ask(self, data: bytes, identifier: int = 1, protocol: int = Protocol.LCP) -> Packet:
        """Send a Configure-Request, to which there has to be an answer: the last packet that comes."""
        self.hear()
        self.say(Code.CONFIGURE_REQUEST, identifier, data, protocol)
        answer = self.hear(protocol)[-1]
        assert answer.identifier == identifier
        return answer

    def told(self, kind: type) -> list[Any]:
        """Events of a kind."""
        self.events += self.link.take_events()
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def reason(self) -> str:
        """Why the link is down."""
        (down,) = self.told(Down)
        return str(down.reason)

    @property
    def attempt(self) -> Attempt:
        """The last attempt to log in."""
        attempt: Attempt = self.told(AuthNeeded)[-1].attempt
        return attempt

    # -- how far it is ---------------------------------------------------------------------------------------------

    def request(self, protocol: int = Protocol.LCP) -> Packet:
        """The link's last Configure-Request."""
        return [packet for packet in self.hear(protocol) if packet.code == Code.CONFIGURE_REQUEST][-1]

    def started(self) -> Packet:
        """The link is open; its first request."""
        self.link.open(self.now)
        return self.request()

    def opened(self, data: bytes | None = None) -> "Talk":
        """LCP is up."""
        request = self.started()
        self.say(Code.CONFIGURE_ACK, request.identifier, request.data)
        self.say(Code.CONFIGURE_REQUEST, 1, option(5, MAGIC) if data is None else data)
        return self

    def network(self, ipv4: Ipv4Settings | None = IPV4, ipv6: Ipv6Settings | None = None) -> "Talk":
        """Network protocols are being negotiated."""
        self.opened()
        self.link.start_network(ipv4, ipv6, self.now)
        return self

    def agree(self, protocol: int, data: bytes, identifier: int = 1) -> None:
        """Bring a network protocol up: take all it asks for, and ask for this."""
        request = self.request(protocol)
        self.say(Code.CONFIGURE_ACK, request.identifier, request.data, protocol)
        self.say(Code.CONFIGURE_REQUEST, identifier, data, protocol)

    def up(self) -> "Talk":
        """IPv4 and IPv6 are up."""
        self.network(IPV4, IPV6)
        frames = self.hear()
        self.answer(frames)
        self.say(Code.CONFIGURE_REQUEST, 1, option(3, PEERS_ADDRESS), Protocol.IPCP)
        self.say(Code.CONFIGURE_REQUEST, 1, option(1, PEERS_IID), Protocol.IPV6CP)
        self.hear()
        return self

    def answer(self, packets: list[Packet]) -> None:
        """Ack all Configure-Requests among these."""
        for packet in packets:
            if packet.code == Code.CONFIGURE_REQUEST:
                self.say(Code.CONFIGURE_ACK, packet.identifier, packet.data, packet.protocol)

    # -- time ------------------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> list[Packet]:
        """Let time pass, timer by timer; what was sent meanwhile."""
        packets = self.hear()
        end = self.now + seconds
        while (deadline := self.link.deadline) is not None and deadline <= end:
            assert deadline > self.now or packets is not None
            self.now = max(self.now, deadline)
            self.link.handle_timer(self.now)
            packets += self.hear()
            assert self.link.deadline is None or self.link.deadline > self.now, "a timer that does not go off"
        self.now = end
        return packets
