"""Control connections: opened and accepted, proved, refused, kept, and ended."""

from typing import Any

import pytest

from kl2tp.control.endpoint import CallDown, CallUp, Endpoint, TunnelDown, TunnelUp
from kl2tp.control.host import Profile
from kl2tp.control.profiles import Peer, Profiles
from kl2tp.control.tables import TunnelState
from kl2tp.model.calls import ControlSpec, LacSpec, LimitsSpec, LnsSpec
from kl2tp.wire.avp import HIDDEN, MANDATORY, Avp, join, split
from kl2tp.wire.l2tp import decode_control, encode_control
from kl2tp.wire.messages import MessageType, challenge_response, encode, peek_type
from kl2tp.wire.values import HIDEABLE, ResultCode
from unit.control.network import LOST
from unit.control.puppet import HELLO, OURS, THEIRS, Puppet, endpoint, kinds
from unit.control.world import SILENT, Site, World, octets, up

STOP = MessageType.STOPCCN
CLEAR = {Avp.RESULT_CODE: ResultCode(1)}


# -- set-up --------------------------------------------------------------------------------------------------------


def test_a_peer_opens_a_tunnel() -> None:
    puppet = Puppet(endpoint(name="concentrator"))
    avps = puppet.open({Avp.RECEIVE_WINDOW_SIZE: 9, Avp.VENDOR_NAME: "strings"})
    assert avps[Avp.HOST_NAME] == "concentrator"
    assert avps[Avp.PROTOCOL_VERSION] == 0x0100
    assert avps[Avp.RECEIVE_WINDOW_SIZE] == 32
    assert Avp.CHALLENGE not in avps
    tunnel = puppet.tunnel
    assert (tunnel.peer_id, tunnel.peer, tunnel.local, tunnel.incoming) == (77, THEIRS, OURS, True)
    assert (tunnel.host_name, tunnel.vendor, tunnel.channel.peer_window) == ("puppet", "strings", 9)
    assert puppet.events == [TunnelUp(tunnel)]


def test_we_open_a_tunnel() -> None:
    puppet = Puppet(endpoint())
    tunnel = puppet.accept({Avp.RECEIVE_WINDOW_SIZE: 5})
    assert (tunnel.peer_id, tunnel.incoming, tunnel.host_name, tunnel.channel.peer_window) == (77, False, "puppet", 5)
    assert puppet.events == [TunnelUp(tunnel)]


def test_the_profile_says_what_we_are_called_and_how_the_channel_behaves() -> None:
    control = ControlSpec(host_name="brand", window=7, retransmit_first=2.0, retransmit_cap=16.0, retransmit_tries=3)
    puppet = Puppet(endpoint(LnsSpec("own", control=control)))
    avps = puppet.open()
    assert (avps[Avp.HOST_NAME], avps[Avp.RECEIVE_WINDOW_SIZE]) == ("brand", 7)
    channel = puppet.tunnel.channel
    assert (channel.receive_window, channel.first_timeout, channel.cap, channel.tries) == (7, 2.0, 16.0, 3)


def test_the_sccrp_of_the_peer_may_come_from_a_port_of_its_choice() -> None:
    puppet = Puppet(endpoint())
    tunnel, _ = puppet.called()
    puppet.place = (THEIRS[0], 40000)
    puppet.say(MessageType.SCCRP, {**HELLO, Avp.ASSIGNED_TUNNEL_ID: 77})
    assert tunnel.established
    assert tunnel.peer == (THEIRS[0], 40000)
    puppet.packet(encode_control(tunnel.id, 0, puppet.ns, puppet.nr), THEIRS)
    assert puppet.subject.counters.strangers == 1


def test_nobody_but_the_peer_can_say_anything_in_a_tunnel() -> None:
    puppet = Puppet(endpoint())
    puppet.open()
    end = encode(STOP, {Avp.ASSIGNED_TUNNEL_ID: 77, **CLEAR})
    for place in ((THEIRS[0], 1702), (bytes((203, 0, 113, 8)), 1701)):
        puppet.packet(encode_control(puppet.peer_id, 0, puppet.ns, puppet.nr, end), place)
    assert puppet.tunnel.established
    assert puppet.subject.counters.strangers == 2
    puppet.silence()


def test_the_sccrp_is_sent_again_only_when_the_sccrq_is() -> None:
    puppet = Puppet(endpoint())
    puppet.ask()
    puppet.wait(20.0)
    assert kinds(puppet.packets) == [MessageType.SCCRP]
    puppet.ns = 0
    puppet.ask()
    assert kinds(puppet.packets) == [MessageType.SCCRP] * 2
    assert puppet.packets[0] == puppet.packets[1]
    assert puppet.subject.half_open == 1
    counted = puppet.subject.counters.values()
    assert (counted["requests"], counted["duplicates"], counted["malformed"]) == (2, 1, 0)


