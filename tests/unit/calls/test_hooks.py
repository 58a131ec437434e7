"""Hooks run in order, with a clean environment, and not for ever."""

import logging
from pathlib import Path

import pytest

from kl2tp.calls.hooks import Hooks


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


async def test_a_hook_sees_only_its_own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KL2TP_TEST_LEAK", "secret")
    hooks = Hooks()
    hooks.run(script(tmp_path / "up", f"env > {tmp_path}/out"), "call/1.1", {"KL2TP_USER": "alice"}, 5.0)
    await hooks.finish(5.0)
    seen = dict(line.split("=", 1) for line in (tmp_path / "out").read_text().splitlines())
    assert seen["KL2TP_USER"] == "alice"
    assert "KL2TP_TEST_LEAK" not in seen


async def test_down_waits_for_up_of_the_same_session(tmp_path: Path) -> None:
    hooks = Hooks()
    out = tmp_path / "out"
    fifo = tmp_path / "go"
    up = script(tmp_path / "up", f"mkfifo {fifo}; cat {fifo} >/dev/null; echo up >> {out}")
    down = script(tmp_path / "down", f"echo down >> {out}")
    other = script(tmp_path / "other", f"until [ -p {fifo} ]; do :; done; echo other >> {out}; echo > {fifo}")
    hooks.run(up, "call/1.1", {}, 10.0)
    hooks.run(down, "call/1.1", {}, 10.0)
    hooks.run(other, "call/1.2", {}, 10.0)
    await hooks.finish(10.0)
    assert out.read_text().split() == ["other", "up", "down"]


async def test_a_hook_that_hangs_is_killed_with_its_children(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hooks = Hooks()
    hooks.run(script(tmp_path / "up", "sleep 1000 & wait"), "call/1.1", {}, 0.1)
    with caplog.at_level(logging.ERROR):
        await hooks.finish(5.0)
    assert "killed" in caplog.text


async def test_a_hook_that_fails_is_told_of_with_its_last_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = Hooks()
    hooks.run(script(tmp_path / "up", "echo no such customer; exit 3"), "call/1.1", {}, 5.0)
    hooks.run(str(tmp_path / "missing"), "call/1.2", {}, 5.0)
    with caplog.at_level(logging.WARNING):
        await hooks.finish(5.0)
    assert "exit status 3: no such customer" in caplog.text
    assert "cannot run" in caplog.text
