"""Nodes to fields: the mappings of the file, checked against the schema, every scalar read by its own type.

A `Fields` keeps for each key its value and its place. Inside a set, a value with an expression in it is kept
as a `Varying`, and `at(n)` gives the fields of one tunnel: what does not vary is read once and shared.
"""

from typing import Any, TypeAlias

from kl2tp.config import schema, template
from kl2tp.config.document import EMPTY, Mapping, Node, Pair, Scalar, Sequence
from kl2tp.config.key import Key, Section
from kl2tp.config.problem import Bad, Mark, Problems, where
from kl2tp.config.scalar import Type, show

Given: TypeAlias = tuple[Any, Mark]
"""A value and its place."""


Bases: TypeAlias = "dict[Section, Fields | None]"


class Broken(Exception):
    """A value was given but is wrong, which has been reported: whatever depends on it can't be judged."""


class Fields:
    """What one mapping says, and what it inherits."""

    __slots__ = ("all", "broken", "mark", "own", "section", "varying")

    def __init__(self, section: Section, mark: Mark) -> None:
        self.section = section
        self.mark = mark
        self.own: dict[str, Given] = {}
        """What stands in the mapping itself."""
        self.all = self.own
        """The same, with what comes from `defaults`."""
        self.broken: set[str] | None = None
        self.varying: list[str] | None = None

    def get(self, key: str, default: Any = None) -> Any:
        """The value, its own or inherited. Raises `Broken`."""
        found = self.all.get(key)
        if found is not None:
            return found[0]
        if self.broken is not None and key in self.broken:
            raise Broken
        return default

    def place(self, key: str) -> Mark:
        """The place of the value, or of the whole mapping if the key is not there."""
        found = self.all.get(key)
        return self.mark if found is None else found[1]

    def inherit(self, base: "Fields | None") -> None:
        """Take from `base` what is not said here."""
        if base is None:
            return
        self.all = {**base.all, **self.own}
        if self.broken is not None:
            for key in self.broken:
                self.all.pop(key, None)
        if base.broken is not None:
            self.broken = (self.broken or set()) | {key for key in base.broken if key not in self.own}

    def spoil(self, key: str) -> None:
        """Note that the key's value is wrong."""
        if self.broken is None:
            self.broken = set()
        self.broken.add(key)

    def vary(self, key: str) -> None:
        """Note that the key's value depends on n."""
        if self.varying is None:
            self.varying = []
        self.varying.append(key)

    def at(self, n: int, problems: Problems) -> "Fields":
        """The fields for this n."""
        if self.varying is None:
            return self
        copy = Fields(self.section, self.mark)
        copy.own = self.own
        copy.all = everything = self.all.copy()
        copy.broken = None if self.broken is None else set(self.broken)
        for key in self.varying:
            value, mark = everything[key]
            try:
                everything[key] = (value.at(n, problems), mark)
            except Broken:
                del everything[key]
                copy.spoil(key)
        return copy


class Varying:
    """A scalar with an expression in it."""

    __slots__ = ("label", "mark", "template", "type")

    def __init__(self, text: template.Template, type_: Type[Any], label: str, mark: Mark) -> None:
        self.template = text
        self.type = type_
        self.label = label
        self.mark = mark

    def at(self, n: int, problems: Problems) -> Any:
        """The value for this n. Raises `Broken` after reporting why."""
        try:
            return self.type.read(self.template.render(n))
        except Bad as bad:
            problems.add(self.mark, f"{self.label}: {bad.message}", bad.hint)
            raise Broken from None


class VaryingItems:
    """A list, some of whose items vary."""

    __slots__ = ("items",)

    def __init__(self, items: list[Given]) -> None:
        self.items = items

    def at(self, n: int, problems: Problems) -> list[Given]:
        """The items for this n. Raises `Broken`."""
        return [(value.at(n, problems) if _varies(value) else value, mark) for value, mark in self.items]


class VaryingNames:
    """Named mappings, some of which vary."""

    __slots__ = ("named",)

    def __init__(self, named: dict[str, Given]) -> None:
        self.named = named

    def at(self, n: int, problems: Problems) -> dict[str, Given]:
        """The mappings for this n."""
        return {name: (value.at(n, problems), mark) for name, (value, mark) in self.named.items()}


