"""The configuration's reader, a process of its own: all that it says arrives, and its end is noticed."""

import asyncio
import io
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import kl2tp
from kl2tp.config import load
from kl2tp.daemon import loader
from kl2tp.daemon.errors import ServiceError

MANY = """
defaults: {local: 198.51.100.1}
daemon: {resync_interval: 77}
sets:
  b-{n}:
    range: 1-250
    remote: 10.20.{n // 250}.{n % 250 + 1}
    ids: "{1000 + n}/{1000 + n}"
    sessions: {lan: {interface: {name: "br{n}"}}}
"""
CALLS = """
lns: {office: {ppp: {pool: customers, pool6: "2001:db8:100::/48"}}}
pools: {customers: 10.9.0.0/20}
users: /etc/kl2tp/users.yaml
lac:
""" + "".join(f"  c{n}: {{remote: 198.51.100.1, user: u{n}}}\n" for n in range(150))
WRONG = """
tunnels:
  a: {remote: 1.2.3, ids: 1/1}
  b: {remote: 10.0.0.1, idz: 1/1}
"""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child finds kl2tp where we did."""
    monkeypatch.setenv("PYTHONPATH", str(Path(kl2tp.__file__).parents[1]))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Many tunnels."""
    path = tmp_path / "kl2tp.yaml"
    path.write_text(MANY)
    return path


@pytest.fixture
def calls(config: Path) -> Path:
    """Calls of both kinds."""
    config.write_text(CALLS)
    return config


@pytest.fixture
def wrong(config: Path) -> Path:
    """Several problems."""
    config.write_text(WRONG)
    return config


def impostor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Have this shell script in the place of the reader."""
    program = tmp_path / "reader"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(loader, "sys", SimpleNamespace(executable=str(program)))


async def test_all_tunnels_arrive_in_their_order(config: Path) -> None:
    desired = await loader.read(config)
    assert len(desired.tunnels) == 250
    assert desired == load(config)


async def test_calls_pools_and_users_arrive_too(calls: Path) -> None:
    desired = await loader.read(calls)
    assert desired == load(calls)
    assert (len(desired.lns), len(desired.lac), len(desired.pools)) == (1, 150, 2)
    assert desired.users.files == ("/etc/kl2tp/users.yaml",)
    assert desired.lac[-1].where == load(calls).lac[-1].where


async def test_a_wrong_configuration_gives_all_its_problems(wrong: Path) -> None:
    with pytest.raises(ServiceError) as caught:
        await loader.read(wrong)
    places = [problem["where"] for problem in caught.value.problems]
    assert len(places) >= 2
    assert all(place.startswith(str(wrong)) for place in places)
    assert str(wrong) in caught.value.message


async def test_a_missing_file_is_a_problem_like_others(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"nothing\.yaml"):
        await loader.read(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    ("script", "end"),
    [
        ("exit 3", "3"),
        ("kill -9 $$", "-9"),
        ("printf abc; exit 1", "1"),
        (r"printf '\000\000\000\012abc'; exit 1", "1"),
        (r"printf '\000\000\000\003abc'; exit 1", "1"),
    ],
    ids=["silent", "killed", "in a size", "in a part", "nonsense"],
)
async def test_a_reader_that_dies_is_an_error_that_says_how(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, end: str
) -> None:
    impostor(tmp_path, monkeypatch, script)
    with pytest.raises(ServiceError, match=f"the reader ended with {end}"):
        await loader.read(config)


async def test_who_stops_waiting_ends_the_reader(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    impostor(tmp_path, monkeypatch, "exec tail -f /dev/null")
    real, children, spawned = asyncio.create_subprocess_exec, [], asyncio.Event()

    async def noted(*args: Any, **kwargs: Any) -> asyncio.subprocess.Process:
        children.append(await real(*args, **kwargs))
        spawned.set()
        return children[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    task = asyncio.get_running_loop().create_task(loader.read(config))
    await spawned.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children[0].returncode == -9


async def stream(*values: object) -> asyncio.StreamReader:
    """What a child would send."""
    out = io.BytesIO()
    for value in values:
        loader._send(out, value)
    reader = asyncio.StreamReader()
    reader.feed_data(out.getvalue())
    reader.feed_eof()
    return reader


async def test_a_configuration_without_an_end_is_incomplete(config: Path) -> None:
    with pytest.raises(asyncio.IncompleteReadError):
        await loader._receive(await stream(("tunnels", ())), config)


async def test_an_empty_configuration_is_one(config: Path) -> None:
    desired = await loader._receive(await stream(("end", None)), config)
    assert desired.tunnels == ()


class Strange:
    """Something that this process cannot make from its pickle."""

    def __reduce__(self) -> tuple[object, ...]:
        return (len, (1, 2, 3))


async def test_a_reader_of_another_version_is_told_from_a_broken_one(config: Path) -> None:
    with pytest.raises(ServiceError, match="not the running one") as caught:
        await loader._receive(await stream(("tunnels", Strange())), config)
    assert caught.value.hint == "restart the daemon"


def test_parts_are_small(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = SimpleNamespace(buffer=io.BytesIO())
    monkeypatch.setattr(sys, "stdout", out)
    assert loader.main([str(config)]) == 0
    monkeypatch.undo()
    data, kinds = out.buffer.getvalue(), []
    while data:
        (size,) = loader._SIZE.unpack(data[:4])
        kinds.append(pickle.loads(data[4 : 4 + size])[0])
        data = data[4 + size :]
    assert kinds == ["daemon", "users", "tunnels", "tunnels", "tunnels", "end"]
