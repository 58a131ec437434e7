"""What systemd hears from the daemon."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kl2tp.daemon import notify


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A service manager's end of the notification socket."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield listener


def test_without_a_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify.ready()


def test_a_manager_that_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert not notify.stopping()


def test_ready_carries_a_status_of_one_line(manager: socket.socket) -> None:
    assert notify.ready("500 tunnels,\n 2 failed")
    assert manager.recv(4096) == b"READY=1\nSTATUS=500 tunnels, 2 failed"


def test_reloading_tells_when(manager: socket.socket) -> None:
    notify.reloading()
    first, second = manager.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    assert second.partition("=")[2].isdecimal()


def test_an_abstract_socket_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"kl2tp-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        assert notify.stopping()
        assert listener.recv(100) == b"STOPPING=1"


def test_descriptors_go_with_a_name_and_without_polling(manager: socket.socket) -> None:
    reader, writer = os.pipe()
    try:
        assert notify.store("listener", [reader, writer])
        message, fds, _, _ = socket.recv_fds(manager, 4096, 10)
        assert message == b"FDSTORE=1\nFDNAME=listener\nFDPOLL=0"
        assert len(fds) == 2
        os.write(fds[1], b"x")
        assert os.read(reader, 1) == b"x"
        for fd in fds:
            os.close(fd)
    finally:
        os.close(reader)
        os.close(writer)


def test_many_descriptors_go_in_several_messages(manager: socket.socket) -> None:
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(notify.FDS_PER_MESSAGE + 1)]
    try:
        assert notify.store("many", fds)
        got = [socket.recv_fds(manager, 4096, 300)[1] for _ in range(2)]
        assert [len(part) for part in got] == [notify.FDS_PER_MESSAGE, 1]
        for part in got:
            for fd in part:
                os.close(fd)
    finally:
        for fd in fds:
            os.close(fd)


def test_a_name_is_forgotten(manager: socket.socket) -> None:
    notify.forget("listener")
    assert manager.recv(100) == b"FDSTOREREMOVE=1\nFDNAME=listener"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_needed(
    environment: dict[str, str], expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert notify.watchdog_interval() == expected


async def test_the_watchdog_is_fed_until_cancelled(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "2000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    task = asyncio.create_task(notify.watchdog())
    manager.setblocking(False)
    loop = asyncio.get_running_loop()
    for _ in range(2):
        assert await asyncio.wait_for(loop.sock_recv(manager, 100), 5) == b"WATCHDOG=1"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_unwatched_daemon_has_no_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    await asyncio.wait_for(notify.watchdog(), 5)


def test_descriptors_for_another_process_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "2")
    assert notify.inherited() == {}
    assert "LISTEN_FDS" not in os.environ


def test_inherited_descriptors_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
    try:
        monkeypatch.setattr(notify, "_FIRST_FD", fds[0])
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", str(len(fds)))
        monkeypatch.setenv("LISTEN_FDNAMES", "a:b:a")
        assert fds == list(range(fds[0], fds[0] + 3))
        assert notify.inherited() == {"a": [fds[0], fds[2]], "b": [fds[1]]}
    finally:
        for fd in fds:
            os.close(fd)
