"""Calls, incoming and outgoing, on both ends: placed, taken, refused, told about, and ended."""

from typing import Any

import pytest

from kl2tp.control.endpoint import CallDown, CallOffered, CallUp, LineErrors, LinkInfo, TunnelDown
from kl2tp.control.tables import CallRole, CallState
from kl2tp.model.calls import ControlSpec, LacSpec, LimitsSpec, LnsSpec
from kl2tp.wire.avp import MANDATORY, Avp, join
from kl2tp.wire.messages import MessageType, encode
from kl2tp.wire.values import Accm, CallErrors, Q931Cause, ResultCode
from unit.control.puppet import CONNECTED, WISH, Puppet, endpoint
from unit.control.world import QUICK, Site, World, up

ICRQ, ICRP, ICCN = MessageType.ICRQ, MessageType.ICRP, MessageType.ICCN
OCRQ, OCRP, OCCN = MessageType.OCRQ, MessageType.OCRP, MessageType.OCCN
CDN, WEN, SLI = MessageType.CDN, MessageType.WEN, MessageType.SLI
ASK = {Avp.ASSIGNED_SESSION_ID: 5, Avp.CALL_SERIAL_NUMBER: 1}
CLEAR = {Avp.RESULT_CODE: ResultCode(3), Avp.ASSIGNED_SESSION_ID: 5}


def _lac(**limits: Any) -> Puppet:
    """A peer that is the LAC, with its tunnel up."""
    puppet = Puppet(endpoint(LnsSpec("all", limits=LimitsSpec(**limits))))
    puppet.open()
    puppet.events.clear()
    return puppet


def _lns(more: dict[Avp, Any] | None = None) -> Puppet:
    """A peer that we called, with the tunnel up."""
    puppet = Puppet(endpoint())
    puppet.accept(more)
    puppet.events.clear()
    return puppet


# -- incoming calls, as LNS ------------------------------------------------------------------------------------------


def test_a_call_comes_in() -> None:
    puppet = _lac()
    numbers = {Avp.CALLED_NUMBER: "100", Avp.CALLING_NUMBER: "200", Avp.SUB_ADDRESS: "7", Avp.PHYSICAL_CHANNEL_ID: 3}
    puppet.say(ICRQ, {Avp.ASSIGNED_SESSION_ID: 5, Avp.CALL_SERIAL_NUMBER: 99, **numbers})
    call_id = puppet.hear(ICRP, 5)[Avp.ASSIGNED_SESSION_ID]
    call = puppet.tunnel.calls[call_id]
    assert puppet.events == [CallOffered(call)]
    assert call.state is CallState.WAIT_CONNECT
    proxy = {Avp.PROXY_AUTHEN_TYPE: 2, Avp.PROXY_AUTHEN_NAME: b"joe", Avp.LAST_SENT_LCP_CONFREQ: b"\1\4\5\xdc"}
    speeds = {Avp.TX_CONNECT_SPEED: 64000, Avp.RX_CONNECT_SPEED: 32000, Avp.FRAMING_TYPE: 1}
    puppet.say(ICCN, {**speeds, **proxy, Avp.PRIVATE_GROUP_ID: "blue"}, call_id)
    assert puppet.events == [CallOffered(call), CallUp(call)]
    puppet.silence()
    assert (call.id, call.peer_id, call.tunnel) == (call_id, 5, puppet.tunnel)
    assert (call.lns, call.outgoing, call.placed, call.established) == (True, False, False, True)
    assert (call.serial, call.called_number, call.calling_number, call.sub_address) == (99, "100", "200", "7")
    assert (call.tx_speed, call.rx_speed, call.proxy) == (64000, 32000, proxy)
    assert not call.sequencing_required


def test_the_receive_speed_is_that_of_sending_unless_it_is_told() -> None:
    puppet = _lac()
    call = puppet.call()
    assert (call.tx_speed, call.rx_speed) == (64000, 64000)


def test_the_lac_may_insist_on_sequence_numbers() -> None:
    assert _lac().call(more={Avp.SEQUENCING_REQUIRED: True}).sequencing_required


