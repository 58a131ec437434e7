"""One link from open to down: authentication, early frames, keep-alive, renegotiation, reasons."""

from dataclasses import replace

import pytest

from kl2tp.model.calls import AUTH_METHODS, CHAP, EAP_MD5, EAP_MSCHAPV2, MSCHAPV2, PAP
from kl2tp.model.objects import Secret
from kl2tp.ppp.events import AuthNeeded, Down, Ipv4Down, Ipv4Up, Ipv6Down, Ipv6Up, LcpUp, NetworkPhase
from kl2tp.ppp.link import Phase
from kl2tp.ppp.transitions import State
from kl2tp.wire.ppp import Code, Protocol
from unit.ppp.pair import PASSWORD, Pair, settings
from unit.ppp.talk import IPV4, IPV6, MAGIC, OUR_ADDRESS, OUR_IID, PEERS_ADDRESS, PEERS_IID, Talk, option

REQUEST, ACK, NAK, REJECT = Code.CONFIGURE_REQUEST, Code.CONFIGURE_ACK, Code.CONFIGURE_NAK, Code.CONFIGURE_REJECT
CHAP_OPTION = option(3, b"\xc2\x23\x05")
SECRET = Secret(PASSWORD)


# -- two ends ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", AUTH_METHODS)
def test_two_ends_come_up_with_every_way_to_authenticate(method: str) -> None:
    pair = Pair(*settings(method)).open()
    pair.run(2, until=lambda: pair.is_up)
    pair.agree()
    assert pair.server.identity == "bob"
    assert pair.client.identity is None
    assert pair.now < 0.2, "nothing had to be waited for"


def test_two_ends_come_up_without_authentication() -> None:
    pair = Pair(*settings()).open()
    pair.run(2, until=lambda: pair.is_up)
    pair.agree()
    assert pair.server.identity is None


@pytest.mark.parametrize("method", AUTH_METHODS)
def test_both_may_demand_authentication(method: str) -> None:
    server, client = settings(method)
    server = replace(server, secret=SECRET, answer=AUTH_METHODS)
    pair = Pair(server, replace(client, demand=(CHAP,))).open()
    pair.run(2, until=lambda: pair.is_up)
    assert (pair.server.identity, pair.client.identity) == ("bob", "lns")


@pytest.mark.parametrize("method", AUTH_METHODS)
def test_a_wrong_password_ends_the_link_at_both_ends(method: str) -> None:
    pair = Pair(*settings(method))
    pair.server.password = b"other"
    pair.open().run(60)
    assert pair.is_down
    assert pair.server.down == "'bob' was not let in"
    assert pair.client.down is not None
    assert pair.client.down.startswith("the peer ")
    assert "hush" not in pair.client.down


def test_the_server_says_when_the_link_ends_and_the_client_knows_why() -> None:
    pair = Pair(*settings(CHAP)).open()
    pair.run(2, until=lambda: pair.is_up)
    pair.server.link.close(pair.now, "disconnected by the operator")
    pair.run(20)
    assert pair.server.down == "disconnected by the operator"
    assert pair.client.down == "the peer ended LCP: disconnected by the operator"
    assert [type(e) for e in pair.client.events[-3:]] == [Ipv4Down, Ipv6Down, Down]


@pytest.mark.parametrize(("offered", "known", "agreed"), [
    ((EAP_MSCHAPV2, MSCHAPV2, EAP_MD5, CHAP, PAP), (PAP,), "pap"),
    ((EAP_MSCHAPV2, MSCHAPV2, EAP_MD5, CHAP, PAP), (CHAP, PAP), "chap"),
    ((MSCHAPV2, CHAP), (CHAP, MSCHAPV2), "mschapv2"),
    ((EAP_MSCHAPV2, EAP_MD5), (EAP_MD5,), "eap-md5"),
    ((PAP,), AUTH_METHODS, "pap"),
])  # fmt: skip
def test_both_find_a_way_that_both_know(offered: tuple[str, ...], known: tuple[str, ...], agreed: str) -> None:
    server, client = settings(*offered)
    pair = Pair(server, replace(client, answer=known)).open()
    pair.run(5, until=lambda: pair.is_up)
    pair.agree()
    (attempt,) = [e.attempt for e in pair.server.events if isinstance(e, AuthNeeded)]
    assert attempt.method == agreed


