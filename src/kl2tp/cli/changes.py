"""Plans and what was done of them, as text: grouped by tunnel, like a diff."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kl2tp.cli.terminal import Paint, printable
from kl2tp.cli.units import counted

Operations = Sequence[Mapping[str, Any]]
Counts = Mapping[str, Counter[str]]
"""Of each tunnel the number of operations, by verb."""

_STYLES = {"+": "green", "~": "yellow", "-": "red"}
_WORDS = {"+": "create", "~": "change", "-": "remove"}
_DONE = {"+": "created", "~": "changed", "-": "removed"}


def by_unit(operations: Operations) -> dict[str, list[Mapping[str, Any]]]:
    """Operations by tunnel, both in the order of execution."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for operation in operations:
        groups.setdefault(str(operation.get("unit", "")), []).append(operation)
    return groups


def full(operations: Operations, paint: Paint) -> Iterator[str]:
    """Every operation, below the name of its tunnel."""
    for unit, group in by_unit(operations).items():
        yield paint(printable(unit), "bold")
        for operation in group:
            yield from _operation(operation, paint)


def _operation(operation: Mapping[str, Any], paint: Paint) -> Iterator[str]:
    verb = str(operation.get("verb", "?"))
    style = _STYLES.get(verb, "bold")
    yield paint(f"  {verb} {printable(str(operation.get('text', '')))}", style)
    for difference in operation.get("differences") or ():
        yield paint(f"      {printable(str(difference))}", style)


def counts(answer: Mapping[str, Any]) -> Counts:
    """How many operations of each kind each tunnel has: as told, or counted here."""
    if (told := answer.get("operation_counts")) is not None:
        return {unit: Counter(found) for unit, found in told.items()}
    groups = by_unit(answer.get("operations") or ())
    return {unit: Counter(str(operation.get("verb")) for operation in group) for unit, group in groups.items()}


def brief(counts: Counts, paint: Paint) -> Iterator[str]:
    """A line for each tunnel, with the number of operations."""
    width = max(map(len, counts), default=0)
    for unit, found in counts.items():
        numbers = "  ".join(paint(f"{verb}{found[verb]}", _STYLES[verb]) for verb in _STYLES if found[verb])
        yield f"{paint(printable(unit), 'bold')}{' ' * (width - len(unit))}  {numbers}"


def obstacles(answer: Mapping[str, Any], paint: Paint) -> Iterator[str]:
    """Conflicts and problems, a line each."""
    for conflict in answer.get("conflicts") or ():
        yield _obstacle(str(conflict.get("unit", "")), str(conflict.get("text", "")), paint)
    for unit, problem in (answer.get("problems") or {}).items():
        yield _obstacle(unit, str(problem), paint)


def _obstacle(unit: str, text: str, paint: Paint) -> str:
    first, *rest = [printable(line) for line in text.splitlines()] or [""]
    return "\n".join(
        [paint(f"! {printable(unit)}: {first}", "red"), *(f"    {line.strip()}" for line in rest)]
    )


def has_obstacles(answer: Mapping[str, Any]) -> bool:
    """Whether some tunnel cannot be as declared."""
    return bool(answer.get("conflicts") or answer.get("problems"))


def totals(counts: Counts, *, done: bool) -> str:
    """`2 to create, 1 to remove in 3 tunnels`, or `2 created, 1 removed in 3 tunnels`."""
    total = sum(counts.values(), Counter[str]())
    words = [
        f"{total[verb]:,} {_DONE[verb]}" if done else f"{total[verb]:,} to {_WORDS[verb]}"
        for verb in _STYLES
        if total[verb]
    ]
    return f"{', '.join(words)} in {counted(len(counts), 'tunnel')}"
