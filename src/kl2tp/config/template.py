"""The little language of sets: `{n:04}`, `{n // 250 + 1}`, and ranges such as `1-10,20,30-40`.

An expression is integer arithmetic over `n`: `+ - * // %`, parentheses, decimal and 0x numbers. It is
compiled once to closures and called once per tunnel. `{{` and `}}` are braces.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from kl2tp.config.problem import Bad
from kl2tp.config.scalar import number, show

Function = Callable[[int], int]

MAX_TEXT = 256
"""Characters of a template, and of what it yields."""
MAX_NESTING = 16
MAX_SET = 100_000
"""Tunnels in one set."""

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_TOKEN = re.compile(r"\s*(0[xX][0-9a-fA-F]+|[0-9]+|[A-Za-z_]\w*|//|[-+*%()]|\S)\s*")
_FORMAT = re.compile(r"(0?)([0-9]{0,2})([dxX]?)")
_SYNTAX = "expressions are integer arithmetic over n: + - * // % and parentheses"


class Template:
    """Text with expressions in it, ready to be written out for any n."""

    __slots__ = ("_format", "_functions", "_only", "text")

    def __init__(self, text: str, form: str, functions: Sequence[Function]) -> None:
        self.text = text
        self._format = form
        self._functions = tuple(functions)
        self._only = functions[0] if len(functions) == 1 else None

    def render(self, n: int) -> str:
        """The text for this n. Raises `Bad`."""
        try:
            if self._only is not None:
                result = self._format % self._only(n)
            else:
                result = self._format % tuple([function(n) for function in self._functions])
        except ZeroDivisionError:
            raise Bad(f"{show(self.text)} divides by zero") from None
        except ValueError:
            raise Bad(f"{show(self.text)} becomes a number beyond all bounds") from None
        if len(result) > MAX_TEXT:
            raise Bad(f"{show(self.text)} becomes longer than {MAX_TEXT} characters")
        return result


def parse(text: str) -> Template | str:
    """The template in `text`, or the plain text if there is no expression in it. Raises `Bad`."""
    if len(text) > MAX_TEXT:
        raise Bad(f"{show(text)} is longer than {MAX_TEXT} characters")
    form, plain = "", ""
    functions: list[Function] = []
    for piece in _PIECE.finditer(text):
        part = piece[0]
        if piece[1] is not None:
            function, spec = _placeholder(piece[1], text)
            functions.append(function)
            form += spec
        elif part in "{}":
            raise Bad(f"{show(text)} has a lonely {part!r}", f"write {part * 2} for the brace itself")
        else:
            literal = part[0] if part in ("{{", "}}") else part
            form += literal.replace("%", "%%")
            plain += literal
    return Template(text, form, functions) if functions else plain


def _placeholder(inside: str, text: str) -> tuple[Function, str]:
    expression, colon, spec = inside.partition(":")
    function = _Parser(expression, text).whole()
    found = _FORMAT.fullmatch(spec.strip())
    if not found or (colon and not spec.strip()):
        raise Bad(
            f"{show(text)}: the format {spec!r} is unknown",
            "use a width as in {n:4} or {n:04}, or {n:x} for hexadecimal",
        )
    return function, f"%{found[1]}{found[2]}{found[3] or 'd'}"


class _Parser:
    """Recursive descent over one expression."""

    def __init__(self, expression: str, text: str) -> None:
        self.text = text
        self.tokens = _TOKEN.findall(expression)
        self.at = 0
        self.depth = 0

    def bad(self, what: str, hint: str = _SYNTAX) -> Bad:
        return Bad(f"{show(self.text)}: {what}", hint)

    def unexpected(self, token: str) -> Bad:
        return self.bad(f"did not expect {token!r}", "write // for division" if token == "/" else _SYNTAX)

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def whole(self) -> Function:
        if not self.tokens:
            raise self.bad("there is nothing between the braces", "write an expression, or {{}} for braces")
        result = self.sum()
        if self.peek():
            raise self.unexpected(self.peek())
        return result

    def sum(self) -> Function:
        left = self.product()
        while self.peek() in ("+", "-"):
            left = _OPERATIONS[self.take()](left, self.product())
        return left

    def product(self) -> Function:
        left = self.factor()
        while self.peek() in ("*", "//", "%"):
            left = _OPERATIONS[self.take()](left, self.factor())
        return left

    def factor(self) -> Function:
        token = self.take()
        if token in ("-", "("):
            self.depth += 1
            if self.depth > MAX_NESTING:
                raise self.bad(f"nested deeper than {MAX_NESTING} levels")
            result = self.negated() if token == "-" else self.group()
            self.depth -= 1
            return result
        if token == "n":
            return _n
        if token[:1].isdigit():
            return self.literal(token)
        if not token:
            raise self.bad("something is missing at the end")
        if token[:1].isalpha():
            raise self.bad(f"there is no {token!r} here", "the only name is n")
        raise self.unexpected(token)

    def literal(self, token: str) -> Function:
        try:
            value = number(token)
        except Bad as bad:
            raise self.bad(bad.message, bad.hint) from None
        return lambda n: value

    def negated(self) -> Function:
        inner = self.factor()
        return lambda n: -inner(n)

    def group(self) -> Function:
        inner = self.sum()
        if self.take() != ")":
            raise self.bad("a parenthesis is not closed")
        return inner


def _n(n: int) -> int:
    return n


def _add(a: Function, b: Function) -> Function:
    return lambda n: a(n) + b(n)


def _subtract(a: Function, b: Function) -> Function:
    return lambda n: a(n) - b(n)


def _multiply(a: Function, b: Function) -> Function:
    return lambda n: a(n) * b(n)


def _divide(a: Function, b: Function) -> Function:
    return lambda n: a(n) // b(n)


def _modulo(a: Function, b: Function) -> Function:
    return lambda n: a(n) % b(n)


_OPERATIONS = {"+": _add, "-": _subtract, "*": _multiply, "//": _divide, "%": _modulo}


class Numbers:
    """The values that n takes: ascending ranges, none of which meets another."""

    __slots__ = ("ranges",)

    def __init__(self, ranges: Sequence[range]) -> None:
        self.ranges = tuple(ranges)

    def __len__(self) -> int:
        return sum(map(len, self.ranges))

    def __iter__(self) -> Iterator[int]:
        for part in self.ranges:
            yield from part


def numbers(text: str) -> Numbers:
    """Read `1-10,20,30-40`. Raises `Bad`."""
    parts = [_range(part.strip()) for part in text.split(",", MAX_TEXT)]
    for one, other in zip(ordered := sorted(parts, key=lambda part: part.start), ordered[1:], strict=False):
        if other.start < one.stop:
            raise Bad(f"{show(text)} holds {other.start} twice")
    if sum(map(len, parts)) > MAX_SET:
        raise Bad(f"{show(text)} has {sum(map(len, parts)):,} numbers: a set has at most {MAX_SET:,} tunnels")
    return Numbers(parts)


def _range(text: str) -> range:
    first, dash, last = text.partition("-")
    low = _bound(first, text)
    high = _bound(last, text) if dash else low
    if high < low:
        raise Bad(f"{show(text)} counts down", f"write {high}-{low}")
    return range(low, high + 1)


def _bound(text: str, whole: str) -> int:
    try:
        value = number(text.strip())
    except Bad as bad:
        raise Bad(f"{show(whole)} is not a range: {bad.message}", bad.hint or "write FIRST-LAST, as in 1-500") from None
    if value > 0xFFFFFFFF:
        raise Bad(f"{show(text.strip())} has more than 32 bits")
    return value