def test_without_a_common_way_both_end_with_a_reason() -> None:
    server, client = settings(MSCHAPV2)
    pair = Pair(server, replace(client, answer=(PAP,))).open()
    pair.run(40)
    assert pair.server.down == "the peer refuses to authenticate itself by mschapv2"
    assert pair.client.down == "the peer ended LCP: the peer refuses to authenticate itself by mschapv2"


def test_links_stay_up_for_an_hour_by_echoes_alone() -> None:
    pair = Pair(*settings(CHAP)).open()
    pair.run(2, until=lambda: pair.is_up)
    sent = pair.sent
    pair.run(3600)
    pair.agree()
    assert 460 <= pair.sent - sent <= 500, "120 requests and replies each way"


# -- authentication ---------------------------------------------------------------------------------------------------


def test_a_verdict_may_take_its_time() -> None:
    talk = Talk(demand=(PAP,), auth_timeout=10.0).opened()
    talk.say(1, 1, b"\x03bob\x04hush", Protocol.PAP)
    attempt = talk.attempt
    assert (attempt.identity, attempt.method) == ("bob", "pap")
    talk.wait(25)
    talk.say(1, 2, b"\x03bob\x04hush", Protocol.PAP)
    assert talk.told(AuthNeeded) == [AuthNeeded(attempt)], "one question, one verdict"
    talk.link.grant(attempt, talk.now)
    assert talk.link.phase is Phase.NETWORK


def test_a_verdict_on_what_is_past_is_left_alone() -> None:
    talk = Talk(demand=(PAP,)).opened()
    talk.say(1, 1, b"\x03bob\x04hush", Protocol.PAP)
    old = talk.attempt
    talk.say(REQUEST, 2, option(5, b"new!"))
    talk.answer(talk.hear(Protocol.LCP))
    talk.say(1, 1, b"\x05mallo\x04hush", Protocol.PAP)
    talk.hear()
    talk.link.grant(old, talk.now)
    assert talk.hear() == []
    assert talk.link.phase is Phase.AUTHENTICATE
    talk.link.refuse(talk.attempt, talk.now)
    talk.link.refuse(talk.attempt, talk.now)
    assert [p.code for p in talk.hear()] == [3, Code.TERMINATE_REQUEST]


def test_who_does_not_say_who_it_is_has_to_go() -> None:
    for method in (PAP, CHAP, EAP_MD5):
        talk = Talk(demand=(method,)).opened()
        talk.wait(60)
        assert talk.reason in ("authentication was not done within 30 s", "the peer did not say who it is")


def test_authentication_that_never_ends_ends() -> None:
    for method in (PAP, CHAP):
        talk = Talk(demand=(method,), auth_timeout=4.0).opened()
        assert talk.wait(3.9)[-1].code != Code.TERMINATE_REQUEST
        assert [p.code for p in talk.wait(0.2)] == [Code.TERMINATE_REQUEST]
        talk.wait(10)
        assert talk.reason == "authentication was not done within 4 s"


def test_an_answer_counts_only_in_the_protocol_that_was_agreed_on() -> None:
    talk = Talk(demand=(CHAP,)).opened()
    (challenge,) = talk.hear(Protocol.CHAP)
    response = bytes((16,)) + bytes(16) + b"bob"
    talk.say(2, challenge.identifier, response, Protocol.EAP)
    assert talk.told(AuthNeeded) == []
    talk.say(2, challenge.identifier, response, Protocol.CHAP)
    assert len(talk.told(AuthNeeded)) == 1


def test_a_response_that_is_repeated_after_the_success_got_lost_gets_the_success_again() -> None:
    talk = Talk(demand=(PAP,)).opened()
    talk.say(1, 1, b"\x03bob\x04hush", Protocol.PAP)
    talk.link.grant(talk.attempt, talk.now)
    talk.link.start_network(IPV4, None, talk.now)
    talk.hear()
    talk.say(1, 2, b"\x03bob\x04hush", Protocol.PAP)
    assert [(p.protocol, p.code) for p in talk.hear()] == [(Protocol.PAP, 2)]
    assert len(talk.told(NetworkPhase)) == len(talk.told(AuthNeeded)) == 1