def test_a_call_can_wait_until_it_is_accepted() -> None:
    puppet = _lac()
    puppet.subject.manual_accept = True
    puppet.say(ICRQ, ASK)
    puppet.silence()
    [offered] = puppet.took(CallOffered)
    assert offered.call.state is CallState.WAIT_ACCEPT
    puppet.do(lambda now: puppet.subject.accept(offered.call, now))
    assert puppet.hear(ICRP, 5)[Avp.ASSIGNED_SESSION_ID] == offered.call.id


def test_a_call_that_is_offered_can_be_refused() -> None:
    puppet = _lac()
    puppet.subject.manual_accept = True
    puppet.say(ICRQ, ASK)
    [offered] = puppet.took(CallOffered)
    puppet.do(lambda now: puppet.subject.hang_up(offered.call, now, 8, message="busy"))
    puppet.hear_cdn(8, session_id=5)
    assert puppet.events[1:] == [CallDown(offered.call, "busy", 8, 0)]


def test_the_peer_clears_a_call() -> None:
    puppet = _lac()
    call = puppet.call()
    cause = Q931Cause(16, 0, "normal")
    cleared = {**CLEAR, Avp.RESULT_CODE: ResultCode(1, 0, "gone"), Avp.Q931_CAUSE_CODE: cause}
    puppet.say(CDN, cleared, call.id)
    puppet.silence()
    reason = "the peer ended it: loss of carrier (gone)"
    assert puppet.events[-1] == CallDown(call, reason, 1, 0, cause)
    assert not puppet.tunnel.calls
    assert puppet.tunnel.established


def test_the_peer_clears_a_call_whose_id_it_has_not_learnt_yet() -> None:
    puppet = _lac()
    puppet.say(ICRQ, ASK)
    puppet.say(CDN, CLEAR)
    assert len(puppet.took(CallDown)) == 1
    assert not puppet.tunnel.calls


def test_we_clear_a_call() -> None:
    puppet = _lac()
    call = puppet.call()
    cause = Q931Cause(16, 0)
    puppet.do(lambda now: puppet.subject.hang_up(call, now, 3, 0, "no longer wanted", cause))
    avps = puppet.hear_cdn(3, session_id=5)
    assert (avps[Avp.ASSIGNED_SESSION_ID], avps[Avp.Q931_CAUSE_CODE]) == (call.id, cause)
    assert puppet.events[-1] == CallDown(call, "no longer wanted", 3, 0)
    puppet.do(lambda now: puppet.subject.hang_up(call, now))
    puppet.silence()


def test_a_call_that_is_never_connected_is_cleared() -> None:
    puppet = _lac()
    puppet.say(ICRQ, ASK)
    puppet.hear(ICRP)
    puppet.acknowledge()
    puppet.wait(30.1)
    puppet.hear_cdn(10, session_id=5)
    assert puppet.took(CallDown)[0].reason == "set-up took too long"


def test_errors_on_the_line_are_told() -> None:
    puppet = _lac()
    call = puppet.call()
    errors = CallErrors(1, 2, 3, 4, 5, 6)
    puppet.say(WEN, {Avp.CALL_ERRORS: errors}, call.id)
    assert puppet.events[-1] == LineErrors(call, errors)
    puppet.say(SLI, {Avp.ACCM: Accm(0, 0)}, call.id)
    assert isinstance(puppet.events[-1], LineErrors)
    puppet.silence()
    assert call.established


# -- incoming calls, as LAC ------------------------------------------------------------------------------------------


def test_we_announce_a_call() -> None:
    puppet = _lns()
    call = puppet.do(
        lambda now: puppet.subject.place_call(
            puppet.tunnel,
            now,
            called_number="100",
            calling_number="200",
            sub_address="7",
            sequencing=True,
            more={Avp.TX_CONNECT_SPEED: 128000, Avp.PROXY_AUTHEN_TYPE: 4},
        )
    )
    avps = puppet.hear(ICRQ, 0)
    assert avps[Avp.ASSIGNED_SESSION_ID] == call.id
    assert (avps[Avp.CALLED_NUMBER], avps[Avp.CALLING_NUMBER], avps[Avp.SUB_ADDRESS]) == ("100", "200", "7")
    assert avps[Avp.CALL_SERIAL_NUMBER] == call.serial
    puppet.say(ICRP, {Avp.ASSIGNED_SESSION_ID: 5}, call.id)
    avps = puppet.hear(ICCN, 5)
    assert (avps[Avp.TX_CONNECT_SPEED], avps[Avp.FRAMING_TYPE], avps[Avp.PROXY_AUTHEN_TYPE]) == (128000, 1, 4)
    assert Avp.SEQUENCING_REQUIRED in avps
    assert puppet.events == [CallUp(call)]
    assert (call.lns, call.outgoing, call.placed, call.peer_id) == (False, False, True, 5)


