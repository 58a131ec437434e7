"""A tunnel in the making: what its keys have yielded so far."""

from dataclasses import dataclass
from typing import TypeVar

from kl2tp.config.fields import Broken, Fields
from kl2tp.config.problem import Mark
from kl2tp.model.spec import Encap, IpsecSpec, RouteSpec, SessionSpec

T = TypeVar("T")


@dataclass(slots=True)
class Draft:
    """A tunnel in the making. None means not known, because it was wrong; `known` guards against that."""

    name: str
    mark: Mark
    fields: Fields
    netns: str | None = None
    ids: tuple[int, int] | None = None
    ids_taken: bool = False
    """Our tunnel id is another tunnel's too: ids that follow from it need not be reported again."""
    local: bytes | None = None
    remote: bytes | None = None
    encap: Encap | None = None
    ports: tuple[int, int] | None = None
    """(0, 0) with encapsulation ip."""
    path_mtu: int | None = None
    route: RouteSpec | None = None
    route_device: str = ""
    protected: bool | None = None
    ipsec: IpsecSpec | None = None
    secret_file: str | None = None
    sessions: tuple[SessionSpec, ...] | None = None


def known(value: T | None) -> T:
    """The value of a draft. Raises `Broken` if it is not known."""
    if value is None:
        raise Broken
    return value
