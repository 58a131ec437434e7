"""What an explanation is made of: layers, each with a mark, and what is wrong in one of them."""

import enum
from collections.abc import Iterable

from kl2tp.model.value import dataclass


class Mark(enum.Enum):
    """How a layer is."""

    OK = "ok"
    WAITING = "waiting"
    """For a layer before it, or for the peer."""
    BROKEN = "broken"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Sides:
    """What each end wants, side by side."""

    title: str
    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    verdict: str = ""
    """Where they differ."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong, why, and what mends it."""

    broken: str
    """What does not work, in a sentence without a full stop."""
    cause: str
    cure: tuple[str, ...] = ()
    """What to do; a command begins with `$ `."""
    evidence: tuple[str, ...] = ()
    """What was seen that says so."""
    sides: tuple[Sides, ...] = ()


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, from the wire up."""

    name: str
    mark: Mark
    text: str
    details: tuple[tuple[str, str], ...] = ()
    diagnosis: Diagnosis | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """All layers, and the first that is broken."""

    name: str
    kind: str
    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Layer | None:
        """The first layer that is broken; where none is, one that waits or is doubtful, and says why."""
        said = [layer for layer in self.layers if layer.diagnosis is not None]
        broken = (layer for layer in said if layer.mark is Mark.BROKEN)
        return next(broken, None) or next((x for x in said if x.mark is Mark.WAITING), None) or next(iter(said), None)

    @property
    def mark(self) -> Mark:
        """Of the whole."""
        marks = {layer.mark for layer in self.layers}
        if (found := next((mark for mark in (Mark.BROKEN, Mark.WAITING) if mark in marks), None)) is not None:
            return found
        return Mark.UNKNOWN if self.first is not None else Mark.OK


def ok(name: str, text: str, *details: tuple[str, object]) -> Layer:
    """A layer that works."""
    return Layer(name, Mark.OK, text, told(details))


def waiting(name: str, text: str, *details: tuple[str, object], diagnosis: Diagnosis | None = None) -> Layer:
    """A layer that waits."""
    return Layer(name, Mark.WAITING, text, told(details), diagnosis)


def unknown(name: str, text: str, *details: tuple[str, object]) -> Layer:
    """A layer of which nothing can be said."""
    return Layer(name, Mark.UNKNOWN, text, told(details))


def broken(name: str, diagnosis: Diagnosis, *details: tuple[str, object], text: str = "") -> Layer:
    """A layer that does not work."""
    return Layer(name, Mark.BROKEN, text or diagnosis.broken, told(details), diagnosis)


def told(details: Iterable[tuple[str, object]]) -> tuple[tuple[str, str], ...]:
    """Those of which there is something to tell."""
    return tuple((name, str(value)) for name, value in details if value not in (None, "", ()))


def counted(count: int, noun: str) -> str:
    """`1 packet`, `2 packets`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def duration(seconds: float) -> str:
    """For people: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 120:
        return f"{max(0.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
