"""The rules of RFC 1661 (and of 1570 and 1662 where LCP has options and codes of them), one by one."""

from kl2tp.model.calls import CHAP, EAP_MD5, EAP_MSCHAPV2, MSCHAPV2, PAP
from kl2tp.model.objects import Secret
from kl2tp.ppp.events import Down, Ipv4Down, Ipv4Up, Ipv6Down, Ipv6Up, LcpUp, NetworkPhase
from kl2tp.ppp.link import Phase
from kl2tp.ppp.transitions import State
from kl2tp.wire.ppp import Code, Protocol, decode_options, encode_packet
from unit.ppp.rules import Rule, Rules
from unit.ppp.talk import IPV4, IPV6, MAGIC, PEERS_ADDRESS, Talk, option

MRU, ACCM, AUTHENTICATION, QUALITY, MAGIC_NUMBER, PFC, ACFC, CALLBACK = 1, 2, 3, 4, 5, 7, 8, 13
REQUEST, ACK, NAK, REJECT = Code.CONFIGURE_REQUEST, Code.CONFIGURE_ACK, Code.CONFIGURE_NAK, Code.CONFIGURE_REJECT
TERMINATE, TERMINATED = Code.TERMINATE_REQUEST, Code.TERMINATE_ACK
PAP_OPTION, CHAP_OPTION, MSCHAPV2_OPTION, EAP_OPTION = (
    option(AUTHENTICATION, bytes.fromhex(value)) for value in ("c023", "c22305", "c22381", "c227")
)
SECRET = Secret(b"hush")
rule = Rules()


# -- 2: encapsulation -------------------------------------------------------------------------------------------------


@rule("2", "protocol numbers that are malformed (even low octet) are treated as unrecognized")
def _() -> None:
    talk = Talk().opened()
    talk.hear()
    talk.frame(b"\x80\x22abc")
    assert [(p.code, p.data) for p in talk.hear()] == [(Code.PROTOCOL_REJECT, b"\x80\x22abc")]


@rule("2", "frames that are too short for a protocol number are nothing")
def _() -> None:
    talk = Talk().opened()
    talk.hear()
    for frame in (b"", b"\xc0"):
        talk.frame(frame)
    assert talk.hear() == []


# -- 3: phases --------------------------------------------------------------------------------------------------------


@rule("3.3", "without the layer below nothing is sent")
def _() -> None:
    talk = Talk()
    talk.say(REQUEST, 1)
    assert talk.hear() == []
    assert talk.link.deadline is None


@rule("3.4", "non-LCP packets during Establish are silently discarded")
def _() -> None:
    talk = Talk(demand=(CHAP,), secret=SECRET)
    talk.started()
    for protocol in (Protocol.PAP, Protocol.CHAP, Protocol.EAP, Protocol.IPCP, Protocol.IPV6CP, Protocol.CCP):
        talk.say(1, 1, option(3, PEERS_ADDRESS), protocol)
    assert talk.hear() == []
    assert talk.link.phase is Phase.ESTABLISH


@rule("3.4", "a Configure-Request in the network phase returns the link to Establish")
def _() -> None:
    talk = Talk().up()
    talk.say(REQUEST, 2, option(MAGIC_NUMBER, b"new!"))
    assert talk.link.phase is Phase.ESTABLISH
    assert [type(event) for event in talk.events[-2:]] == [Ipv4Down, Ipv6Down]
    assert [p.code for p in talk.hear()] == [REQUEST, ACK]


@rule("3.4", "a Configure-Request during authentication returns the link to Establish")
def _() -> None:
    talk = Talk(demand=(CHAP,)).opened()
    assert talk.link.phase is Phase.AUTHENTICATE
    talk.say(REQUEST, 2, option(MAGIC_NUMBER, b"new!"))
    assert talk.link.phase is Phase.ESTABLISH
    talk.hear()
    talk.say(2, 1, b"\x10" + bytes(16) + b"bob", Protocol.CHAP)
    assert talk.hear() == []


@rule("3.5", "the network phase waits for authentication")
def _() -> None:
    talk = Talk(demand=(PAP,)).opened()
    talk.link.start_network(IPV4, IPV6, talk.now)
    assert talk.hear(Protocol.IPCP) == []
    talk.say(1, 1, b"\x03bob\x04hush", Protocol.PAP)
    assert talk.told(NetworkPhase) == []
    talk.link.grant(talk.attempt, talk.now)
    assert talk.told(NetworkPhase) == [NetworkPhase("bob")]