def test_a_half_open_tunnel_is_forgotten_without_a_word() -> None:
    puppet = Puppet(endpoint(LnsSpec("all", control=ControlSpec(setup_timeout=10.0))))
    puppet.ask()
    puppet.wait(9.9)
    assert puppet.subject.half_open == 1
    puppet.wait(0.2)
    assert puppet.subject.half_open == 0
    assert puppet.subject.counters.expired == 1
    assert puppet.subject.deadline is None
    assert kinds(puppet.packets) == [MessageType.SCCRP]
    assert not puppet.events


def test_a_peer_that_answers_but_never_finishes_is_told_that_it_is_over() -> None:
    puppet = Puppet(endpoint(LnsSpec("all", control=ControlSpec(setup_timeout=10.0))))
    puppet.ask()
    puppet.peer_id = puppet.hear(MessageType.SCCRP)[Avp.ASSIGNED_TUNNEL_ID]
    puppet.acknowledge()
    assert puppet.subject.half_open == 0
    puppet.wait(10.1)
    puppet.hear_end(1)
    assert not puppet.events
    [refusal] = puppet.subject.take_refusals()
    assert (refusal.peer, refusal.host_name, refusal.reason) == (THEIRS, "puppet", "set-up took too long")


def test_what_comes_before_the_scccn_waits_for_it() -> None:
    puppet = Puppet(endpoint())
    puppet.ask()
    puppet.peer_id = puppet.hear(MessageType.SCCRP)[Avp.ASSIGNED_TUNNEL_ID]
    icrq = encode(MessageType.ICRQ, {Avp.ASSIGNED_SESSION_ID: 5, Avp.CALL_SERIAL_NUMBER: 1})
    puppet.packet(encode_control(puppet.peer_id, 0, 2, 1, icrq))
    puppet.silence()
    puppet.say(MessageType.SCCCN)
    puppet.hear(MessageType.ICRP, 5)


def test_a_set_up_that_takes_too_long_is_given_up() -> None:
    puppet = Puppet(endpoint())
    tunnel, _ = puppet.called(LacSpec("lac", (THEIRS,), control=ControlSpec(setup_timeout=10.0)))
    puppet.wait(10.1)
    assert puppet.events == [TunnelDown(tunnel, "the peer did not answer in time", 0, 0)]
    assert not puppet.subject.tunnels


def test_a_peer_that_acknowledges_nothing_is_dead() -> None:
    puppet = Puppet(endpoint(LnsSpec("all", control=ControlSpec(empty_timeout=0.0))))
    puppet.open()
    tunnel = puppet.tunnel
    puppet.wait(60.0)
    assert kinds(puppet.packets[-1:]) == [MessageType.HELLO]
    puppet.wait(31.1)
    assert puppet.events[-1] == TunnelDown(tunnel, "the peer does not answer", 0, 0)
    assert kinds(puppet.packets).count(MessageType.HELLO) == 6
    assert not puppet.subject.tunnels


# -- secrets -------------------------------------------------------------------------------------------------------


def test_both_prove_that_they_know_the_secret() -> None:
    puppet = Puppet(endpoint(secret=b"shared"), secret=b"shared")
    avps = puppet.open({Avp.CHALLENGE: b"prove it"})
    assert avps[Avp.CHALLENGE_RESPONSE] == challenge_response(MessageType.SCCRP, b"shared", b"prove it")
    assert len(avps[Avp.CHALLENGE]) == 16
    puppet = Puppet(endpoint(secret=b"shared"), secret=b"shared")
    tunnel, avps = puppet.called()
    response = challenge_response(MessageType.SCCRP, b"shared", avps[Avp.CHALLENGE])
    answer = {Avp.CHALLENGE: b"you too", Avp.CHALLENGE_RESPONSE: response}
    puppet.say(MessageType.SCCRP, {**HELLO, Avp.ASSIGNED_TUNNEL_ID: 77, **answer})
    said = puppet.hear(MessageType.SCCCN)[Avp.CHALLENGE_RESPONSE]
    assert said == challenge_response(MessageType.SCCCN, b"shared", b"you too")
    assert tunnel.established


@pytest.mark.parametrize("response", [None, b"0123456789abcdef"])
def test_a_peer_that_calls_and_does_not_know_the_secret_is_sent_away(response: bytes | None) -> None:
    puppet = Puppet(endpoint(secret=b"shared"), secret=b"shared")
    puppet.ask()
    puppet.peer_id = puppet.hear(MessageType.SCCRP)[Avp.ASSIGNED_TUNNEL_ID]
    puppet.say(MessageType.SCCCN, {Avp.CHALLENGE_RESPONSE: response} if response else {})
    assert puppet.hear_end(4)[Avp.ASSIGNED_TUNNEL_ID] == puppet.peer_id
    assert puppet.tunnel.state is TunnelState.STOPPING
    assert puppet.subject.counters.unauthorized == 1
    assert not puppet.events
    [refusal] = puppet.subject.take_refusals()
    assert refusal.reason == "the peer does not know the shared secret"
    puppet.acknowledge()
    assert not puppet.subject.tunnels


