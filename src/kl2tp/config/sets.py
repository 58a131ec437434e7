"""Sets: a template that is read once, then written out for each n."""

from kl2tp.config import template
from kl2tp.config.build import Builder
from kl2tp.config.document import Node
from kl2tp.config.draft import Draft
from kl2tp.config.fields import Broken, Fields, Reader
from kl2tp.config.problem import Bad, Mark, Problems
from kl2tp.config.scalar import NAME, show
from kl2tp.config.schema import SET


def expand(reader: Reader, builder: Builder, name: str, mark: Mark, node: Node) -> None:
    """Build the tunnels of the set at `node`. `reader` must read templates."""
    problems = builder.problems
    try:
        fields = reader.section(SET, node, show(name), mark)
        numbers = _numbers(problems, fields, name, mark)
        names = _names(problems, name, mark, len(numbers))
    except Broken:
        return
    try:
        for n in numbers:
            problems.n = n
            called = names if isinstance(names, str) else _render(problems, names, name, mark, n)
            if not builder.add([Draft(called, mark, fields.at(n, problems))]):
                break
    finally:
        problems.n = None


def _numbers(problems: Problems, fields: Fields, name: str, mark: Mark) -> template.Numbers:
    if fields.varying is not None and "range" in fields.varying:
        message = "range: it says what n is, and can't depend on n"
        problems.add(fields.place("range"), message, "e.g. range: 1-500")
        raise Broken
    numbers: template.Numbers | None = fields.get("range")
    if numbers is None:
        problems.add(mark, f"{show(name)}: range is missing", "say which values n takes, e.g. range: 1-500")
        raise Broken
    return numbers


def _names(problems: Problems, name: str, mark: Mark, count: int) -> template.Template | str:
    """What the tunnels are called: something with n in it, unless there is only one."""
    try:
        names = template.parse(name)
        if isinstance(names, str):
            NAME.read(names)
    except Bad as bad:
        problems.add(mark, f"the name: {bad.message}", bad.hint)
        raise Broken from None
    if isinstance(names, str) and count > 1:
        message = f"{names}: all {count} tunnels of the set would have this name"
        problems.add(mark, message, f"put the number into the name: {names}-{{n}}")
        raise Broken
    return names


def _render(problems: Problems, names: template.Template, name: str, mark: Mark, n: int) -> str:
    """The name for this n; if it is wrong, something to call the tunnel by in messages."""
    try:
        return NAME.read(names.render(n))
    except Bad as bad:
        problems.add(mark, f"the name: {bad.message}", bad.hint, "name")
        return f"{show(name)}#{n}"