@rule("3.5", "who fails to authenticate is sent away: the link terminates")
def _() -> None:
    talk = Talk(demand=(PAP,)).opened()
    talk.say(1, 1, b"\x03bob\x04hush", Protocol.PAP)
    talk.link.refuse(talk.attempt, talk.now)
    refusal, terminate = talk.hear()[-2:]
    assert (refusal.protocol, refusal.code) == (Protocol.PAP, 3)
    assert (terminate.protocol, terminate.code) == (Protocol.LCP, TERMINATE)
    assert talk.told(NetworkPhase) == []
    talk.say(TERMINATED, terminate.identifier)
    assert talk.reason == "'bob' was not let in"


@rule("3.5", "other packets during authentication are silently discarded; those of NCPs wait for their time")
def _() -> None:
    talk = Talk(demand=(PAP,)).opened()
    talk.hear()
    talk.frame(b"\x80\xfd\x01\x01\x00\x04")
    talk.frame(b"\x12\x35what")
    talk.say(REQUEST, 9, option(3, PEERS_ADDRESS), Protocol.IPCP)
    assert talk.hear() == []


@rule("3.6", "a protocol is configured by its NCP before its data flows, and each NCP may go without the link")
def _() -> None:
    talk = Talk().up()
    talk.say(TERMINATE, 7, b"", Protocol.IPCP)
    assert [(p.protocol, p.code, p.identifier) for p in talk.hear()] == [(Protocol.IPCP, TERMINATED, 7)]
    assert talk.told(Ipv4Down) == [Ipv4Down("the peer ended IPCP")]
    assert talk.told(Ipv6Down) == talk.told(Down) == []
    assert talk.link.phase is Phase.NETWORK


@rule("3.6", "data of a supported protocol whose NCP is not up is silently discarded")
def _() -> None:
    talk = Talk().network()
    talk.hear()
    talk.frame(b"\x00\x21" + bytes(20))
    talk.frame(b"\x00\x57" + bytes(40))
    assert talk.hear() == []


@rule("3.6", "packets of a protocol that is not supported are answered by Protocol-Reject")
def _() -> None:
    talk = Talk().network(IPV4, None)
    talk.hear()
    for protocol in (Protocol.IPV6CP, Protocol.CCP, Protocol.ECP):
        talk.say(REQUEST, 1, b"", protocol)
        (answer,) = talk.hear()
        assert (answer.protocol, answer.code) == (Protocol.LCP, Code.PROTOCOL_REJECT)
        assert answer.data == encode_packet(protocol, REQUEST, 1)


@rule("3.7", "closing LCP is enough: NCPs send no flurry of Terminate packets")
def _() -> None:
    talk = Talk().up()
    talk.link.close(talk.now, "enough")
    (packet,) = talk.hear()
    assert (packet.protocol, packet.code, packet.data) == (Protocol.LCP, TERMINATE, b"enough")
    assert talk.told(Ipv4Down) == [Ipv4Down("enough")]
    assert talk.told(Ipv6Down) == [Ipv6Down("enough")]


@rule("3.7", "non-LCP packets during Terminate are silently discarded")
def _() -> None:
    talk = Talk(demand=(PAP,)).opened()
    talk.link.close(talk.now)
    talk.hear()
    for protocol in (Protocol.PAP, Protocol.IPCP, Protocol.CCP, 0x1235):
        talk.say(1, 1, b"\x03bob\x04hush", protocol)
    assert talk.hear() == []


@rule("3.7", "who asked for the end leaves after the Terminate-Ack...")
def _() -> None:
    talk = Talk().up()
    talk.link.close(talk.now, "enough")
    (packet,) = talk.hear()
    assert talk.told(Down) == []
    talk.say(TERMINATED, packet.identifier)
    assert talk.reason == "enough"
    assert talk.link.deadline is None


@rule("3.7", "...or after the restart counter has expired")
def _() -> None:
    talk = Talk().up()
    talk.link.close(talk.now, "enough")
    assert [p.code for p in talk.wait(5.9)] == [TERMINATE, TERMINATE]
    assert talk.told(Down) == []
    assert talk.wait(0.2) == []
    assert talk.reason == "enough"


@rule("3.7", "who was asked for the end waits a restart time after its Terminate-Ack before it leaves")
def _() -> None:
    talk = Talk().up()
    talk.say(TERMINATE, 9, b"good\x07bye\0")
    (packet,) = talk.hear()
    assert (packet.code, packet.identifier) == (TERMINATED, 9)
    talk.wait(2.9)
    assert talk.told(Down) == []
    talk.say(TERMINATE, 10)
    assert [(p.code, p.identifier) for p in talk.hear()] == [(TERMINATED, 10)]
    talk.wait(0.2)
    assert talk.reason == "the peer ended LCP: good\\x07bye"


# -- 4: the automaton. Its table is in test_transitions.py ------------------------------------------------------------


@rule("4.2", "in Closed and Closing nothing is negotiated: a Configure-Request does not bring the link back")
def _() -> None:
    talk = Talk().opened()
    talk.link.close(talk.now)
    talk.hear()
    talk.say(REQUEST, 3, option(MAGIC_NUMBER, b"new!"))
    assert talk.hear() == []
    assert talk.link.lcp.state is State.CLOSING


