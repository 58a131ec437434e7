"""Plans, results and states as plain values, for the control socket and `--json`. No secret has a way in here."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from kl2tp.model.addr import prefix, text
from kl2tp.model.desired import Desired
from kl2tp.model.objects import Address, Link, Sa, Session
from kl2tp.model.overhead import for_session
from kl2tp.model.plan import Operation, Plan, satisfied, verbs
from kl2tp.model.plan import differences as differences_of
from kl2tp.model.spec import Encap, TunnelSpec
from kl2tp.reconcile.engine import Inspection, Result

Json = dict[str, Any]
FEW = 20
"""Tunnels of which every operation is told without being asked."""


def operation(op: Operation) -> Json:
    """One change."""
    return {
        "verb": op.verb.value,
        "unit": op.unit,
        "kind": op.target.kind,
        "text": str(op.target),
        "differences": list(op.differences),
    }


def planned(parts: Iterable[tuple[Plan, dict[str, str]]]) -> Json:
    """What a pass would do."""
    result: Json = {"operations": [], "problems": {}, "conflicts": []}
    for plan, problems in parts:
        result["operations"] += [operation(op) for op in plan.operations]
        result["problems"] |= problems
        result["conflicts"] += [{"unit": c.unit, "text": str(c)} for c in plan.conflicts]
    return result


class Tally:
    """What passes did: gathered as they go, so that of ten thousand tunnels only what somebody wants is kept."""

    def __init__(self, *, detail: bool = True) -> None:
        """Without `detail` the operations are listed only if few tunnels have any; always counted, tunnel by tunnel."""
        self._detail = detail
        self._operations: list[Json] = []
        self._counts: dict[str, dict[str, int]] = {}
        self._names: set[str] = set()
        self._problems: dict[str, str] = {}
        self._removed = 0

    @property
    def tunnels(self) -> int:
        return len(self._names)

    def add(self, results: Iterable[Result]) -> None:
        """Take in some results; of a tunnel that comes again the last word counts."""
        for result in results:
            self._names.add(result.name)
            self._problems.pop(result.name, None)
            if result.problem:
                self._problems[result.name] = result.problem
            self._removed += result.gone
            if result.done:
                self._add_operations(result)

    def _add_operations(self, result: Result) -> None:
        counts = self._counts.setdefault(result.name, {})
        for verb, count in verbs(result.done).items():
            counts[verb] = counts.get(verb, 0) + count
        if self._listing:
            self._operations += map(operation, result.done)
        else:
            self._operations.clear()

    @property
    def _listing(self) -> bool:
        return self._detail or len(self._counts) <= FEW

    def answer(self, *, seconds: float, sent: int, waiting: Mapping[str, float]) -> Json:
        """`waiting` are tunnels whose key change goes on, with the seconds until its next step."""
        return {
            "operations": self._operations if self._listing else None,
            "operation_counts": self._counts,
            "problems": self._problems,
            "tunnels": len(self._names),
            "changed": len(self._counts),
            "removed": self._removed,
            "seconds": round(seconds, 3),
            "sent": sent,
            "waiting": {name: round(wait, 1) for name, wait in waiting.items()},
        }


def moment(unix: float) -> str:
    """A time in ISO 8601, UTC."""
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="seconds")


def tunnel(spec: TunnelSpec, **state: object) -> Json:
    """One line of `status`."""
    return {
        "name": spec.name,
        "local": text(spec.local),
        "remote": text(spec.remote),
        "encapsulation": spec.encap.name.lower(),
        "ipsec": spec.ipsec.cipher if spec.ipsec else "ike" if spec.ike else None,
        "sessions": len(spec.sessions),
        **state,
    }


def unserved(desired: Desired) -> Json:
    """What nobody serves without a daemon: calls, and negotiation by IKE; empty if there is none."""
    ike = [tunnel.name for tunnel in desired.tunnels if tunnel.ike is not None]
    found: Json = {"unnegotiated": ike} if ike else {}
    if not desired.calls:
        return found
    return found | {"unserved": {"lns": [p.name for p in desired.lns], "lac": [p.name for p in desired.lac]}}


def shown(spec: TunnelSpec, inspection: Inspection, **state: object) -> Json:
    """Everything about one tunnel."""
    result = tunnel(spec, **state)
    result["where"] = str(spec.where)
    result["spec"] = described(spec)
    result["objects"] = objects(inspection)
    result["sessions"] = list(_sessions(spec, inspection))
    result["associations"] = list(_associations(inspection))
    return result


def objects(inspection: Inspection) -> list[Json]:
    """What is wanted, and whether the kernel has it so."""
    return [
        {
            "kind": wanted.kind,
            "text": str(wanted),
            "present": (found := inspection.actual.get(wanted.key)) is not None,
            "differences": list(differences_of(wanted, found)) if found and not satisfied(wanted, found) else [],
        }
        for wanted in inspection.unit.objects
    ]


def described(spec: TunnelSpec) -> Json:
    """A spec in the words of the configuration."""
    found: Json = {
        "local": text(spec.local),
        "remote": text(spec.remote),
        "encapsulation": spec.encap.name.lower(),
        "ids": f"{spec.id}/{spec.peer_id}",
    }
    if spec.encap == Encap.UDP:
        found["ports"] = f"{spec.local_port}/{spec.remote_port}"
    if spec.netns:
        found["netns"] = spec.netns
    found["path_mtu"] = spec.path_mtu
    if spec.ipsec:
        found["ipsec"] = {
            "proposal": spec.ipsec.cipher,
            "mode": spec.ipsec.mode.name.lower(),
            "key_file": spec.ipsec.key_file,
            "reqid": spec.ipsec.reqid,
            "esn": spec.ipsec.esn,
            "replay_window": spec.ipsec.replay_window,
        }
    return found


def _sessions(spec: TunnelSpec, inspection: Inspection) -> Iterable[Json]:
    links = {o.name: o for o in inspection.actual.values() if isinstance(o, Link)}
    objects = {(o.tunnel_id, o.id): o for o in inspection.unit.objects if isinstance(o, Session)}
    for session in spec.sessions:
        wanted = objects[spec.id, session.id]
        overhead = for_session(spec, session)
        link = links.get(session.interface.name)
        yield {
            "name": session.name,
            "interface": session.interface.name,
            "ids": f"{session.id}/{session.peer_id}",
            "mtu": link.mtu if link else None,
            "up": link.up if link else False,
            "addresses": [
                prefix(o.address, o.prefix_length)
                for o in inspection.actual.values()
                if isinstance(o, Address) and o.ifname == session.interface.name
            ],
            "statistics": inspection.counters.get(wanted.key, {}),
            "overhead": [{"layer": layer.name, "bytes": layer.bytes, "note": layer.note} for layer in overhead.layers],
        }


def _associations(inspection: Inspection) -> Iterable[Json]:
    for wanted in inspection.unit.objects:
        if isinstance(wanted, Sa):
            cipher = wanted.encryption + (f" {wanted.integrity}" if wanted.integrity else "")
            yield {
                "direction": "out" if wanted.outbound else "in",
                "spi": f"{wanted.spi:#010x}",
                "cipher": cipher,
                "present": wanted.key in inspection.actual,
                **inspection.counters.get(wanted.key, {}),
            }
