"""Frozen dataclasses that are cheap to make.

A frozen dataclass sets each of its fields by a call, which makes it five times slower to create than a plain one: of
ten thousand tunnels' objects and operations that would be most of the time. So the type checker sees the real
`dataclass` and refuses every assignment to a frozen one; at run time they are plain, with a hash.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen: bool = False, **options: Any) -> Callable[[type], type]:
        """`dataclasses.dataclass`, with `frozen` left to the type checker."""

        def make(cls: type) -> type:
            hashable = frozen and "__hash__" not in cls.__dict__
            return dataclasses.dataclass(unsafe_hash=hashable, **options)(cls)

        return make