@rule("4.2", "Stopped goes on to listen: an NCP that had given up comes back with the peer's Configure-Request")
def _() -> None:
    talk = Talk().network(IPV4, IPV6)
    talk.hear()
    talk.say(REQUEST, 1, option(1, b"12345678"), Protocol.IPV6CP)
    talk.say(ACK, 1, option(1, IPV6.local_iid), Protocol.IPV6CP)
    talk.wait(31)
    assert talk.told(Ipv4Down) == [Ipv4Down("the peer agreed to none of 10 IPCP Configure-Requests")]
    talk.hear()
    talk.say(REQUEST, 1, option(3, PEERS_ADDRESS), Protocol.IPCP)
    request, ack = talk.hear()
    assert (request.code, ack.code) == (REQUEST, ACK)
    talk.say(ACK, request.identifier, request.data, Protocol.IPCP)
    assert talk.told(Ipv4Up)


@rule("4.4", "This-Layer-Up and -Down reach the upper layers")
def _() -> None:
    talk = Talk().up()
    assert [type(event) for event in talk.events] == [LcpUp, NetworkPhase, Ipv4Up, Ipv6Up]
    talk.link.lower_down(talk.now)
    assert [type(event) for event in talk.told(object)[4:]] == [Ipv4Down, Ipv6Down, Down]


@rule("4.6", "the restart timer is 3 s by default, and can be configured")
def _() -> None:
    for settings, period in (({}, 3.0), ({"restart": 0.5}, 0.5)):
        talk = Talk(**settings)
        talk.started()
        assert talk.wait(period - 0.01) == []
        assert [p.code for p in talk.wait(0.02)] == [REQUEST]


@rule("4.6", "Max-Configure: ten Configure-Requests without a reply are enough, or as many as configured")
def _() -> None:
    for settings, most in (({}, 10), ({"max_configure": 4}, 4)):
        talk = Talk(**settings)
        talk.link.open(talk.now)
        assert [p.code for p in talk.wait(100)] == [REQUEST] * most
        assert talk.reason == f"the peer agreed to none of {most} LCP Configure-Requests"


@rule("4.6", "Max-Terminate: two Terminate-Requests, or as many as configured")
def _() -> None:
    for settings, most in (({}, 2), ({"max_terminate": 5}, 5)):
        talk = Talk(**settings).opened()
        talk.hear()
        talk.link.close(talk.now)
        assert [p.code for p in talk.wait(100)] == [TERMINATE] * most
        assert talk.told(Down)


@rule("4.6", "Max-Failure: after five Configure-Naks without an Ack, a Nak becomes a Reject, and nothing is appended")
def _() -> None:
    talk = Talk()
    talk.started()
    small = option(MRU, 10)
    codes = [talk.ask(small, number).code for number in range(1, 8)]
    assert codes == [NAK] * 5 + [REJECT] * 2
    assert talk.ask(small, 9).data == small


@rule("4.6", "an Ack ends the count of Max-Failure")
def _() -> None:
    talk = Talk()
    talk.started()
    codes = [talk.ask(option(MRU, 10), number).code for number in range(1, 5)]
    assert talk.ask(b"", 5).code == ACK
    codes += [talk.ask(option(MRU, 10), number).code for number in range(6, 12)]
    assert codes == [NAK] * 9 + [REJECT]


@rule("4.5", "a peer that never converges ends: it may not Nak for ever")
def _() -> None:
    talk = Talk(mru=1400)
    talk.started()
    seen = []
    for _ in range(12):
        talk.say(NAK, talk.link.lcp._identifier, option(MRU, 3000))
        seen += [decode_options(p.data) for p in talk.hear()]
    asked = [any(kind == MRU for kind, _ in options) for options in seen]
    assert asked == [True] * 5 + [False] * (len(seen) - 5)
    assert len(seen) > 5


# -- 5: packets -------------------------------------------------------------------------------------------------------


@rule("5", "octets beyond the length are padding and ignored")
def _() -> None:
    talk = Talk()
    talk.started()
    talk.frame(encode_packet(Protocol.LCP, REQUEST, 1, option(MAGIC_NUMBER, MAGIC)) + b"padding")
    (ack,) = talk.hear()
    assert (ack.code, ack.data) == (ACK, option(MAGIC_NUMBER, MAGIC))


@rule("5", "a packet whose length is impossible is silently discarded")
def _() -> None:
    talk = Talk().opened()
    talk.hear()
    for information in (b"", b"\x09\x01\x00", b"\x09\x01\x00\x03", b"\x09\x01\x00\x09" + bytes(4)):
        talk.frame(b"\xc0\x21" + information)
    assert talk.hear() == []