def test_a_success_of_eap_that_got_lost_is_made_up_for_by_the_first_network_protocol() -> None:
    pair = Pair(*settings(EAP_MD5))
    lost = []

    def lose(frame: bytes) -> None:
        if frame[:3] == b"\xc2\x27\x03":
            lost.append(frame)

    pair.hear = lose
    pair.fate = lambda: () if len(lost) == 1 and not lost.append(b"") else (0.01,)  # type: ignore[func-returns-value]
    pair.open().run(5, until=lambda: pair.is_up)
    assert lost
    pair.agree()


def asked_to_authenticate() -> Talk:
    """A client that has logged in by CHAP and has IPv4."""
    talk = Talk(name="bob", secret=SECRET, answer=(CHAP,), echo_interval=0).opened(option(5, MAGIC) + CHAP_OPTION)
    talk.say(1, 7, b"\x10" + bytes(16) + b"lns", Protocol.CHAP)
    assert talk.hear(Protocol.CHAP)[0].code == 2
    talk.say(3, 7, b"", Protocol.CHAP)
    talk.link.start_network(IPV4, None, talk.now)
    talk.agree(Protocol.IPCP, option(3, PEERS_ADDRESS))
    talk.hear()
    assert talk.told(Ipv4Up)
    return talk


def test_the_peer_may_ask_again_at_any_time_who_we_are() -> None:
    talk = asked_to_authenticate()
    for identifier in (9, 10):
        talk.wait(100)
        talk.say(1, identifier, b"\x10" + bytes(15) + b"xlns", Protocol.CHAP)
        assert [(p.protocol, p.code, p.identifier) for p in talk.hear()] == [(Protocol.CHAP, 2, identifier)]
        talk.say(3, identifier, b"", Protocol.CHAP)
    assert talk.link.phase is Phase.NETWORK


def test_that_nobody_listens_to_the_answer_does_no_harm_but_a_failure_does() -> None:
    talk = asked_to_authenticate()
    talk.say(1, 9, b"\x10" + bytes(15) + b"xlns", Protocol.CHAP)
    talk.wait(100)
    assert talk.link.phase is Phase.NETWORK
    talk.say(4, 9, b"go away", Protocol.CHAP)
    talk.wait(10)
    assert talk.reason == "the peer refused our password: go away"


def test_packets_of_authentication_that_nobody_agreed_on_are_dropped() -> None:
    talk = Talk(secret=SECRET).up()
    for protocol in (Protocol.PAP, Protocol.CHAP, Protocol.EAP):
        for code in range(6):
            talk.say(code, 1, b"\x10" + bytes(16) + b"lns", protocol)
        talk.frame(protocol.to_bytes(2, "big"))
    assert talk.hear() == []
    assert talk.link.phase is Phase.NETWORK


def test_a_secret_that_the_method_cannot_take_ends_the_link_with_a_reason() -> None:
    talk = Talk(name="bob", secret=Secret(b"x" * 300), answer=(PAP,)).opened(option(5, MAGIC) + option(3, b"\xc0\x23"))
    talk.wait(10)
    assert "x" * 10 not in talk.reason
    assert talk.reason != ""


# -- frames that come early -------------------------------------------------------------------------------------------


def test_frames_of_network_protocols_wait_for_the_device_and_none_is_lost() -> None:
    talk = Talk(demand=(PAP,)).opened()
    talk.say(1, 1, b"\x03bob\x04hush", Protocol.PAP)
    talk.say(REQUEST, 1, option(1, PEERS_IID), Protocol.IPV6CP)  # overtook the answer
    talk.link.grant(talk.attempt, talk.now)
    talk.say(REQUEST, 1, option(3, PEERS_ADDRESS), Protocol.IPCP)
    talk.wait(2)
    assert talk.hear(Protocol.IPCP) == talk.hear(Protocol.IPV6CP) == []
    talk.link.start_network(IPV4, IPV6, talk.now)
    packets = talk.hear()
    assert {(p.protocol, p.code) for p in packets if p.protocol != Protocol.LCP} == {
        (protocol, code) for protocol in (Protocol.IPCP, Protocol.IPV6CP) for code in (REQUEST, ACK)
    }
    talk.answer(packets)
    assert talk.told(Ipv4Up) == [Ipv4Up(OUR_ADDRESS, PEERS_ADDRESS, ())]
    assert talk.told(Ipv6Up) == [Ipv6Up(OUR_IID, PEERS_IID)]


