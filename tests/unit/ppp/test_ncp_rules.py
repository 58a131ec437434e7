"""The rules of RFC 1332 and 1877 (IPCP) and of RFC 5072 (IPv6CP), one by one."""

import pytest

from kl2tp.ppp.events import Ipv4Down, Ipv4Up, Ipv6Down, Ipv6Up
from kl2tp.ppp.ipcp import Ipv4Settings
from kl2tp.ppp.ipv6cp import Ipv6Settings
from kl2tp.ppp.link import Phase
from kl2tp.wire.ppp import Code, Protocol, decode_options, encode_packet
from unit.ppp.rules import Rule, Rules
from unit.ppp.talk import DNS, DNS2, IPV4, IPV6, NBNS, OUR_ADDRESS, OUR_IID, PEERS_ADDRESS, PEERS_IID, Packet, Talk
from unit.ppp.talk import option as o

ADDRESSES, COMPRESSION, ADDRESS, DNS1, NBNS1, DNS_2, NBNS2 = 1, 2, 3, 129, 130, 131, 132
IID = 1
REQUEST, ACK, NAK, REJECT = Code.CONFIGURE_REQUEST, Code.CONFIGURE_ACK, Code.CONFIGURE_NAK, Code.CONFIGURE_REJECT
NONE, NO_IID = bytes(4), bytes(8)
OTHER = bytes((192, 0, 2, 99))
CLIENT = Ipv4Settings(request_dns=True)
VAN_JACOBSON = o(COMPRESSION, bytes.fromhex("002d0f01"))
rule = Rules()


def four(settings: Ipv4Settings = IPV4) -> Talk:
    return Talk().network(settings)


def six(settings: Ipv6Settings = IPV6) -> Talk:
    return Talk().network(None, settings)


def ask4(talk: Talk, *options: bytes, identifier: int = 1) -> Packet:
    return talk.ask(b"".join(options), identifier, Protocol.IPCP)


def ask6(talk: Talk, *options: bytes, identifier: int = 1) -> Packet:
    return talk.ask(b"".join(options), identifier, Protocol.IPV6CP)


def reply(talk: Talk, code: int, data: bytes, protocol: int = Protocol.IPCP) -> list[Packet]:
    """Answer the link's last Configure-Request; what it says to that."""
    talk.hear()
    ncp = talk.link._ipv4 if protocol == Protocol.IPCP else talk.link._ipv6
    assert ncp is not None
    talk.say(code, ncp._identifier, data, protocol)
    return talk.hear()


# -- RFC 1332 ---------------------------------------------------------------------------------------------------------


@rule("1332 2", "IPCP waits for the network phase; what the peer said too early is heard then")
def _() -> None:
    talk = Talk().opened()
    talk.say(REQUEST, 1, o(ADDRESS, OTHER), Protocol.IPCP)
    talk.say(REQUEST, 2, o(ADDRESS, PEERS_ADDRESS), Protocol.IPCP)
    assert talk.hear(Protocol.IPCP) == []
    talk.link.start_network(IPV4, None, talk.now)
    request, ack = talk.hear(Protocol.IPCP)
    assert (request.code, request.data) == (REQUEST, o(ADDRESS, OUR_ADDRESS))
    assert (ack.code, ack.identifier) == (ACK, 2), "the last request is the one that waits for an answer"


@rule("1332 2", "IPCP has the first seven codes of LCP")
def _() -> None:
    talk = four()
    talk.hear()
    for code in range(8, 15):
        talk.say(code, 1, bytes(4), Protocol.IPCP)
    assert [p.code for p in talk.hear(Protocol.IPCP)] == [Code.CODE_REJECT] * 7


@rule("1332 3.1", "IP-Addresses, long deprecated, is rejected")
def _() -> None:
    options = o(ADDRESSES, PEERS_ADDRESS + OUR_ADDRESS)
    answer = ask4(four(), options, o(ADDRESS, PEERS_ADDRESS))
    assert (answer.code, answer.data) == (REJECT, options)