@rule("5.1", "options at their defaults are not asked for")
def _() -> None:
    assert Talk().started().data[:1] == bytes((MAGIC_NUMBER,))
    assert Talk(magic=False).started().data == b""


@rule("5.1", "the identifier changes when a reply has been received or the options change, not for a retransmission")
def _() -> None:
    talk = Talk(mru=1400)
    first = talk.started()
    (again,) = talk.wait(3)
    assert again == first
    talk.say(NAK, first.identifier, option(MRU, 1300))
    (second,) = talk.hear()
    assert second.identifier != first.identifier
    assert second.data != first.data


@rule("5.1", "every Configure-Request gets a reply, with its identifier")
def _() -> None:
    talk = Talk()
    talk.started()
    for identifier, options in ((0, b""), (200, option(MRU, 1)), (255, option(99, b"x"))):
        talk.ask(options, identifier)


@rule("5.2", "a Configure-Ack copies the options as they came")
def _() -> None:
    talk = Talk()
    talk.started()
    options = option(PFC) + option(MAGIC_NUMBER, MAGIC) + option(MRU, 1492) + option(ACFC)
    answer = talk.ask(options)
    assert (answer.code, answer.data) == (ACK, options)


@rule("5.2", "an Ack with another identifier or other options is silently discarded")
def _() -> None:
    talk = Talk()
    request = talk.started()
    talk.say(ACK, request.identifier + 1, request.data)
    talk.say(ACK, request.identifier, request.data[:-1] + b"\0")
    talk.say(ACK, request.identifier, request.data + option(PFC))
    assert talk.link.lcp.state is State.REQUEST_SENT
    talk.say(ACK, request.identifier, request.data)
    assert talk.link.lcp.state is State.ACK_RECEIVED


@rule("5.2", "a second Ack of a request is none: the link stays")
def _() -> None:
    talk = Talk()
    request = talk.started()
    for _ in range(2):
        talk.say(ACK, request.identifier, request.data)
    assert talk.link.lcp.state is State.ACK_RECEIVED
    talk.say(REQUEST, 1)
    talk.say(ACK, request.identifier, request.data)
    assert talk.link.lcp.state is State.OPENED


@rule("5.1", "in Opened the request that was agreed to, once more, gets the same Ack: the link stays")
def _() -> None:
    talk = Talk().up()
    talk.say(REQUEST, 1, option(MAGIC_NUMBER, MAGIC))
    assert [(p.code, p.identifier) for p in talk.hear()] == [(ACK, 1)]
    assert talk.link.phase is Phase.NETWORK
    talk.say(REQUEST, 1, option(3, PEERS_ADDRESS), Protocol.IPCP)
    assert [(p.code, p.identifier) for p in talk.hear()] == [(ACK, 1)]
    assert talk.told(Ipv4Down) == []


@rule("5.1", "...but not if it may be of a peer that began anew: without a magic number nobody can tell, later on")
def _() -> None:
    talk = Talk().opened(b"")
    talk.hear()
    talk.say(REQUEST, 1, b"")
    assert [p.code for p in talk.hear()] == [ACK]
    talk.wait(3)
    talk.say(REQUEST, 1, b"")
    assert [p.code for p in talk.hear()] == [REQUEST, ACK]
    assert talk.link.phase is Phase.ESTABLISH


@rule("5.1", "a request that others have overtaken is of no interest, unless it comes so late that it must be new")
def _() -> None:
    for seconds, answers in ((0.0, []), (3.1, [REQUEST, NAK])):
        talk = Talk().opened()
        talk.say(REQUEST, 2, option(MRU, 1))
        talk.say(REQUEST, 3, option(MAGIC_NUMBER, MAGIC))
        talk.answer(talk.hear())
        assert talk.link.phase is Phase.NETWORK
        talk.wait(seconds)
        talk.say(REQUEST, 2, option(MRU, 1))
        assert [p.code for p in talk.hear()] == answers


@rule("5.3", "a Nak has only what it is about, with values that would do")
def _() -> None:
    talk = Talk()
    talk.started()
    answer = talk.ask(option(MRU, 100) + option(MAGIC_NUMBER, MAGIC) + option(PFC))
    assert (answer.code, answer.data) == (NAK, option(MRU, 128))


@rule("5.3", "a Nak of another request is silently discarded")
def _() -> None:
    talk = Talk(mru=1400)
    request = talk.started()
    talk.say(NAK, request.identifier + 1, option(MRU, 1300))
    assert talk.hear() == []
    talk.say(NAK, request.identifier, option(MRU, 1300))
    assert talk.hear()[0].data.startswith(option(MRU, 1300))
    talk.say(NAK, request.identifier, option(MRU, 1200))
    assert talk.hear() == []