def test_what_waits_is_bounded() -> None:
    talk = Talk().opened()
    for number in range(256):
        talk.say(number, 1, b"x" * 20, Protocol.IPCP)
        talk.say(REQUEST, number, b"x" * 1000, Protocol.IPV6CP)
    assert sum(len(frame) for frame in talk.link._held) < 1024


def test_a_protocol_that_is_not_wanted_is_rejected_when_its_time_has_come() -> None:
    talk = Talk().opened()
    talk.say(REQUEST, 1, option(1, PEERS_IID), Protocol.IPV6CP)
    assert talk.hear(Protocol.IPV6CP) == []
    talk.link.start_network(IPV4, None, talk.now)
    (reject,) = talk.hear(Protocol.LCP)
    assert (reject.code, reject.data[:2]) == (Code.PROTOCOL_REJECT, b"\x80\x57")


def test_no_network_protocol_no_link() -> None:
    talk = Talk().opened()
    talk.link.start_network(None, None, talk.now)
    talk.wait(10)
    assert talk.reason == "no network protocol is wanted"


def test_ipv6_needs_room() -> None:
    for size, protocols in ((1280, {Protocol.IPCP, Protocol.IPV6CP}), (1279, {Protocol.IPCP})):
        talk = Talk().opened(option(1, size))
        talk.link.start_network(IPV4, IPV6, talk.now)
        assert {p.protocol for p in talk.hear() if p.protocol != Protocol.LCP} == protocols
    talk = Talk().opened(option(1, 1000))
    talk.link.start_network(None, IPV6, talk.now)
    talk.wait(10)
    assert talk.reason == "packets of 1000 octets are too short for IPv6"


def test_the_network_starts_once_and_only_in_its_phase() -> None:
    talk = Talk()
    talk.started()
    talk.link.start_network(IPV4, None, talk.now)
    assert talk.hear() == []
    talk = Talk().opened()
    talk.link.start_network(IPV4, None, talk.now)
    first = talk.request(Protocol.IPCP)
    talk.link.start_network(IPV4, IPV6, talk.now)
    assert talk.hear() == []
    assert talk.wait(3)[0] == first


# -- does the peer live? ----------------------------------------------------------------------------------------------


def test_echo_requests_come_in_their_interval_and_replies_keep_the_link() -> None:
    talk = Talk(echo_interval=10, echo_failures=3).opened()
    talk.hear()
    times = []
    for _ in range(20):
        (request,) = talk.wait(talk.link.deadline - talk.now)  # type: ignore[operator]
        assert request.code == Code.ECHO_REQUEST
        times.append(talk.now)
        talk.say(Code.ECHO_REPLY, request.identifier, MAGIC)
    assert 105.0 <= times[0] <= 110.0
    assert [later - times[0] for later in times] == [10.0 * number for number in range(20)]


def test_a_peer_that_answers_no_echo_is_dead_and_the_reason_says_so() -> None:
    talk = Talk(echo_interval=10, echo_failures=4).up()
    sent = talk.wait(60)
    numbers = [p.identifier for p in sent if p.code == Code.ECHO_REQUEST]
    assert numbers == [number for number in (1, 2, 3, 4) for _ in range(3)], "each is repeated: the line may be bad"
    talk.wait(10)
    assert talk.reason == "the peer answered none of 4 echo requests"
    assert talk.told(Ipv4Down) == [Ipv4Down(talk.reason)]


