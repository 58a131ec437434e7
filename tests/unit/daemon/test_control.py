"""The control socket: real connections, a service that does what the test says."""

import asyncio
import contextlib
import json
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kl2tp.daemon import control
from kl2tp.daemon.control import ControlServer, group_id
from kl2tp.daemon.errors import ServiceError

Json = dict[str, Any]
DEADLINE_S = 10


class FakeService:
    """Has the methods of the real one."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Json]] = []
        self.open = asyncio.Event()

    async def status(self, progress: Callable[[Json], None]) -> Json:
        self.calls.append(("status", {}))
        return {"fine": True}

    async def show(self, progress: Callable[[Json], None], *, name: str) -> Json:
        self.calls.append(("show", {"name": name}))
        if name == "nobody":
            raise ServiceError("there is no tunnel", "did you mean somebody?", [{"where": "a"}])
        if name == "broken":
            raise RuntimeError("boom")
        return {"name": name}

    async def apply(self, progress: Callable[[Json], None], *, adopt: bool = False, wait: bool = True) -> Json:
        for done in range(3):
            progress({"done": done, "total": 3})
        return {"adopt": adopt}

    async def plan(self, progress: Callable[[Json], None], *, adopt: bool = False) -> Json:
        await self.open.wait()
        return {}


@pytest.fixture
async def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def server(service: FakeService, tmp_path: Path) -> AsyncIterator[ControlServer]:
    stand_in: Any = service
    made = ControlServer(stand_in, tmp_path / "control")
    await made.start()
    yield made
    await made.stop()


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, server: ControlServer) -> "Client":
        return cls(*await asyncio.open_unix_connection(server._path, limit=1 << 20))

    async def line(self) -> Json:
        """The next line of an answer; {} at the end."""
        async with asyncio.timeout(DEADLINE_S):
            line = await self.reader.readline()
        return dict(json.loads(line)) if line else {}

    async def ask(self, method: str, **params: object) -> Json:
        """A request, and the first line of its answer."""
        return await self.raw(json.dumps({"method": method, "params": params}).encode() + b"\n")

    async def raw(self, data: bytes) -> Json:
        self.writer.write(data)
        return await self.line()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@pytest.fixture
async def client(server: ControlServer) -> AsyncIterator[Client]:
    made = await Client.connect(server)
    yield made
    await made.close()


# -- the plain course ------------------------------------------------------------------------------------------------


async def test_a_request_is_answered(client: Client) -> None:
    assert await client.ask("status") == {"result": {"fine": True}}


async def test_a_connection_takes_one_request_after_the_other(client: Client) -> None:
    for name in ("a", "b"):
        assert await client.ask("show", name=name) == {"result": {"name": name}}


async def test_requests_sent_together_are_answered_in_their_order(client: Client) -> None:
    lines = [json.dumps({"method": "show", "params": {"name": name}}) for name in "abc"]
    first = await client.raw("\n".join([*lines, ""]).encode())
    rest = [await client.line() for _ in range(2)]
    assert [answer["result"]["name"] for answer in (first, *rest)] == ["a", "b", "c"]


async def test_progress_comes_before_the_result(client: Client) -> None:
    lines = [await client.ask("apply", adopt=True), *[await client.line() for _ in range(3)]]
    assert lines[:3] == [{"progress": {"done": done, "total": 3}} for done in range(3)]
    assert lines[3] == {"result": {"adopt": True}}


async def test_parameters_may_be_left_out(client: Client) -> None:
    assert await client.raw(b'{"method": "status"}\n') == {"result": {"fine": True}}
    assert await client.raw(b'{"method": "status", "params": null}\n') == {"result": {"fine": True}}


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [b"", b"x", b"7", b"null", b"[]", b'"status"', b"{}", b'{"params": {}}', b"\xff\xfe", b"[" * 20000, b'{"method":'],
    ids=lambda line: repr(line[:12]),
)
async def test_what_is_no_request_is_refused_in_words(client: Client, line: bytes) -> None:
    answer = await client.raw(line + b"\n")
    assert "this is no request" in answer["error"]["message"]
    assert await client.ask("status") == {"result": {"fine": True}}


@pytest.mark.parametrize("method", ["start", "__init__", "calls", "", None, 7, [], {}], ids=repr)
async def test_an_unknown_method_is_refused_with_those_that_exist(client: Client, method: object) -> None:
    answer = await client.raw(json.dumps({"method": method}).encode() + b"\n")
    assert answer["error"]["message"] == f"there is no method {method!r}"
    assert "status" in answer["error"]["hint"]


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        ("show", {}, "missing a required"),
        ("show", {"name": "a", "more": 1}, "unexpected keyword argument 'more'"),
        ("show", {"progress": 1, "name": "a"}, "progress"),
        ("show", {"name": 7}, "name is 7, which is no string"),
        ("show", {"name": ["a"]}, "which is no string"),
        ("apply", {"adopt": "no"}, 'adopt is "no", which is no boolean'),
        ("apply", {"adopt": 1}, "which is no boolean"),
    ],
)
async def test_wrong_parameters_are_refused_in_words(client: Client, method: str, params: Json, words: str) -> None:
    answer = await client.ask(method, **params)
    assert answer["error"]["message"].startswith(f"{method}: ")
    assert words in answer["error"]["message"]


async def test_parameters_that_are_no_object_are_refused(client: Client) -> None:
    assert "error" in await client.raw(b'{"method": "show", "params": ["a"]}\n')


async def test_a_line_without_end_ends_the_connection_only(server: ControlServer, client: Client) -> None:
    with contextlib.suppress(ConnectionError):  # closed while we were still sending
        assert "result" not in await client.raw(b"x" * (1 << 18) + b"\n")
    other = await Client.connect(server)
    assert await other.ask("status") == {"result": {"fine": True}}
    await other.close()


# -- failures --------------------------------------------------------------------------------------------------------


async def test_an_error_of_the_service_comes_with_hint_and_problems(client: Client) -> None:
    answer = await client.ask("show", name="nobody")
    assert answer == {
        "error": {
            "message": "there is no tunnel",
            "hint": "did you mean somebody?",
            "problems": [{"where": "a"}],
        }
    }


async def test_an_unexpected_failure_is_an_answer_and_a_log_entry(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await client.ask("show", name="broken")
    assert answer["error"]["message"] == "the daemon failed: RuntimeError: boom"
    assert "a control request failed" in caplog.text
    assert await client.ask("status") == {"result": {"fine": True}}


async def test_a_client_that_leaves_in_the_middle_disturbs_nobody(
    server: ControlServer, service: FakeService, client: Client
) -> None:
    other = await Client.connect(server)
    other.writer.write(b'{"method": "plan"}\n')
    await other.close()
    service.open.set()
    assert await client.ask("status") == {"result": {"fine": True}}


async def test_a_client_that_only_connects_keeps_nobody_waiting(server: ControlServer, client: Client) -> None:
    silent = [await Client.connect(server) for _ in range(5)]
    assert await client.ask("status") == {"result": {"fine": True}}
    for other in silent:
        await other.close()


async def test_a_slow_request_keeps_no_other_connection_waiting(
    server: ControlServer, service: FakeService, client: Client
) -> None:
    other = await Client.connect(server)
    other.writer.write(b'{"method": "plan"}\n')
    assert await client.ask("status") == {"result": {"fine": True}}
    service.open.set()
    assert await other.line() == {"result": {}}
    await other.close()


async def test_too_many_connections_are_told_so(server: ControlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_MOST_CONNECTIONS", 3)
    clients = [await Client.connect(server) for _ in range(3)]
    for client in clients:
        assert await client.ask("status") == {"result": {"fine": True}}
    late = await Client.connect(server)
    assert "too many" in (await late.line())["error"]["message"]
    assert await late.line() == {}
    await clients[0].close()
    again = await Client.connect(server)
    while "error" in (answer := await again.ask("status")):  # until the server has seen that one left
        await again.close()
        again = await Client.connect(server)
    assert answer == {"result": {"fine": True}}
    for client in (*clients[1:], late, again):
        await client.close()


# -- who may ask -----------------------------------------------------------------------------------------------------


async def test_the_kernel_says_who_asks(server: ControlServer, client: Client) -> None:
    sock: socket.socket = client.writer.get_extra_info("socket")
    assert control._peer(sock) == (os.geteuid(), os.getegid())


@pytest.mark.parametrize(
    ("uid", "gid", "method", "allowed"),
    [
        (0, 0, "apply", True),
        (0, 0, "status", True),
        (12345, 77, "status", True),
        (12345, 77, "show", True),
        (12345, 77, "apply", False),
        (12345, 77, "down", False),
        (12345, 1, "status", False),
    ],
)
def test_root_may_all_and_the_group_may_look(
    service: FakeService, tmp_path: Path, uid: int, gid: int, method: str, allowed: bool
) -> None:
    stand_in: Any = service
    server = ControlServer(stand_in, tmp_path / "control")
    server._group = 77
    if allowed:
        server._authorise(method, uid, gid)
    else:
        with pytest.raises(ServiceError, match=f"user {uid} may not {method}"):
            server._authorise(method, uid, gid)


def test_without_the_group_only_root_may_look(service: FakeService, tmp_path: Path) -> None:
    stand_in: Any = service
    server = ControlServer(stand_in, tmp_path / "control")
    server._group = None
    with pytest.raises(ServiceError):
        server._authorise("status", 12345, 12345)


async def test_a_stranger_is_refused_on_the_wire(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_peer", lambda sock: (12345, 12345))
    other = await client.ask("status")
    assert other == {"result": {"fine": True}}  # who connected before is known already


async def test_a_stranger_that_connects_is_refused(server: ControlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_peer", lambda sock: (12345, 12345))
    client = await Client.connect(server)
    answer = await client.ask("status")
    assert answer["error"]["message"] == "user 12345 may not status"
    await client.close()


def test_credentials_are_read_as_the_kernel_writes_them() -> None:
    class Sock:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            return struct.pack("=iII", 1, 4294967294, 5)

    sock: Any = Sock()
    assert control._peer(sock) == (4294967294, 5)


def test_a_group_that_is_not_there_is_none() -> None:
    assert group_id("no such group") is None
    assert group_id("root") == 0


# -- the socket file -------------------------------------------------------------------------------------------------


async def test_the_socket_is_for_its_owner(server: ControlServer) -> None:
    mode = server._path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert mode & 0o007 == 0


async def test_a_socket_that_a_dead_daemon_left_is_replaced(service: FakeService, tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    stand_in: Any = service
    server = ControlServer(stand_in, path)
    await server.start()
    client = await Client.connect(server)
    assert await client.ask("status") == {"result": {"fine": True}}
    await client.close()
    await server.stop()


async def test_stopping_ends_connections_and_removes_the_socket(service: FakeService, tmp_path: Path) -> None:
    stand_in: Any = service
    server = ControlServer(stand_in, tmp_path / "control")
    await server.start()
    busy, idle = await Client.connect(server), await Client.connect(server)
    busy.writer.write(b'{"method": "plan"}\n')
    assert await idle.ask("status")
    await server.stop()
    assert await busy.line() == {}
    assert await idle.line() == {}
    assert not server._path.exists()
    await busy.close()
    await idle.close()
