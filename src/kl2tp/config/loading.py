"""Files to `Desired`: kl2tp.yaml and the conf.d beside it, judged as one."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from kl2tp.config import document, template
from kl2tp.config.build import MAX_TUNNELS, Builder, bases
from kl2tp.config.document import Mapping, Node, Scalar
from kl2tp.config.fields import Bases, Broken, Fields, Reader, named_pairs, twice
from kl2tp.config.key import Section
from kl2tp.config.problem import Bad, Mark, Problems
from kl2tp.config.scalar import NAME, show
from kl2tp.config.schema import DAEMON, DEFAULTS, SET, TOP, TUNNEL, advice
from kl2tp.model.spec import DaemonSpec, Desired, Where

CONF_D = "conf.d"


def load(path: str | os.PathLike[str], *, conf_d: bool = True) -> Desired:
    """Read a configuration; see `kl2tp.config.load`."""
    problems = Problems()
    with _without_gc():
        names = [os.fspath(path)]
        if conf_d:
            names += _conf_d(os.path.join(os.path.dirname(names[0]), CONF_D), problems)
        texts = [(name, document.read(name, problems)) for name in names]
        return _desired([(name, text) for name, text in texts if text is not None], problems, names[0])


def loads(text: str, name: str = "kl2tp.yaml") -> Desired:
    """Read a configuration from text; see `kl2tp.config.loads`."""
    with _without_gc():
        return _desired([(name, text)], Problems(), name)


@contextmanager
def _without_gc() -> Iterator[None]:
    """Nothing here makes cycles, and the collector would more than double the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _conf_d(directory: str, problems: Problems) -> list[str]:
    try:
        entries = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.add(Where(directory, 0, 0), f"can't be read: {error.strerror}")
        return []
    for entry in entries:
        if entry.endswith(".yml"):
            hint = f"rename it to {entry[:-4]}.yaml, or to something else if it is not meant to be read"
            problems.add(Where(os.path.join(directory, entry), 0, 0), "only *.yaml is read here", hint)
    return [os.path.join(directory, name) for name in entries if name.endswith(".yaml") and not name.startswith(".")]


def _desired(texts: list[tuple[str, str]], problems: Problems, main: str) -> Desired:
    files = []
    for name, text in texts:
        before = len(problems)
        root = document.compose(text, name, problems)
        if root is not None and not (isinstance(root, Scalar) and root.empty):
            files.append(_File(name, root, problems))
        elif name == main and len(problems) == before:
            problems.add(Where(name, 0, 0), "there is nothing in it", "begin with tunnels: as the examples do")
    first = files[0] if files and files[0].name == main else None
    inherited = bases(first.section("defaults", DEFAULTS) if first is not None else None)
    daemon = _daemon(first.section("daemon", DAEMON) if first is not None else None)
    builder = Builder(problems, inherited)
    for file in files:
        file.build(builder, inherited, main)
    problems.check()
    return Desired(tuple(builder.tunnels), daemon)


def _daemon(fields: Fields | None) -> DaemonSpec:
    if fields is None or fields.broken:
        return DaemonSpec()
    default = DaemonSpec()
    return DaemonSpec(
        float(fields.get("resync_interval", default.resync_interval)),
        fields.get("log_level", default.log_level),
    )