def test_a_late_reply_counts_a_wrong_one_does_not() -> None:
    talk = Talk(echo_interval=10, echo_failures=4).up()
    requests = [p for p in talk.wait(39) if p.code == Code.ECHO_REQUEST]
    lcp = talk.link.lcp
    missing = len({p.identifier for p in requests})
    assert lcp._unanswered == missing == 3
    talk.say(Code.ECHO_REPLY, requests[-1].identifier + 1, MAGIC)
    talk.say(Code.ECHO_REPLY, (requests[0].identifier - 1) & 0xFF, MAGIC)
    talk.say(Code.ECHO_REPLY, requests[-1].identifier, b"123")
    assert lcp._unanswered == missing
    talk.say(Code.ECHO_REPLY, requests[0].identifier, MAGIC)
    assert lcp._unanswered == 0


def test_without_an_interval_nobody_is_asked_and_without_failures_nobody_is_dead() -> None:
    talk = Talk(echo_interval=0).up()
    assert talk.link.deadline is None
    talk = Talk(echo_interval=10, echo_failures=0).up()
    assert len({p.identifier for p in talk.wait(1000)}) == 100
    assert talk.told(Down) == []


def test_a_request_that_got_lost_is_repeated_soon_and_the_next_one_comes_in_its_time() -> None:
    talk = Talk(echo_interval=10).up()
    first = talk.link.deadline
    assert first is not None
    (request,) = talk.wait(first - talk.now)
    assert talk.wait(2.9) == []
    assert talk.wait(0.2) == [request]
    talk.say(Code.ECHO_REPLY, request.identifier, MAGIC)
    assert talk.link.deadline == first + 10


def test_links_that_came_up_together_do_not_ask_together() -> None:
    pairs = [Pair(*settings(), seed=seed).open() for seed in range(20)]
    for pair in pairs:
        pair.run(1)
    deadlines = [pair.server.link.deadline for pair in pairs]
    assert len(set(deadlines)) > 15


# -- again, and the end -----------------------------------------------------------------------------------------------


def test_the_peer_may_begin_anew_with_everything() -> None:
    talk = Talk(demand=(PAP,)).opened()
    for number, name in enumerate((b"bob", b"ann"), 1):
        talk.say(1, 1, b"\x03" + name + b"\x04hush", Protocol.PAP)
        talk.link.grant(talk.attempt, talk.now)
        talk.link.start_network(IPV4, None, talk.now)
        talk.agree(Protocol.IPCP, option(3, PEERS_ADDRESS))
        assert len(talk.told(Ipv4Up)) == number
        talk.hear()
        talk.say(REQUEST, 1 + number, option(5, bytes((number,) * 4)) + option(1, 1300))
        talk.answer(talk.hear())
    assert [e.identity for e in talk.told(NetworkPhase)] == ["bob", "ann"]
    assert talk.told(Ipv4Down) == [Ipv4Down("the peer negotiates anew")] * 2
    assert len(talk.told(LcpUp)) == 3
    assert talk.link.peer_mru == 1300


def test_a_link_whose_line_is_gone_says_so_once() -> None:
    for talk in (Talk(), Talk().opened(), Talk().up()):
        talk.link.lower_down(talk.now) if talk.link.phase else talk.started()
        talk.link.lower_down(talk.now)
        talk.link.lower_down(talk.now)
        talk.link.close(talk.now, "too late")
        talk.link.handle_timer(talk.now + 1000)
        assert talk.reason == "the line is gone"
        assert talk.link.deadline is None


def test_a_link_that_is_over_says_nothing_more() -> None:
    talk = Talk().up()
    talk.link.lower_down(talk.now)
    talk.hear()
    talk.say(REQUEST, 9)
    talk.say(Code.ECHO_REQUEST, 9, MAGIC)
    assert talk.hear() == []
    assert len(talk.told(Down)) == 1


def test_the_first_reason_to_close_is_the_one() -> None:
    talk = Talk().up()
    talk.link.close(talk.now, "first")
    talk.link.close(talk.now, "second")
    talk.wait(10)
    assert talk.reason == "first"


def test_a_link_may_be_closed_before_it_is_up() -> None:
    for talk in (Talk(), Talk(demand=(PAP,)).opened()):
        if talk.link.phase is Phase.DEAD:
            talk.started()
        talk.link.close(talk.now, "changed our mind")
        talk.wait(10)
        assert talk.reason == "changed our mind"