def test_serial_numbers_are_different() -> None:
    puppet = _lns()
    for _ in range(3):
        puppet.do(lambda now: puppet.subject.place_call(puppet.tunnel, now))
    puppet.acknowledge()
    puppet.acknowledge()
    serials = [message.avps[Avp.CALL_SERIAL_NUMBER] for _, message in puppet.answers if message is not None]
    assert len(set(serials)) == 3


def test_a_call_waits_for_its_tunnel() -> None:
    puppet = Puppet(endpoint())
    tunnel, _ = puppet.called()
    call = puppet.do(lambda now: puppet.subject.place_call(tunnel, now))
    assert call.state is CallState.WAIT_TUNNEL
    puppet.silence()
    puppet.say(MessageType.STOPCCN, {Avp.ASSIGNED_TUNNEL_ID: 77, Avp.RESULT_CODE: ResultCode(4)})
    reason = "the peer ended it: not authorized"
    assert puppet.events == [CallDown(call, reason, 0, 0), TunnelDown(tunnel, reason, 4, 0)]


def test_a_call_that_waits_can_be_ended() -> None:
    puppet = Puppet(endpoint())
    tunnel, _ = puppet.called()
    call = puppet.do(lambda now: puppet.subject.place_call(tunnel, now))
    puppet.do(lambda now: puppet.subject.hang_up(call, now))
    assert puppet.events == [CallDown(call, "closed", 3, 0)]
    puppet.silence()
    assert not tunnel.calls


def test_a_call_in_a_tunnel_that_is_gone_fails_at_once() -> None:
    puppet = _lns()
    tunnel = puppet.tunnel
    puppet.do(lambda now: puppet.subject.close(tunnel, now))
    call = puppet.do(lambda now: puppet.subject.place_call(tunnel, now))
    assert puppet.events[-1] == CallDown(call, "the tunnel is gone", 0, 0)


def test_a_call_of_ours_that_is_refused() -> None:
    puppet = _lns()
    call = puppet.do(lambda now: puppet.subject.place_call(puppet.tunnel, now))
    puppet.say(CDN, {Avp.RESULT_CODE: ResultCode(2, 4, "full"), Avp.ASSIGNED_SESSION_ID: 5}, call.id)
    assert puppet.events == [CallDown(call, "the peer ended it: out of resources (full)", 2, 4)]


def test_a_call_that_is_ended_before_the_answer_comes() -> None:
    puppet = _lns()
    call = puppet.do(lambda now: puppet.subject.place_call(puppet.tunnel, now))
    puppet.hear(ICRQ)
    puppet.do(lambda now: puppet.subject.hang_up(call, now))
    puppet.say(ICRP, {Avp.ASSIGNED_SESSION_ID: 5}, call.id)
    # The header cannot name the call yet, the message does.
    assert puppet.hear_cdn(3, session_id=0)[Avp.ASSIGNED_SESSION_ID] == call.id
    puppet.silence()


def test_an_answer_with_the_id_of_another_call_is_not_acceptable() -> None:
    puppet = _lns()
    calls = [puppet.do(lambda now: puppet.subject.place_call(puppet.tunnel, now)) for _ in range(2)]
    for call in calls:
        puppet.say(ICRP, {Avp.ASSIGNED_SESSION_ID: 5}, call.id)
    assert [event.call for event in puppet.took(CallUp)] == [calls[0]]
    [down] = puppet.took(CallDown)
    assert (down.call, down.result, down.error) == (calls[1], 2, 5)
    assert puppet.tunnel.peer_ids == {5: calls[0]}


