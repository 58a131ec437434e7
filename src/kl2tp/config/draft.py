"""A tunnel in the making: what its keys have yielded so far."""

from typing import Any

from kl2tp.config.fields import Broken, Fields
from kl2tp.config.problem import Mark
from kl2tp.model.ike import IkeSpec
from kl2tp.model.spec import Encap, IpsecSpec, RouteSpec, SessionSpec


class Draft:
    """A tunnel in the making.

    What is not known, because it was wrong and has been reported, is not set: to ask for it raises `Broken`, so
    that whatever depends on it is left out without a word.
    """

    __slots__ = (
        "encap", "fields", "ids", "ids_taken", "ike", "ipsec", "keyed", "local", "mark", "name", "netns", "path_mtu",
        "ports", "protected", "remote", "route", "route_device", "secret_file", "sessions",
    )  # fmt: skip

    name: str
    mark: Mark
    fields: Fields
    netns: str
    ids: tuple[int, int]
    ids_taken: bool
    """Our tunnel id is another tunnel's too: ids that follow from it need not be reported again."""
    local: bytes
    remote: bytes
    encap: Encap
    ports: tuple[int, int]
    """(0, 0) with encapsulation ip."""
    path_mtu: int
    route: RouteSpec | None
    route_device: str
    protected: bool
    keyed: bool
    """It has a static key, from which cookies can be derived."""
    ipsec: IpsecSpec | None
    ike: IkeSpec | None
    secret_file: str
    sessions: tuple[SessionSpec, ...]

    def __init__(self, name: str, mark: Mark, fields: Fields) -> None:
        self.name = name
        self.mark = mark
        self.fields = fields

    def __getattr__(self, name: str) -> Any:
        raise Broken