def test_a_peer_that_agrees_but_never_asks_for_anything_has_a_minute() -> None:
    talk = Talk()
    request = talk.started()
    for _ in range(30):
        talk.say(ACK, request.identifier, request.data)
        request = next((p for p in talk.wait(3) if p.code == REQUEST), request)
    talk.wait(10)
    assert talk.reason == "LCP and authentication were not done within 60 s"


def test_who_does_not_log_in_gains_no_time_by_negotiating_again() -> None:
    talk = Talk(demand=(PAP,)).opened()
    for number in range(2, 9):
        talk.wait(10)
        talk.say(REQUEST, number, option(5, bytes((number,) * 4)))
        talk.answer(talk.hear(Protocol.LCP))
    talk.wait(10)
    assert talk.reason == "LCP and authentication were not done within 60 s"


def test_nor_does_it_lose_time_while_we_think_about_its_password() -> None:
    talk = Talk(demand=(PAP,), echo_interval=0).opened()
    talk.say(1, 1, b"\x03bob\x04hush", Protocol.PAP)
    talk.wait(200)
    talk.link.grant(talk.attempt, talk.now)
    assert talk.link.phase is Phase.NETWORK


def test_network_protocols_that_get_nowhere_have_thirty_seconds() -> None:
    talk = Talk().network(IPV4, IPV6)
    for number in range(14):
        for packet in talk.hear():
            if packet.code == REQUEST:
                talk.say(ACK, packet.identifier, packet.data, packet.protocol)
        talk.say(REQUEST, number, option(99), Protocol.IPCP)
        talk.wait(3)
    assert talk.reason == "no network protocol was up within 30 s"


def test_one_network_protocol_is_enough() -> None:
    talk = Talk(echo_interval=0).network(IPV4, IPV6)
    talk.agree(Protocol.IPCP, option(3, PEERS_ADDRESS))
    talk.wait(1000)
    assert talk.told(Ipv6Down) == [Ipv6Down("the peer agreed to none of 10 IPV6CP Configure-Requests")]
    assert talk.told(Down) == []
    assert talk.link.phase is Phase.NETWORK


def test_a_peer_that_ends_the_last_network_protocol_ends_the_link() -> None:
    talk = Talk().network(IPV4, None)
    talk.agree(Protocol.IPCP, option(3, PEERS_ADDRESS))
    talk.say(Code.TERMINATE_REQUEST, 2, b"no addresses left", Protocol.IPCP)
    talk.wait(15)
    assert talk.reason == "the peer ended IPCP: no addresses left"


def test_the_owner_need_not_know_when_timers_are_due() -> None:
    talk = Talk().up()
    for _ in range(100):
        talk.link.handle_timer(talk.now)
    assert talk.hear() == []


# -- to go on after a restart -----------------------------------------------------------------------------------------


def test_a_restored_link_goes_on_as_if_nothing_had_been() -> None:
    pair = Pair(*settings(CHAP)).open()
    pair.run(2, until=lambda: pair.is_up)
    magics = [end.link.lcp.magic for end in pair.ends]
    mru = [(end.link.mru, end.link.peer_mru) for end in pair.ends]
    sent = pair.sent
    for which in (0, 1, 0, 0):
        pair.restart(which)
        link = pair.ends[which].link
        assert (link.take_events(), link.take_frames()) == ((), ())
    pair.run(25)
    assert [end.link.lcp.magic for end in pair.ends] == magics
    assert [(end.link.mru, end.link.peer_mru) for end in pair.ends] == mru
    assert pair.server.link.identity == "bob"
    pair.run(3600)
    pair.agree()
    assert pair.sent - sent > 460
    assert not [e for end in pair.ends for e in end.events if isinstance(e, Ipv4Down | Ipv6Down | Down)]


def test_a_restored_link_knows_all_that_was_saved() -> None:
    pair = Pair(*settings(CHAP)).open()
    pair.run(2, until=lambda: pair.is_up)
    for which, end in enumerate(pair.ends):
        before = end.link.save()
        pair.restart(which)
        after = end.link.save()
        for machine in ("lcp", "4", "6"):
            for changed in ("i", "o"):  # identifiers of ours: some that were used since may not be saved
                del before[machine][changed], after[machine][changed]  # type: ignore[union-attr, arg-type, call-overload]
        assert after == before