@rule("1332 3.2", "compression of headers is rejected, and never asked for")
def _() -> None:
    talk = four()
    assert COMPRESSION not in [kind for kind, _ in decode_options(talk.request(Protocol.IPCP).data)]
    answer = ask4(talk, o(ADDRESS, NONE), VAN_JACOBSON)
    assert (answer.code, answer.data) == (REJECT, VAN_JACOBSON)


@rule("1332 3.3", "a peer that asks for an address (0.0.0.0) is given its own")
def _() -> None:
    talk = four()
    answer = ask4(talk, o(ADDRESS, NONE))
    assert (answer.code, answer.data) == (NAK, o(ADDRESS, PEERS_ADDRESS))
    assert ask4(talk, o(ADDRESS, PEERS_ADDRESS), identifier=2).code == ACK


@rule("1332 3.3", "a peer that wants another address than its own is told which...")
def _() -> None:
    answer = ask4(four(), o(ADDRESS, OTHER))
    assert (answer.code, answer.data) == (NAK, o(ADDRESS, PEERS_ADDRESS))


@rule("1332 3.3", "...and one that insists goes without: it never gets an address that is not its own")
def _() -> None:
    talk = four()
    codes = [ask4(talk, o(ADDRESS, OTHER), identifier=number).code for number in range(1, 8)]
    assert codes == [NAK] * 5 + [REJECT] * 2
    assert ask4(talk, identifier=9).code == ACK
    reply(talk, ACK, o(ADDRESS, OUR_ADDRESS))
    assert talk.told(Ipv4Up) == [Ipv4Up(OUR_ADDRESS, PEERS_ADDRESS, ())]


@rule("1332 3.3", "where the peer may choose it may choose")
def _() -> None:
    talk = four(Ipv4Settings(OUR_ADDRESS, PEERS_ADDRESS, accept_peer=True))
    assert ask4(talk, o(ADDRESS, NONE)).data == o(ADDRESS, PEERS_ADDRESS)
    assert ask4(talk, o(ADDRESS, OTHER), identifier=2).code == ACK
    reply(talk, ACK, o(ADDRESS, OUR_ADDRESS))
    assert talk.told(Ipv4Up) == [Ipv4Up(OUR_ADDRESS, OTHER, ())]


@rule("1332 3.3", "an address that the peer has not asked for is appended to a Nak")
def _() -> None:
    answer = ask4(four(), o(DNS1, DNS))
    assert (answer.code, answer.data) == (NAK, o(ADDRESS, PEERS_ADDRESS))


@rule("1332 3.3", "who has no address asks for one by 0.0.0.0, and takes what it is given")
def _() -> None:
    talk = four(Ipv4Settings())
    assert talk.request(Protocol.IPCP).data == o(ADDRESS, NONE)
    (request,) = reply(talk, NAK, o(ADDRESS, PEERS_ADDRESS))
    assert request.data == o(ADDRESS, PEERS_ADDRESS)
    talk.say(ACK, request.identifier, request.data, Protocol.IPCP)
    talk.say(REQUEST, 1, o(ADDRESS, OUR_ADDRESS), Protocol.IPCP)
    assert talk.told(Ipv4Up) == [Ipv4Up(PEERS_ADDRESS, OUR_ADDRESS, ())]


@rule("1332 3.3", "a peer that gives no address - rejects the option, or agrees to 0.0.0.0 - is of no use for IPv4")
def _() -> None:
    for code, words in ((REJECT, o(ADDRESS, NONE)), (ACK, o(ADDRESS, NONE))):
        talk = four(Ipv4Settings())
        talk.hear()
        assert [p.protocol for p in reply(talk, code, words)] == [Protocol.IPCP, Protocol.LCP]
        talk.wait(10)
        assert talk.reason == "the peer gives us no IPv4 address"


