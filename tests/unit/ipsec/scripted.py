"""What answers at a vici socket as a script says: for tests of the transport, and of what we do when charon ails.

It is no charon: it knows names of connections and secrets, and negotiates nothing.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kl2tp.wire.vici import LENGTH, NOTHING, Kind, Message, Section, decode_message, decode_packet, encode_message

Answer = Callable[[Section], Any]


class Scripted:
    """Answers commands until it is told to be difficult."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[tuple[str, Section]] = []
        self.answers: dict[str, Answer] = {}
        """Message, or raw packet, for a command; the rest has sensible answers."""
        self.silent = False
        """Whether it reads and does not answer."""
        self.connections: dict[str, Section] = {}
        self.shared: dict[str, Section] = {}
        self.sas: list[Message] = []
        """What `list-sas` streams."""
        self._writers: dict[asyncio.StreamWriter, set[str]] = {}
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def stop(self) -> None:
        """As if the process had ended: its memory is gone."""
        assert self._server
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        self.path.unlink(missing_ok=True)
        self.connections, self.shared, self.sas = {}, {}, []
        self.asked.clear()
        await asyncio.sleep(0)

    def commands(self, *names: str) -> list[Section]:
        """What was asked by these commands."""
        return [message for name, message in self.asked if name in names]

    def raw(self, packet: bytes) -> None:
        """To everybody who is there."""
        for writer in self._writers:
            writer.write(packet)

    def event(self, name: str, message: Message) -> None:
        """To whoever wants it."""
        for writer, events in self._writers.items():
            if name in events:
                writer.write(framed(Kind.EVENT, message, name))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers[writer] = set()
        try:
            while True:
                (length,) = LENGTH.unpack(await reader.readexactly(4))
                kind, name, data = decode_packet(await reader.readexactly(length))
                if not self.silent:
                    self._answer(writer, kind, name, decode_message(data))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            del self._writers[writer]
            writer.close()

    def _answer(self, writer: asyncio.StreamWriter, kind: Kind, name: str, message: Section) -> None:
        if kind is Kind.REGISTER:
            self._writers[writer].add(name)
            writer.write(framed(Kind.CONFIRM))
            return
        if kind is Kind.UNREGISTER:
            self._writers[writer].discard(name)
            writer.write(framed(Kind.CONFIRM))
            return
        self.asked.append((name, message))
        if name == "list-sas":
            for sa in self.sas:
                writer.write(framed(Kind.EVENT, sa, "list-sa"))
        answer = self.answers.get(name, lambda message: getattr(self, f"_{name.replace('-', '_')}", _yes)(message))
        found = answer(message)
        if found is None:
            return
        writer.write(found if isinstance(found, bytes) else framed(Kind.RESPONSE, found))

    # -- sensible answers

    def _version(self, _: Section) -> Message:
        return {"daemon": "charon", "version": "5.9.8"}

    def _get_conns(self, _: Section) -> Message:
        return {"conns": list(self.connections)}

    def _get_shared(self, _: Section) -> Message:
        return {"keys": list(self.shared)}

    def _get_keys(self, _: Section) -> Message:
        return {"keys": []}

    def _load_conn(self, message: Section) -> Message:
        self.connections |= message  # type: ignore[arg-type]
        return {"success": "yes"}

    def _unload_conn(self, message: Section) -> Message:
        self.connections.pop(str(message["name"]), None)
        return {"success": "yes"}

    def _load_shared(self, message: Section) -> Message:
        self.shared[str(message["id"])] = message
        return {"success": "yes"}

    def _unload_shared(self, message: Section) -> Message:
        self.shared.pop(str(message["id"]), None)
        return {"success": "yes"}


def _yes(_: Section) -> Message:
    return {"success": "yes"}


def framed(kind: Kind, message: Message = NOTHING, name: str = "") -> bytes:
    """A packet as charon sends it."""
    named = bytes((len(name),)) + name.encode() if kind is Kind.EVENT else b""
    packet = bytes((kind,)) + named + (encode_message(message) if message else b"")
    return LENGTH.pack(len(packet)) + packet
