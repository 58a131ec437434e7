"""Files to one configuration: the top level of each, judged as one.

Tunnels are built while their file is still being read, a few at a time: ten thousand of them then need the memory
of a few. That takes the defaults to be known; where they come after the tunnels in the main file, the tunnels wait
for them.
"""

from kl2tp.config import calls, document, sets
from kl2tp.config.build import Builder, bases
from kl2tp.config.call_scalars import POOL_NAME
from kl2tp.config.call_schema import LAC, LNS, POOL, USERS
from kl2tp.config.conflicts import Claims
from kl2tp.config.document import Node, Scalar
from kl2tp.config.draft import Draft
from kl2tp.config.fields import Bases, Broken, Fields, Reader, named_pairs, twice, unknown
from kl2tp.config.key import Section
from kl2tp.config.problem import Bad, Mark, Problems
from kl2tp.config.scalar import NAME, Type, show
from kl2tp.config.schema import DAEMON, DEFAULTS, TOP, TUNNEL, advice
from kl2tp.model.desired import DaemonSpec, Desired
from kl2tp.model.spec import Where

WAITING = ("tunnels", "sets", "lns", "lac", "pools", "users")
"""What waits for the end of its file, as the defaults may come after it."""
BATCH = 16
"""Tunnels that are built together: what the processor's caches hold of their nodes and fields."""


class Assembly:
    """A configuration that grows file by file; the first is the main one."""

    def __init__(self, problems: Problems, main: str) -> None:
        self.problems = problems
        self.main = main
        self.daemon = DaemonSpec()
        self.inherited: Bases = {}
        self.builder: Builder | None = None
        self.calls = calls.CallBuilder(problems)
        self.inherited_by: dict[str, Bases] = {"lns": {}, "lac": {}}
        """What calls inherit."""
        self.complete = True
        """Whether all files so far could be read."""

    def add(self, name: str, text: str | None) -> None:
        """Add a file; None stands for the text of one that could not be read."""
        file = _File(self, name)
        if self.builder is None and text is not None and "defaults" not in text:
            self.begin(None)
        complete = text is not None and document.stream(text, name, self.problems, file)
        if self.builder is None and "defaults" not in file.places:
            self.begin(None if complete else unknown(DEFAULTS, _Start(name)))
        file.flush()
        if complete:
            file.finish()
        else:
            self.complete = False

    def begin(self, defaults: Fields | None) -> Builder:
        """Take note of the defaults: from now on tunnels can be built."""
        self.inherited = bases(defaults)
        self.builder = Builder(self.problems, self.inherited)
        self.inherited_by = {kind: calls.bases(defaults, kind) for kind in self.inherited_by}
        return self.builder

    def finish(self) -> Desired:
        """All that was added. Raises `ConfigError` if anything is wrong with it."""
        desired = Desired(tuple(self.builder.tunnels if self.builder is not None else ()), self.daemon)
        if self.calls:
            claims = Claims(self.problems) if self.builder is None else self.builder.claims
            desired = self.calls.finish(desired, claims, self.complete)
        self.problems.check()
        return desired