@rule("1332 3.3", "an address of our own is kept, unless the peer may give us another")
def _() -> None:
    for settings, ours in ((IPV4, OUR_ADDRESS), (Ipv4Settings(OUR_ADDRESS, accept_local=True), OTHER)):
        (request,) = reply(four(settings), NAK, o(ADDRESS, OTHER))
        assert request.data == o(ADDRESS, ours)


@rule("1332 3.3", "a peer that wants to know nothing of our address is not told, and IPv4 goes on")
def _() -> None:
    talk = four()
    (request,) = reply(talk, REJECT, o(ADDRESS, OUR_ADDRESS))
    assert request.data == b""
    reply(talk, ACK, b"")
    ask4(talk, o(ADDRESS, PEERS_ADDRESS))
    assert talk.told(Ipv4Up) == [Ipv4Up(OUR_ADDRESS, PEERS_ADDRESS, ())]


@rule("1332 3.3", "there is no default: a peer that names no address has none that we know")
def _() -> None:
    talk = four(Ipv4Settings(OUR_ADDRESS))
    assert ask4(talk).code == ACK
    reply(talk, ACK, o(ADDRESS, OUR_ADDRESS))
    assert talk.told(Ipv4Up) == [Ipv4Up(OUR_ADDRESS, b"", ())]


@rule("1332 3.3", "an address of an earlier request counts no longer")
def _() -> None:
    talk = four(Ipv4Settings(OUR_ADDRESS))
    assert ask4(talk, o(ADDRESS, OTHER)).code == ACK
    assert ask4(talk, identifier=2).code == ACK
    reply(talk, ACK, o(ADDRESS, OUR_ADDRESS))
    assert talk.told(Ipv4Up) == [Ipv4Up(OUR_ADDRESS, b"", ())]


@rule("1332 3.3", "a peer that asks us for an address when we have none to give is rejected")
def _() -> None:
    answer = ask4(four(Ipv4Settings(OUR_ADDRESS)), o(ADDRESS, NONE))
    assert (answer.code, answer.data) == (REJECT, o(ADDRESS, NONE))


@rule("1332 3.3", "an address is four octets")
def _() -> None:
    for size in (0, 3, 5, 16):
        assert ask4(four(), o(ADDRESS, bytes(size))).code == REJECT
    talk = four(Ipv4Settings())
    (request,) = reply(talk, NAK, o(ADDRESS, b"12345"))
    assert request.data == o(ADDRESS, NONE)


@rule("1332 3.3", "what is no host's address is nobody's: neither ours nor the peer's")
def _() -> None:
    for first in (0, 127, 224, 255):
        nonsense = bytes((first, 0, 0, 1))
        talk = four(Ipv4Settings())
        (request,) = reply(talk, NAK, o(ADDRESS, nonsense))
        assert request.data == o(ADDRESS, NONE)
        assert ask4(talk, o(ADDRESS, nonsense)).code == REJECT
    assert ask4(four(Ipv4Settings(OUR_ADDRESS, PEERS_ADDRESS, accept_peer=True)), o(ADDRESS, b"\x7f\0\0\1")).code == NAK


@rule("1332 3.3", "the peer may negotiate again at any time; IPv4 is down meanwhile")
def _() -> None:
    talk = Talk().up()
    talk.say(REQUEST, 2, o(ADDRESS, NONE), Protocol.IPCP)
    assert talk.told(Ipv4Down) == [Ipv4Down("the peer negotiates anew")]
    request, nak = talk.hear()
    assert (request.code, nak.code) == (REQUEST, NAK)
    talk.say(ACK, request.identifier, request.data, Protocol.IPCP)
    talk.say(REQUEST, 3, o(ADDRESS, PEERS_ADDRESS), Protocol.IPCP)
    assert len(talk.told(Ipv4Up)) == 2
    assert talk.told(Ipv6Down) == []


# -- RFC 1877 ---------------------------------------------------------------------------------------------------------