@pytest.mark.parametrize("response", [None, b"0123456789abcdef"])
def test_a_peer_that_we_call_and_that_does_not_know_the_secret_is_sent_away(response: bytes | None) -> None:
    puppet = Puppet(endpoint(secret=b"shared"), secret=b"shared")
    tunnel, _ = puppet.called()
    more = {Avp.CHALLENGE_RESPONSE: response} if response else {}
    puppet.say(MessageType.SCCRP, {**HELLO, Avp.ASSIGNED_TUNNEL_ID: 77, **more})
    puppet.hear_end(4)
    assert puppet.events == [TunnelDown(tunnel, "the peer does not know the shared secret", 4, 0)]


def test_a_challenge_without_a_secret_is_refused() -> None:
    puppet = Puppet(endpoint())
    puppet.ask({Avp.CHALLENGE: b"prove it"})
    puppet.hear_end(4)
    assert puppet.subject.half_open == 0
    puppet = Puppet(endpoint())
    tunnel, _ = puppet.called()
    puppet.say(MessageType.SCCRP, {**HELLO, Avp.ASSIGNED_TUNNEL_ID: 77, Avp.CHALLENGE: b"prove it"})
    puppet.hear_end(4)
    assert puppet.took(TunnelDown) == [TunnelDown(tunnel, "the peer wants a shared secret, there is none", 4, 0)]


def test_the_peer_need_not_prove_anything_if_the_profile_does_not_ask_for_it() -> None:
    profile = LnsSpec("all", control=ControlSpec(challenge=False))
    puppet = Puppet(endpoint(profile, secret=b"shared"))
    avps = puppet.open({Avp.CHALLENGE: b"prove it"})
    assert Avp.CHALLENGE not in avps
    assert Avp.CHALLENGE_RESPONSE in avps


def test_secrets_go_by_profile_address_and_host_name() -> None:
    asked: list[tuple[str, Peer, str]] = []

    def secret_of(profile: Profile, peer: Peer, host_name: str) -> bytes | None:
        asked.append((profile.name, peer, host_name))
        return {"puppet": b"own"}.get(host_name)

    subject = Endpoint(Profiles((LnsSpec("all"),)), octets(1), secret_of)
    Puppet(subject, secret=b"own").open()
    assert asked == [("all", THEIRS, "puppet")]
    asked.clear()
    # Whom we called tells its name in its SCCRP only.
    puppet = Puppet(subject, secret=b"own", tunnel_id=78)
    puppet.called()
    puppet.say(MessageType.SCCRP, {**HELLO, Avp.ASSIGNED_TUNNEL_ID: 78, Avp.CHALLENGE: b"prove it"})
    said = puppet.hear(MessageType.SCCCN)[Avp.CHALLENGE_RESPONSE]
    assert said == challenge_response(MessageType.SCCCN, b"own", b"prove it")
    assert asked == [("lac", THEIRS, ""), ("lac", THEIRS, "puppet")]


# -- hiding --------------------------------------------------------------------------------------------------------


def test_hidden_avps_are_understood() -> None:
    puppet = Puppet(endpoint(secret=b"shared"), secret=b"shared")
    puppet.open(hide=HIDEABLE, secret=b"shared")
    assert puppet.tunnel.peer_id == 77


def test_hidden_avps_without_a_secret_that_fits_end_the_tunnel() -> None:
    puppet = Puppet(endpoint(secret=b"shared"), secret=b"other")
    puppet.ask(hide=[Avp.VENDOR_NAME, Avp.FRAMING_CAPABILITIES], secret=b"other")
    avps = puppet.hear(STOP)
    assert avps[Avp.RESULT_CODE].result == 2
    puppet = Puppet(endpoint())
    puppet.ask(hide=[Avp.FRAMING_CAPABILITIES], secret=b"other")
    puppet.hear_end(2, 3)