def _varies(value: object) -> bool:
    return type(value) is Varying or (type(value) is Fields and value.varying is not None)


class Reader:
    """Reads nodes by the schema.

    `bases`: what each section inherits from `defaults`. `templates`: whether values may hold expressions, as
    those of a set may.
    """

    def __init__(self, problems: Problems, bases: Bases, templates: bool = False) -> None:
        self.problems = problems
        self.bases = bases
        self.templates = templates

    def section(self, section: Section, node: Node, label: str, key_mark: Mark) -> Fields:
        """A mapping with known keys, or its short form. Raises `Broken`."""
        if type(node) is Mapping:
            fields = Fields(section, node.mark)
            self._pairs(fields, node)
        elif type(node) is Scalar and node.empty:
            fields = Fields(section, key_mark)
        elif section.short is not None and (type(node) is Scalar or section.short.many):
            fields = self._short(section, section.short, node, label)
        else:
            self.problems.add(node.mark, f"{label}: {_a(node)} where a mapping belongs", _mapping_hint(section))
            raise Broken
        if section in self.bases:
            fields.inherit(self.bases[section])
        return fields

    def _short(self, section: Section, short: Key, node: Node, label: str) -> Fields:
        assert short.type is not None
        fields = Fields(section, node.mark)
        if short.many:
            value, varies = self._many(short, node, label)
        else:
            value = self._scalar(short.type, node, label)
            varies = type(value) is Varying
        fields.own[short.name] = (value, node.mark)
        if varies:
            fields.vary(short.name)
        return fields

    def _pairs(self, fields: Fields, node: Mapping) -> None:
        """The pairs of a mapping. What does not go through `_pair` is where a big file spends its time."""
        scalars = {} if self.templates else fields.section.scalars
        own = fields.own
        meant: list[str] = []
        for name, mark, value in node.pairs:
            scalar = scalars.get(name)
            if scalar is None or type(value) is not Scalar or scalar[0] in own or value.text in EMPTY:
                meant.append(self._pair(fields, node, name, mark, value))
                continue
            key, words, parse = scalar
            text = value.text
            try:
                own[key] = (words[text] if text in words else parse(text), value.mark)
            except Bad:
                self._pair(fields, node, name, mark, value)
        for key in filter(None, meant):
            if key not in own:
                fields.spoil(key)

    def _pair(self, fields: Fields, node: Mapping, name: str, mark: Mark, value: Node) -> str:
        """One pair of a mapping. If its key is unknown: the key that was probably meant."""
        key = fields.section.keys.get(name)
        if key is None:
            message, hint, meant = schema.advice(fields.section, name)
            self.problems.add(mark, message, hint)
            return meant
        if key.name in fields.own or (fields.broken is not None and key.name in fields.broken):
            self._duplicate(name, mark, key, node)
        else:
            try:
                self._value(fields, key, name, mark, value)
            except Broken:
                fields.spoil(key.name)
        return ""

    def _value(self, fields: Fields, key: Key, label: str, mark: Mark, node: Node) -> None:
        """Anything but the plain case. Raises `Broken`."""
        if type(node) is Scalar and node.empty and (key.section is None or key.many):
            self.problems.add(mark, f"{label} has no value", f"e.g. {label}: {key.eg}" if key.eg else "")
            raise Broken
        if key.named:
            value, varies = self._named(key, node, label)
        elif key.many:
            value, varies = self._many(key, node, label)
        elif key.section is not None:
            value = self.section(key.section, node, label, mark)
            varies = value.varying is not None
        else:
            assert key.type is not None
            value = self._scalar(key.type, node, label)
            varies = type(value) is Varying
        fields.own[key.name] = (value, mark if type(node) is Scalar and node.empty else node.mark)
        if varies:
            fields.vary(key.name)

    def _scalar(self, type_: Type[Any], node: Node, label: str) -> Any:
        if type(node) is not Scalar:
            instead = type_.instead or Bad(f"{_a(node)} where one value belongs", _scalar_hint(node, type_))
            self.problems.add(node.mark, f"{label}: {instead.message}", instead.hint)
            raise Broken
        if self.templates and ("{" in node.text or "}" in node.text):
            return self._template(type_, node, label)
        return self._plain(type_, node, label)

    def _plain(self, type_: Type[Any], node: Scalar, label: str) -> Any:
        text = node.text
        try:
            return type_.words[text] if text in type_.words else type_.parse(text)
        except Bad as bad:
            hint = bad.hint
            if "{" in text and not self.templates and "{" not in type_.syntax:
                hint = "expressions in braces work in sets only"
            self.problems.add(node.mark, f"{label}: {bad.message}", hint)
            raise Broken from None

    def _template(self, type_: Type[Any], node: Scalar, label: str) -> Any:
        try:
            text = template.parse(node.text)
            if isinstance(text, template.Template):
                return Varying(text, type_, label, node.mark)
            return type_.read(text)
        except Bad as bad:
            self.problems.add(node.mark, f"{label}: {bad.message}", bad.hint)
            raise Broken from None

    def _many(self, key: Key, node: Node, label: str) -> tuple[Any, bool]:
        """A list, or one item in place of a list."""
        items: list[Given] = []
        broken = False
        for item in node.items if type(node) is Sequence else [node]:
            try:
                if key.section is not None:
                    items.append((self.section(key.section, item, label, item.mark), item.mark))
                else:
                    assert key.type is not None
                    items.append((self._scalar(key.type, item, label), item.mark))
            except Broken:
                broken = True
        if broken:
            raise Broken
        varies = self.templates and any(_varies(value) for value, _ in items)
        return (VaryingItems(items) if varies else items), varies

    def _named(self, key: Key, node: Node, label: str) -> tuple[Any, bool]:
        """A mapping from names to sections."""
        named: dict[str, Given] = {}
        assert key.section is not None
        for name, mark, value in named_pairs(self.problems, node, label, key.section.name):
            if name in named:
                twice(self.problems, name, mark, named[name][1])
                continue
            try:
                named[name] = (self.section(key.section, value, key.section.name, mark), mark)
            except Broken:
                named[name] = (unknown(key.section, mark), mark)
        varies = self.templates and any(_varies(value) for value, _ in named.values())
        return (VaryingNames(named) if varies else named), varies

    def _duplicate(self, name: str, mark: Mark, key: Key, node: Mapping) -> None:
        first, place = next(pair[:2] for pair in node.pairs if pair[0] in (key.name, key.alias))
        if first == name:
            twice(self.problems, name, mark, place)
        else:
            message = f"{name} and {first} (at {where(place)}) are the same key"
            self.problems.add(mark, message, "put both values into one list")