@rule("1877 1.1", "who asks for name servers (0.0.0.0, or wrong ones) is told ours")
def _() -> None:
    talk = four()
    asked = o(ADDRESS, PEERS_ADDRESS), o(DNS1, NONE), o(NBNS1, OTHER), o(DNS_2, NONE)
    answer = ask4(talk, *asked)
    assert (answer.code, answer.data) == (NAK, o(DNS1, DNS) + o(NBNS1, NBNS) + o(DNS_2, DNS2))
    asked = o(ADDRESS, PEERS_ADDRESS), o(DNS1, DNS), o(NBNS1, NBNS), o(DNS_2, DNS2)
    assert ask4(talk, *asked, identifier=2).code == ACK


@rule("1877 1", "servers that we don't know of are rejected")
def _() -> None:
    answer = ask4(four(), o(NBNS2, NONE), o(DNS1, NONE))
    assert (answer.code, answer.data) == (REJECT, o(NBNS2, NONE))
    bare = four(Ipv4Settings(OUR_ADDRESS, PEERS_ADDRESS))
    answer = ask4(bare, o(DNS1, NONE), o(NBNS1, NONE), o(DNS_2, NONE), o(NBNS2, NONE))
    assert (answer.code, len(answer.data)) == (REJECT, 24)


@rule("1877 1.1", "name servers are asked for if so wished, and taken as they come")
def _() -> None:
    talk = four(CLIENT)
    assert talk.request(Protocol.IPCP).data == o(ADDRESS, NONE) + o(DNS1, NONE) + o(DNS_2, NONE)
    (request,) = reply(talk, NAK, o(ADDRESS, PEERS_ADDRESS) + o(DNS1, DNS) + o(DNS_2, DNS2))
    talk.say(ACK, request.identifier, request.data, Protocol.IPCP)
    ask4(talk, o(ADDRESS, OUR_ADDRESS))
    assert talk.told(Ipv4Up) == [Ipv4Up(PEERS_ADDRESS, OUR_ADDRESS, (DNS, DNS2))]
    assert four(Ipv4Settings()).request(Protocol.IPCP).data == o(ADDRESS, NONE)


@rule("1877 1.1", "name servers that the peer does not have are not needed")
def _() -> None:
    talk = four(CLIENT)
    (request,) = reply(talk, REJECT, o(DNS_2, NONE))
    assert request.data == o(ADDRESS, NONE) + o(DNS1, NONE)
    (request,) = reply(talk, NAK, o(ADDRESS, PEERS_ADDRESS))
    (request,) = reply(talk, REJECT, o(DNS1, NONE))
    talk.say(ACK, request.identifier, request.data, Protocol.IPCP)
    ask4(talk, o(ADDRESS, OUR_ADDRESS))
    assert talk.told(Ipv4Up) == [Ipv4Up(PEERS_ADDRESS, OUR_ADDRESS, ())]


# -- RFC 5072 ---------------------------------------------------------------------------------------------------------


@rule("5072 3", "IPv6CP waits for the network phase")
def _() -> None:
    talk = Talk().opened()
    talk.say(REQUEST, 1, o(IID, PEERS_IID), Protocol.IPV6CP)
    assert talk.hear(Protocol.IPV6CP) == []
    talk.link.start_network(None, IPV6, talk.now)
    assert [p.code for p in talk.hear(Protocol.IPV6CP)] == [REQUEST, ACK]


@rule("5072 4.1", "a Configure-Request has one interface identifier, tentative, and not zero")
def _() -> None:
    assert six().request(Protocol.IPV6CP).data == o(IID, OUR_IID)
    talk = six(Ipv6Settings())
    ((kind, identifier),) = decode_options(talk.request(Protocol.IPV6CP).data)
    assert kind == IID
    assert any(identifier)


@rule("5072 4.1", "one by chance has the u bit at zero")
def _() -> None:
    for number in range(20):
        talk = Talk().opened()
        for _ in range(number):
            talk.random(1)
        talk.link.start_network(None, Ipv6Settings(), talk.now)
        ((_, identifier),) = decode_options(talk.request(Protocol.IPV6CP).data)
        assert identifier[0] & 2 == 0