class _File:
    """One file: its top level is read here, since tunnels and sets are built one at a time."""

    def __init__(self, name: str, root: Node, problems: Problems) -> None:
        self.name = name
        self.problems = problems
        self.parts: dict[str, tuple[Mark, Node]] = {}
        if not isinstance(root, Mapping):
            problems.add(root.mark, "the file is not a mapping", f"it has the keys {', '.join(TOP.keys)}")
            return
        for key, mark, node in root.pairs:
            if key not in TOP.keys:
                problems.add(mark, *advice(TOP, key)[:2])
            elif key in self.parts:
                twice(problems, key, mark, self.parts[key][0])
            else:
                self.parts[key] = (mark, node)

    def section(self, key: str, section: Section) -> Fields | None:
        """One of the sections of the main file."""
        if key not in self.parts:
            return None
        mark, node = self.parts[key]
        try:
            return Reader(self.problems, {}).section(section, node, key, mark)
        except Broken:
            return None

    def build(self, builder: Builder, inherited: Bases, main: str) -> None:
        """Build the tunnels and sets of this file."""
        for key in ("defaults", "daemon"):
            if self.name != main and key in self.parts:
                message = f"{key} stands in the main file only"
                self.problems.add(self.parts[key][0], message, f"move it to {main}")
        reader = Reader(self.problems, inherited)
        for name, mark, node in self._named("tunnels"):
            self._tunnel(builder, reader, name, mark, node)
        reader = Reader(self.problems, inherited, templates=True)
        for name, mark, node in self._named("sets"):
            _Set(self.problems, reader, builder, name, mark).expand(node)

    def _named(self, key: str) -> Iterator[tuple[str, Mark, Node]]:
        if key not in self.parts:
            return
        try:
            pairs = named_pairs(self.problems, self.parts[key][1], key, key.removesuffix("s"))
        except Broken:
            return
        first: dict[str, Mark] = {}
        for name, mark, node in pairs:
            if name in first:
                twice(self.problems, name, mark, first[name])
                continue
            first[name] = mark
            yield name, mark, node

    def _tunnel(self, builder: Builder, reader: Reader, name: str, mark: Mark, node: Node) -> None:
        name = _checked_name(name, mark, self.problems)
        try:
            fields = reader.section(TUNNEL, node, name, mark)
        except Broken:
            return
        builder.tunnel(name, mark, fields)
        _bound(builder, mark, self.problems)


class _Set:
    """A template and its numbers: compiled once, then written out for each n."""

    def __init__(self, problems: Problems, reader: Reader, builder: Builder, name: str, mark: Mark) -> None:
        self.problems = problems
        self.reader = reader
        self.builder = builder
        self.name = name
        self.mark = mark

    def expand(self, node: Node) -> None:
        """Build the tunnels of the set."""
        try:
            fields = self.reader.section(SET, node, show(self.name), self.mark)
            numbers = self._numbers(fields)
            names = self._names(len(numbers))
        except Broken:
            return
        try:
            for n in numbers:
                self.problems.n = n
                if not self._one(n, names, fields):
                    break
        finally:
            self.problems.n = None

    def _one(self, n: int, names: template.Template | str, fields: Fields) -> bool:
        """The tunnel for this n; False if there are too many."""
        name = names if isinstance(names, str) else self._render(names, n)
        self.builder.tunnel(name, self.mark, fields.at(n, self.problems))
        return _bound(self.builder, self.mark, self.problems)

    def _render(self, names: template.Template, n: int) -> str:
        try:
            return NAME.read(names.render(n))
        except Bad as bad:
            self.problems.add(self.mark, f"the name: {bad.message}", bad.hint, "name")
            return f"{show(self.name)}#{n}"

    def _numbers(self, fields: Fields) -> template.Numbers:
        if fields.varying is not None and "range" in fields.varying:
            self.problems.add(
                fields.place("range"), "range: it says what n is, and can't depend on n", "e.g. range: 1-500"
            )
            raise Broken
        numbers: template.Numbers | None = fields.get("range")
        if numbers is None:
            message = f"{show(self.name)}: range is missing"
            self.problems.add(self.mark, message, "say which values n takes, e.g. range: 1-500")
            raise Broken
        return numbers

    def _names(self, count: int) -> template.Template | str:
        mark = self.mark
        try:
            names = template.parse(self.name)
        except Bad as bad:
            self.problems.add(mark, f"the name: {bad.message}", bad.hint)
            raise Broken from None
        if isinstance(names, str):
            names = _checked_name(names, mark, self.problems)
            if count > 1:
                message = f"{names}: all {count} tunnels of the set would have this name"
                self.problems.add(mark, message, f"put the number into the name: {names}-{{n}}")
                raise Broken
        return names


def _checked_name(text: str, mark: Mark, problems: Problems) -> str:
    """The name of a tunnel; if it is wrong, something to call it by in messages."""
    try:
        return NAME.read(text)
    except Bad as bad:
        problems.add(mark, bad.message, bad.hint)
        return show(text)


def _bound(builder: Builder, mark: Mark, problems: Problems) -> bool:
    """Whether one more tunnel may follow."""
    if len(builder.claims.names) <= MAX_TUNNELS:
        return True
    problems.n = None
    problems.add(mark, f"there are more than {MAX_TUNNELS:,} tunnels", "split them over several hosts")
    return False
