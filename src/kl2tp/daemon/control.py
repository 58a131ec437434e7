"""The control socket: JSON lines over a UNIX socket, for root and for the members of the daemon's group.

A request is one line, `{"method": NAME, "params": {...}}`. The answer is any number of `{"progress": {...}}` lines and
then one with `result` or `error`. Who may ask is decided by the kernel's word about the peer, not by the peer's.
"""

import asyncio
import contextlib
import grp
import inspect as introspection
import json
import logging
import os
import socket
import struct
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

from asyncio_tools import gather

from kl2tp.daemon.errors import ServiceError
from kl2tp.daemon.report import Json
from kl2tp.daemon.service import METHODS, Service

_log = logging.getLogger("kl2tp.control")
_LINE_LIMIT = 64 << 10
_MOST_CONNECTIONS = 64
_PIECE = 200
"""Entries of a list that are encoded at once: a millisecond or two."""
_TYPES = {bool: "boolean", str: "string", int: "number", list: "list"}
_READ_ONLY = ("plan", "status", "show", "explain", "sessions", "events")


def _peer(sock: socket.socket) -> tuple[int, int]:
    """(uid, gid) of the process at the other end, by the kernel's word."""
    _, uid, gid = struct.unpack("=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return uid, gid


def group_id(name: str) -> int | None:
    """The number of a group, None if there is none of that name."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


class ControlServer:
    """Serves a service on a socket."""

    def __init__(self, service: Service, path: Path) -> None:
        self._service = service
        self._path = path
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._group = group_id("kl2tp")

    async def start(self) -> None:
        """Listen. A socket that a dead daemon left is replaced."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        old = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._connected, self._path, limit=_LINE_LIMIT)
        finally:
            os.umask(old)
        if self._group is not None:
            with contextlib.suppress(PermissionError):  # it may have that group already
                os.chown(self._path, -1, self._group)
            if self._path.stat().st_gid == self._group:
                self._path.chmod(0o660)

    async def stop(self) -> None:
        """Stop listening and end what is being served."""
        if self._server:
            self._server.close()
        for task in self._connections:
            task.cancel()
        ended = await gather(*(self._ended(task) for task in self._connections))
        for error in ended.exceptions:
            _log.error("ending a control connection: %s", error)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    @staticmethod
    async def _ended(task: asyncio.Task[None]) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if len(self._connections) > _MOST_CONNECTIONS:
                _send(writer, {"error": ServiceError("too many commands at once", "try again").as_json()})
                return
            uid, gid = _peer(writer.get_extra_info("socket"))
            while line := await _line(reader):
                await self._answer(line, uid, gid, writer)
                await writer.drain()
        except ServiceError as error:
            _send(writer, {"error": error.as_json()})
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            _log.debug("control connection ended: %s", error)
        finally:
            writer.close()

    async def _answer(self, line: bytes, uid: int, gid: int, writer: asyncio.StreamWriter) -> None:
        try:
            method, params = _request(line)
            self._authorise(method, uid, gid)
            call = getattr(self._service, method)
            _check(call, method, params)
            if introspection.isasyncgenfunction(call):
                result = await _follow(call(None, **params), writer)
            else:
                result = await call(lambda event: _send(writer, {"progress": event}), **params)
            for piece in _encoded(result):
                writer.write(piece)
                await asyncio.sleep(0)
        except ServiceError as error:
            _send(writer, {"error": error.as_json()})
        except Exception as error:
            _log.exception("a control request failed")
            text = f"the daemon failed: {type(error).__name__}: {error}"
            _send(writer, {"error": ServiceError(text, "see the daemon's log").as_json()})

    def _authorise(self, method: str, uid: int, gid: int) -> None:
        if uid in (0, os.geteuid()) or (method in _READ_ONLY and gid == self._group):
            return
        raise ServiceError(f"user {uid} may not {method}", "run it as root")


async def _follow(events: AsyncGenerator[Json, None], writer: asyncio.StreamWriter) -> Json:
    """Pass events on for as long as there are any, no faster than they are read at the other end."""
    count = 0
    async with contextlib.aclosing(events):
        async for event in events:
            _send(writer, {"progress": event})
            await writer.drain()
            count += 1
    return {"events": count}


async def _line(reader: asyncio.StreamReader) -> bytes:
    """The next request; empty at the end. Raises ServiceError if it is too long."""
    try:
        return await reader.readline()
    except ValueError:
        raise ServiceError(f"the request is longer than {_LINE_LIMIT} bytes") from None


def _request(line: bytes) -> tuple[str, Json]:
    try:
        request: Any = json.loads(line)
        method, params = request["method"], request.get("params") or {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ServiceError("this is no request: expected a JSON object with a method") from None
    if method not in METHODS or not isinstance(params, dict):
        raise ServiceError(f"there is no method {method!r}", f"methods: {', '.join(METHODS)}")
    return method, params


def _check(call: Any, method: str, params: Json) -> None:
    """Refuse parameters that the method does not have, or not of this type."""
    signature = introspection.signature(call)
    try:
        signature.bind(None, **params)
    except TypeError as error:
        raise ServiceError(f"{method}: {error}") from None
    for name, value in params.items():
        wanted = signature.parameters[name].annotation
        wanted = getattr(wanted, "__origin__", wanted)
        if wanted in _TYPES and type(value) is not wanted:
            raise ServiceError(f"{method}: {name} is {json.dumps(value)}, which is no {_TYPES[wanted]}")


def _encoded(result: Json) -> Iterator[bytes]:
    """The line with a result, in pieces: to encode thousands of tunnels at once would hold the event loop."""
    yield b'{"result":{'
    for number, (name, value) in enumerate(result.items()):
        yield f"{',' if number else ''}{json.dumps(name)}:".encode()
        if isinstance(value, list) and len(value) > _PIECE:
            yield b"["
            for start in range(0, len(value), _PIECE):
                yield (b"," if start else b"") + _json(value[start : start + _PIECE])[1:-1]
            yield b"]"
        else:
            yield _json(value)
    yield b"}}\n"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _send(writer: asyncio.StreamWriter, message: Json) -> None:
    writer.write(_json(message) + b"\n")