@rule("5.3", "options that a Nak names and we did not ask for are left alone")
def _() -> None:
    talk = Talk()
    request = talk.started()
    talk.say(NAK, request.identifier, option(QUALITY, b"\xc0\x25" + bytes(4)) + option(MRU, 1300) + PAP_OPTION)
    kinds = [kind for kind, _ in decode_options(talk.hear()[0].data)]
    assert kinds == [MAGIC_NUMBER]


@rule("5.4", "what is not known is rejected, unchanged and in order, before anything is Nakked")
def _() -> None:
    talk = Talk()
    talk.started()
    unknown = option(99, b"abc"), option(CALLBACK, b"\x06"), option(QUALITY, b"\xc0\x25" + bytes(4)), option(17, 1500)
    answer = talk.ask(unknown[0] + option(MRU, 1) + unknown[1] + option(PFC) + unknown[2] + unknown[3])
    assert (answer.code, answer.data) == (REJECT, b"".join(unknown))


@rule("5.4", "a rejected option is not asked for again")
def _() -> None:
    talk = Talk(mru=1400)
    request = talk.started()
    talk.say(REJECT, request.identifier, option(MRU, 1400))
    (second,) = talk.hear()
    assert [kind for kind, _ in decode_options(second.data)] == [MAGIC_NUMBER]
    assert talk.link.mru == 1500
    talk.say(REJECT, second.identifier, second.data)
    assert [p.data for p in talk.hear()] == [b""]


@rule("5.4", "a Reject of what was not asked for, or of another request, is silently discarded")
def _() -> None:
    talk = Talk(mru=1400)
    request = talk.started()
    talk.say(REJECT, request.identifier, option(MRU, 1300))
    talk.say(REJECT, request.identifier, option(PFC))
    talk.say(REJECT, request.identifier, b"")
    talk.say(REJECT, request.identifier + 1, option(MRU, 1400))
    turned = b"".join(reversed([option(kind, value) for kind, value in decode_options(request.data)]))
    talk.say(REJECT, request.identifier, turned)
    assert talk.hear() == []
    assert talk.link.lcp.state is State.REQUEST_SENT


@rule("5.5", "every Terminate-Request gets a Terminate-Ack with its identifier, in any state")
def _() -> None:
    for talk in (Talk(), Talk().opened(), Talk().up()):
        if talk.link.phase is Phase.DEAD:
            talk.started()
        talk.hear()
        for identifier in (3, 250):
            talk.say(TERMINATE, identifier)
            assert (TERMINATED, identifier) in [(p.code, p.identifier) for p in talk.hear()]


@rule("5.5", "a Terminate-Ack that nobody asked for means that the peer has lost its state: negotiate anew")
def _() -> None:
    talk = Talk().up()
    talk.say(TERMINATED, 77)
    assert [p.code for p in talk.hear()] == [REQUEST]
    assert talk.link.phase is Phase.ESTABLISH


@rule("5.6", "an unknown code gets a Code-Reject with the packet, cut to the peer's MRU, numbered anew each time")
def _() -> None:
    talk = Talk().opened(option(MRU, 200) + option(MAGIC_NUMBER, MAGIC))
    talk.hear()
    talk.say(99, 5, b"x" * 300)
    talk.say(99, 5, b"y")
    long, short = talk.hear()
    packet = b"\x63\x05\x01\x30" + b"x" * 300
    assert (long.code, long.data) == (Code.CODE_REJECT, packet[:196])
    assert short.data == b"\x63\x05\x00\x05y"
    assert long.identifier != short.identifier


@rule("5.6", "LCP's own codes are unknown to NCPs")
def _() -> None:
    talk = Talk().up()
    talk.say(Code.ECHO_REQUEST, 5, MAGIC, Protocol.IPCP)
    assert [(p.protocol, p.code) for p in talk.hear()] == [(Protocol.IPCP, Code.CODE_REJECT)]


@rule("5.6", "a Code-Reject of a code that is needed ends the link with a reason")
def _() -> None:
    for code in range(1, 8):
        talk = Talk().up()
        talk.say(Code.CODE_REJECT, 1, bytes((code, 5, 0, 4)))
        assert [p.code for p in talk.hear()] == [TERMINATE]
        talk.wait(10)
        assert talk.reason == f"the peer does not know code {code} of LCP"


@rule("5.6", "a Code-Reject of anything else does no harm")
def _() -> None:
    talk = Talk().up()
    for code in (Code.PROTOCOL_REJECT, Code.ECHO_REQUEST, Code.IDENTIFICATION, 99):
        talk.say(Code.CODE_REJECT, 1, bytes((code, 5, 0, 4)))
    talk.say(Code.CODE_REJECT, 1)
    assert talk.hear() == []
    assert talk.link.phase is Phase.NETWORK