def test_everything_that_can_be_is_hidden_once_the_peer_knows_who_we_are() -> None:
    profiles = (LnsSpec("all", control=ControlSpec(hide_avps=True, hello_interval=0.0)),)
    sites = lac, lns = Site(1, profiles, secret=b"shared"), Site(2, profiles, secret=b"shared")
    world = World(*sites)
    spec = LacSpec("lac", (lns.place,), control=ControlSpec(hide_avps=True, hello_interval=0.0))
    tunnel = world.connect(lac, lns, spec)
    world.place(lac, tunnel, called_number="123", calling_number="456")
    world.run(2.0)
    world.shutdown(lac)
    world.run(2.0)
    assert lns.took(CallUp)[0].call.called_number == "123"
    seen = 0
    for data in world.carried:
        payload = decode_control(data)[1]
        opening = peek_type(payload) in (MessageType.SCCRQ, MessageType.SCCRP)
        for word, _, attribute, value in split(payload):
            if attribute in HIDEABLE:
                assert bool(word & HIDDEN) != opening
                assert b"123" not in value
                seen += not opening
    assert seen > 8


# -- refusals ------------------------------------------------------------------------------------------------------


def test_a_peer_without_a_profile_is_refused() -> None:
    puppet = Puppet(endpoint(LnsSpec("others", host_names=("other*",))))
    puppet.ask()
    avps = puppet.hear_end(4)
    assert avps[Avp.ASSIGNED_TUNNEL_ID] != 0
    assert puppet.subject.counters.sccrq_refused == 1
    [refusal] = puppet.subject.take_refusals()
    assert (refusal.peer, refusal.local, refusal.host_name) == (THEIRS, OURS, "puppet")


def test_too_many_tunnels_try_another() -> None:
    subject = endpoint(LnsSpec("all", limits=LimitsSpec(tunnels=3)))
    for number in range(3):
        Puppet(subject, place=(bytes((10, 0, 0, number)), 1701)).open()
    puppet = Puppet(subject)
    puppet.ask()
    puppet.hear_end(2, 7)
    assert len(subject.tunnels) == 3


def test_too_many_tunnels_of_one_peer() -> None:
    subject = endpoint(LnsSpec("all", limits=LimitsSpec(tunnels_per_peer=2)))
    puppets = [Puppet(subject, tunnel_id=number) for number in (1, 2, 3)]
    puppets[0].open()
    puppets[1].open()
    puppets[2].ask()
    puppets[2].hear_end(2, 4)
    Puppet(subject, place=(bytes((10, 0, 0, 1)), 1701)).open()
    puppets[0].say(STOP, {Avp.ASSIGNED_TUNNEL_ID: 1, **CLEAR})
    puppets[2].ns = puppets[2].nr = 0
    puppets[2].open()


def test_limits_count_when_the_peer_has_shown_itself() -> None:
    subject = endpoint(LnsSpec("all", limits=LimitsSpec(tunnels=1)))
    first, second = Puppet(subject, tunnel_id=1), Puppet(subject, tunnel_id=2)
    for puppet in (first, second):
        puppet.ask()
        puppet.peer_id = puppet.hear(MessageType.SCCRP)[Avp.ASSIGNED_TUNNEL_ID]
    first.say(MessageType.SCCCN)
    assert first.tunnel.established
    second.say(MessageType.SCCCN)
    second.hear_end(2, 7)


def test_when_all_ids_are_in_use_try_another() -> None:
    subject = endpoint()
    subject.reserve(lambda number: True)
    puppet = Puppet(subject)
    puppet.ask()
    puppet.hear_end(2, 7)
    tunnel = puppet.do(lambda now: subject.connect(LacSpec("lac", (THEIRS,)), THEIRS, OURS, now))
    assert puppet.events == [TunnelDown(tunnel, "all tunnel ids are in use", 0, 0)]


def test_ids_of_others_are_not_used() -> None:
    subject = endpoint()
    subject.reserve(lambda number: number != 4711)
    puppet = Puppet(subject)
    assert puppet.open()[Avp.ASSIGNED_TUNNEL_ID] == 4711


def test_refusals_are_few_however_many_ask() -> None:
    subject = endpoint(LnsSpec("nobody", host_names=("x",)))
    puppets = [Puppet(subject, place=(bytes((10, 0, number >> 8, number & 255)), 1701)) for number in range(1000)]
    for puppet in puppets:
        puppet.ask()
    assert sum(len(puppet.packets) for puppet in puppets) == 100
    assert len(subject.take_refusals()) == 10
    puppets[0].now += 1.0
    puppets[0].ns = 0
    puppets[0].ask()
    assert len(subject.take_refusals()) == 1


# -- who comes again -----------------------------------------------------------------------------------------------


def test_a_packet_that_the_network_delivers_twice_begins_nothing() -> None:
    puppet = Puppet(endpoint())
    puppet.open()
    puppet.ns = 0
    puppet.now += 4.0
    puppet.ask()
    puppet.silence()
    assert puppet.subject.half_open == 0