@rule("5072 4.1", "different, and not zero: acknowledged, whatever we would have given it")
def _() -> None:
    assert ask6(six(Ipv6Settings(OUR_IID, b"\0wanted\1")), o(IID, PEERS_IID)).code == ACK


@rule("5072 4.1", "zero: Nak with one that is not zero and not ours, the one that was meant for it if there is one")
def _() -> None:
    answer = ask6(six(Ipv6Settings(OUR_IID, PEERS_IID)), o(IID, NO_IID))
    assert (answer.code, answer.data) == (NAK, o(IID, PEERS_IID))
    for settings in (IPV6, Ipv6Settings(OUR_IID, OUR_IID), Ipv6Settings(OUR_IID, NO_IID)):
        answer = ask6(six(settings), o(IID, NO_IID))
        assert answer.code == NAK
        assert answer.data not in (o(IID, NO_IID), o(IID, OUR_IID))


@rule("5072 4.1", "equal: Nak with another")
def _() -> None:
    answer = ask6(six(), o(IID, OUR_IID))
    assert answer.code == NAK
    assert answer.data != o(IID, OUR_IID)


@rule("5072 4.1", "a Nak with another identifier than our last Nak had: we take it")
def _() -> None:
    talk = six()
    ask6(talk, o(IID, OUR_IID))
    (request,) = reply(talk, NAK, o(IID, b"\0\0\0\0\0\0\0\x77"), Protocol.IPV6CP)
    assert request.data == o(IID, b"\0\0\0\0\0\0\0\x77")


@rule("5072 4.1", "a Nak with the identifier of our last Nak: the line may be looped, we choose a new one")
def _() -> None:
    talk = six()
    suggested = ask6(talk, o(IID, OUR_IID)).data
    (request,) = reply(talk, NAK, suggested, Protocol.IPV6CP)
    assert request.data not in (suggested, o(IID, OUR_IID))


@rule("5072 4.1", "a Nak of zero, or of a wrong length, says nothing")
def _() -> None:
    for identifier in (NO_IID, b"1234567"):
        (request,) = reply(six(), NAK, o(IID, identifier), Protocol.IPV6CP)
        assert request.data == o(IID, OUR_IID)


@rule("5072 4.1", "after a Reject the identifier is not asked for again: IPv6 does without the peer")
def _() -> None:
    talk = six()
    assert [p.code for p in reply(talk, REJECT, o(IID, OUR_IID), Protocol.IPV6CP)] == [Code.TERMINATE_REQUEST] * 2
    talk.wait(10)
    assert talk.reason == "the peer does not negotiate interface identifiers"


@rule("5072 4.1", "a peer that asks for no identifier is told to by a Nak")
def _() -> None:
    answer = ask6(six(Ipv6Settings(OUR_IID, PEERS_IID)))
    assert (answer.code, answer.data) == (NAK, o(IID, PEERS_IID))


@rule("5072 4.1", "there is no default: a peer that insists on none has none that we know")
def _() -> None:
    talk = six()
    assert ask6(talk, o(IID, PEERS_IID)).code == ACK
    codes = [ask6(talk, identifier=number).code for number in range(2, 8)]
    assert codes == [NAK] * 5 + [ACK]
    reply(talk, ACK, o(IID, OUR_IID), Protocol.IPV6CP)
    assert talk.told(Ipv6Up) == [Ipv6Up(OUR_IID, b"")]


