"""YAML text to nodes: the smallest tree that still knows every place.

Scalars stay text: what `no`, `010` or `12:30` means is decided by the key they are given to, not by YAML. We
compose from PyYAML's C events rather than use its nodes: that takes three quarters of the time and memory,
and it lets us bound depth and aliases.
"""

import io
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import yaml

from kl2tp.config.problem import Mark, Problems
from kl2tp.model.spec import Where

MAX_DEPTH = 32
MAX_ALIASED = 1_000_000
"""Values that aliases (`*name`) may repeat in one file: against "billion laughs"."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KINDS = ("str", "int", "float", "bool", "null", "map", "seq")
_TAGS = {"!", *(f"tag:yaml.org,2002:{kind}" for kind in _KINDS)}
"""Tags that change nothing, as every scalar is read by its key."""


EMPTY = frozenset(("", "~", "null"))
"""What stands for nothing if it is not quoted."""


class Scalar:
    """Text. `plain` if it is not quoted."""

    __slots__ = ("mark", "plain", "text")

    def __init__(self, text: str, mark: Mark, plain: bool) -> None:
        self.text = text
        self.mark = mark
        self.plain = plain

    @property
    def empty(self) -> bool:
        """Nothing was written, or YAML's own words for nothing."""
        return self.plain and self.text in EMPTY


class Mapping:
    """Pairs in the order of the file, merge keys (`<<`) already followed; a key may occur twice."""

    __slots__ = ("mark", "pairs")

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        self.pairs: list[Pair] = []


class Sequence:
    """Items in the order of the file."""

    __slots__ = ("items", "mark")

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        self.items: list[Node] = []


Node: TypeAlias = Scalar | Mapping | Sequence
Pair: TypeAlias = tuple[str, Mark, Node]
"""Key, the place of the key, and the value."""


class Visitor(Protocol):
    """Who is shown a document while it is read."""

    def root(self, node: Node | None) -> None:
        """The whole document, as it is no mapping; None if there is nothing in it."""

    def streams(self, key: str, mark: Mark) -> bool:
        """Whether the mapping at this key of the top level shall be shown entry by entry."""

    def entry(self, name: str, mark: Mark, node: Node) -> None:
        """A pair of such a mapping."""

    def pair(self, key: str, mark: Mark, node: Node) -> None:
        """A pair of the top level."""