def named_pairs(problems: Problems, node: Node, label: str, what: str) -> list[Pair]:
    """The pairs of a mapping from names to anything. Raises `Broken`."""
    if type(node) is Mapping:
        return node.pairs
    if type(node) is Scalar and node.empty:
        return []
    message = f"{label}: {_a(node)} where a mapping from names belongs"
    problems.add(node.mark, message, f"write NAME: {{{what}}}")
    raise Broken


def twice(problems: Problems, name: str, mark: Mark, first: Mark) -> None:
    """Report a key that is there for the second time."""
    problems.add(mark, f"{show(name)} is here for the second time; first at {where(first)}", "remove one")


def unknown(section: Section, mark: Mark) -> Fields:
    """Fields of which nothing is known, since they could not be read."""
    fields = Fields(section, mark)
    fields.broken = set(section.keys)
    return fields


def _a(node: Node) -> str:
    if type(node) is Mapping:
        return "a mapping"
    if type(node) is Sequence:
        return "a list"
    return "one value"


def _mapping_hint(section: Section) -> str:
    return f"{section.name} has the keys {', '.join(key.name for key in section)}"


def _scalar_hint(node: Node, type_: Type[Any]) -> str:
    if type(node) is Mapping and len(node.pairs) == 1:
        key, _, value = node.pairs[0]
        if type(value) is Scalar and value.empty:
            return f'YAML takes braces for a mapping: quote the value, "{{{key}}}"'
    return f"write {type_.syntax}"
