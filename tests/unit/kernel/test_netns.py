"""Network namespaces by name: what is missing is said so."""

from pathlib import Path

import pytest

from kl2tp.kernel import netns


def test_the_unnamed_namespace_is_the_process_s_own() -> None:
    assert netns.identity("") == Path("/proc/self/ns/net").stat().st_ino
    with netns.entered(""):
        assert netns.identity("") == Path("/proc/thread-self/ns/net").stat().st_ino


def test_a_missing_namespace_says_how_to_make_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(netns, "RUN_NETNS", str(tmp_path))
    for look in (netns.identity, netns.open_namespace):
        with pytest.raises(netns.NoNamespace, match=r"no network namespace 'x'.*ip netns add x"):
            look("x")


def test_a_file_that_is_no_namespace_is_a_missing_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(netns, "RUN_NETNS", str(tmp_path))
    (tmp_path / "x").touch()
    with pytest.raises(netns.NoNamespace), netns.entered("x"):
        pytest.fail("entered")


def test_no_descriptor_is_left_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(netns, "RUN_NETNS", str(tmp_path))
    (tmp_path / "x").touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(netns.NoNamespace), netns.entered("x"):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before