class _Stop(Exception):
    """The document cannot be composed any further."""

    def __init__(self, mark: Mark, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.mark = mark
        self.message = message
        self.hint = hint


class _Named(io.BytesIO):
    """UTF-8 text under the file name that PyYAML writes into its marks."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text.removeprefix("\ufeff").encode(errors="surrogatepass"))
        self.name = name


class _Composer:
    """Builds the nodes of one document from parser events."""

    def __init__(self, loader: Any) -> None:
        self.next = loader.get_event
        self.anchors: dict[str, Node | None] = {}
        self.sizes: dict[str, int] = {}
        self.nodes = 0
        self.aliased = 0

    def document(self, visitor: Visitor) -> None:
        """Show the one document of the stream to `visitor`."""
        self.next()
        if type(self.next()) is yaml.StreamEndEvent:
            visitor.root(None)
            return
        event = self.next()
        if _is_simple_mapping(event):
            self.top(visitor)
        else:
            visitor.root(self.node(event, 0))
        self.next()
        event = self.next()
        if type(event) is not yaml.StreamEndEvent:
            hint = "one file holds one document: remove the '---'"
            raise _Stop(event.start_mark, "a second document begins here", hint)

    def top(self, visitor: Visitor) -> None:
        """The mapping that is the whole document."""
        while type(event := self.next()) is not yaml.MappingEndEvent:
            key, mark, _ = self.key(event, 1)
            value = self.next()
            if _is_simple_mapping(value) and visitor.streams(key, mark):
                self.entries(visitor)
            else:
                visitor.pair(key, mark, self.node(value, 1))

    def entries(self, visitor: Visitor) -> None:
        """A large mapping, pair by pair: what has been dealt with need not be kept."""
        names: set[str] = set()
        merges: list[Node] = []
        while type(event := self.next()) is not yaml.MappingEndEvent:
            key, mark, plain = self.key(event, 2)
            node = self.node(self.next(), 2)
            if plain and key == "<<":
                merges.append(node)
            else:
                names.add(key)
                visitor.entry(key, mark, node)
        for pair in _merged(names, merges):
            visitor.entry(*pair)

    def node(self, event: Any, depth: int) -> Node:
        """The node that begins with this event."""
        kind: Any = type(event)
        if kind is yaml.AliasEvent:
            return self.alias(event)
        self.nodes += 1
        if event.tag is not None and event.tag not in _TAGS:
            raise _Stop(event.start_mark, f"the tag {event.tag!r} means nothing here", "remove it")
        if event.anchor is not None:
            return self.anchored(event, depth)
        if kind is yaml.ScalarEvent:
            return Scalar(event.value, event.start_mark, not event.style)
        return self.collection(event, depth)

    def collection(self, event: Any, depth: int) -> Node:
        """A mapping or a sequence."""
        if depth >= MAX_DEPTH:
            raise _Stop(event.start_mark, f"nested deeper than {MAX_DEPTH} levels", "no setting is as deep as this")
        if type(event) is yaml.MappingStartEvent:
            return self.mapping(event, depth + 1)
        return self.sequence(event, depth + 1)

    def mapping(self, event: Any, depth: int) -> Mapping:
        """Keys must be scalars."""
        result = Mapping(event.start_mark)
        append = result.pairs.append
        following: Callable[[], Any] = self.next
        node = self.node
        merges: list[Node] = []
        scalar: Any = yaml.ScalarEvent
        end: Any = yaml.MappingEndEvent
        while (kind := type(event := following())) is not end:
            if kind is scalar and event.anchor is None and event.tag is None:
                key, mark, plain = event.value, event.start_mark, not event.style
            else:
                key, mark, plain = self.key(event, depth)
            value = following()
            if plain and key == "<<":
                merges.append(node(value, depth))
            elif type(value) is scalar and value.anchor is None and value.tag is None:
                append((key, mark, Scalar(value.value, value.start_mark, not value.style)))
            else:
                append((key, mark, node(value, depth)))
        if merges:
            result.pairs += _merged({pair[0] for pair in result.pairs}, merges)
        self.nodes += 2 * len(result.pairs)
        return result

    def key(self, event: Any, depth: int) -> tuple[str, Mark, bool]:
        """A key: text, its place, and whether it is plain. It may have an anchor, or be an alias."""
        node = self.node(event, depth)
        if type(node) is not Scalar:
            raise _Stop(node.mark, "a key must be text", 'quote it if it begins with a brace: "{n}-name":')
        return node.text, node.mark, node.plain

    def sequence(self, event: Any, depth: int) -> Sequence:
        """Items of any kind."""
        result = Sequence(event.start_mark)
        while type(event := self.next()) is not yaml.SequenceEndEvent:
            result.items.append(self.node(event, depth))
        return result

    def anchored(self, event: Any, depth: int) -> Node:
        """A node that has a name."""
        name = event.anchor
        before = self.nodes + self.aliased
        self.anchors[name] = None
        kind: Any = type(event)
        if kind is yaml.ScalarEvent:
            result: Node = Scalar(event.value, event.start_mark, not event.style)
        else:
            result = self.collection(event, depth)
        self.anchors[name] = result
        self.sizes[name] = self.nodes + self.aliased - before + 1
        return result

    def alias(self, event: Any) -> Node:
        """The node of that name, shared."""
        if event.anchor not in self.anchors:
            raise _Stop(event.start_mark, f"there is no anchor '&{event.anchor}' before this alias")
        target = self.anchors[event.anchor]
        if target is None:
            raise _Stop(event.start_mark, f"the alias '*{event.anchor}' is inside the very value it stands for")
        self.aliased += self.sizes[event.anchor]
        if self.aliased > MAX_ALIASED:
            raise _Stop(event.start_mark, f"aliases repeat more than {MAX_ALIASED:,} values", "use a set, or defaults")
        return target


def _is_simple_mapping(event: Any) -> bool:
    """Whether a mapping begins, without anchor or tag."""
    return type(event) is yaml.MappingStartEvent and event.anchor is None and event.tag is None


def _merged(have: set[str], sources: list[Node]) -> list[Pair]:
    """Follow merge keys: keys that are there already win, earlier sources win over later ones."""
    pairs: list[Pair] = []
    for source in sources:
        for item in source.items if isinstance(source, Sequence) else [source]:
            if not isinstance(item, Mapping):
                raise _Stop(item.mark, "'<<' merges mappings only", "write <<: *name, where &name marks a mapping")
            pairs += [pair for pair in item.pairs if pair[0] not in have]
            have.update(pair[0] for pair in item.pairs)
    return pairs


def stream(text: str, name: str, problems: Problems, visitor: Visitor) -> bool:
    """Show the document in `text` to `visitor`. False if it ended early, as something is wrong with it as YAML."""
    problems.file(name)
    loader = None
    try:
        loader = _LOADER(_Named(text, name))
        _Composer(loader).document(visitor)
        return True
    except _Stop as stop:
        problems.add(stop.mark, stop.message, stop.hint)
    except yaml.MarkedYAMLError as error:
        _syntax(error, text, name, problems)
    except yaml.reader.ReaderError as error:
        _unprintable(text, name, problems, error)
    finally:
        if loader is not None:
            loader.dispose()
    return False


def _syntax(error: yaml.MarkedYAMLError, text: str, name: str, problems: Problems) -> None:
    mark = error.problem_mark or error.context_mark
    message = f"{error.context}: {error.problem}" if error.context else str(error.problem)
    if mark is None:
        problems.add(Where(name, 0, 0), message)
        return
    lines = text.split("\n", mark.line + 1)
    if mark.line < len(lines):
        place, line = Where(name, mark.line + 1, mark.column + 1), lines[mark.line]
    else:
        place, line = Where(name, len(lines), len(lines[-1]) + 1), ""
    problems.add(place, f"not YAML: {message}", _syntax_hint(line, mark.column))


def _syntax_hint(line: str, column: int) -> str:
    """What is usually behind an error in this line."""
    if "\t" in line[: column + 1]:
        return "indent with spaces: YAML allows no tab here"
    here, before = line[column : column + 1], line[column - 1 : column]
    if here in ("%", "@", "`") or before in ("*", "&"):
        return f"a value that begins with {here if here in '%@`' else before} must be quoted"
    value = line.partition(":")[2].lstrip()
    if value[:1] in ("[", "{") and "{" in value[1:]:
        return 'inside [ ] and { } quote the values that have braces: ["10.0.{n}.1/24"]'
    if value.startswith("{") and not value.rstrip().endswith("}"):
        return f'a value that begins with a brace must be quoted: "{value.strip()}"'
    if value[:1] in ("%", "@", "`", "*", "&", "!"):
        return f"a value that begins with {value[0]} must be quoted"
    return "look at the indentation, and at the line above"


def _unprintable(text: str, name: str, problems: Problems, error: Any) -> None:
    """YAML refuses control characters; PyYAML gives the index only."""
    for index, character in enumerate(text):
        if not _accepted(ord(character)):
            before = text[:index]
            place = Where(name, before.count("\n") + 1, index - before.rfind("\n"))
            problems.add(place, f"the character U+{ord(character):04X} is not allowed in YAML", "remove it")
            return
    problems.add(Where(name, 0, 0), f"not YAML: {error.reason}")


def _accepted(code: int) -> bool:
    """Whether YAML 1.1 takes this character (5.1)."""
    if code < 0xA0:
        return 0x20 <= code <= 0x7E or code in (0x09, 0x0A, 0x0D, 0x85)
    return code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000


def read(path: str, problems: Problems) -> str | None:
    """The text of a file, or None if it can't be read as UTF-8."""
    problems.file(path)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        problems.add(Where(path, 0, 0), f"can't be read: {error.strerror}", _file_hint(error))
        return None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        column = len(before[before.rfind(b"\n") + 1 :].decode(errors="replace")) + 1
        place = Where(path, before.count(b"\n") + 1, column)
        problems.add(place, f"the byte 0x{data[error.start]:02x} is not UTF-8", "save the file as UTF-8")
        return None


def _file_hint(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "name another file, or create this one from an example in the documentation"
    if isinstance(error, PermissionError):
        return "run as a user who may read it"
    if isinstance(error, IsADirectoryError):
        return "name the file in it"
    return ""
