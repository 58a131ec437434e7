"""The state of calls survives kills at any byte."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.calls.store import Store


class Owner:
    """Keeps the values that a store asks for."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, Any]] = {}

    def store(self, directory: Path) -> Store:
        return Store(directory, self.values.get)

    def put(self, store: Store, key: str, value: dict[str, Any] | None) -> None:
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value
        store.put(key, value)


def reload(directory: Path) -> dict[str, Any]:
    store = Store(directory, lambda key: None)
    found = store.load()
    for key in list(found):
        store.put(key, found[key])
    return found


def test_what_was_flushed_is_there_after_a_kill(tmp_path: Path) -> None:
    owner = Owner()
    store = owner.store(tmp_path)
    assert store.load() == {}
    store.begin()
    owner.put(store, "a", {"n": 1})
    owner.put(store, "b", {"n": 2})
    store.flush()
    owner.put(store, "a", {"n": 3})
    owner.put(store, "b", None)
    store.flush()
    owner.put(store, "c", {"n": 9})  # never flushed
    assert reload(tmp_path) == {"a": {"n": 3}}


def test_a_line_that_was_cut_short_is_ignored(tmp_path: Path) -> None:
    owner = Owner()
    store = owner.store(tmp_path)
    store.load()
    store.begin()
    owner.put(store, "a", {"n": 1})
    store.flush()
    owner.put(store, "a", {"n": 2})
    store.flush()
    [path] = tmp_path.glob("calls.*")
    path.write_bytes(path.read_bytes()[:-5])
    assert reload(tmp_path) == {"a": {"n": 1}}


def test_the_log_is_begun_anew_and_the_old_one_removed(tmp_path: Path) -> None:
    owner = Owner()
    store = owner.store(tmp_path)
    store.load()
    store.begin()
    for key in range(300):
        owner.put(store, f"k{key}", {"n": 0})
    store.flush()
    for turn in range(8000):
        owner.put(store, "k7", {"n": turn})
        store.flush()
    while store.busy:
        store.flush()
    files = list(tmp_path.glob("calls.*"))
    assert len(files) == 1
    assert files[0].name != "calls.1"
    assert reload(tmp_path) == owner.values


@given(
    steps=st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | st.integers(0, 9)), max_size=60),
    kills=st.sets(st.integers(0, 60)),
)
def test_whatever_happens_the_last_flushed_value_counts(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int | None]], kills: set[int]
) -> None:
    directory = tmp_path_factory.mktemp("store")
    owner = Owner()
    store = owner.store(directory)
    store.load()
    store.begin()
    for number, (key, value) in enumerate(steps):
        owner.put(store, key, None if value is None else {"n": value})
        store.flush()
        if number in kills:  # a new daemon, in the middle of whatever the old one was at
            store = owner.store(directory)
            assert store.load() == owner.values
            store.begin()
    assert reload(directory) == owner.values


def test_a_full_disk_loses_nothing_that_can_be_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner()
    store = owner.store(tmp_path)
    store.load()
    store.begin()
    store.flush()
    real = __import__("os").write
    monkeypatch.setattr("kl2tp.calls.store.os.write", lambda fd, data: real(fd, data[:4]))
    owner.put(store, "a", {"n": 1})
    store.flush()
    assert store.failures == 1
    monkeypatch.setattr("kl2tp.calls.store.os.write", real)
    owner.put(store, "b", {"n": 2})
    store.flush()
    assert reload(tmp_path) == {"a": {"n": 1}, "b": {"n": 2}}