def test_the_lns_tells_what_ppp_escapes() -> None:
    puppet = _lns()
    call = puppet.do(lambda now: puppet.subject.place_call(puppet.tunnel, now))
    puppet.say(ICRP, {Avp.ASSIGNED_SESSION_ID: 5}, call.id)
    puppet.say(SLI, {Avp.ACCM: Accm(1, 2)}, call.id)
    assert puppet.events[-1] == LinkInfo(call, Accm(1, 2))
    puppet.say(SLI, {Avp.ACCM: Accm(3, 4)}, call.id)
    assert puppet.events[-1] == LinkInfo(call, Accm(3, 4))


def test_both_ends_tell_of_the_line() -> None:
    lac, lns = Site(1), Site(2)
    world = up(lac, lns)
    errors, accm = CallErrors(1, 0, 0, 0, 0, 9), Accm(0xFFFF, 0)
    world.turn(lac, lambda endpoint: endpoint.send_line_errors(lac.call, errors, world.now))
    world.turn(lac, lambda endpoint: endpoint.send_link_info(lac.call, accm, world.now))
    world.turn(lns, lambda endpoint: endpoint.send_link_info(lns.call, accm, world.now))
    world.turn(lns, lambda endpoint: endpoint.send_line_errors(lns.call, errors, world.now))
    world.run(1.0)
    assert lns.events[-1] == LineErrors(lns.call, errors)
    assert lac.events[-1] == LinkInfo(lac.call, accm)
    assert len(lns.events) == len(lac.events) + 1  # the offer


def test_nothing_is_told_of_a_line_before_the_call_is_up() -> None:
    puppet = _lac()
    puppet.say(ICRQ, ASK)
    puppet.hear(ICRP)
    [call] = puppet.tunnel.calls.values()
    puppet.do(lambda now: puppet.subject.send_link_info(call, Accm(0, 0), now))
    puppet.silence()
    puppet = _lns()
    call = puppet.do(lambda now: puppet.subject.place_call(puppet.tunnel, now))
    puppet.hear(ICRQ)
    puppet.do(lambda now: puppet.subject.send_line_errors(call, CallErrors(0, 0, 0, 0, 0, 0), now))
    puppet.acknowledge()
    puppet.silence()


# -- outgoing calls --------------------------------------------------------------------------------------------------


def test_we_have_an_lac_place_a_call() -> None:
    puppet = _lns({Avp.BEARER_CAPABILITIES: 1, Avp.FRAMING_CAPABILITIES: 2})
    call = puppet.do(lambda now: puppet.subject.place_call(puppet.tunnel, now, outgoing=True, called_number="555"))
    avps = puppet.hear(OCRQ, 0)
    assert avps == {
        Avp.ASSIGNED_SESSION_ID: call.id,
        Avp.CALL_SERIAL_NUMBER: call.serial,
        Avp.MINIMUM_BPS: 0,
        Avp.MAXIMUM_BPS: 10_000_000,
        Avp.BEARER_TYPE: 1,
        Avp.FRAMING_TYPE: 2,
        Avp.CALLED_NUMBER: "555",
    }
    puppet.say(OCRP, {Avp.ASSIGNED_SESSION_ID: 5}, call.id)
    assert call.state is CallState.WAIT_CONNECT
    puppet.say(OCCN, {**CONNECTED, Avp.SEQUENCING_REQUIRED: True}, call.id)
    assert puppet.events == [CallUp(call)]
    assert (call.lns, call.outgoing, call.placed) == (True, True, True)
    assert (call.tx_speed, call.sequencing_required) == (64000, True)


@pytest.mark.parametrize(
    ("peer", "wish"),
    [
        ({}, {}),
        ({Avp.BEARER_CAPABILITIES: 1}, {Avp.BEARER_TYPE: 2}),
        ({Avp.BEARER_CAPABILITIES: 1}, {Avp.FRAMING_TYPE: 4}),
    ],
)
def test_an_lac_is_asked_only_for_what_it_can_do(peer: dict[Avp, Any], wish: dict[Avp, Any]) -> None:
    puppet = _lns(peer)
    call = puppet.do(lambda now: puppet.subject.place_call(puppet.tunnel, now, outgoing=True, more=wish))
    puppet.silence()
    assert puppet.events == [CallDown(call, "the peer places no calls of this kind", 5, 0)]


def test_outgoing_calls_are_refused_unless_we_place_them() -> None:
    puppet = _lac()
    puppet.say(OCRQ, {**ASK, **WISH})
    puppet.hear_cdn(5, session_id=5)
    assert not puppet.events
    assert not puppet.tunnel.calls


