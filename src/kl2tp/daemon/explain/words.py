"""An explanation as plain values, for the control socket and `--json`."""

from kl2tp.daemon.explain.layers import Diagnosis, Explanation, Layer, Sides
from kl2tp.daemon.report import Json


def told(explanation: Explanation) -> Json:
    """All of it."""
    first = explanation.first
    return {
        "name": explanation.name,
        "kind": explanation.kind,
        "state": explanation.mark.value,
        "layers": [_layer(layer) for layer in explanation.layers],
        "first_broken": first.name if first is not None else None,
        "notes": list(explanation.notes),
    }


def _layer(layer: Layer) -> Json:
    return {
        "layer": layer.name,
        "state": layer.mark.value,
        "text": layer.text,
        "details": [{"name": name, "value": value} for name, value in layer.details],
        "diagnosis": _diagnosis(layer.diagnosis) if layer.diagnosis is not None else None,
    }


def _diagnosis(found: Diagnosis) -> Json:
    return {
        "broken": found.broken,
        "cause": found.cause,
        "cure": list(found.cure),
        "evidence": list(found.evidence),
        "compare": [_sides(sides) for sides in found.sides],
    }


def _sides(found: Sides) -> Json:
    return {"what": found.title, "ours": list(found.ours), "theirs": list(found.theirs), "verdict": found.verdict}
