"""IPsec by IKE: strongSwan's charon negotiates, told through vici what to offer and to whom."""

from kl2tp.ipsec.ike.negotiation import (
    Cause,
    CauseKind,
    ChildSa,
    Counters,
    IkeSa,
    Negotiation,
    State,
    Stranger,
)
from kl2tp.ipsec.ike.wanted import CHILD, L2TP, PREFIX, UDP, Traffic, Wanted, name_of

__all__ = [
    "CHILD",
    "L2TP",
    "PREFIX",
    "UDP",
    "Cause",
    "CauseKind",
    "ChildSa",
    "Counters",
    "IkeSa",
    "Negotiation",
    "State",
    "Stranger",
    "Traffic",
    "Wanted",
    "name_of",
]