def test_we_place_a_call_for_the_peer() -> None:
    subject = endpoint()
    asked: list[str] = []

    def accept(call: Any) -> bool:
        asked.append(call.called_number)
        return True

    subject.accept_outgoing(accept)
    puppet = Puppet(subject)
    avps = puppet.open()
    assert avps[Avp.BEARER_CAPABILITIES] == 3
    puppet.say(OCRQ, {**ASK, **WISH})
    call_id = puppet.hear(OCRP, 5)[Avp.ASSIGNED_SESSION_ID]
    puppet.acknowledge()
    avps = puppet.hear(OCCN, 5)
    assert avps[Avp.FRAMING_TYPE] == 1
    call = puppet.tunnel.calls[call_id]
    assert asked == ["555"]
    assert puppet.events[1:] == [CallOffered(call), CallUp(call)]
    assert (call.lns, call.outgoing, call.placed, call.role) == (False, True, False, CallRole.LAC_OUTGOING)
    puppet.say(OCRQ, {**ASK, **WISH, Avp.FRAMING_TYPE: 4, Avp.ASSIGNED_SESSION_ID: 6})
    puppet.hear_cdn(2, 3, session_id=6)


def test_the_bearer_capabilities_are_told_only_if_we_place_calls() -> None:
    assert Avp.BEARER_CAPABILITIES not in Puppet(endpoint()).open()
    assert Avp.BEARER_CAPABILITIES not in Puppet(endpoint()).called()[1]


def test_outgoing_calls_between_two_of_us() -> None:
    lac, lns = Site(1), Site(2)
    lac.place_outgoing()
    world = World(lac, lns)
    tunnel = world.connect(lns, lac)
    world.run(1.0)
    world.place(lns, tunnel, outgoing=True, called_number="555", sub_address="1")
    world.run(1.0)
    assert lac.call.established
    assert lns.call.established
    assert (lac.call.called_number, lac.call.sub_address, lac.call.serial) == ("555", "1", lns.call.serial)
    world.hang_up(lac, lac.call)
    world.run(1.0)
    assert not lns.calls
    assert len(lns.took(CallDown)) == 1


# -- limits ----------------------------------------------------------------------------------------------------------


def test_too_many_sessions_try_another() -> None:
    puppet = _lac(sessions=2)
    first = puppet.call(1)
    puppet.call(2)
    puppet.say(ICRQ, {**ASK, Avp.ASSIGNED_SESSION_ID: 3})
    puppet.hear_cdn(2, 7, session_id=3)
    puppet.do(lambda now: puppet.subject.hang_up(first, now))
    puppet.hear_cdn(3)
    puppet.call(4)


def test_too_many_sessions_in_one_tunnel() -> None:
    puppet = _lac(sessions_per_tunnel=1)
    puppet.call(1)
    puppet.say(ICRQ, {**ASK, Avp.ASSIGNED_SESSION_ID: 3})
    puppet.hear_cdn(2, 4, session_id=3)


def test_calls_come_no_faster_than_the_set_up_rate() -> None:
    puppet = _lac(setup_rate=3.0)
    for number in (1, 2, 3):
        puppet.call(number)
    puppet.say(ICRQ, {**ASK, Avp.ASSIGNED_SESSION_ID: 4})
    puppet.hear_cdn(2, 4, session_id=4)
    puppet.acknowledge()
    puppet.wait(0.4)
    puppet.call(4)
    puppet.say(ICRQ, {**ASK, Avp.ASSIGNED_SESSION_ID: 6})
    puppet.hear_cdn(2, 4, session_id=6)


def test_no_calls_come_in_through_a_tunnel_that_we_opened() -> None:
    puppet = _lns()
    puppet.say(ICRQ, ASK)
    puppet.hear_cdn(3, session_id=5)
    assert not puppet.events