@rule("5.7", "Protocol-Reject has the packet, cut to the peer's MRU, and is numbered anew each time")
def _() -> None:
    talk = Talk().opened(option(MRU, 200) + option(MAGIC_NUMBER, MAGIC))
    talk.hear()
    talk.frame(b"\x80\xfd" + b"x" * 300)
    talk.frame(b"\x80\x53x")
    ccp, ecp = talk.hear()
    assert (ccp.code, ccp.data) == (Code.PROTOCOL_REJECT, (b"\x80\xfd" + b"x" * 300)[:196])
    assert ecp.data == b"\x80\x53x"
    assert ccp.identifier != ecp.identifier


@rule("5.7", "a Protocol-Reject ends the protocol that it names; the link lives on what is left")
def _() -> None:
    talk = Talk().network(IPV4, IPV6)
    talk.hear()
    talk.say(Code.PROTOCOL_REJECT, 1, b"\x80\x57\x01\x01\x00\x04")
    assert talk.told(Ipv6Down) == [Ipv6Down("the peer does not speak IPV6CP")]
    assert talk.link.phase is Phase.NETWORK
    assert {p.protocol for p in talk.wait(3)} == {Protocol.IPCP}


@rule("5.7", "where nothing is left the link ends, with the reason")
def _() -> None:
    talk = Talk().network(IPV4, IPV6)
    for protocol in (b"\x80\x57", b"\x80\x21"):
        talk.say(Code.PROTOCOL_REJECT, 1, protocol)
    assert talk.hear()[-1].code == TERMINATE
    talk.wait(10)
    assert talk.reason == "the peer does not speak IPCP; the peer does not speak IPV6CP"


@rule("5.7", "a Protocol-Reject of the data is one of the protocol")
def _() -> None:
    talk = Talk().up()
    talk.say(Code.PROTOCOL_REJECT, 1, b"\x00\x57\x60")
    assert talk.told(Ipv6Down) == [Ipv6Down("the peer does not speak IPV6CP")]


@rule("5.7", "a Protocol-Reject of LCP is the end")
def _() -> None:
    talk = Talk().up()
    talk.say(Code.PROTOCOL_REJECT, 1, b"\xc0\x21")
    talk.wait(10)
    assert talk.reason == "the peer does not speak LCP"


@rule("5.7", "a Protocol-Reject of the authentication that was agreed upon is the end")
def _() -> None:
    talk = Talk(demand=(CHAP,)).opened()
    talk.say(Code.PROTOCOL_REJECT, 1, b"\xc2\x23")
    talk.wait(10)
    assert talk.reason == "the peer does not speak CHAP, to which it had agreed"


@rule("5.7", "Protocol-Rejects count in Opened alone, and such as name nothing never")
def _() -> None:
    talk = Talk()
    talk.started()
    talk.say(Code.PROTOCOL_REJECT, 1, b"\xc0\x21")
    assert talk.link.lcp.state is State.REQUEST_SENT
    talk = Talk().up()
    talk.say(Code.PROTOCOL_REJECT, 1, b"\xc0")
    talk.say(Code.PROTOCOL_REJECT, 1, b"\x80\xfd")
    assert talk.link.phase is Phase.NETWORK
    assert talk.hear() == []


@rule("5.8", "an Echo-Request gets an Echo-Reply with its identifier and data, and our magic number")
def _() -> None:
    talk = Talk().opened()
    talk.hear()
    talk.say(Code.ECHO_REQUEST, 55, MAGIC + b"data")
    (reply,) = talk.hear()
    magic = talk.link.lcp.magic.to_bytes(4, "big")
    assert (reply.code, reply.identifier, reply.data) == (Code.ECHO_REPLY, 55, magic + b"data")


@rule("5.8", "an Echo-Reply is cut to the peer's MRU")
def _() -> None:
    talk = Talk().opened(option(MRU, 200) + option(MAGIC_NUMBER, MAGIC))
    talk.hear()
    talk.say(Code.ECHO_REQUEST, 55, MAGIC + b"x" * 300)
    assert len(talk.hear()[0].data) == 196


@rule("5.8", "in any other state Echo-Requests are silently discarded, and malformed ones always")
def _() -> None:
    talk = Talk()
    talk.started()
    talk.say(Code.ECHO_REQUEST, 55, MAGIC)
    assert talk.hear() == []
    talk = Talk().opened()
    talk.hear()
    talk.say(Code.ECHO_REQUEST, 55, b"\x01\x02\x03")
    assert talk.hear() == []


@rule("5.8", "without the option the magic number in packets is zero")
def _() -> None:
    talk = Talk(magic=False).opened()
    talk.hear()
    talk.say(Code.ECHO_REQUEST, 1, MAGIC)
    assert talk.hear()[0].data == bytes(4)


@rule("5.9", "Discard-Requests are silently discarded")
def _() -> None:
    talk = Talk().opened()
    talk.hear()
    talk.say(Code.DISCARD_REQUEST, 1, MAGIC + b"x" * 100)
    assert talk.hear() == []
    assert talk.link.lcp.state is State.OPENED


