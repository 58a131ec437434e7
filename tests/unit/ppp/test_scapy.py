"""Scapy as another opinion: it reads every frame of two links, and writes those of a client."""

from hashlib import md5
from typing import Any

import pytest
from scapy.layers import ppp as scapy_ppp

from kl2tp.model.calls import AUTH_METHODS, CHAP, PAP
from kl2tp.ppp.events import AuthNeeded, Event, Ipv4Up, NetworkPhase
from kl2tp.ppp.lcp import LinkSettings
from kl2tp.ppp.link import Link
from kl2tp.wire.ppp import Protocol
from unit.ppp.pair import SERVER4, Pair, settings
from unit.ppp.talk import OUR_ADDRESS, PEERS_ADDRESS, parse

KNOWN = (Protocol.LCP, Protocol.PAP, Protocol.CHAP, Protocol.IPCP)


@pytest.mark.parametrize("method", AUTH_METHODS)
def test_scapy_reads_every_frame_as_we_meant_it(method: str) -> None:
    pair = Pair(*settings(method))
    frames: list[bytes] = []
    pair.hear = frames.append
    pair.open().run(2, until=lambda: pair.is_up)
    pair.run(40)
    pair.client.link.close(pair.now, "enough")
    pair.run(10)
    assert pair.is_down
    read = 0
    for frame in frames:
        packet = parse(frame)
        if packet.protocol not in KNOWN:
            continue
        seen = scapy_ppp.PPP(frame)
        assert (seen.proto, seen.payload.code, seen.payload.id) == (packet.protocol, packet.code, packet.identifier)
        assert not seen.haslayer("Raw"), f"{seen!r} has something left over"
        assert bytes(seen) == frame
        read += 1
    assert read > 15


class Client:
    """A client all of whose packets scapy has written."""

    def __init__(self, method: str) -> None:
        self.link = Link(LinkSettings(name="lns", demand=(method,)), bytes)
        self.link.open(0.0)
        self.up: list[Ipv4Up] = []
        self.heard: list[Any] = []
        self.turn()

    def say(self, packet: Any) -> None:
        """Send a packet."""
        self.link.receive(bytes(scapy_ppp.PPP() / packet), 0.0)
        self.turn()

    def turn(self) -> None:
        """See to what came of it."""
        while events := self.link.take_events():
            for event in events:
                self._heard(event)
        self.heard += [scapy_ppp.PPP(frame) for frame in self.link.take_frames()]

    def _heard(self, event: Event) -> None:
        if isinstance(event, AuthNeeded):
            assert event.attempt.verify(b"hush")
            self.link.grant(event.attempt, 0.0)
        elif isinstance(event, NetworkPhase):
            assert event.identity == "bob"
            self.link.start_network(SERVER4, None, 0.0)
        elif isinstance(event, Ipv4Up):
            self.up.append(event)

    def last(self, kind: type, code: int) -> Any:
        """The last packet of a kind."""
        return [p[kind] for p in self.heard if p.haslayer(kind) and p[kind].code == code][-1]

    def ack(self, request: Any) -> None:
        """Agree to all."""
        packet = request.copy()
        packet.code = 2
        self.say(packet)


def chap_response(challenge: Any) -> Any:
    """With MD5, by hand: RFC 1994 4.1."""
    value = md5(bytes((challenge.id,)) + b"hush" + challenge.value).digest()
    return scapy_ppp.PPP_CHAP_ChallengeResponse(code=2, id=challenge.id, value=value, optional_name=b"bob")


@pytest.mark.parametrize("method", [PAP, CHAP])
def test_a_client_of_scapy_comes_up(method: str) -> None:
    client = Client(method)
    client.ack(client.last(scapy_ppp.PPP_LCP_Configure, 1))
    magic = scapy_ppp.PPP_LCP_Magic_Number_Option(magic_number=99)
    client.say(scapy_ppp.PPP_LCP_Configure(id=5, options=[scapy_ppp.PPP_LCP_MRU_Option(max_recv_unit=1400), magic]))
    assert client.last(scapy_ppp.PPP_LCP_Configure, 2).options[0].max_recv_unit == 1400
    if method == PAP:
        client.say(scapy_ppp.PPP_PAP_Request(id=6, username=b"bob", password=b"hush"))
        assert client.last(scapy_ppp.PPP_PAP_Response, 2).id == 6
    else:
        challenge = client.last(scapy_ppp.PPP_CHAP_ChallengeResponse, 1)
        assert challenge.optional_name == b"lns"
        client.say(chap_response(challenge))
        assert client.last(scapy_ppp.PPP_CHAP, 3)
    client.ack(client.last(scapy_ppp.PPP_IPCP, 1))
    address = scapy_ppp.PPP_IPCP_Option_IPAddress(data="0.0.0.0")
    client.say(scapy_ppp.PPP_IPCP(code=1, id=1, options=[address]))
    (offer,) = client.last(scapy_ppp.PPP_IPCP, 3).options
    client.say(scapy_ppp.PPP_IPCP(code=1, id=2, options=[offer]))
    assert client.up == [Ipv4Up(OUR_ADDRESS, PEERS_ADDRESS, ())]
    client.say(scapy_ppp.PPP_LCP_Echo(code=9, id=3, magic_number=99, data=b"are you there?"))
    assert client.last(scapy_ppp.PPP_LCP_Echo, 10).data == b"are you there?"
    client.say(scapy_ppp.PPP_LCP_Terminate(code=5, id=4))
    assert client.last(scapy_ppp.PPP_LCP_Terminate, 6).id == 4