def test_a_peer_that_uses_its_id_again_replaces_its_tunnel_once_it_has_shown_itself() -> None:
    subject = endpoint()
    puppet = Puppet(subject)
    puppet.open()
    old = puppet.tunnel
    call = puppet.call()
    again = Puppet(subject)
    again.now = 200.0
    again.ask()
    assert old.established
    assert subject.tunnels == {old.id: old}
    again.peer_id = again.hear(MessageType.SCCRP)[Avp.ASSIGNED_TUNNEL_ID]
    again.say(MessageType.SCCCN)
    assert again.events == [
        CallDown(call, "the peer began anew", 0, 0),
        TunnelDown(old, "the peer began anew", 0, 0),
        TunnelUp(again.tunnel),
    ]
    assert subject.tunnels == {again.peer_id: again.tunnel}
    assert subject.counters.replaced == 1
    # Nothing was said to the peer that could be taken for the new tunnel's.
    assert kinds(again.packets) == [MessageType.SCCRP, 0]


def test_a_peer_that_opens_another_tunnel_is_asked_whether_it_knows_the_first() -> None:
    subject = endpoint()
    first, second = Puppet(subject, tunnel_id=1), Puppet(subject, tunnel_id=2)
    first.open()
    second.open()
    [hello] = [data for data in second.packets if decode_control(data)[0].tunnel_id == 1]
    assert peek_type(decode_control(hello)[1]) == MessageType.HELLO
    # It does not: half a minute later the first one is gone.
    second.wait(32.0)
    assert list(subject.tunnels) == [second.peer_id]


def test_two_peers_behind_one_address_have_a_tunnel_each() -> None:
    subject = endpoint()
    first, second = Puppet(subject, tunnel_id=1), Puppet(subject, tunnel_id=2)
    first.open()
    second.open({Avp.HOST_NAME: "neighbour"})
    second.now = first.now = 160.0
    first.acknowledge()
    second.acknowledge()
    assert len(subject.tunnels) == 2


# -- the end -------------------------------------------------------------------------------------------------------


def test_we_end_a_tunnel_and_its_calls() -> None:
    puppet = Puppet(endpoint())
    puppet.open()
    call, tunnel = puppet.call(), puppet.tunnel
    puppet.events.clear()
    puppet.do(lambda now: puppet.subject.close(tunnel, now, 6, 0, "maintenance"))
    avps = puppet.hear_end(6)
    assert avps[Avp.ASSIGNED_TUNNEL_ID] == tunnel.id
    assert puppet.events == [CallDown(call, "maintenance", 0, 0), TunnelDown(tunnel, "maintenance", 6, 0)]
    assert tunnel.closing
    assert not tunnel.calls
    puppet.wait(1.0)
    assert kinds(puppet.packets[-2:]) == [STOP, STOP]
    puppet.acknowledge()
    assert not puppet.subject.tunnels


def test_the_peer_ends_a_tunnel_and_its_calls() -> None:
    puppet = Puppet(endpoint())
    puppet.open()
    call, tunnel = puppet.call(), puppet.tunnel
    puppet.events.clear()
    puppet.say(STOP, {Avp.ASSIGNED_TUNNEL_ID: 77, Avp.RESULT_CODE: ResultCode(6, 0, "good night")})
    reason = "the peer ended it: the peer is being shut down (good night)"
    assert puppet.events == [CallDown(call, reason, 0, 0), TunnelDown(tunnel, reason, 6, 0)]
    assert not puppet.subject.tunnels


def test_what_a_peer_repeats_after_the_end_is_acknowledged_for_a_while() -> None:
    puppet = Puppet(endpoint())
    puppet.open()
    puppet.packets.clear()
    end = encode_control(puppet.peer_id, 0, puppet.ns, puppet.nr, encode(STOP, {Avp.ASSIGNED_TUNNEL_ID: 77, **CLEAR}))
    puppet.packet(end)
    puppet.wait(30.0)
    puppet.packet(end)
    header, payload = decode_control(puppet.packets[1])
    assert puppet.packets[0] == puppet.packets[1]
    assert (header.tunnel_id, header.ns, header.nr, payload) == (77, 1, puppet.ns + 1, b"")
    puppet.packet(end, (THEIRS[0], 1702))
    puppet.wait(2.0)
    puppet.packet(end)
    assert len(puppet.packets) == 2
    assert puppet.subject.deadline is None


def test_after_our_own_end_too_what_a_peer_repeats_is_acknowledged() -> None:
    puppet = Puppet(endpoint())
    puppet.open()
    tunnel = puppet.tunnel
    hello = encode_control(puppet.peer_id, 0, puppet.ns, puppet.nr, encode(MessageType.HELLO, {}))
    puppet.packet(hello)
    puppet.ns += 1
    puppet.do(lambda now: puppet.subject.close(tunnel, now))
    puppet.acknowledge()
    assert not puppet.subject.tunnels
    puppet.packets.clear()
    puppet.packet(hello)
    header, payload = decode_control(puppet.packets[0])
    assert (header.tunnel_id, header.nr, payload) == (77, puppet.ns, b"")


