"""Every state with every event: what the table says, and that the automaton does it."""

import pytest

from kl2tp.ppp.automaton import Automaton, Frames, Restart, Signal
from kl2tp.ppp.transitions import TABLE, TIMED, Action, Event, State
from kl2tp.wire.ppp import Code, Option, Protocol, encode_packet
from unit.ppp.talk import parse

# RFC 1661 4.1 once more, by state in place of event, as a check on what was typed: events in the order of the RFC.
BY_STATE = {
    State.INITIAL: "2 - tls/1 0 - - - - - - - - - - - -",
    State.STARTING: "irc,scr/6 - 1 tlf/0 - - - - - - - - - - - -",
    State.CLOSED: "- 0 irc,scr/6 2 - - sta/2 sta/2 sta/2 sta/2 sta/2 2 scj/2 2 tlf/2 2",
    State.STOPPED: "- tls/1 3 2 - - irc,scr,sca/8 irc,scr,scn/6 sta/3 sta/3 sta/3 3 scj/3 3 tlf/3 3",
    State.CLOSING: "- 0 5 4 str/4 tlf/2 4 4 4 4 sta/4 tlf/2 scj/4 4 tlf/2 4",
    State.STOPPING: "- 1 5 4 str/5 tlf/3 5 5 5 5 sta/5 tlf/3 scj/5 5 tlf/3 5",
    State.REQUEST_SENT: "- 1 6 irc,str/4 scr/6 tlf/3 sca/8 scn/6 irc/7 irc,scr/6 sta/6 6 scj/6 6 tlf/3 6",
    State.ACK_RECEIVED: "- 1 7 irc,str/4 scr/6 tlf/3 sca,tlu/9 scn/7 scr/6 scr/6 sta/6 6 scj/7 6 tlf/3 7",
    State.ACK_SENT: "- 1 8 irc,str/4 scr/8 tlf/3 sca/8 scn/6 irc,tlu/9 irc,scr/8 sta/6 8 scj/8 8 tlf/3 8",
    State.OPENED: "- tld/1 9 tld,irc,str/4 - - tld,scr,sca/8 tld,scr,scn/6 tld,scr/6 tld,scr/6 tld,zrc,sta/5 tld,scr/6 "
    "scj/9 9 tld,irc,str/5 ser/9",
}
EVERY = [(state, event) for state in State for event in Event]
SENT = {
    Action.SEND_REQUEST: Code.CONFIGURE_REQUEST,
    Action.SEND_ACK: Code.CONFIGURE_ACK,
    Action.SEND_NAK: Code.CONFIGURE_NAK,
    Action.SEND_TERMINATE_REQUEST: Code.TERMINATE_REQUEST,
    Action.SEND_TERMINATE_ACK: Code.TERMINATE_ACK,
    Action.SEND_CODE_REJECT: Code.CODE_REJECT,
    Action.SEND_ECHO_REPLY: Code.ECHO_REPLY,
}
SIGNALS = {
    Action.LAYER_UP: Signal.UP,
    Action.LAYER_DOWN: Signal.DOWN,
    Action.LAYER_STARTED: Signal.STARTED,
    Action.LAYER_FINISHED: Signal.FINISHED,
}
RESTART = Restart(3.0, max_configure=10, max_terminate=2, max_failure=5)
LEFT = 7
"""Of the restart counter, before each event: neither a value that it begins with nor one where it ends."""

every_pair = pytest.mark.parametrize(("state", "event"), EVERY, ids=lambda value: value.name)


class Probe(Automaton):
    """A protocol without options."""

    PROTOCOL = Protocol.IPCP
    NAME = "probe"
    __slots__ = ()


@every_pair
def test_the_table_is_that_of_the_rfc(state: State, event: Event) -> None:
    transition = TABLE[state, event]
    said = "-" if transition is None else ",".join(a.value for a in transition.actions) + f"/{transition.state.value}"
    assert said.lstrip("/") == BY_STATE[state].split()[event]


def test_every_state_with_every_event_is_named() -> None:
    assert set(TABLE) == set(EVERY)


