"""A table of rules of an RFC, each with the check that fails where the rule is not kept."""

from collections.abc import Callable
from typing import NamedTuple

import pytest


class Rule(NamedTuple):
    """One rule."""

    section: str
    text: str
    check: Callable[[], None]


class Rules:
    """The rules of one RFC, in order."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []

    def __call__(self, section: str, text: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
        """A decorator: the function checks this rule."""

        def add(check: Callable[[], None]) -> Callable[[], None]:
            self.rules.append(Rule(section, text, check))
            return check

        return add

    def parametrize(self) -> pytest.MarkDecorator:
        """For the one test function that goes through them."""
        return pytest.mark.parametrize("rule", self.rules, ids=lambda rule: f"{rule.section}: {rule.text}")
