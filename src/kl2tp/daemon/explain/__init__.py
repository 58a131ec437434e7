"""Why does it not work? One tunnel, call, profile or client, followed through all layers to the first that is broken.

`facts` is what was seen, `explain` what follows from it: a pure function. Seeing is for `seeing` (the kernel) and
`service` (the daemon).
"""

from kl2tp.daemon.explain import calls, kernel, negotiating, packets
from kl2tp.daemon.explain.facts import CLIENT, PROFILE, Facts
from kl2tp.daemon.explain.layers import Diagnosis, Explanation, Layer, Mark, broken

__all__ = ["Diagnosis", "Explanation", "Facts", "Layer", "Mark", "explain"]


def explain(facts: Facts) -> Explanation:
    """All layers, from the wire up."""
    found = [
        *kernel.way(facts),
        *negotiating.layers(facts),
        *calls.listening(facts),
        *kernel.policies(facts),
        *kernel.sas(facts),
        *(packets.layers(facts) if _flows(facts) else ()),
        *calls.peers(facts),
        *kernel.l2tp(facts),
        *calls.control(facts),
        *calls.ppp(facts),
        *kernel.interfaces(facts),
        *kernel.mtu(facts),
    ]
    if facts.problem and not any(layer.diagnosis for layer in found):
        wrong = Diagnosis("it could not be made as declared", facts.problem, ("$ kl2tp apply",))
        found.append(broken("configuration", wrong))
    return Explanation(facts.name, facts.kind, tuple(found), tuple(_notes(facts)))


def _flows(facts: Facts) -> bool:
    """Whether there is something through which packets can flow."""
    if facts.kind == PROFILE or facts.ended:
        return False
    return facts.kind != CLIENT or facts.after.control is not None


def _notes(facts: Facts) -> list[str]:
    found = []
    if not facts.daemon:
        found.append("no daemon runs: what strongSwan says and calls are not looked at; nothing is repaired")
    if facts.problem:
        found.append(f"the daemon says: {facts.problem}")
    return found