def test_the_id_of_a_tunnel_is_not_used_again_at_once() -> None:
    subject = endpoint()
    allowed = {100, 200}
    subject.reserve(lambda number: number not in allowed)
    puppet = Puppet(subject, tunnel_id=1)
    first = puppet.open()[Avp.ASSIGNED_TUNNEL_ID]
    puppet.say(STOP, {Avp.ASSIGNED_TUNNEL_ID: 1, **CLEAR})
    puppet = Puppet(subject, tunnel_id=2)
    second = puppet.open()[Avp.ASSIGNED_TUNNEL_ID]
    assert {first, second} == allowed
    puppet.say(STOP, {Avp.ASSIGNED_TUNNEL_ID: 2, **CLEAR})
    puppet = Puppet(subject, tunnel_id=3)
    puppet.ask()
    puppet.hear_end(2, 7)
    puppet.wait(32.0)
    Puppet(subject, tunnel_id=4).open()


def test_a_peer_that_refuses_us_is_heard_and_acknowledged() -> None:
    puppet = Puppet(endpoint())
    tunnel, _ = puppet.called()
    puppet.say(STOP, {Avp.ASSIGNED_TUNNEL_ID: 77, Avp.RESULT_CODE: ResultCode(2, 7, "full")})
    assert puppet.events == [TunnelDown(tunnel, "the peer ended it: try another (full)", 2, 7)]
    header, payload = decode_control(puppet.packets[-1])
    assert (header.tunnel_id, header.nr, payload) == (77, 1, b"")


def test_a_peer_may_change_its_mind_before_our_sccrp_comes() -> None:
    puppet = Puppet(endpoint())
    puppet.ask()
    puppet.say(STOP, {Avp.ASSIGNED_TUNNEL_ID: 77, **CLEAR})
    assert puppet.subject.half_open == 0
    header, payload = decode_control(puppet.packets[-1])
    assert (header.tunnel_id, header.nr, payload) == (77, 2, b"")


def test_a_late_sccrp_is_answered_so_that_the_peer_need_not_wait() -> None:
    puppet = Puppet(endpoint())
    puppet.peer_id = 4711
    puppet.say(MessageType.SCCRP, {**HELLO, Avp.ASSIGNED_TUNNEL_ID: 77})
    assert puppet.subject.counters.unknown_tunnel == 1
    header, _ = decode_control(puppet.packets[0])
    assert (header.tunnel_id, header.ns, header.nr) == (77, 1, 1)
    assert kinds(puppet.packets) == [STOP]


@pytest.mark.parametrize("kind", [MessageType.SCCCN, MessageType.HELLO, MessageType.ICCN, STOP])
def test_nothing_else_is_said_about_an_unknown_tunnel(kind: MessageType) -> None:
    puppet = Puppet(endpoint())
    puppet.peer_id = 4711
    puppet.say_raw(join(MANDATORY, Avp.MESSAGE_TYPE, kind.to_bytes(2, "big")))
    assert not puppet.packets


def test_a_tunnel_without_calls_is_closed_after_a_while() -> None:
    puppet = Puppet(endpoint(LnsSpec("all", control=ControlSpec(empty_timeout=40.0))))
    puppet.open()
    puppet.wait(30.0)
    call = puppet.call()
    puppet.acknowledge()
    puppet.wait(50.0)
    assert puppet.tunnel.established
    puppet.say(MessageType.CDN, {Avp.RESULT_CODE: ResultCode(3), Avp.ASSIGNED_SESSION_ID: 5}, call.id)
    puppet.wait(39.0)
    puppet.silence()
    puppet.wait(1.1)
    puppet.hear_end(1)
    assert puppet.took(TunnelDown)[0].reason == "there was no call for long"


def test_a_tunnel_of_ours_is_closed_properly_before_it_is_up() -> None:
    sites = lac, lns = Site(1), Site(2)
    world = World(*sites)
    tunnel = world.connect(lac, lns)
    world.close(lac, tunnel)
    world.run(2.0)
    for site in sites:
        site.assert_clean()
    assert not lns.took(TunnelUp)


def test_shutdown_ends_everything_and_lets_nothing_begin() -> None:
    lac, lns, other = Site(1), Site(2), Site(3)
    world = World(lac, lns, other)
    world.place(lac, world.connect(lac, lns))
    world.place(lns, world.connect(lns, other))
    world.run(1.0)
    world.connect(other, lns, own=False)
    world.shutdown(lns)
    late = world.connect(lac, lns)
    world.run(2.0)
    for site in (lac, lns, other):
        site.assert_clean()
    reason = "the peer ended it: the peer is being shut down (kl2tp stops)"
    assert lac.took(TunnelDown)[-1] == TunnelDown(late, reason, 6, 0)
    tunnel = world.connect(lns, other)
    assert lns.took(TunnelDown)[-1] == TunnelDown(tunnel, "kl2tp stops", 0, 0)


