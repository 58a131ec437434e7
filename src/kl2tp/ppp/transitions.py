"""The option negotiation automaton of RFC 1661 4.1 as a table: what each event does in each state.

The table is written as the RFC prints it, so that one can be laid beside the other: actions, a slash, the next state.
`-` is what cannot happen. Letters behind a state are the RFC's notes, of options that we don't take: `r`, to restart
at an Open in Opened; `p`, to wait for the peer in Stopped, which here is only that Stopped goes on to listen; `x` are
crossed connections.
"""

import enum
from typing import NamedTuple


class State(enum.IntEnum):
    """States of the automaton, 4.2."""

    INITIAL = 0
    STARTING = 1
    CLOSED = 2
    STOPPED = 3
    CLOSING = 4
    STOPPING = 5
    REQUEST_SENT = 6
    ACK_RECEIVED = 7
    ACK_SENT = 8
    OPENED = 9


class Event(enum.IntEnum):
    """What may happen, 4.3, in the order of the table's rows."""

    UP = 0
    DOWN = 1
    OPEN = 2
    CLOSE = 3
    TIMEOUT = 4
    """TO+: the restart counter is not yet used up."""
    EXPIRED = 5
    """TO-: it is."""
    GOOD_REQUEST = 6
    """RCR+"""
    BAD_REQUEST = 7
    """RCR-"""
    ACK = 8
    """RCA"""
    NAK = 9
    """RCN: a Configure-Nak or a Configure-Reject."""
    TERMINATE_REQUEST = 10
    """RTR"""
    TERMINATE_ACK = 11
    """RTA"""
    UNKNOWN_CODE = 12
    """RUC"""
    REJECT = 13
    """RXJ+: a Code-Reject or Protocol-Reject that we can live with."""
    FATAL_REJECT = 14
    """RXJ-"""
    EXTRA = 15
    """RXR: Echo-Request, Echo-Reply, Discard-Request."""


class Action(enum.Enum):
    """What the automaton does, 4.4."""

    LAYER_UP = "tlu"
    LAYER_DOWN = "tld"
    LAYER_STARTED = "tls"
    LAYER_FINISHED = "tlf"
    INIT_COUNT = "irc"
    ZERO_COUNT = "zrc"
    SEND_REQUEST = "scr"
    SEND_ACK = "sca"
    SEND_NAK = "scn"
    """Configure-Nak or Configure-Reject."""
    SEND_TERMINATE_REQUEST = "str"
    SEND_TERMINATE_ACK = "sta"
    SEND_CODE_REJECT = "scj"
    SEND_ECHO_REPLY = "ser"


class Transition(NamedTuple):
    """What happens, in this order, and where that leads."""

    actions: tuple[Action, ...]
    state: State


_LOWER = """
        Initial   Starting   Closed    Stopped      Closing   Stopping
 Up      2        irc,scr/6  -         -            -         -
 Down    -        -          0         tls/1        0         1
 Open    tls/1    1          irc,scr/6 3r           5r        5r
 Close   0        tlf/0      2         2            4         4
 TO+     -        -          -         -            str/4     str/5
 TO-     -        -          -         -            tlf/2     tlf/3
 RCR+    -        -          sta/2     irc,scr,sca/8 4        5
 RCR-    -        -          sta/2     irc,scr,scn/6 4        5
 RCA     -        -          sta/2     sta/3        4         5
 RCN     -        -          sta/2     sta/3        4         5
 RTR     -        -          sta/2     sta/3        sta/4     sta/5
 RTA     -        -          2         3            tlf/2     tlf/3
 RUC     -        -          scj/2     scj/3        scj/4     scj/5
 RXJ+    -        -          2         3            4         5
 RXJ-    -        -          tlf/2     tlf/3        tlf/2     tlf/3
 RXR     -        -          2         3            4         5
"""
_UPPER = """
        Req-Sent   Ack-Rcvd   Ack-Sent   Opened
 Up      -         -          -          -
 Down    1         1          1          tld/1
 Open    6         7          8          9r
 Close   irc,str/4 irc,str/4  irc,str/4  tld,irc,str/4
 TO+     scr/6     scr/6      scr/8      -
 TO-     tlf/3p    tlf/3p     tlf/3p     -
 RCR+    sca/8     sca,tlu/9  sca/8      tld,scr,sca/8
 RCR-    scn/6     scn/7      scn/6      tld,scr,scn/6
 RCA     irc/7     scr/6x     irc,tlu/9  tld,scr/6x
 RCN     irc,scr/6 scr/6x     irc,scr/8  tld,scr/6x
 RTR     sta/6     sta/6      sta/6      tld,zrc,sta/5
 RTA     6         6          8          tld,scr/6
 RUC     scj/6     scj/7      scj/8      scj/9
 RXJ+    6         6          8          9
 RXJ-    tlf/3     tlf/3      tlf/3      tld,irc,str/5
 RXR     6         7          8          ser/9
"""
NEGOTIATING = frozenset((State.REQUEST_SENT, State.ACK_RECEIVED, State.ACK_SENT))
TIMED = NEGOTIATING | {State.CLOSING, State.STOPPING}
"""States in which the restart timer runs."""


def _transition(cell: str) -> Transition | None:
    if cell == "-":
        return None
    *actions, state = cell.rstrip("rpx").replace("/", ",").split(",")
    return Transition(tuple(Action(name) for name in actions), State(int(state)))


def _rows(text: str) -> list[list[Transition | None]]:
    return [[_transition(cell) for cell in line.split()[1:]] for line in text.strip().splitlines()[1:]]


TABLE: dict[tuple[State, Event], Transition | None] = {
    (State(number), event): transition
    for event, lower, upper in zip(Event, _rows(_LOWER), _rows(_UPPER), strict=True)
    for number, transition in enumerate(lower + upper)
}
"""Every state with every event; None: it cannot happen there, and if it does nothing follows from it."""
