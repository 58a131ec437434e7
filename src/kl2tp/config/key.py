"""What the table of keys is made of."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kl2tp.config.scalar import Type


@dataclass(frozen=True, slots=True, eq=False)
class Key:
    """One key of a section.

    It takes a scalar (`type`), a mapping (`section`), a list of either (`many`), or a mapping from names to
    sections (`named`).
    """

    name: str
    type: Type[Any] | None
    doc: str
    eg: str = ""
    """An example of a value."""
    default: str = ""
    """What holds if the key is left out, for people; empty: nothing."""
    section: "Section | None" = None
    many: bool = False
    named: bool = False
    required: bool = False
    inherited: bool = False
    """May stand in `defaults`, and is taken from there."""
    alias: str = ""
    """A second name for the same key."""
    fills: tuple[str, ...] = ()
    """What of `kl2tp.model.spec` it sets, as `Class.field`."""

    @property
    def syntax(self) -> str:
        """What may be written, for people."""
        forms = [] if self.type is None else [self.type.syntax]
        if self.section is not None:
            if self.section.short is not None:
                forms.append(self.section.short.syntax)
            forms.append(f"{{{self.section.name}}}")
        text = " | ".join(forms)
        if self.named:
            return f"NAME: {text}"
        return f"[{text}, ...]" if self.many else text


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """A mapping with known keys, in the order in which they are documented."""

    name: str
    doc: str
    keys: dict[str, Key]
    """By name and by alias."""
    short: Key | None = None
    """What a scalar in place of the mapping means."""
    scalars: dict[str, tuple[str, Mapping[str, Any], Callable[[str], Any]]] = field(init=False)
    """The keys that take one scalar and nothing else, as they are read fastest: name, words, parser."""

    def __post_init__(self) -> None:
        scalars = {
            word: (key.name, key.type.words, key.type.parse)
            for word, key in self.keys.items()
            if key.type is not None and key.section is None and not key.many
        }
        object.__setattr__(self, "scalars", scalars)

    def __iter__(self) -> Iterator[Key]:
        return iter(dict.fromkeys(self.keys.values()))


def section(name: str, doc: str, *keys: Key, short: Key | None = None) -> Section:
    """A section of these keys."""
    table = {key.name: key for key in keys} | {key.alias: key for key in keys if key.alias}
    return Section(name, doc, table, short)


def inheritable(name: str, doc: str, of: Section, short: Key | None = None) -> Section:
    """The part of a section that `defaults` may hold."""
    return section(name, doc, *(key for key in of if key.inherited), short=short)