def test_a_stopccn_that_is_lost_is_repeated() -> None:
    lac, lns = Site(1), Site(2)
    world = up(lac, lns)
    world.fates = iter([LOST, LOST])
    world.close(lac, lac.tunnel)
    world.run(2.5)
    assert lns.tunnel.established
    world.run(2.0)
    for site in (lac, lns):
        site.assert_clean()


# -- what cannot be understood ---------------------------------------------------------------------------------------


def test_a_message_that_must_be_understood_and_is_not_ends_the_tunnel() -> None:
    for payload, error in (
        (join(MANDATORY, Avp.MESSAGE_TYPE, b"\0\x63"), 8),
        (encode(MessageType.HELLO, {}) + join(MANDATORY, 999, b""), 8),
        (encode(MessageType.HELLO, {}) + b"\x80", 2),
    ):
        puppet = Puppet(endpoint())
        puppet.open()
        puppet.say_raw(payload)
        puppet.hear_end(2, error)
        assert puppet.took(TunnelDown)


def test_what_need_not_be_understood_is_ignored() -> None:
    puppet = Puppet(endpoint())
    puppet.open()
    puppet.say_raw(join(0, Avp.MESSAGE_TYPE, b"\0\x63"))
    puppet.say_raw(encode(MessageType.HELLO, {}) + join(0, 999, b""))
    puppet.silence()
    assert puppet.tunnel.established


def test_an_sccrq_of_another_version_is_told_ours() -> None:
    puppet = Puppet(endpoint())
    puppet.ask({Avp.PROTOCOL_VERSION: 0x0200})
    puppet.hear_end(5, 0x0100)


def test_an_sccrp_that_lacks_something_ends_the_tunnel() -> None:
    puppet = Puppet(endpoint())
    tunnel, _ = puppet.called()
    header = join(MANDATORY, Avp.MESSAGE_TYPE, b"\0\2")
    puppet.say_raw(header + join(MANDATORY, Avp.ASSIGNED_TUNNEL_ID, b"\0\x4d"))
    puppet.hear_end(2, 3)
    assert puppet.took(TunnelDown)[0].tunnel is tunnel


def test_what_we_say_about_us_is_the_same_in_sccrq_and_sccrp() -> None:
    _, asked = Puppet(endpoint(name="one")).called(LacSpec("lac", (THEIRS,), own_tunnel=True))
    answered = Puppet(endpoint(name="one")).open()
    assert asked.keys() == answered.keys()
    assert {**asked, Avp.ASSIGNED_TUNNEL_ID: 1} == {**answered, Avp.ASSIGNED_TUNNEL_ID: 1}


def test_an_sccrq_that_tells_no_id_is_dropped() -> None:
    puppet = Puppet(endpoint())
    header = join(MANDATORY, Avp.MESSAGE_TYPE, b"\0\1")
    puppet.say_raw(header)
    puppet.say_raw(header + join(MANDATORY, Avp.ASSIGNED_TUNNEL_ID, b"\0\0"))
    puppet.say_raw(header + b"\x80\x05")
    assert not puppet.packets
    puppet.ns = 0
    puppet.say_raw(header + join(MANDATORY, Avp.ASSIGNED_TUNNEL_ID, b"\0\x4d"))
    puppet.hear_end(2, 3)


@pytest.mark.parametrize("kind", [MessageType.SCCRQ, MessageType.SCCRP, MessageType.SCCCN])
def test_a_message_of_set_up_that_is_not_due_ends_the_tunnel(kind: MessageType) -> None:
    puppet = Puppet(endpoint())
    puppet.open()
    avps: dict[Avp, Any] = {} if kind is MessageType.SCCCN else {**HELLO, Avp.ASSIGNED_TUNNEL_ID: 77}
    puppet.say(kind, avps)
    puppet.hear_end(7)


def test_a_call_before_the_tunnel_is_established_ends_it() -> None:
    puppet = Puppet(endpoint())
    puppet.ask()
    puppet.peer_id = puppet.hear(MessageType.SCCRP)[Avp.ASSIGNED_TUNNEL_ID]
    puppet.say(MessageType.ICRQ, {Avp.ASSIGNED_SESSION_ID: 5, Avp.CALL_SERIAL_NUMBER: 1})
    puppet.hear_end(7)