# -- what is not due ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ICRQ, ICRP, ICCN, OCRQ, OCRP, OCCN])
def test_a_message_that_is_not_due_ends_the_call(kind: MessageType) -> None:
    puppet = _lac()
    call = puppet.call()
    avps: dict[MessageType, dict[Avp, Any]] = {
        ICRQ: {**ASK, Avp.ASSIGNED_SESSION_ID: 6},
        OCRQ: {**ASK, **WISH, Avp.ASSIGNED_SESSION_ID: 6},
        ICRP: {Avp.ASSIGNED_SESSION_ID: 6},
        OCRP: {Avp.ASSIGNED_SESSION_ID: 6},
        ICCN: CONNECTED,
        OCCN: CONNECTED,
    }
    puppet.say(kind, avps[kind], call.id)
    puppet.hear_cdn(2, 5, session_id=5)
    assert puppet.took(CallDown)
    assert puppet.tunnel.established


def test_a_broken_message_ends_its_call_alone() -> None:
    puppet = _lac()
    call, other = puppet.call(5), puppet.call(6)
    wen = encode(WEN, {Avp.CALL_ERRORS: CallErrors(0, 0, 0, 0, 0, 0)})
    puppet.say_raw(wen + join(MANDATORY, 999, b""), call.id)
    avps = puppet.hear_cdn(2, 8, session_id=5)
    assert avps[Avp.RESULT_CODE].message == "AVP 999 is unknown"
    assert list(puppet.tunnel.calls) == [other.id]
    puppet.say_raw(join(MANDATORY, Avp.MESSAGE_TYPE, b"\0\x0f"), other.id)
    puppet.hear_cdn(2, 3, session_id=6)


def test_a_broken_request_is_refused() -> None:
    puppet = _lac()
    puppet.say_raw(encode(ICRQ, ASK) + join(MANDATORY, 999, b""))
    avps = puppet.hear_cdn(2, 8, session_id=5)
    assert avps[Avp.ASSIGNED_SESSION_ID]
    puppet.say_raw(join(MANDATORY, Avp.MESSAGE_TYPE, b"\0\x0a"))
    puppet.hear_cdn(2, 3, session_id=0)
    assert puppet.tunnel.established
    assert not puppet.events


def test_messages_for_no_call() -> None:
    puppet = _lac()
    for kind, avps in ((ICCN, CONNECTED), (OCCN, CONNECTED), (CDN, CLEAR), (SLI, {Avp.ACCM: Accm(0, 0)})):
        puppet.say(kind, avps, 4711)
    puppet.silence()
    puppet.say(ICRP, {Avp.ASSIGNED_SESSION_ID: 9}, 4711)
    assert puppet.hear_cdn(2, 5, session_id=9)[Avp.ASSIGNED_SESSION_ID] == 4711
    assert puppet.tunnel.established


def test_a_peer_that_uses_the_id_of_a_call_again_has_only_the_new_one() -> None:
    puppet = _lac()
    old = puppet.call(5)
    new = puppet.call(5)
    assert puppet.took(CallDown) == [CallDown(old, "the peer gave its session id to another call", 0, 0)]
    assert puppet.tunnel.calls == {new.id: new}
    assert puppet.tunnel.peer_ids == {5: new}


# -- ids -------------------------------------------------------------------------------------------------------------


def test_ids_are_random_and_different() -> None:
    puppet = _lac()
    ids = [puppet.call(number).id for number in range(1, 200)]
    assert len(set(ids)) == len(ids)
    assert all(ids)
    assert max(ids) - min(ids) > 40_000


def test_the_id_of_a_call_rests_before_it_is_used_again() -> None:
    puppet = _lac()
    call = puppet.call()
    puppet.do(lambda now: puppet.subject.hang_up(call, now))
    tunnel = puppet.tunnel
    assert tunnel.resting is not None
    assert call.id in tunnel.resting
    puppet.acknowledge()
    puppet.wait(5.1)
    tunnel.free_call_id(puppet.now)
    assert call.id not in tunnel.resting


def test_a_peer_that_opens_and_closes_calls_for_ever_costs_nothing() -> None:
    puppet = _lac()
    for number in range(1, 2000):
        puppet.say(ICRQ, {**ASK, Avp.ASSIGNED_SESSION_ID: number})
        puppet.say(CDN, {**CLEAR, Avp.ASSIGNED_SESSION_ID: number})
        puppet.answers.clear()
        puppet.packets.clear()
        puppet.events.clear()
    tunnel = puppet.tunnel
    assert (len(tunnel.calls), len(tunnel.peer_ids), len(tunnel.pending), tunnel.placing) == (0, 0, 0, 0)
    assert tunnel.resting is not None
    assert len(tunnel.resting) <= 1024
    assert tunnel.channel.unacked <= 1
    host = puppet.subject._host
    assert len(host._heap) < 10
    assert host.usage(LnsSpec("all")).sessions == 0


