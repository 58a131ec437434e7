"""The table of keys as a reference to read, and as plain values for other programs."""

import textwrap
from collections.abc import Iterable
from typing import Any

from kl2tp.config.key import Key, Section


def text(sections: Iterable[Section], width: int) -> str:
    """All sections, one line per key with its form and default, then its meaning and an example.

    A section that takes over keys from one before it only names them.
    """
    shown: dict[Key, str] = {}
    return "\n\n".join(_section(section, shown, width) for section in sections) + "\n"


def _section(section: Section, shown: dict[Key, str], width: int) -> str:
    lines = [section.name.upper(), *_wrapped(section.doc, width, 2)]
    again: dict[str, list[str]] = {}
    for key in section:
        if key in shown:
            again.setdefault(shown[key], []).append(key.name)
        else:
            shown[key] = section.name
            lines += ["", *_key(key, width)]
    for other, names in again.items():
        lines += ["", *_wrapped(f"as in {other.upper()}: {', '.join(names)}", width, 2)]
    return "\n".join(lines)


def _key(key: Key, width: int) -> list[str]:
    name = f"{key.name} (or {key.alias})" if key.alias else key.name
    note = "   [required]" if key.required else f"   [default: {key.default}]" if key.default else ""
    lines = textwrap.wrap(f"  {name}: {key.syntax}", width, subsequent_indent=" " * 6, break_long_words=False)
    lines[-1] += note
    lines += _wrapped(key.doc, width, 6)
    if key.eg:
        lines.append(f"      e.g. {key.name}: {key.eg}")
    return lines


def _wrapped(paragraph: str, width: int, indent: int) -> list[str]:
    space = " " * indent
    return textwrap.wrap(paragraph, width, initial_indent=space, subsequent_indent=space)


def plain(sections: Iterable[Section]) -> dict[str, Any]:
    """The sections as dicts, lists and scalars."""
    return {section.name: _plain_section(section) for section in sections}


def _plain_section(section: Section) -> dict[str, Any]:
    short = None if section.short is None else section.short.syntax
    return {"doc": section.doc, "short": short, "keys": {key.name: _plain_key(key) for key in section}}


def _plain_key(key: Key) -> dict[str, Any]:
    return {
        "syntax": key.syntax,
        "default": key.default or None,
        "required": key.required,
        "doc": key.doc,
        "example": key.eg or None,
        "alias": key.alias or None,
        "section": None if key.section is None else key.section.name,
        "list": key.many,
        "named": key.named,
        "in_defaults": key.inherited,
        "words": [] if key.type is None else list(key.type.words),
    }