@rule("5072 3", "the peer may end IPv6CP, come back, and negotiate again, each for its own reason")
def _() -> None:
    talk = Talk().up()
    talk.say(Code.TERMINATE_REQUEST, 5, b"bye", Protocol.IPV6CP)
    talk.wait(4)
    talk.say(REQUEST, 6, o(IID, PEERS_IID), Protocol.IPV6CP)
    talk.answer(talk.hear(Protocol.IPV6CP))
    talk.say(REQUEST, 7, o(IID, NO_IID), Protocol.IPV6CP)
    assert [e.reason for e in talk.told(Ipv6Down)] == ["the peer ended IPV6CP: bye", "the peer negotiates anew"]
    assert len(talk.told(Ipv6Up)) == 2


@rule("5072 4.1", "an identifier is eight octets")
def _() -> None:
    for size in (0, 7, 9):
        assert ask6(six(), o(IID, bytes(size))).code == REJECT


@rule("5072 4.2", "compression is rejected")
def _() -> None:
    options = o(COMPRESSION, b"\x00\x4f")
    answer = ask6(six(), o(IID, PEERS_IID), options)
    assert (answer.code, answer.data) == (REJECT, options)


@rule("5072 5", "both identifiers, of which the link-local addresses are made, are told")
def _() -> None:
    talk = Talk().up()
    assert talk.told(Ipv6Up) == [Ipv6Up(OUR_IID, PEERS_IID)]


# -- what we don't speak ----------------------------------------------------------------------------------------------


@rule("1962 2", "CCP (and with it MPPE) is rejected, and a peer that goes because of it shows in the reason")
def _() -> None:
    talk = four()
    talk.hear()
    talk.say(REQUEST, 1, o(18, 0x01000060, 4), Protocol.CCP)
    (answer,) = talk.hear()
    assert (answer.code, answer.data[:2]) == (Code.PROTOCOL_REJECT, b"\x80\xfd")
    talk.say(Code.TERMINATE_REQUEST, 2, b"MPPE required but peer refused")
    talk.wait(5)
    assert talk.reason == (
        "the peer ended LCP: MPPE required but peer refused"
        " (the peer had asked for encryption by MPPE, which is not supported)"
    )


@rule("1962 2", "a peer that goes long after, or had asked for mere compression, goes for other reasons")
def _() -> None:
    for options, seconds in ((o(18, 0x01000060, 4), 60.0), (o(26, 0x7800, 2), 0.0), (b"\x12", 0.0)):
        talk = Talk().up()
        talk.say(REQUEST, 1, options, Protocol.CCP)
        talk.wait(seconds)
        talk.say(Code.TERMINATE_REQUEST, 2)
        talk.wait(5)
        assert talk.reason == "the peer ended LCP"


@rule("1968 2", "ECP is rejected")
def _() -> None:
    talk = four()
    talk.hear()
    talk.say(REQUEST, 1, b"", Protocol.ECP)
    assert [(p.code, p.data) for p in talk.hear()] == [
        (Code.PROTOCOL_REJECT, encode_packet(Protocol.ECP, REQUEST, 1)),
    ]
    assert talk.link.phase is Phase.NETWORK


@rule("1962 2", "that CCP is rejected does no harm to IPCP, whichever comes first")
def _() -> None:
    for first, second in ((Protocol.CCP, Protocol.IPCP), (Protocol.IPCP, Protocol.CCP)):
        talk = Talk().opened()
        for protocol in (first, second):
            talk.say(REQUEST, 1, o(ADDRESS, PEERS_ADDRESS) if protocol == Protocol.IPCP else b"", protocol)
        talk.link.start_network(IPV4, None, talk.now)
        reply(talk, ACK, o(ADDRESS, OUR_ADDRESS))
        assert talk.told(Ipv4Up)
        assert talk.told(Ipv6Down) == []


@rule.parametrize()
def test_rule(rule: Rule) -> None:
    rule.check()


@pytest.mark.parametrize("settings", [IPV4, CLIENT])
def test_ipcp_gives_up_with_a_reason_if_nobody_answers(settings: Ipv4Settings) -> None:
    talk = four(settings)
    assert len(talk.wait(29)) > 9
    talk.wait(10)
    assert talk.reason == "the peer agreed to none of 10 IPCP Configure-Requests"
