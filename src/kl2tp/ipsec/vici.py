"""A connection to charon's vici socket: commands, many at once, and events. It lives once: a broken one is left.

charon answers one connection's commands in their order, so what waits for an answer is a queue. An answer that does
not come in time, or makes no sense, breaks the connection: nobody could tell any more which answer is whose.
"""

import asyncio
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeAlias

from kl2tp.wire.vici import (
    LENGTH,
    LONGEST_PACKET,
    NOTHING,
    Kind,
    Message,
    Section,
    ViciError,
    decode_message,
    decode_packet,
    encode_packet,
    text,
)

_log = logging.getLogger("kl2tp.ike")
PATIENCE_S = 15.0
"""How long charon may be silent while somebody waits for an answer. It answers in milliseconds, or not at all."""
WINDOW = 64
"""Commands under way at once: more make nothing faster."""
_BUFFER = 256 * 1024
_CREDENTIALS = struct.Struct("3i")

OnEvent: TypeAlias = Callable[[str, Section], None]


class CharonError(Exception):
    """charon is not there, has gone, hangs, or makes no sense."""


class CommandError(Exception):
    """charon refused a command; the text is charon's."""


class Vici:
    """One connection. `open` makes it; `closed` tells why it is no more."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience_s: float) -> None:
        self._reader, self._writer = reader, writer
        self._patience_s = patience_s
        self._waiting: deque[asyncio.Future[Section]] = deque()
        """Answers that are due, in their order."""
        self._streams: dict[str, OnEvent] = {}
        self._room = asyncio.Semaphore(WINDOW)
        self._streaming = asyncio.Lock()
        loop = asyncio.get_running_loop()
        self._loop = loop
        self.closed: asyncio.Future[str] = loop.create_future()
        """Done when the connection is: the reason."""
        self._heard = loop.time()
        self._watch: asyncio.TimerHandle | None = None
        self._reading = loop.create_task(self._read())
        self.pid = _peer_pid(writer)
        """Of charon; 0 where it cannot be seen."""

    @classmethod
    async def open(cls, path: str, *, patience_s: float = PATIENCE_S) -> "Vici":
        """Connect to the socket. Raises CharonError."""
        try:
            async with asyncio.timeout(patience_s):
                reader, writer = await asyncio.open_unix_connection(path, limit=_BUFFER)
        except TimeoutError:
            raise CharonError(f"strongSwan does not take connections at {path}") from None
        except OSError as error:
            raise CharonError(f"strongSwan is not at {path}: {error.strerror or error}") from None
        return cls(reader, writer, patience_s)

    # --- asking

    async def ask(self, command: str, message: Message = NOTHING) -> Section:
        """A command's answer. Raises CharonError, CommandError, ViciError for a message that does not fit."""
        answer = await self._request(encode_packet(Kind.REQUEST, command, message))
        if text(answer, "success") == "no":
            raise CommandError(text(answer, "errmsg") or f"{command} failed")
        return answer

    async def stream(self, command: str, event: str, on_event: OnEvent, message: Message = NOTHING) -> Section:
        """A command that answers by events first; one after the other. Raises as `ask` does."""
        async with self._streaming:
            await self.listen((event,), on_event)
            try:
                return await self.ask(command, message)
            finally:
                self._streams.pop(event, None)
                if not self.closed.done():
                    await self._request(encode_packet(Kind.UNREGISTER, event))

    async def listen(self, events: Iterable[str], on_event: OnEvent) -> list[str]:
        """Have events sent; those that this charon does not know. Raises CharonError."""
        unknown = []
        for event in events:
            self._streams[event] = on_event
            try:
                await self._request(encode_packet(Kind.REGISTER, event))
            except CommandError:
                unknown.append(event)
        return unknown

    async def _request(self, packet: bytes) -> Section:
        """Send, and wait for the answer. A caller that is cancelled leaves its place in the queue to the answer."""
        async with self._room:
            if self.closed.done():
                raise CharonError(self.closed.result())
            if not self._waiting:
                self._heard = self._loop.time()
                self._arm(self._patience_s)
            answer: asyncio.Future[Section] = self._loop.create_future()
            self._waiting.append(answer)
            self._writer.write(packet)
            return await answer

    # --- hearing

    async def _read(self) -> None:
        reason = "the connection to strongSwan was closed"
        try:
            while True:
                self._take(await self._packet())
        except asyncio.IncompleteReadError:
            pass
        except OSError as error:
            reason = f"the connection to strongSwan is broken: {error.strerror or error}"
        except ViciError as error:
            reason = f"strongSwan sent nonsense: {error}"
        self.fail(reason)

    async def _packet(self) -> bytes:
        (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
        if length > LONGEST_PACKET:
            raise ViciError(f"a packet of {length} bytes")
        return await self._reader.readexactly(length)

    def _take(self, packet: bytes) -> None:
        """One packet. Raises ViciError."""
        self._heard = self._loop.time()
        kind, name, data = decode_packet(packet)
        if kind is Kind.EVENT:
            if (on_event := self._streams.get(name)) is not None:
                self._hand_over(on_event, name, decode_message(data))
            return
        if kind not in _ANSWERS or not self._waiting:
            raise ViciError(f"a packet {kind.name} that nobody asked for")
        message = decode_message(data)
        answer = self._waiting.popleft()
        if answer.done():
            return  # cancelled meanwhile
        if kind in (Kind.RESPONSE, Kind.CONFIRM):
            answer.set_result(message)
        else:
            answer.set_exception(CommandError("this strongSwan does not know that"))

    @staticmethod
    def _hand_over(on_event: OnEvent, name: str, message: Section) -> None:
        """One event that its taker cannot make sense of costs that event, not the connection."""
        try:
            on_event(name, message)
        except ViciError as error:
            _log.warning("strongSwan: an event %s without sense: %s", name, error)

    # --- ending

    def _arm(self, after_s: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self._loop.call_later(after_s, self._look)

    def _look(self) -> None:
        """Whether charon is silent for too long."""
        self._watch = None
        if not self._waiting:
            return
        left = self._heard + self._patience_s - self._loop.time()
        if left > 0:
            self._arm(left)
        else:
            self.fail(f"strongSwan has not answered for {self._patience_s:.0f} s")

    def fail(self, reason: str) -> None:
        """It is over: whoever waits gets CharonError."""
        if self.closed.done():
            return
        self.closed.set_result(reason)
        self._reading.cancel()
        if self._watch is not None:
            self._watch.cancel()
        self._writer.transport.abort()
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(CharonError(reason))
                answer.exception()  # nobody may be left to fetch it
        self._waiting.clear()

    async def close(self) -> None:
        """End it."""
        self.fail("closed by us")
        await asyncio.gather(self._reading, return_exceptions=True)


_ANSWERS = frozenset((Kind.RESPONSE, Kind.UNKNOWN_COMMAND, Kind.CONFIRM, Kind.UNKNOWN_EVENT))


def _peer_pid(writer: asyncio.StreamWriter) -> int:
    sock = writer.get_extra_info("socket")
    try:
        pid, _, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    except (OSError, AttributeError):
        return 0
    return int(pid)