class _Start:
    """The beginning of a file, as a mark."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.line = 0
        self.column = 0


class _File:
    """The top level of one file, as it is read: a `document.Visitor`."""

    def __init__(self, assembly: Assembly, name: str) -> None:
        self.assembly = assembly
        self.problems = assembly.problems
        self.name = name
        self.main = name == assembly.main
        self.places: dict[str, Mark] = {}
        self.waiting: dict[str, Node] = {}
        self.tunnels: dict[str, Mark] = {}
        self.batch: list[document.Pair] = []

    def root(self, node: Node | None) -> None:
        """The file is no mapping."""
        if node is not None and not (isinstance(node, Scalar) and node.empty):
            self.problems.add(node.mark, "the file is not a mapping", f"it has the keys {', '.join(TOP.keys)}")
        elif self.main:
            hint = "begin with tunnels: as the examples do"
            self.problems.add(Where(self.name, 0, 0), "there is nothing in it", hint)

    def streams(self, key: str, mark: Mark) -> bool:
        """Tunnels are built one by one if the defaults are known."""
        if key != "tunnels" or key in self.places or self.assembly.builder is None:
            return False
        self.places[key] = mark
        return True

    def entry(self, name: str, mark: Mark, node: Node) -> None:
        """Build a tunnel, together with a few that follow."""
        if name in self.tunnels:
            twice(self.problems, name, mark, self.tunnels[name])
            return
        self.tunnels[name] = mark
        self.batch.append((name, mark, node))
        if len(self.batch) == BATCH:
            self.flush()

    def flush(self) -> None:
        """Build the tunnels that have come together."""
        batch, self.batch = self.batch, []
        if not batch:
            return
        builder = self.assembly.builder
        assert builder is not None
        reader = Reader(self.problems, self.assembly.inherited)
        drafts = []
        for name, mark, node in batch:
            called = self._checked(name, mark)
            try:
                drafts.append(Draft(called, mark, reader.section(TUNNEL, node, called, mark)))
            except Broken:
                continue
        builder.add(drafts)

    def _checked(self, name: str, mark: Mark, type_: Type[str] = NAME) -> str:
        """The name of a tunnel or call; if it is wrong, something to call it by in messages."""
        try:
            return type_.read(name)
        except Bad as bad:
            self.problems.add(mark, bad.message, bad.hint)
            return show(name)

    def pair(self, key: str, mark: Mark, node: Node) -> None:
        """Any other part of the file."""
        if key not in TOP.keys:
            message, hint, meant = advice(TOP, key)
            self.problems.add(mark, message, hint)
            if meant == "defaults" and self.main and not self.tunnels:
                self.assembly.begin(unknown(DEFAULTS, mark))
            return
        if key in self.places:
            twice(self.problems, key, mark, self.places[key])
            return
        self.places[key] = mark
        if key in WAITING:
            self.waiting[key] = node
        elif not self.main:
            self.problems.add(mark, f"{key} stands in the main file only", f"move it to {self.assembly.main}")
        elif key == "defaults":
            self.assembly.begin(self._section(DEFAULTS, key, mark, node))
        else:
            self.assembly.daemon = _daemon(self._section(DAEMON, key, mark, node))

    def _section(self, section: Section, key: str, mark: Mark, node: Node) -> Fields:
        try:
            return Reader(self.problems, {}).section(section, node, key, mark)
        except Broken:
            return unknown(section, mark)

    def finish(self) -> None:
        """Build what has been waiting for the end of the file."""
        for name, mark, node in self._waiting("tunnels"):
            self.entry(name, mark, node)
        self.flush()
        builder = self.assembly.builder
        assert builder is not None
        reader = Reader(self.problems, self.assembly.inherited, templates=True)
        seen: dict[str, Mark] = {}
        for name, mark, node in self._waiting("sets"):
            if name in seen:
                twice(self.problems, name, mark, seen[name])
            else:
                seen[name] = mark
                sets.expand(reader, builder, name, mark, node)
        self._calls()

    def _calls(self) -> None:
        """Take note of all that is about calls."""
        for kind, section, name_type in (("pools", POOL, POOL_NAME), ("lns", LNS, NAME), ("lac", LAC, NAME)):
            reader = Reader(self.problems, self.assembly.inherited_by.get(kind, {}))
            for name, mark, node in self._waiting(kind):
                called = self._checked(name, mark, name_type)
                try:
                    fields = reader.section(section, node, called, mark)
                except Broken:
                    fields = unknown(section, mark)
                self.assembly.calls.add(kind, called, mark, fields)
        if "users" in self.waiting:
            mark = self.places["users"]
            self.assembly.calls.add_users(mark, self._section(USERS, "users", mark, self.waiting["users"]))

    def _waiting(self, key: str) -> list[document.Pair]:
        node = self.waiting.get(key)
        if node is None:
            return []
        section = TOP.keys[key].section
        assert section is not None
        try:
            return named_pairs(self.problems, node, key, section.name)
        except Broken:
            return []


def _daemon(fields: Fields) -> DaemonSpec:
    default = DaemonSpec()
    try:
        interval: float = fields.get("resync_interval", default.resync_interval)
        level: str = fields.get("log_level", default.log_level)
        keep: bool = fields.get("keep_calls", default.keep_calls)
        charon: str = fields.get("charon", default.charon)
        marks: tuple[int, int] = fields.get("marks", default.marks)
    except Broken:
        return default
    return DaemonSpec(float(interval), level, keep, charon, marks)