# -- restarts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outgoing", [False, True])
def test_everything_about_a_call_survives_a_restart(outgoing: bool) -> None:
    lac, lns = Site(1), Site(2)
    lac.place_outgoing()
    more = {Avp.TX_CONNECT_SPEED: 1000, Avp.PROXY_AUTHEN_NAME: b"\xff\0joe"} if not outgoing else {}
    asking, asked = (lns, lac) if outgoing else (lac, lns)
    world = up(asking, asked, outgoing=outgoing, called_number="1", sub_address="3", sequencing=not outgoing, more=more)
    before = {
        site: [getattr(site.call, name) for name in ("id", "peer_id", "role", "state", "info", "sequencing_required")]
        for site in (lac, lns)
    }
    world.restart(lac)
    world.restart(lns)
    world.run(1.0)
    for site, values in before.items():
        names = ("id", "peer_id", "role", "state", "info", "sequencing_required")
        assert [getattr(site.call, name) for name in names] == values
        assert site.tunnel.host_name == ("host2" if site is lac else "host1")
    world.hang_up(lns, lns.call)
    world.run(1.0)
    assert not lac.calls
    world.place(asking, asking.tunnel, outgoing=outgoing)
    world.run(1.0)
    assert lac.call.established
    assert lns.call.established


def test_a_call_in_set_up_goes_on_after_a_restart() -> None:
    for steps in range(1, 12):
        lac, lns = Site(1), Site(2)
        world = World(lac, lns)
        tunnel = world.connect(lac, lns)
        world.run(1.0)
        world.place(lac, tunnel)
        for _ in range(steps):
            world.step(world.now + 0.05)
        world.restart(lns)
        world.run(40.0)
        assert lac.call.established
        assert lns.call.established


def test_a_hello_is_not_forgotten_in_a_restart() -> None:
    lac, lns = Site(1), Site(2, (LnsSpec("all", control=ControlSpec(hello_interval=0.0, empty_timeout=0.0)),))
    world = World(lac, lns)
    world.connect(lac, lns)
    world.run(QUICK.hello_interval + 1.0)
    assert lac.tunnel.channel.save()["ns"] == 3
    world.restart(lac)
    world.place(lac, lac.tunnel)
    world.run(1.0)
    assert lns.call.established


def test_what_was_there_before_a_restart_still_counts() -> None:
    limits = LimitsSpec(tunnels=1, sessions=1)
    lac, lns = Site(1), Site(2, (LnsSpec("all", control=QUICK, limits=limits),))
    world = up(lac, lns)
    world.restart(lns)
    usage = lns.endpoint.usages["all"]
    assert (usage.tunnels, usage.sessions) == (1, 1)
    refused = world.place(lac, lac.tunnel)
    world.run(1.0)
    assert lac.took(CallDown)[-1].call is refused
    world.close(lac, lac.tunnel)
    world.run(2.0)
    lns.assert_clean()


def test_a_tunnel_whose_profile_is_gone_is_not_restored() -> None:
    lac, lns = Site(1), Site(2)
    world = up(lac, lns)
    saved = lns.endpoint.save()
    fresh = Site(3).endpoint
    fresh.restore(saved, lambda state: None, world.now)
    assert not fresh.tunnels
    assert [state["profile"] for state in saved["tunnels"]] == ["all"]
    assert len(saved["calls"]) == 1


def test_a_hung_up_call_of_a_lac_leaves_the_tunnel_to_the_others() -> None:
    lac, lns = Site(1, (LnsSpec("all", control=QUICK),)), Site(2)
    world = World(lac, lns)
    spec = LacSpec("lac", (lns.place,), control=ControlSpec(hello_interval=0.0))
    tunnel = world.connect(lac, lns, spec)
    calls = [world.place(lac, tunnel) for _ in range(3)]
    world.run(1.0)
    world.hang_up(lac, calls[1])
    world.run(1.0)
    assert set(lac.calls) == {calls[0], calls[2]}
    assert len(lns.calls) == 2