# -- 6: options -------------------------------------------------------------------------------------------------------


@rule("6", "a packet with an option of impossible length is silently discarded")
def _() -> None:
    talk = Talk()
    talk.started()
    for options in (b"\x01", b"\x01\x00", b"\x01\x01", b"\x01\x05\x05", option(PFC) + b"\x08"):
        talk.say(REQUEST, 1, options)
    assert talk.hear() == []


@rule("6.1", "the peer's MRU is 1500 unless it asks for another")
def _() -> None:
    assert Talk().opened().link.peer_mru == 1500
    assert Talk().opened(option(MRU, 1300)).link.peer_mru == 1300
    talk = Talk().opened(option(MRU, 1300) + option(MAGIC_NUMBER, MAGIC))
    talk.say(REQUEST, 2, option(MAGIC_NUMBER, b"new!"))
    assert talk.link.peer_mru == 1500


@rule("6.1", "we ask for the MRU we were told, take a smaller one, and no larger")
def _() -> None:
    talk = Talk(mru=1400)
    request = talk.started()
    assert decode_options(request.data)[0] == (MRU, b"\x05\x78")
    talk.say(NAK, request.identifier, option(MRU, 1500))
    (request,) = talk.hear()
    assert decode_options(request.data)[0] == (MRU, b"\x05\x78")
    for wanted, taken in ((1300, 1300), (127, 1300), (128, 128)):
        talk.say(NAK, request.identifier, option(MRU, wanted))
        assert talk.link.mru == taken
        (request,) = talk.hear()


@rule("6", "an option that a request does not have is at its default, whatever an earlier one had")
def _() -> None:
    talk = Talk(secret=SECRET, answer=(CHAP,)).opened(
        option(MRU, 1300) + option(ACCM, 0, 4) + CHAP_OPTION + option(MAGIC_NUMBER, MAGIC)
    )
    talk.hear()
    talk.say(REQUEST, 2, b"")
    lcp = talk.link.lcp
    assert (lcp.mtu, lcp.peer_accm, lcp.peer_proposal, lcp.peer_magic) == (1500, 0xFFFFFFFF, None, 0)


@rule("6.2", "the peer may have another way to authenticate, of those we allow")
def _() -> None:
    talk = Talk(demand=(EAP_MSCHAPV2, MSCHAPV2, EAP_MD5, CHAP, PAP))
    request = talk.started()
    assert request.data.startswith(EAP_OPTION)
    talk.say(NAK, request.identifier, CHAP_OPTION)
    (request,) = talk.hear()
    assert request.data.startswith(CHAP_OPTION)
    talk.say(NAK, request.identifier, option(AUTHENTICATION, b"\xc2\x23\x99"))
    (request,) = talk.hear()
    assert request.data.startswith(MSCHAPV2_OPTION)
    talk.say(ACK, request.identifier, request.data)
    talk.say(REQUEST, 1)
    assert talk.hear(Protocol.CHAP)[0].code == 1


@rule("6.2", "the peer may not have none: who knows no way that we allow, or rejects to go any, has to go")
def _() -> None:
    for code in (NAK, REJECT):
        talk = Talk(demand=(MSCHAPV2,))
        request = talk.started()
        talk.say(code, request.identifier, MSCHAPV2_OPTION if code == REJECT else PAP_OPTION)
        assert [p.code for p in talk.hear()] == [TERMINATE]
        talk.wait(10)
        assert talk.reason == "the peer refuses to authenticate itself by mschapv2"


@rule("6.2", "one Authentication-Protocol is asked for at a time")
def _() -> None:
    request = Talk(demand=(EAP_MSCHAPV2, MSCHAPV2, EAP_MD5, CHAP, PAP)).started()
    assert [kind for kind, _ in decode_options(request.data)].count(AUTHENTICATION) == 1


@rule("6.2", "of the peer's demands we take those we know, and Nak others with the one we like best")
def _() -> None:
    for demand, code, answer in (
        (PAP_OPTION, NAK, MSCHAPV2_OPTION),
        (CHAP_OPTION, ACK, CHAP_OPTION),
        (MSCHAPV2_OPTION, ACK, MSCHAPV2_OPTION),
        (option(AUTHENTICATION, b"\xc2\x23\x80"), NAK, MSCHAPV2_OPTION),
        (option(AUTHENTICATION, b""), NAK, MSCHAPV2_OPTION),
    ):
        talk = Talk(secret=SECRET, answer=(MSCHAPV2, CHAP))
        talk.started()
        reply = talk.ask(demand)
        assert (reply.code, reply.data) == (code, answer)


@rule("6.2", "without a secret the demand to authenticate is rejected")
def _() -> None:
    talk = Talk()
    talk.started()
    assert talk.ask(CHAP_OPTION).code == REJECT


