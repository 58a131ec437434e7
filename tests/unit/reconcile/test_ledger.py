"""The ledger: what is written is read again, whatever happened in between."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.model.objects import Key
from kl2tp.reconcile import ledger as module
from kl2tp.reconcile.ledger import Ledger, LedgerError, decode_keys, encode_keys

A: Key = ("tunnel", "", 1)
B: Key = ("link", "", "l0")
INSIDE: Key = ("address", "inside", "l0", "0a000001", 24)


def same(name: str) -> int:
    """Every namespace exists and is the first of its name."""
    return 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "ledger"


def reopened(path: Path, identity: Callable[[str], int] = same) -> Ledger:
    ledger = Ledger(path, identity)
    ledger.close()
    return ledger


some_key = st.one_of(
    st.tuples(st.just("tunnel"), st.sampled_from(("", "inside")), st.integers(1, 2**32 - 1)),
    st.tuples(st.just("link"), st.just(""), st.text(max_size=15)),
    st.tuples(
        st.just("address"), st.just(""), st.just("l0"), st.binary(max_size=16).map(bytes.hex), st.integers(0, 128)
    ),
)
keys = st.frozensets(some_key, max_size=5)


@given(keys)
def test_keys_are_decoded_as_they_were_encoded(some: frozenset[Key]) -> None:
    assert decode_keys(encode_keys(some)) == some


@given(keys)
def test_the_text_of_keys_depends_on_nothing_but_them(some: frozenset[Key]) -> None:
    assert encode_keys(some) == encode_keys(list(some)[::-1])


# -- what is owned ---------------------------------------------------------------------------------------------------


def test_a_new_ledger_is_empty_and_for_its_owner_only(path: Path) -> None:
    ledger = reopened(path)
    assert list(ledger.names()) == []
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_recorded_is_there_after_a_restart(path: Path) -> None:
    ledger = Ledger(path, same)
    ledger.record({"a": {A, B}, "ü b": {INSIDE}})
    ledger.record({"a": {B}})
    ledger.close()
    ledger = reopened(path)
    assert {name: ledger.owned(name) for name in ledger.names()} == {"a": {B}, "ü b": {INSIDE}}


def test_what_was_begun_and_settled_is_there_after_a_restart(path: Path) -> None:
    ledger = Ledger(path, same)
    assert ledger.owned("a") == frozenset()
    ledger.begin({"a": encode_keys({A, B}), "b": encode_keys({INSIDE})}, "inside")
    ledger.settle(["a"])
    ledger.close()
    for found in (ledger, reopened(path)):
        assert {name: found.owned(name) for name in found.names()} == {"a": {A, B}, "b": {INSIDE}}
        assert (found.tentative("a"), found.tentative("b")) == (False, True)
        assert list(found.namespaces()) == ["inside"]


def test_what_was_begun_is_as_what_was_recorded_tentatively(path: Path) -> None:
    one, two = Ledger(path, same), Ledger(path.with_name("other"), same)
    one.begin({"a": encode_keys({A, B})}, "")
    two.record({"a": {A, B}}, tentative=True)
    for ledger in (one, two):
        ledger.record({"a": {A}})
        ledger.close()
    assert path.read_text() == path.with_name("other").read_text()


def test_a_unit_of_which_nothing_is_noted_is_untouched(path: Path) -> None:
    ledger = Ledger(path, same)
    ledger.record({"a": {A}})
    ledger.set_rollover("b", 5.0)
    assert [ledger.untouched(name) for name in "abc"] == [False, False, True]
    ledger.record({"a": ()})
    assert ledger.untouched("a")
    ledger.close()


def test_a_unit_without_keys_is_forgotten(path: Path) -> None:
    ledger = Ledger(path, same)
    ledger.record({"a": {A}, "b": {B}})
    ledger.record({"a": ()})
    ledger.close()
    assert list(reopened(path).names()) == ["b"]
    assert ledger.owned("a") == frozenset()


def test_what_is_as_recorded_is_not_written_again(path: Path) -> None:
    ledger = Ledger(path, same)
    ledger.record({"a": {A, B}})
    size = path.stat().st_size
    ledger.record({"a": {B, A}, "nobody": ()})
    assert path.stat().st_size == size
    ledger.close()


def test_owners_are_found_by_key(path: Path) -> None:
    ledger = Ledger(path, same)
    ledger.record({"a": {A, B}, "b": {("tunnel", "", 11)}, "c": {INSIDE, A}})
    assert ledger.owners([A]) == {"a", "c"}
    assert ledger.owners([("tunnel", "", 111), INSIDE]) == {"c"}
    assert ledger.owners([]) == set()
    ledger.close()
    assert reopened(path).owners([A]) == {"a", "c"}


# -- marks -----------------------------------------------------------------------------------------------------------


def test_a_tentative_unit_is_so_until_it_is_settled(path: Path) -> None:
    ledger = Ledger(path, same)
    ledger.record({"a": {A}, "b": {B}}, tentative=True)
    assert reopened(path).tentative("a")
    ledger.record({"a": {A}})
    ledger.close()
    ledger = reopened(path)
    assert not ledger.tentative("a")
    assert ledger.tentative("b")
    assert ledger.owned("a") == {A}


def test_a_unit_that_dismantles_is_so_until_it_is_settled(path: Path) -> None:
    ledger = Ledger(path, same)
    ledger.record({"a": {A}, "b": {B}})
    ledger.note_dismantling(["a", "b"])
    assert reopened(path).dismantling("a")
    ledger.record({"a": {A}, "b": ()})
    ledger.close()
    ledger = reopened(path)
    assert not ledger.dismantling("a")
    assert not ledger.dismantling("b")


def test_a_change_of_keys_is_remembered_until_it_is_over(path: Path) -> None:
    ledger = Ledger(path, same)
    ledger.set_rollover("a", 17.5)
    assert reopened(path).rollover("a") == 17.5
    ledger.set_rollover("a", None)
    ledger.set_rollover("never", None)
    ledger.close()
    assert reopened(path).rollover("a") is None


# -- crashes ---------------------------------------------------------------------------------------------------------


def test_a_line_cut_short_counts_as_never_written(path: Path) -> None:
    ledger = Ledger(path, same)
    ledger.record({"a": {A}})
    ledger.record({"b": {B}})
    ledger.close()
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, len(whole) - 1) + 1
    for length in range(start, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert list(reopened(path).names()) == ["a"]


def test_after_a_line_cut_short_writing_goes_on_in_a_new_one(path: Path) -> None:
    ledger = Ledger(path, same)
    ledger.record({"a": {A}})
    ledger.close()
    with path.open("a") as file:
        file.write('{"u":"b","k":[["tun')
    ledger = Ledger(path, same)
    ledger.record({"c": {B}})
    ledger.close()
    assert list(reopened(path).names()) == ["a", "c"]


@pytest.mark.parametrize("line", ['{"u":"a"}', '{"u":"a","k":[7]}', '{"n":"x"}', '{"r":"a","t":"soon"}', '{"u":"a",}'])
def test_a_damaged_line_is_an_error_that_names_it(path: Path, line: str) -> None:
    reopened(path)
    with path.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(LedgerError, match="damaged at line 2") as caught:
        Ledger(path, same)
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_text_is_an_error(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(LedgerError, match="cannot read the ledger"):
        Ledger(path, same)


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match="cannot"):
        Ledger(tmp_path / "file" / "ledger", same)


# -- a full disk -----------------------------------------------------------------------------------------------------


def test_a_full_disk_is_an_error_and_what_was_written_before_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(path, same)
    ledger.record({"a": {A}})
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 10:
            return real(fd, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(LedgerError, match="No space left"):
        ledger.record({"b": {B}})
    monkeypatch.undo()
    ledger.close()
    assert list(reopened(path).names()) == ["a"]


def test_after_a_full_disk_the_same_is_written_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(path, same)
    ledger.record({"a": {A}})

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(LedgerError):
        ledger.record({"b": {B}, "a": {A, B}})
    monkeypatch.undo()
    ledger.record({"b": {B}, "a": {A, B}})
    ledger.close()
    ledger = reopened(path)
    assert {name: ledger.owned(name) for name in ledger.names()} == {"a": {A, B}, "b": {B}}


def test_after_half_a_line_on_a_full_disk_the_file_can_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(path, same)
    real, calls = os.write, iter((False, True))

    def full(fd: int, data: bytes) -> int:
        if next(calls):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data[:10])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(LedgerError):
        ledger.record({"b": {B}})
    monkeypatch.undo()
    ledger.record({"c": {A}})
    ledger.close()
    assert "c" in reopened(path).names()


# -- namespaces ------------------------------------------------------------------------------------------------------


def test_what_was_in_a_namespace_that_is_gone_went_with_it(path: Path) -> None:
    ledger = Ledger(path, same)
    ledger.record({"a": {A, INSIDE}, "b": {INSIDE}})
    ledger.close()

    def gone(name: str) -> int:
        raise LookupError(name)

    ledger = reopened(path, gone)
    assert {name: ledger.owned(name) for name in ledger.names()} == {"a": {A}}


def test_a_later_namespace_of_the_same_name_is_another_one(path: Path) -> None:
    ledger = Ledger(path, same)
    ledger.record({"b": {INSIDE}})
    ledger.close()
    assert list(reopened(path, lambda name: 2).names()) == []


def test_a_namespace_that_comes_after_its_first_record_is_noted_then(path: Path) -> None:
    there = False

    def identity(name: str) -> int:
        if not there:
            raise LookupError(name)
        return 5

    ledger = Ledger(path, identity)
    ledger.record({"a": {INSIDE}})
    there = True
    ledger.record({"a": {INSIDE, A}})
    ledger.close()
    assert reopened(path, lambda name: 5).owned("a") == {INSIDE, A}
    assert reopened(path, lambda name: 6).owned("a") == {A}


# -- rewriting -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SPARE_LINES", 10)


@pytest.mark.usefixtures("small")
def test_a_grown_file_is_rewritten_with_what_counts(path: Path) -> None:
    ledger = Ledger(path, same)
    ledger.record({"keep": {INSIDE}})
    ledger.record({"maybe": {B}}, tentative=True)
    ledger.note_dismantling(["keep"])
    ledger.set_rollover("keep", 3.0)
    inode = path.stat().st_ino
    for number in range(40):
        ledger.record({"a": {("tunnel", "", number)}})
    ledger.close()
    assert path.stat().st_ino != inode
    assert len(path.read_text().splitlines()) < 25
    ledger = reopened(path)
    assert ledger.owned("keep") == {INSIDE}
    assert ledger.owned("a") == {("tunnel", "", 39)}
    assert (ledger.tentative("maybe"), ledger.dismantling("keep"), ledger.rollover("keep")) == (True, True, 3.0)


@pytest.mark.usefixtures("small")
def test_a_rewrite_that_fails_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(path, same)
    ledger.record({"a": {A}})

    def refuse(self: Path, target: Path) -> Path:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "replace", refuse)
    for number in range(13):
        ledger.record({"b": {("tunnel", "", number)}})
    with pytest.raises(LedgerError, match="Read-only"):
        ledger.record({"b": {B}})
    monkeypatch.undo()
    ledger.close()
    assert reopened(path).owned("a") == {A}


def test_every_line_is_json_and_the_first_one_says_what_this_is(path: Path) -> None:
    ledger = Ledger(path, same)
    ledger.record({"a": {A, INSIDE}}, tentative=True)
    ledger.set_rollover("a", 1.0)
    ledger.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {"kl2tp-ledger": 1}
    assert lines[1:] == [
        {"n": "inside", "i": 1},
        {"u": "a", "k": [list(INSIDE), list(A)], "t": 1},
        {"r": "a", "t": 1.0},
    ]
