"""SAs by reqid, from what was read of them and what events say since."""

import pytest

from kl2tp.kernel.events import SaHint
from kl2tp.reconcile.associations import Associations

HERE, THERE = bytes((192, 0, 2, 1)), bytes((203, 0, 113, 7))
IN, OUT = (5, THERE, HERE, 1), (5, HERE, THERE, 2)


def hint(sa: tuple[int, bytes, bytes, int], *, gone: bool = False, netns: str = "") -> SaHint:
    reqid, source, destination, spi = sa
    return SaHint(netns, reqid, source, destination, spi, gone)


@pytest.fixture
def known() -> Associations:
    """Nothing is there, and that is known."""
    table = Associations()
    table.begin("")
    assert table.complete("", []) == set()
    return table


def test_protection_is_an_sa_each_way(known: Associations) -> None:
    assert not known.note(hint(IN))
    assert not known.protects("", 5)
    assert known.note(hint(OUT))
    assert known.protects("", 5)
    assert known.note(hint(IN, gone=True))
    assert not known.protects("", 5)


def test_two_the_same_way_are_none(known: Associations) -> None:
    known.note(hint(OUT))
    known.note(hint((5, HERE, THERE, 3)))
    assert not known.protects("", 5)


def test_a_change_of_keys_is_no_change(known: Associations) -> None:
    for sa in (IN, OUT):
        known.note(hint(sa))
    new = [(5, *ends, spi) for ends, spi in (((THERE, HERE), 3), ((HERE, THERE), 4))]
    assert not any(known.note(hint(sa)) for sa in new)
    assert not any(known.note(hint(sa, gone=True)) for sa in (IN, OUT))
    assert known.protects("", 5)


def test_the_end_of_what_nobody_knew_is_nothing(known: Associations) -> None:
    assert not known.note(hint(IN, gone=True))


def test_namespaces_and_reqids_are_apart(known: Associations) -> None:
    known.note(hint(IN))
    known.note(hint(OUT, netns="x"))
    known.note(hint((6, *OUT[1:])))
    assert not known.protects("", 5)


def test_what_was_read_says_whose_protection_came_and_went(known: Associations) -> None:
    for sa in (IN, OUT):
        known.note(hint(sa))
    known.begin("")
    assert known.complete("", [(6, *IN[1:]), (6, *OUT[1:])]) == {("", 5), ("", 6)}
    assert known.protects("", 6)
    assert not known.protects("", 5)


@pytest.mark.parametrize("gone", [False, True])
def test_what_an_event_said_while_all_were_read_is_newer(known: Associations, *, gone: bool) -> None:
    known.note(hint(IN))
    known.note(hint(OUT, gone=gone))
    known.begin("")
    known.note(hint(OUT, gone=gone))
    known.complete("", [IN, OUT] if gone else [IN])
    assert known.protects("", 5) is not gone


def test_a_namespace_can_be_forgotten(known: Associations) -> None:
    for netns in ("", "x"):
        known.begin(netns)
        known.complete(netns, [IN, OUT])
    known.forget("x")
    assert known.known == {""}
    assert known.protects("", 5)
    assert not known.protects("x", 5)