@rule("6.3", "quality is not monitored: the option is rejected, and so is the protocol")
def _() -> None:
    talk = Talk().opened()
    assert talk.hear()
    talk.frame(b"\xc0\x25" + bytes(44))
    assert talk.hear()[0].code == Code.PROTOCOL_REJECT


@rule("6.4", "the magic number is random, and never 0")
def _() -> None:
    numbers = [decode_options(Talk().started().data), decode_options(Talk(mru=1400).started().data)[1:]]
    assert all(options[0][0] == MAGIC_NUMBER and any(options[0][1]) for options in numbers)


@rule("6.4", "a magic number of 0 is always Nakked")
def _() -> None:
    talk = Talk()
    talk.started()
    answer = talk.ask(option(MAGIC_NUMBER, bytes(4)))
    assert answer.code == NAK
    assert any(answer.data[2:])


@rule("6.4", "the peer's number is ours: Nak with another; with a different one the peer is a peer")
def _() -> None:
    talk = Talk()
    request = talk.started()
    answer = talk.ask(request.data)
    assert answer.code == NAK
    assert answer.data != request.data
    assert talk.ask(option(MAGIC_NUMBER, MAGIC), 2).code == ACK


@rule("6.4", "a Nak of our number makes us choose another")
def _() -> None:
    talk = Talk()
    request = talk.started()
    talk.say(NAK, request.identifier, option(MAGIC_NUMBER, MAGIC))
    (second,) = talk.hear()
    assert second.data not in (request.data, option(MAGIC_NUMBER, MAGIC))


@rule("6.4", "on a looped line our own number comes back time and again: the link ends, with the reason")
def _() -> None:
    talk = Talk()
    talk.link.open(talk.now)
    while frames := talk.link.take_frames():
        for frame in frames:
            talk.frame(frame)
    talk.wait(10)
    assert talk.reason == "the line is looped: our own magic number came back time and again"
    assert talk.told(LcpUp) == []


@rule("6.4", "in Opened, packets with our own number are not the peer's: neither answered nor counted as answers")
def _() -> None:
    talk = Talk(echo_interval=10, echo_failures=2).opened()
    magic = talk.link.lcp.magic.to_bytes(4, "big")
    talk.hear()
    talk.say(Code.ECHO_REQUEST, 1, magic)
    assert talk.hear() == []
    (request,) = talk.wait(10)
    talk.say(Code.ECHO_REPLY, request.identifier, magic)
    assert talk.link.lcp._unanswered == 1


@rule("6.5", "the peer may want to be sent compressed protocol numbers; we don't ask for that")
def _() -> None:
    talk = Talk()
    assert PFC not in [kind for kind, _ in decode_options(talk.started().data)]
    assert talk.ask(option(PFC)).code == ACK
    assert talk.ask(option(PFC, b"x"), 2).code == REJECT


@rule("6.6", "the same holds for address and control fields")
def _() -> None:
    talk = Talk()
    assert ACFC not in [kind for kind, _ in decode_options(talk.started().data)]
    assert talk.ask(option(ACFC)).code == ACK


# -- RFC 1662 and 1570 ------------------------------------------------------------------------------------------------


@rule("RFC 1662 7.1", "the peer's ACCM is taken note of; by default it is all of them")
def _() -> None:
    assert Talk().opened().link.lcp.peer_accm == 0xFFFFFFFF
    assert Talk().opened(option(ACCM, 0x000A0000, 4)).link.lcp.peer_accm == 0x000A0000
    talk = Talk()
    talk.started()
    assert talk.ask(option(ACCM, 1, 2)).code == REJECT


@rule("RFC 1570 2.1", "the peer's Identification is taken note of, in any state, without an answer")
def _() -> None:
    talk = Talk()
    talk.started()
    talk.say(Code.IDENTIFICATION, 1, bytes(4) + b"MSRASV5.20\0")
    assert talk.hear() == []
    assert talk.link.lcp.peer_identification == "MSRASV5.20"


@rule("RFC 1570 2.1", "ours is sent once LCP is up, with our magic number")
def _() -> None:
    talk = Talk(identification="kl2tp").opened()
    (packet,) = [p for p in talk.hear() if p.code == Code.IDENTIFICATION]
    assert packet.data == talk.link.lcp.magic.to_bytes(4, "big") + b"kl2tp"
    assert [p for p in Talk().opened().hear() if p.code == Code.IDENTIFICATION] == []


@rule("RFC 1570 2.2", "Time-Remaining is heard in silence")
def _() -> None:
    talk = Talk().opened()
    talk.hear()
    talk.say(Code.TIME_REMAINING, 1, bytes(4) + bytes((0, 0, 0, 9)))
    assert talk.hear() == []


@rule.parametrize()
def test_rule(rule: Rule) -> None:
    rule.check()
