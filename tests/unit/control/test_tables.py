"""The transition tables: nothing is left out, and they say what RFC 2661 section 7 says."""

import pytest

from kl2tp.control import call, tunnel
from kl2tp.control.tables import (
    CALLS,
    TUNNEL,
    CallDo,
    CallEvent,
    CallRole,
    CallState,
    TunnelDo,
    TunnelEvent,
    TunnelState,
)

T, TE, TD = TunnelState, TunnelEvent, TunnelDo
C, CE, CD = CallState, CallEvent, CallDo
LAC_IN, LNS_IN, LAC_OUT, LNS_OUT = CallRole


@pytest.mark.parametrize("event", TunnelEvent)
@pytest.mark.parametrize("state", TunnelState)
def test_every_state_of_a_tunnel_has_every_event(state: TunnelState, event: TunnelEvent) -> None:
    step = TUNNEL[state][event]
    assert step.do in tunnel._DO
    assert step.next in TUNNEL


@pytest.mark.parametrize("event", CallEvent)
@pytest.mark.parametrize(("role", "state"), [(role, state) for role in CallRole for state in CALLS[role]])
def test_every_state_of_a_call_has_every_event(role: CallRole, state: CallState, event: CallEvent) -> None:
    step = CALLS[role][state][event]
    assert step.do in call._DO
    assert step.next in CALLS[role]


def test_every_action_is_used() -> None:
    assert {step.do for cells in TUNNEL.values() for step in cells.values()} == set(TunnelDo)
    used = {step.do for table in CALLS.values() for cells in table.values() for step in cells.values()}
    assert used == set(CallDo)


def test_every_state_can_be_reached_and_left() -> None:
    tables = [TUNNEL, *CALLS.values()]
    for table in tables:
        reached = {table_step.next for cells in table.values() for table_step in cells.values()}  # type: ignore[attr-defined]
        assert reached == set(table)
        for state, cells in table.items():  # type: ignore[attr-defined]
            assert any(step.next is not state for step in cells.values())


@pytest.mark.parametrize("states", [TUNNEL, *CALLS.values()])
def test_only_what_ends_goes_to_idle(states: object) -> None:
    ending = {TD.REFUSE, TD.DROP, TD.DISCARD, CD.REFUSE, CD.CLEAR, CD.FAULT, CD.DROP}
    for state, cells in states.items():  # type: ignore[attr-defined]
        for step in cells.values():
            if step.next == 0 and state != 0:
                assert step.do in ending


RFC_7_2_1 = [
    (T.IDLE, TE.OPEN, TD.REQUEST, T.WAIT_CTL_REPLY),
    (T.IDLE, TE.SCCRQ, TD.REPLY, T.WAIT_CTL_CONN),
    (T.IDLE, TE.SCCRQ_BAD, TD.REFUSE, T.IDLE),
    (T.IDLE, TE.SCCRP, TD.REFUSE, T.IDLE),
    (T.IDLE, TE.SCCCN, TD.NOTHING, T.IDLE),
    (T.WAIT_CTL_REPLY, TE.SCCRP, TD.CONNECT, T.ESTABLISHED),
    (T.WAIT_CTL_REPLY, TE.SCCRP_BAD, TD.STOP, T.STOPPING),
    (T.WAIT_CTL_REPLY, TE.TIE_LOST, TD.DISCARD, T.IDLE),
    (T.WAIT_CTL_REPLY, TE.SCCCN, TD.FAULT, T.STOPPING),
    (T.WAIT_CTL_CONN, TE.SCCCN, TD.UP, T.ESTABLISHED),
    (T.WAIT_CTL_CONN, TE.SCCCN_BAD, TD.STOP, T.STOPPING),
    (T.WAIT_CTL_CONN, TE.SCCRP, TD.FAULT, T.STOPPING),
    (T.WAIT_CTL_CONN, TE.SCCRQ, TD.FAULT, T.STOPPING),
    (T.ESTABLISHED, TE.OPEN, TD.NOTHING, T.ESTABLISHED),
    (T.ESTABLISHED, TE.CLOSE, TD.STOP, T.STOPPING),
    (T.ESTABLISHED, TE.SCCRQ, TD.FAULT, T.STOPPING),
    (T.ESTABLISHED, TE.SCCRP, TD.FAULT, T.STOPPING),
    (T.ESTABLISHED, TE.SCCCN, TD.FAULT, T.STOPPING),
    (T.IDLE, TE.STOPCCN, TD.NOTHING, T.IDLE),
    (T.WAIT_CTL_REPLY, TE.STOPCCN, TD.DROP, T.IDLE),
    (T.WAIT_CTL_CONN, TE.STOPCCN, TD.DROP, T.IDLE),
    (T.ESTABLISHED, TE.STOPCCN, TD.DROP, T.IDLE),
]
"""Where it says "Send StopCCN, Clean up, idle", we are in STOPPING until the peer has it (5.7)."""


