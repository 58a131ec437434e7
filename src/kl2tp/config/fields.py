"""Nodes to fields: the mappings of the file, checked against the schema, every scalar read by its own type.

A `Fields` keeps for each key its value and its place. Inside a set, a value with an expression in it is kept as a
`Varying`, and `at(n)` gives the fields of one tunnel: what does not vary is read once and shared.
"""

from typing import Any, TypeAlias

from kl2tp.config import schema, template
from kl2tp.config.document import Mapping, Node, Scalar, Sequence
from kl2tp.config.problem import Bad, Mark, Problems
from kl2tp.config.scalar import Type
from kl2tp.config.schema import Key, Section

Given: TypeAlias = tuple[Any, Mark]
"""A value and its place."""


class Broken(Exception):
    """A value was given but is wrong, which has been reported: whatever depends on it can't be judged."""


class Fields:
    """What one mapping says."""

    __slots__ = ("broken", "given", "inherited", "mark", "section", "varying")

    def __init__(self, section: Section, mark: Mark) -> None:
        self.section = section
        self.mark = mark
        self.given: dict[str, Given] = {}
        self.inherited: Fields | None = None
        """Fields from `defaults`, asked for what is not given here."""
        self.broken: set[str] | None = None
        self.varying: list[str] | None = None

    def find(self, key: str) -> Given | None:
        """The value and its place, from here or from `defaults`. Raises `Broken`."""
        found = self.given.get(key)
        if found is not None:
            return found
        if self.broken is not None and key in self.broken:
            raise Broken
        return self.inherited.find(key) if self.inherited is not None else None

    def get(self, key: str, default: Any = None) -> Any:
        """The value, from here or from `defaults`. Raises `Broken`."""
        found = self.given.get(key)
        if found is not None:
            return found[0]
        found = self.find(key)
        return default if found is None else found[0]

    def place(self, key: str) -> Mark:
        """The place of the value, or of the whole mapping if the key is not there."""
        found = self.given.get(key) or (self.inherited.given.get(key) if self.inherited is not None else None)
        return self.mark if found is None else found[1]

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
        copy.given = given = dict(self.given)
        copy.inherited = self.inherited
        copy.broken = None if self.broken is None else set(self.broken)
        for key in self.varying:
            value, mark = given[key]
            try:
                given[key] = (value.at(n, problems), mark)
            except Broken:
                del given[key]
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
    """Reads nodes by the schema. `templates`: whether values may hold expressions, as in a set."""

    def __init__(self, problems: Problems, templates: bool = False) -> None:
        self.problems = problems
        self.templates = templates

    def section(self, section: Section, node: Node, label: str, key_mark: Mark) -> Fields:
        """A mapping with known keys, or its short form. Raises `Broken`."""
        if type(node) is Mapping:
            fields = Fields(section, node.mark)
            self._pairs(fields, node)
            return fields
        if type(node) is Scalar and node.empty:
            return Fields(section, key_mark)
        if type(node) is Scalar and section.short is not None:
            return self._short(section, section.short, node, label)
        self.problems.add(node.mark, f"{label}: {_a(node)} where a mapping belongs", _mapping_hint(section))
        raise Broken

    def _short(self, section: Section, short: Key, node: Scalar, label: str) -> Fields:
        assert short.type is not None
        fields = Fields(section, node.mark)
        value = self._scalar(short.type, node, label)
        fields.given[short.name] = (value, node.mark)
        if type(value) is Varying:
            fields.vary(short.name)
        return fields

    def _pairs(self, fields: Fields, node: Mapping) -> None:
        keys = fields.section.keys
        given = fields.given
        templates = self.templates
        for name, value in node.pairs:
            key = keys.get(name.text)
            if key is None:
                self._unknown(fields.section, name)
            elif key.name in given or (fields.broken is not None and key.name in fields.broken):
                self._duplicate(name, key, node)
            else:
                try:
                    if type(value) is Scalar and key.type is not None and not templates and not value.empty and not key.many:
                        given[key.name] = (self._plain(key.type, value, key.name), value.mark)
                    else:
                        self._value(fields, key, name, value)
                except Broken:
                    fields.spoil(key.name)

    def _value(self, fields: Fields, key: Key, name: Scalar, node: Node) -> None:
        """Anything but the plain case. Raises `Broken`."""
        label = name.text
        if type(node) is Scalar and node.empty and (key.section is None or key.many):
            self.problems.add(name.mark, f"{label} has no value", f"e.g. {label}: {key.example}" if key.example else "")
            raise Broken
        if key.named:
            value, varies = self._named(key, node, label)
        elif key.many:
            value, varies = self._many(key, node, label)
        elif key.section is not None:
            value = self.section(key.section, node, label, name.mark)
            varies = value.varying is not None
        else:
            assert key.type is not None
            value = self._scalar(key.type, node, label)
            varies = type(value) is Varying
        fields.given[key.name] = (value, node.mark if type(node) is not Scalar or not node.empty else name.mark)
        if varies:
            fields.vary(key.name)

    def _scalar(self, type_: Type[Any], node: Node, label: str) -> Any:
        if type(node) is not Scalar:
            self.problems.add(node.mark, f"{label}: {_a(node)} where one value belongs", _scalar_hint(node, type_))
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
            if "{" in text and not self.templates:
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
        varies = any(_varies(value) for value, _ in items)
        return (VaryingItems(items) if varies else items), varies

    def _named(self, key: Key, node: Node, label: str) -> tuple[Any, bool]:
        """A mapping from names to sections."""
        named: dict[str, Given] = {}
        assert key.section is not None
        for name, value in self.names(node, label, key.section.name):
            if name.text in named:
                self.twice(name, named[name.text][1])
                continue
            try:
                named[name.text] = (self.section(key.section, value, name.text, name.mark), name.mark)
            except Broken:
                named[name.text] = (_nothing(key.section, name.mark), name.mark)
        varies = any(_varies(value) for value, _ in named.values())
        return (VaryingNames(named) if varies else named), varies

    def names(self, node: Node, label: str, what: str) -> list[tuple[Scalar, Node]]:
        """The pairs of a mapping from names to anything. Raises `Broken`."""
        if type(node) is Mapping:
            return node.pairs
        if type(node) is Scalar and node.empty:
            return []
        self.problems.add(node.mark, f"{label}: {_a(node)} where a mapping from names belongs", f"write NAME: {{{what}}}")
        raise Broken

    def twice(self, name: Scalar, first: Mark) -> None:
        """Report a key that is there for the second time."""
        self.problems.add(name.mark, f"{name.text} is here for the second time; first {_at(first, name.mark)}", "remove one")

    def _duplicate(self, name: Scalar, key: Key, node: Mapping) -> None:
        first = next(other for other, _ in node.pairs if other.text in (key.name, key.alias))
        if first.text == name.text:
            self.twice(name, first.mark)
            return
        message = f"{name.text} and {first.text} {_at(first.mark, name.mark)} are the same key"
        self.problems.add(name.mark, message, "put both values into one list")

    def _unknown(self, section: Section, name: Scalar) -> None:
        message, hint = schema.advice(section, name.text)
        self.problems.add(name.mark, f"{name.text[:64]}: {message}", hint)


def _nothing(section: Section, mark: Mark) -> Fields:
    """Fields about which nothing can be said."""
    fields = Fields(section, mark)
    fields.broken = set(section.keys)
    return fields


def _at(mark: Mark, seen_from: Mark) -> str:
    """`at FILE:LINE:COLUMN`."""
    return f"at {mark.name}:{mark.line + 1}:{mark.column + 1}"


def _a(node: Node) -> str:
    if type(node) is Mapping:
        return "a mapping"
    if type(node) is Sequence:
        return "a list"
    return "one value"


def _mapping_hint(section: Section) -> str:
    return f"{section.name} has the keys {', '.join(key.name for key in section)}"


def _scalar_hint(node: Node, type_: Type[Any]) -> str:
    if type(node) is Mapping and len(node.pairs) == 1 and isinstance(node.pairs[0][1], Scalar) and node.pairs[0][1].empty:
        return f'YAML takes braces for a mapping: quote the value, "{{{node.pairs[0][0].text}}}"'
    return f"write {type_.syntax}"
