"""An explanation without a daemon: what the kernel shows of a declared tunnel. Blocking."""

import time
from dataclasses import replace

from kl2tp.daemon.explain import explain, seeing
from kl2tp.daemon.explain.facts import Facts, Ike
from kl2tp.daemon.explain.seeing import Subject
from kl2tp.daemon.explain.words import told
from kl2tp.daemon.report import Json
from kl2tp.kernel import pathmtu
from kl2tp.model.spec import TunnelSpec
from kl2tp.reconcile.engine import Engine

_LOOK_S, _STEP_S = 3.0, 0.3


def explained(engine: Engine, spec: TunnelSpec, *, probe: bool) -> Json:
    """One tunnel, as far as one can tell from outside."""
    facts, subject = seeing.of_tunnel(engine, spec)
    facts = replace(facts, daemon=False, ike=Ike(spec.ike) if spec.ike else None, now=time.time())
    facts = _counted(engine, facts, subject)
    if probe:
        facts = replace(facts, probe=pathmtu.probe(facts.local, facts.remote, facts.path_mtu, facts.netns))
    return told(explain(seeing.with_stacks(facts)))


def _counted(engine: Engine, facts: Facts, subject: Subject) -> Facts:
    """Have it send something, and see what grows."""
    before = seeing.sample(engine.door, subject, time.monotonic())
    if facts.protection and not before.sas:
        return replace(facts, before=before, after=before)
    stirred = seeing.stir(subject)
    until, after = time.monotonic() + _LOOK_S, before
    while time.monotonic() < until:
        time.sleep(_STEP_S)
        after = seeing.sample(engine.door, subject, time.monotonic())
        if seeing.came(before, after):
            break
    return seeing.look_again(engine.door, replace(facts, before=before, after=after, stirred=stirred))
