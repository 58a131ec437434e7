"""Plain trees as YAML that people like to read: scalars, lists, and mappings with comments."""

import json
import re
from collections.abc import Iterator
from typing import TypeAlias

Tree: TypeAlias = "str | list[str | dict[str, Tree]] | dict[str, Tree]"
"""In a mapping the key `#` holds lines of comment that stand above its other keys."""
COMMENT = "#"
WIDTH = 100
_PLAIN = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_/.+@-]*(?:\{n\})?")


def short(tree: dict[str, Tree], key: str) -> Tree:
    """The one value of a mapping that has no more, where that is its short form."""
    return tree[key] if len(tree) == 1 and key in tree else tree


def scalar(text: str) -> str:
    """A scalar, quoted where YAML wants it."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def flow(tree: Tree) -> str:
    """A tree in one line."""
    if isinstance(tree, str):
        return json.dumps(tree) if "{" in tree else scalar(tree)
    if isinstance(tree, list):
        return f"[{', '.join(flow(item) for item in tree)}]"
    return f"{{{', '.join(f'{key}: {flow(value)}' for key, value in tree.items() if key != COMMENT)}}}"


def document(tree: dict[str, Tree]) -> str:
    """A whole file: a blank line before each part of the top level, and before what has a comment of its own."""
    lines = list(dump({COMMENT: tree.get(COMMENT, "")}))
    for key, value in tree.items():
        if key != COMMENT:
            lines += ["", *_pair(scalar(key), value, "")]
    return "\n".join(lines) + "\n"


def dump(tree: dict[str, Tree], indent: int = 0) -> Iterator[str]:
    """The lines of a mapping."""
    space = " " * indent
    comment = tree.get(COMMENT, "")
    if isinstance(comment, str) and comment:
        yield from (f"{space}# {line}".rstrip() for line in comment.splitlines())
    first = True
    for key, value in tree.items():
        if key == COMMENT:
            continue
        if not first and isinstance(value, dict) and COMMENT in value:
            yield ""
        first = False
        yield from _pair(scalar(key), value, space)


def _pair(key: str, value: Tree, space: str) -> Iterator[str]:
    if isinstance(value, str):
        yield f"{space}{key}: {scalar(value)}"
    elif isinstance(value, dict) and _deep(value):
        yield f"{space}{key}:"
        yield from dump(value, len(space) + 2)
    elif len(line := f"{space}{key}: {flow(value)}") <= WIDTH or isinstance(value, dict):
        yield line
    else:
        yield f"{space}{key}:"
        yield from (f"{space}  - {flow(item)}" for item in value)


def _deep(tree: dict[str, Tree]) -> bool:
    """Whether a mapping deserves lines of its own."""
    return COMMENT in tree or len(tree) > 3 or any(isinstance(value, dict) for value in tree.values())
