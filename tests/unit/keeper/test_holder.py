"""What the keeper does with requests: descriptors kept, replaced, dropped, handed out; and none ever leaks."""

import contextlib
import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.keeper.holder import Holder, Refusal
from kl2tp.keeper.protocol import FDS, NAME, NAMES


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def some(count: int) -> list[int]:
    """Descriptors."""
    return [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]


def message(*words: str) -> bytes:
    return "\n".join(words).encode()


@pytest.fixture
def holder() -> Iterator[Holder]:
    made = Holder()
    yield made
    made.close()


def test_what_is_kept_is_handed_out_by_name(holder: Holder) -> None:
    fds = some(3)
    assert holder.handle(message("keep", "a", "b", "c"), fds) == (b"ok", [])
    assert holder.handle(message("fetch", "c", "nobody", "a"), []) == (b"ok\nc\na", [fds[2], fds[0]])
    assert all(is_open(fd) for fd in fds)


def test_a_name_that_is_taken_is_given_to_the_new_descriptor_and_the_old_one_closed(holder: Holder) -> None:
    (old, other), (new,) = some(2), some(1)
    holder.handle(message("keep", "a", "b"), [old, other])
    holder.handle(message("keep", "a"), [new])
    assert (is_open(old), is_open(new)) == (False, True)
    assert holder.handle(message("list", "0"), []) == (b"ok\nb\na", [])


def test_what_is_dropped_is_closed_and_what_is_unknown_is_no_matter(holder: Holder) -> None:
    fds = some(2)
    holder.handle(message("keep", "a", "b"), fds)
    assert holder.handle(message("drop", "a", "nobody"), []) == (b"ok", [])
    assert [is_open(fd) for fd in fds] == [False, True]
    assert list(holder.held) == [b"b"]


def test_names_are_listed_part_by_part(holder: Holder) -> None:
    names = [f"n{number}" for number in range(NAMES + 5)]
    holder.held = dict.fromkeys((name.encode() for name in names), -1)
    parts = [holder.handle(message("list", str(start)), [])[0] for start in (0, NAMES, NAMES + 5, 10**8)]
    assert [part.decode().split("\n")[1:] for part in parts] == [names[:NAMES], names[NAMES:], [], []]


def test_more_descriptors_than_a_message_takes_are_not_handed_out(holder: Holder) -> None:
    names = [f"n{number}" for number in range(FDS + 1)]
    holder.held = dict.fromkeys((name.encode() for name in names), -1)
    with pytest.raises(Refusal, match="too many"):
        holder.handle(message("fetch", *names), [])


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (("keep", "a", "b"), 1),
        (("keep", "a"), 2),
        (("keep", "a", "a"), 2),
        (("keep", ""), 1),
        (("keep", "x" * (NAME + 1)), 1),
        (("keep",), 1),
        (("fetch", "a"), 1),
        (("drop", "a"), 1),
        (("list", "0"), 1),
        (("list", "-1"), 0),
        (("list",), 0),
        (("steal", "a"), 1),
        (("",), 0),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_and_its_descriptors_are_closed(
    holder: Holder, words: tuple[str, ...], count: int
) -> None:
    (kept,) = some(1)
    holder.handle(message("keep", "kept"), [kept])
    fds = some(count)
    with pytest.raises(Refusal):
        holder.handle(message(*words), fds)
    assert not any(is_open(fd) for fd in fds)
    assert holder.held == {b"kept": kept}


@given(st.binary(max_size=80), st.integers(0, 3))
def test_whatever_is_said_every_descriptor_is_either_kept_or_closed(text: bytes, count: int) -> None:
    holder = Holder()
    fds = some(count)
    with contextlib.suppress(Refusal):
        holder.handle(text, fds)
    assert {fd for fd in fds if is_open(fd)} == set(holder.held.values())
    holder.close()


@given(st.lists(st.tuples(st.sampled_from(("keep", "drop", "fetch")), st.sets(st.sampled_from("abcdef"), min_size=1))))
def test_the_keeper_has_what_was_kept_last_and_not_dropped(requests: list[tuple[str, set[str]]]) -> None:
    holder, model = Holder(), {}
    for verb, names in requests:
        words = sorted(names)
        fds = some(len(words)) if verb == "keep" else []
        answer, sent = holder.handle(message(verb, *words), fds)
        if verb == "keep":
            model |= dict(zip(words, fds, strict=True))
        elif verb == "drop":
            model = {name: fd for name, fd in model.items() if name not in names}
        else:
            known = [name for name in words if name in model]
            assert (answer.decode().split("\n")[1:], sent) == (known, [model[name] for name in known])
    assert {name.decode(): fd for name, fd in holder.held.items()} == model
    assert all(is_open(fd) for fd in model.values())
    holder.close()
    assert not any(is_open(fd) for fd in model.values())


def test_many_are_closed_side_by_side(holder: Holder) -> None:
    fds = some(300)
    holder.held = {struct.pack("!I", fd): fd for fd in fds}
    holder.close()
    assert not any(is_open(fd) for fd in fds)
    assert holder.held == {}