@pytest.mark.parametrize(("state", "event", "do", "following"), RFC_7_2_1)
def test_rfc_2661_7_2_1(state: TunnelState, event: TunnelEvent, do: TunnelDo, following: TunnelState) -> None:
    assert TUNNEL[state][event] == (do, following)


RFC_7_4_1 = [
    (C.IDLE, CE.OPEN, CD.WAIT, C.WAIT_TUNNEL),
    (C.IDLE, CE.ICCN, CD.NOTHING, C.IDLE),
    (C.IDLE, CE.CDN, CD.NOTHING, C.IDLE),
    (C.WAIT_TUNNEL, CE.CLOSE, CD.DROP, C.IDLE),
    (C.WAIT_TUNNEL, CE.TUNNEL_OPEN, CD.REQUEST, C.WAIT_REPLY),
    (C.WAIT_REPLY, CE.ICRP, CD.CONNECT, C.ESTABLISHED),
    (C.WAIT_REPLY, CE.ICRP_BAD, CD.CLEAR, C.IDLE),
    (C.WAIT_REPLY, CE.BROKEN, CD.CLEAR, C.IDLE),
    (C.WAIT_REPLY, CE.ICRQ, CD.FAULT, C.IDLE),
    (C.WAIT_REPLY, CE.CDN, CD.DROP, C.IDLE),
    (C.WAIT_REPLY, CE.CLOSE, CD.CLEAR, C.IDLE),
    (C.ESTABLISHED, CE.CDN, CD.DROP, C.IDLE),
    (C.ESTABLISHED, CE.ICRQ, CD.FAULT, C.IDLE),
    (C.ESTABLISHED, CE.ICRP, CD.FAULT, C.IDLE),
    (C.ESTABLISHED, CE.ICCN, CD.FAULT, C.IDLE),
    (C.ESTABLISHED, CE.CLOSE, CD.CLEAR, C.IDLE),
]
RFC_7_4_2 = [
    (C.IDLE, CE.ICRQ, CD.OFFER, C.WAIT_ACCEPT),
    (C.WAIT_ACCEPT, CE.ACCEPT, CD.REPLY, C.WAIT_CONNECT),
    (C.IDLE, CE.ICRQ_BAD, CD.REFUSE, C.IDLE),
    (C.IDLE, CE.ICRP, CD.REFUSE, C.IDLE),
    (C.IDLE, CE.ICCN, CD.NOTHING, C.IDLE),
    (C.WAIT_CONNECT, CE.ICCN, CD.UP, C.ESTABLISHED),
    (C.WAIT_CONNECT, CE.BROKEN, CD.CLEAR, C.IDLE),
    (C.WAIT_CONNECT, CE.ICRQ, CD.FAULT, C.IDLE),
    (C.WAIT_CONNECT, CE.ICRP, CD.FAULT, C.IDLE),
    (C.IDLE, CE.CDN, CD.NOTHING, C.IDLE),
    (C.WAIT_CONNECT, CE.CDN, CD.DROP, C.IDLE),
    (C.ESTABLISHED, CE.CDN, CD.DROP, C.IDLE),
    (C.WAIT_CONNECT, CE.CLOSE, CD.CLEAR, C.IDLE),
    (C.ESTABLISHED, CE.CLOSE, CD.CLEAR, C.IDLE),
    (C.ESTABLISHED, CE.ICRQ, CD.FAULT, C.IDLE),
    (C.ESTABLISHED, CE.ICRP, CD.FAULT, C.IDLE),
    (C.ESTABLISHED, CE.ICCN, CD.FAULT, C.IDLE),
]
RFC_7_5_1 = [
    (C.IDLE, CE.OCRQ, CD.OFFER, C.WAIT_ACCEPT),
    (C.WAIT_ACCEPT, CE.ACCEPT, CD.REPLY, C.WAIT_CS_ANSWER),
    (C.IDLE, CE.OCRQ_BAD, CD.REFUSE, C.IDLE),
    (C.IDLE, CE.OCRP, CD.REFUSE, C.IDLE),
    (C.IDLE, CE.OCCN, CD.NOTHING, C.IDLE),
    (C.IDLE, CE.CDN, CD.NOTHING, C.IDLE),
    (C.WAIT_CS_ANSWER, CE.ANSWER, CD.ANSWER, C.ESTABLISHED),
    (C.WAIT_CS_ANSWER, CE.CLOSE, CD.CLEAR, C.IDLE),
    (C.WAIT_CS_ANSWER, CE.OCRQ, CD.FAULT, C.IDLE),
    (C.WAIT_CS_ANSWER, CE.OCRP, CD.FAULT, C.IDLE),
    (C.WAIT_CS_ANSWER, CE.OCCN, CD.FAULT, C.IDLE),
    (C.WAIT_CS_ANSWER, CE.CDN, CD.DROP, C.IDLE),
    (C.ESTABLISHED, CE.OCRQ, CD.FAULT, C.IDLE),
    (C.ESTABLISHED, CE.OCRP, CD.FAULT, C.IDLE),
    (C.ESTABLISHED, CE.OCCN, CD.FAULT, C.IDLE),
    (C.ESTABLISHED, CE.CDN, CD.DROP, C.IDLE),
    (C.ESTABLISHED, CE.CLOSE, CD.CLEAR, C.IDLE),
]
RFC_7_5_2 = [
    (C.IDLE, CE.OPEN, CD.WAIT, C.WAIT_TUNNEL),
    (C.IDLE, CE.OCCN, CD.NOTHING, C.IDLE),
    (C.IDLE, CE.CDN, CD.NOTHING, C.IDLE),
    (C.WAIT_TUNNEL, CE.TUNNEL_OPEN, CD.REQUEST, C.WAIT_REPLY),
    (C.WAIT_TUNNEL, CE.CLOSE, CD.DROP, C.IDLE),
    (C.WAIT_REPLY, CE.OCRP, CD.PROCEED, C.WAIT_CONNECT),
    (C.WAIT_REPLY, CE.OCRP_BAD, CD.CLEAR, C.IDLE),
    (C.WAIT_REPLY, CE.OCCN, CD.FAULT, C.IDLE),
    (C.WAIT_REPLY, CE.OCRQ, CD.FAULT, C.IDLE),
    (C.WAIT_CONNECT, CE.OCCN, CD.UP, C.ESTABLISHED),
    (C.WAIT_CONNECT, CE.OCRQ, CD.FAULT, C.IDLE),
    (C.WAIT_CONNECT, CE.OCRP, CD.FAULT, C.IDLE),
    (C.WAIT_REPLY, CE.CDN, CD.DROP, C.IDLE),
    (C.WAIT_CONNECT, CE.CDN, CD.DROP, C.IDLE),
    (C.ESTABLISHED, CE.CDN, CD.DROP, C.IDLE),
    (C.ESTABLISHED, CE.OCRQ, CD.FAULT, C.IDLE),
    (C.ESTABLISHED, CE.OCRP, CD.FAULT, C.IDLE),
    (C.ESTABLISHED, CE.OCCN, CD.FAULT, C.IDLE),
    (C.WAIT_REPLY, CE.CLOSE, CD.CLEAR, C.IDLE),
    (C.WAIT_CONNECT, CE.CLOSE, CD.CLEAR, C.IDLE),
    (C.ESTABLISHED, CE.CLOSE, CD.CLEAR, C.IDLE),
]
ROWS = [
    (role, *row)
    for role, rows in ((LAC_IN, RFC_7_4_1), (LNS_IN, RFC_7_4_2), (LAC_OUT, RFC_7_5_1), (LNS_OUT, RFC_7_5_2))
    for row in rows
]


@pytest.mark.parametrize(("role", "state", "event", "do", "following"), ROWS)
def test_rfc_2661_7_4_and_7_5(
    role: CallRole, state: CallState, event: CallEvent, do: CallDo, following: CallState
) -> None:
    assert CALLS[role][state][event] == (do, following)