@every_pair
def test_the_automaton_does_what_the_table_says(state: State, event: Event) -> None:
    probe = Probe(RESTART)
    probe.state, probe._count = state, LEFT
    probe.deadline = 50.0 if state in TIMED else None
    out: Frames = []
    reply = encode_packet(Protocol.IPCP, 0, 1)
    transition = TABLE[state, event]
    signal = probe._happen(event, 100.0, out, 1, reply)
    if transition is None:
        assert (probe.state, signal, out) == (state, Signal.NONE, [])
        return
    assert probe.state == transition.state
    assert signal == next((SIGNALS[a] for a in transition.actions if a in SIGNALS), Signal.NONE)
    made = {Code.CONFIGURE_REQUEST, Code.TERMINATE_REQUEST, Code.TERMINATE_ACK}
    assert [parse(frame).code for frame in out] == [
        SENT[action] if SENT[action] in made else 0 for action in transition.actions if action in SENT
    ]
    assert (probe.deadline is not None) == (transition.state in TIMED)
    sends = {Action.SEND_REQUEST, Action.SEND_TERMINATE_REQUEST} & set(transition.actions)
    if sends or Action.ZERO_COUNT in transition.actions:
        assert probe.deadline == 103.0
    elif transition.state in TIMED:
        assert probe.deadline == 50.0, "a running restart timer is left alone"
    expected = LEFT
    if Action.ZERO_COUNT in transition.actions:
        expected = 0
    elif Action.INIT_COUNT in transition.actions:
        expected = 2 if Action.SEND_TERMINATE_REQUEST in transition.actions else 10
    assert probe._count == expected - len(sends)


class Picky(Probe):
    """Likes no option at its value but 1, which it likes at any."""

    __slots__ = ()

    def _judge(self, kind: int, value: bytes) -> bytes | None:
        return None if kind == 1 else bytes((kind, 3, 1))

    def _missing(self, options: list[Option]) -> bytes:
        return b""


GOOD, BAD = bytes((1, 2)), bytes((2, 2))
PACKETS = {
    Event.GOOD_REQUEST: (Code.CONFIGURE_REQUEST, GOOD),
    Event.BAD_REQUEST: (Code.CONFIGURE_REQUEST, BAD),
    Event.ACK: (Code.CONFIGURE_ACK, b""),
    Event.NAK: (Code.CONFIGURE_NAK, GOOD),
    Event.TERMINATE_REQUEST: (Code.TERMINATE_REQUEST, b""),
    Event.TERMINATE_ACK: (Code.TERMINATE_ACK, b""),
    Event.UNKNOWN_CODE: (99, b""),
    Event.REJECT: (Code.CODE_REJECT, bytes((9,))),
    Event.FATAL_REJECT: (Code.CODE_REJECT, bytes((1,))),
}
"""How the peer brings an event about."""
ANSWERED = {(State.ACK_RECEIVED, Event.ACK), (State.ACK_RECEIVED, Event.NAK), (State.OPENED, Event.ACK),
            (State.OPENED, Event.NAK)}  # fmt: skip
"""Where the request has got its reply already, so that another one is a duplicate and no event (5.2, 5.3)."""


@pytest.mark.parametrize(
    ("state", "event"),
    [(state, event) for state, event in EVERY if event in PACKETS],
    ids=lambda value: value.name,
)
def test_packets_bring_the_events_about(state: State, event: Event) -> None:
    probe = Picky(RESTART)
    out: Frames = []
    probe.state, probe._count, probe._identifier = state, LEFT, 5
    probe._answered = state not in (State.REQUEST_SENT, State.ACK_SENT)
    code, data = PACKETS[event]
    signal = probe.receive(code, 5, data, 100.0, out)
    transition = TABLE[state, event]
    if transition is None or (state, event) in ANSWERED:
        assert (probe.state, signal, out) == (state, Signal.NONE, [])
        return
    assert probe.state == transition.state
    assert signal == next((SIGNALS[a] for a in transition.actions if a in SIGNALS), Signal.NONE)
    assert [parse(frame).code for frame in out] == [SENT[a] for a in transition.actions if a in SENT]