def test_a_restored_link_knows_a_request_that_it_has_agreed_to() -> None:
    talk = Talk().up()
    talk.link = type(talk.link).restore(talk.settings, talk.random, talk.link.save(), talk.now)
    talk.say(REQUEST, 1, option(5, MAGIC))
    talk.say(REQUEST, 1, option(3, PEERS_ADDRESS), Protocol.IPCP)
    talk.say(REQUEST, 1, option(1, PEERS_IID), Protocol.IPV6CP)
    assert [p.code for p in talk.hear()] == [ACK] * 3
    assert talk.told(Ipv4Down) == talk.told(Ipv6Down) == []


@pytest.mark.parametrize("which", [0, 1])
def test_a_restored_link_can_negotiate_again_and_end(which: int) -> None:
    pair = Pair(*settings(CHAP)).open()
    pair.run(2, until=lambda: pair.is_up)
    pair.restart(which)
    other = pair.ends[1 - which]
    other.link.lcp._begin()
    other.link._lcp_signal(other.link.lcp.receive(Code.TERMINATE_ACK, 0, b"", pair.now, other.link._frames), pair.now)
    assert not pair.is_up or other.four is not None
    pair.run(10)
    pair.agree()
    assert len([e for e in other.events if isinstance(e, Ipv4Up)]) == 2
    pair.ends[which].link.close(pair.now, "enough")
    pair.run(20)
    assert pair.is_down


def test_a_restored_client_still_proves_who_it_is() -> None:
    talk = asked_to_authenticate()
    link = type(talk.link).restore(talk.settings, talk.random, talk.link.save(), talk.now)
    talk.link = link
    talk.say(1, 9, b"\x10" + bytes(15) + b"xlns", Protocol.CHAP)
    assert [(p.protocol, p.code) for p in talk.hear()] == [(Protocol.CHAP, 2)]


def test_what_was_not_up_is_negotiated_by_the_restored_link() -> None:
    talk = Talk().network(IPV4, IPV6)
    talk.agree(Protocol.IPCP, option(3, PEERS_ADDRESS))
    link = type(talk.link).restore(talk.settings, talk.random, talk.link.save(), talk.now)
    talk.link = link
    packets = talk.hear()
    assert [(p.protocol, p.code) for p in packets] == [(Protocol.IPV6CP, REQUEST)]
    talk.answer(packets)
    talk.say(REQUEST, 1, option(1, PEERS_IID), Protocol.IPV6CP)
    assert talk.told(Ipv6Up) == [Ipv6Up(OUR_IID, PEERS_IID)]
    assert talk.told(Ipv4Down) == []


def test_a_link_before_its_network_phase_begins_anew() -> None:
    for talk in (Talk(demand=(PAP,)), Talk(demand=(PAP,)).opened()):
        assert talk.link.save() == {}
        talk.link = type(talk.link).restore(talk.settings, talk.random, {}, talk.now)
        assert talk.request().code == REQUEST


def test_a_link_that_waits_for_its_network_is_asked_for_it_again() -> None:
    talk = Talk().opened()
    talk.link = type(talk.link).restore(talk.settings, talk.random, talk.link.save(), talk.now)
    assert talk.told(NetworkPhase) == [NetworkPhase(None)] * 2
    talk.link.start_network(IPV4, None, talk.now)
    assert talk.request(Protocol.IPCP).data == option(3, OUR_ADDRESS)


@pytest.mark.parametrize("state", [
    {"lcp": {}, "id": None},
    {"lcp": {"i": "x", "o": 1, "a": "", "ai": 1}, "id": None},
    {"lcp": {"i": 1, "o": 1, "a": 5, "ai": 1}, "id": None},
])  # fmt: skip
def test_a_state_that_is_none_is_refused(state: dict[str, object]) -> None:
    talk = Talk()
    with pytest.raises((ValueError, TypeError, KeyError)):
        type(talk.link).restore(talk.settings, talk.random, state, 0.0)  # type: ignore[arg-type]


def test_lcp_state_is_what_the_phase_says() -> None:
    talk = Talk().up()
    assert (talk.link.phase, talk.link.lcp.state) == (Phase.NETWORK, State.OPENED)
