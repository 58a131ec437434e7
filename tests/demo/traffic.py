"""Traffic from inside this process: pings, and a TCP stream."""

import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

from demo.wire import L2TP, TUNNEL_PORTS
from kl2tp.kernel import netns

MARKER = b"kl2tp demo: nobody on the way may read this. "
"""What pings carry: a capture shows whether it can be read."""
_ECHO_REQUEST, _ECHO_REPLY = 8, 0
_HEADERS = 28
"""IPv4 and ICMP."""
_CHUNK = 1 << 18


@dataclass(slots=True)
class Tally:
    """What became of some pings."""

    sent: int = 0
    times: list[float] = field(default_factory=list)
    """Round trips, seconds."""

    @property
    def lost(self) -> int:
        return self.sent - len(self.times)

    def __str__(self) -> str:
        share = 100 * self.lost / self.sent if self.sent else 0
        text = f"{self.sent} packets transmitted, {len(self.times)} received, {share:.0f}% packet loss"
        if self.times:
            low, mean, high = (1000 * t for t in (min(self.times), sum(self.times) / len(self.times), max(self.times)))
            text += f", rtt min/avg/max {low:.2f}/{mean:.2f}/{high:.2f} ms"
        return text


def _checksum(data: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    data += bytes(len(data) & 1)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def send_clear(namespace: str, address: bytes) -> None:
    """Two packets that look like those of the protected tunnels, without protection."""
    with (
        netns.entered(namespace),
        socket.socket(socket.AF_INET, socket.SOCK_RAW, L2TP) as ip,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        ip.sendto(MARKER, (socket.inet_ntoa(address), 0))
        udp.sendto(MARKER, (socket.inet_ntoa(address), TUNNEL_PORTS[0]))


class Pinger:
    """Pings one address from a namespace."""

    def __init__(self, namespace: str, address: str, *, length: int = 84) -> None:
        """`length`: of the IP packet, bytes."""
        with netns.entered(namespace):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._socket.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO: never in fragments
        self._socket.connect((address, 0))
        self._identity = id(self) >> 4 & 0xFFFF
        self._payload = (MARKER * (length // len(MARKER) + 1))[: length - _HEADERS]
        self._waiting: dict[int, float] = {}
        self.tally = Tally()

    def close(self) -> None:
        self._socket.close()

    def send(self) -> None:
        """One more."""
        number = self.tally.sent & 0xFFFF
        body = struct.pack("!HH", self._identity, number) + self._payload
        checksum = _checksum(struct.pack("!BBH", _ECHO_REQUEST, 0, 0) + body)
        self.tally.sent += 1
        self._waiting[number] = time.monotonic()
        self._socket.send(struct.pack("!BBH", _ECHO_REQUEST, 0, checksum) + body)

    def receive(self, patience_s: float) -> bool:
        """Wait for a reply; whether one came."""
        deadline = time.monotonic() + patience_s
        while select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
            packet = self._socket.recv(65536)
            kind, _, _, identity, number = struct.unpack_from("!BBHHH", packet, 20)
            if kind == _ECHO_REPLY and identity == self._identity and number in self._waiting:
                self.tally.times.append(time.monotonic() - self._waiting.pop(number))
                return True
        return False


def ping(namespace: str, address: str, count: int, *, length: int = 84, patience_s: float = 1.0) -> Tally:
    """Ping, one packet after the other."""
    pinger = Pinger(namespace, address, length=length)
    try:
        for _ in range(count):
            pinger.send()
            pinger.receive(patience_s)
        return pinger.tally
    finally:
        pinger.close()


class Flow(threading.Thread):
    """Pings without a break, until it is stopped."""

    def __init__(self, namespace: str, address: str, *, interval_s: float) -> None:
        super().__init__(daemon=True)
        self._pinger = Pinger(namespace, address)
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._error: OSError | None = None

    def run(self) -> None:
        try:
            due = time.monotonic()
            while not self._stopping.is_set():
                self._pinger.send()
                due = max(due + self._interval_s, time.monotonic())
                while (rest := due - time.monotonic()) > 0:
                    self._pinger.receive(rest)
            while self._pinger.tally.lost and self._pinger.receive(1.0):
                pass
        except OSError as error:
            self._error = error

    def stop(self) -> Tally:
        """Stop, and wait for the last replies. Raises OSError."""
        self._stopping.set()
        self.join()
        self._pinger.close()
        if self._error:
            raise self._error
        return self._pinger.tally


@dataclass(frozen=True, slots=True)
class Streamed:
    """What a TCP stream carried."""

    octets: int
    seconds: float


def stream(sender: str, receiver: str, address: str, seconds: float) -> Streamed:
    """Send as much as goes from one namespace to an address in another, by one TCP connection."""
    with netns.entered(receiver):
        listener = socket.create_server((address, 5001))
    with netns.entered(sender):
        source = socket.create_connection((address, 5001), timeout=5)
    sink, _ = listener.accept()
    listener.close()
    try:
        return _pump(source, sink, seconds)
    finally:
        source.close()
        sink.close()


def _pump(source: socket.socket, sink: socket.socket, seconds: float) -> Streamed:
    """Send for so long, and go on until all of it has arrived."""
    source.setblocking(False)
    sink.setblocking(False)
    block, buffer = bytes(_CHUNK), bytearray(_CHUNK)
    sent = received = 0
    began = now = time.perf_counter()
    while (sending := now < began + seconds) or received < sent:
        readable, writable, _ = select.select([sink], [source] if sending else [], [], 5.0)
        if not readable and not writable:
            raise TimeoutError("the stream stands still")
        if writable:
            sent += source.send(block)
        if readable:
            received += sink.recv_into(buffer)
        now = time.perf_counter()
    return Streamed(received, now - began)
