"""L2TP control connections under fuzzing: headers, AVPs, messages, and a channel that gets any packets."""

import contextlib
from collections.abc import Callable, Iterator

from kl2tp.control.channel import Channel
from kl2tp.wire import avp, l2tp, messages
from kl2tp.wire.errors import HeaderError, MessageError
from kl2tp.wire.messages import MessageType
from kl2tp.wire.values import HIDEABLE

SECRET = b"secret"
_VECTOR = avp.join(avp.MANDATORY, avp.Avp.RANDOM_VECTOR, b"vector")


def _control(data: bytes) -> None:
    """What is read as a control message is written as it was, but for reserved bits and a trailer."""
    with contextlib.suppress(HeaderError):
        header, payload = l2tp.decode_control(data)
        again = l2tp.encode_control(*header, payload)
        assert data[2:].startswith(again[2:])


def _data(data: bytes) -> None:
    with contextlib.suppress(HeaderError):
        packet = l2tp.decode_data(data)
        assert len(packet.payload) + 6 <= len(data)
        again = l2tp.encode_data(packet.tunnel_id, packet.session_id, packet.payload, packet.ns, nr=packet.nr or 0)
        assert l2tp.decode_data(again) == packet


def _message(data: bytes) -> None:
    """What is read can be written, and is read as the same again."""
    messages.peek_type(data)
    with contextlib.suppress(MessageError):
        messages.peek_host_name(data)
    with contextlib.suppress(MessageError):
        message = messages.decode(data, SECRET)
        if isinstance(message.type, MessageType):
            _again(message.type, message)


def _again(kind: MessageType, message: messages.Message) -> None:
    try:
        payload = messages.encode(kind, message.avps, hide=HIDEABLE, secret=SECRET)
    except ValueError:  # Octets that are no text are longer when they are written as text.
        return
    again = messages.decode(payload, SECRET)
    assert again.avps == message.avps
    assert set(again.hidden) == message.avps.keys() & HIDEABLE


def _hidden(data: bytes) -> None:
    """Any octets as a hidden AVP of any message."""
    if len(data) < 2 or len(data) > avp.MAX_VALUE:
        return
    kind, attribute = data[0] % 17, data[1] % 40
    head = avp.join(avp.MANDATORY, 0, bytes((0, kind)))
    with contextlib.suppress(MessageError):
        messages.decode(head + _VECTOR + avp.join(avp.HIDDEN, attribute, data[2:]), SECRET)
    plain = avp.reveal(attribute, data[2:], SECRET, b"vector")
    assert plain is None or data[2:].startswith(avp.hide(attribute, plain, SECRET, b"vector"))


def _channel(data: bytes) -> None:
    """Packets, messages and time in any order: 5 octets are one event."""
    now = 0.0
    channel = Channel(now, receive_window=8, peer_window=8, tries=2)
    delivered = 0
    for start in range(0, len(data) - 4, 5):
        kind, *rest = data[start : start + 5]
        ns, nr = int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:], "big")
        if kind < 64:
            channel.send(bytes(rest), nr, now)
        elif kind < 192:
            delivered += len(channel.receive(l2tp.ControlHeader(1, 0, ns, nr), bytes(kind & 1), now))
        elif kind < 250:
            now += ns / 1000
            channel.handle_timer(now)
        else:
            state = channel.save()
            channel = Channel(now, receive_window=8, peer_window=8, tries=2)
            channel.restore(state, now)
        channel.flush(now)
        assert all(l2tp.decode_control(datagram) for datagram in channel.take_datagrams())
        assert delivered & 0xFFFF == channel.save()["nr"]
        assert channel.save()["used"] <= 8


TARGETS: dict[str, Callable[[bytes], None]] = {
    "wire.l2tp.control": _control,
    "wire.l2tp.data": _data,
    "wire.messages": _message,
    "wire.avp.hidden": _hidden,
    "control.channel": _channel,
}


def _everything(kind: MessageType) -> dict[avp.Avp, object]:
    """All that a message may carry."""
    rules = messages.LAYOUTS[kind].rules.values()
    return {rule.avp: rule.read(b"\1" * max(rule.shortest, min(rule.longest, 4))) for rule in rules}


def seeds() -> Iterator[bytes]:
    """Every message with all that it may carry, plain and hidden, and some packets."""
    for kind in MessageType:
        plain = messages.encode(kind, _everything(kind))
        yield plain
        yield messages.encode(kind, _everything(kind), hide=HIDEABLE, secret=SECRET, random=lambda size: bytes(size))
        yield l2tp.encode_control(1, 2, 3, 4, plain)
    yield l2tp.encode_data(1, 2, b"\xc0\x21", 7)
    yield bytes.fromhex("4b02 0014 0001 0002 0007 0008 0002 abcd ff03 c021")
    # A message sent, acknowledged, one received, a restart, time.
    yield bytes.fromhex("00 00000000  40 00000001  41 00000001  ff 00000000  c0 04000000")