def test_a_peer_that_has_us_answer_and_never_acknowledges_is_ended() -> None:
    puppet = Puppet(endpoint())
    puppet.open()
    tunnel = puppet.tunnel
    nr = puppet.nr
    for number in range(5000):
        puppet.nr = nr
        puppet.say(MessageType.ICRQ, {Avp.ASSIGNED_SESSION_ID: 1 + number, Avp.CALL_SERIAL_NUMBER: number})
        puppet.answers.clear()
    assert tunnel.closing
    assert puppet.took(TunnelDown)[0].reason == "the peer acknowledges too little"
    assert not tunnel.calls
    assert tunnel.channel.unacked < 4200


# -- tie breakers ----------------------------------------------------------------------------------------------------


def _contest(ours: bytes | None, theirs: bytes | None) -> tuple[Puppet, bool, bool]:
    """Two SCCRQs that cross: whether ours still stands, whether theirs was answered."""
    puppet = Puppet(endpoint())
    tunnel, _ = puppet.called(LacSpec("lac", (THEIRS,), own_tunnel=ours is None))
    if ours is not None:
        tunnel.tie_breaker = ours
    puppet.peer_id = 0
    puppet.ask({Avp.TIE_BREAKER: theirs} if theirs is not None else {})
    return puppet, tunnel.state is TunnelState.WAIT_CTL_REPLY, MessageType.SCCRP in kinds(puppet.packets)


LOW, HIGH = bytes(7) + b"\1", b"\1" + bytes(7)


@pytest.mark.parametrize(
    ("ours", "theirs", "ours_stands", "theirs_stands"),
    [
        (LOW, HIGH, True, False),
        (HIGH, LOW, False, True),
        (LOW, LOW, False, False),
        (LOW, None, True, False),
        (None, LOW, False, True),
        (None, None, True, True),
    ],
)
def test_the_lower_tie_breaker_wins(
    ours: bytes | None, theirs: bytes | None, ours_stands: bool, theirs_stands: bool
) -> None:
    puppet, first, second = _contest(ours, theirs)
    assert (first, second) == (ours_stands, theirs_stands)
    assert STOP not in kinds(puppet.packets)
    assert len(puppet.took(TunnelDown)) == (not ours_stands)


def test_a_peer_that_may_not_call_wins_no_tie() -> None:
    subject = endpoint(LnsSpec("others", host_names=("x",)))
    tunnel, _ = Puppet(subject).called()
    puppet = Puppet(subject)
    puppet.ask({Avp.TIE_BREAKER: bytes(8)})
    puppet.hear_end(4)
    assert tunnel.state is TunnelState.WAIT_CTL_REPLY


def test_a_tunnel_that_is_to_be_shared_has_a_tie_breaker() -> None:
    _, avps = Puppet(endpoint()).called(LacSpec("lac", (THEIRS,)))
    assert len(avps[Avp.TIE_BREAKER]) == 8
    _, avps = Puppet(endpoint()).called(LacSpec("lac", (THEIRS,), own_tunnel=True))
    assert Avp.TIE_BREAKER not in avps


# -- hello -----------------------------------------------------------------------------------------------------------


def test_hello_goes_out_only_after_silence_and_is_acknowledged() -> None:
    control = ControlSpec(hello_interval=20.0, empty_timeout=0.0)
    sites = lac, lns = Site(1, (LnsSpec("all", control=control),)), Site(2, (LnsSpec("all", control=SILENT),))
    world = World(*sites)
    world.connect(lac, lns, LacSpec("lac", (lns.place,), control=control))
    world.run(19.0)
    world.carried.clear()
    world.run(60.5)
    assert kinds(world.carried) == [MessageType.HELLO, 0] * 3
    assert {decode_control(data)[0].session_id for data in world.carried} == {0}
    assert lac.tunnel.established


def test_nobody_is_missed_who_sends_no_hello() -> None:
    sites = lac, lns = Site(1, (LnsSpec("all", control=SILENT),)), Site(2, (LnsSpec("all", control=SILENT),))
    world = World(*sites)
    world.connect(lac, lns, LacSpec("lac", (lns.place,), control=SILENT))
    world.run(100_000.0)
    assert lac.tunnel.established
    assert lns.tunnel.established


# -- profiles --------------------------------------------------------------------------------------------------------


def test_a_new_configuration_counts_for_old_tunnels_too() -> None:
    subject = endpoint(LnsSpec("all", limits=LimitsSpec(sessions=1)), LnsSpec("gone", host_names=("gone",)))
    puppet = Puppet(subject, tunnel_id=1)
    puppet.open()
    other = Puppet(subject, tunnel_id=2)
    other.open({Avp.HOST_NAME: "gone"})
    subject.profiles = Profiles((LnsSpec("all", limits=LimitsSpec(sessions=5)),))
    assert puppet.tunnel.profile is subject.profiles.named("all")
    assert other.tunnel.profile.name == "gone"
    puppet.call(1)
    puppet.call(2)
