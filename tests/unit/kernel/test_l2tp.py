"""L2TP messages: every object there and back, pyroute2's reading of ours, and ours of the kernel's."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from pyroute2.netlink.generic.l2tp import l2tpmsg

from kl2tp.kernel import l2tp
from kl2tp.kernel.netlink import HEADER, KernelError, Message, Reply, attr, u8, u16, u32, u64
from kl2tp.model import addr
from kl2tp.model.objects import Session, Tunnel
from kl2tp.model.spec import Encap
from unit.kernel import objects

CODEC = l2tp.Codec(30)


def oracle(message: Message) -> dict[str, Any]:
    """A message as pyroute2 reads it."""
    decoded = l2tpmsg(HEADER.pack(16 + len(message.payload), message.type, 0, 1, 0) + message.payload)
    decoded.decode()
    return {"cmd": decoded["cmd"], **{name.removeprefix("L2TP_ATTR_"): value for name, value in decoded["attrs"]}}


# -- there and back --------------------------------------------------------------------------------------------------


@given(objects.tunnels())
def test_a_tunnel_is_read_as_it_was_created(tunnel: Tunnel) -> None:
    assert l2tp.decode_tunnel("", CODEC.tunnel_create(tunnel).payload) == tunnel


@given(objects.sessions)
def test_a_session_is_read_as_it_was_created(session: Session) -> None:
    assert l2tp.decode_session("", CODEC.session_create(session).payload) == session


@given(objects.tunnels())
def test_every_message_names_its_tunnel(tunnel: Tunnel) -> None:
    for message in (CODEC.tunnel_create(tunnel), CODEC.tunnel_get(tunnel.id), CODEC.tunnel_delete(tunnel.id)):
        assert l2tp.tunnel_id(message.payload) == tunnel.id


def test_a_message_without_a_tunnel_has_number_zero() -> None:
    assert l2tp.tunnel_id(bytes(4)) == 0


# -- the oracle ------------------------------------------------------------------------------------------------------


@given(objects.tunnels())
def test_pyroute2_reads_our_tunnels(tunnel: Tunnel) -> None:
    found = oracle(CODEC.tunnel_create(tunnel))
    assert (found["cmd"], found["PROTO_VERSION"], found["ENCAP_TYPE"]) == (1, 3, tunnel.encap)
    assert (found["CONN_ID"], found["PEER_CONN_ID"]) == (tunnel.id, tunnel.peer_id)
    ends = ("IP6_SADDR", "IP6_DADDR") if len(tunnel.local) == 16 else ("IP_SADDR", "IP_DADDR")
    assert [addr.parse(found[end]) for end in ends] == [tunnel.local, tunnel.remote]
    ports = (tunnel.local_port, tunnel.remote_port) if tunnel.encap == Encap.UDP else (None, None)
    assert (found.get("UDP_SPORT"), found.get("UDP_DPORT")) == ports


def test_pyroute2_reads_our_tunnels_of_version_2() -> None:
    found = oracle(CODEC.managed_tunnel_create(7, 8, 9))
    assert (found["cmd"], found["PROTO_VERSION"], found["ENCAP_TYPE"]) == (1, 2, Encap.UDP)
    assert (found["CONN_ID"], found["PEER_CONN_ID"], found["FD"]) == (7, 8, 9)


@given(objects.tunnels())
def test_checksums_are_asked_for_as_the_kernel_takes_it(tunnel: Tunnel) -> None:
    found = oracle(CODEC.tunnel_create(tunnel))
    udp, v6 = tunnel.encap == Encap.UDP, len(tunnel.local) == 16
    assert ("UDP_CSUM" in found) == (udp and not v6 and tunnel.checksum)
    zero = {name for name in found if name.startswith("UDP_ZERO")}
    assert zero == ({"UDP_ZERO_CSUM6_TX", "UDP_ZERO_CSUM6_RX"} if udp and v6 and not tunnel.checksum else set())


@given(objects.sessions)
def test_pyroute2_reads_our_sessions(session: Session) -> None:
    found = oracle(CODEC.session_create(session))
    assert found["cmd"] == 5
    assert (found["CONN_ID"], found["SESSION_ID"], found["PEER_SESSION_ID"]) == (
        session.tunnel_id,
        session.id,
        session.peer_id,
    )
    assert (found["PW_TYPE"], found["L2SPEC_TYPE"], found["IFNAME"]) == (5, session.l2spec, session.ifname)
    assert (found["SEND_SEQ"], found["RECV_SEQ"]) == (session.send_sequence, session.require_sequence)
    assert found["RECV_TIMEOUT"] == session.reorder_ms
    assert found.get("COOKIE", "").replace(":", "") == session.cookie.hex()
    assert found.get("PEER_COOKIE", "").replace(":", "") == session.peer_cookie.hex()


@given(objects.sessions)
def test_a_change_of_a_session_says_what_to_turn_off_too(session: Session) -> None:
    found = oracle(CODEC.session_modify(session))
    assert (found["cmd"], found["SEND_SEQ"], found["RECV_SEQ"]) == (
        7,
        session.send_sequence,
        session.require_sequence,
    )
    assert "COOKIE" not in found


@given(objects.sessions)
def test_deletions_and_questions_name_the_session(session: Session) -> None:
    for message, command in ((CODEC.session_delete(session), 6), (CODEC.session_get(session.tunnel_id, session.id), 8)):
        found = oracle(message)
        assert found == {"cmd": command, "CONN_ID": session.tunnel_id, "SESSION_ID": session.id}


# -- what the kernel says --------------------------------------------------------------------------------------------

HEAD = bytes((4, 1, 0, 0))


def test_a_tunnel_of_version_2_is_none_of_ours() -> None:
    assert l2tp.decode_tunnel("", HEAD + u8(7, 2)) is None


def test_a_ppp_pseudowire_is_none_of_ours() -> None:
    assert l2tp.decode_session("", HEAD + u16(1, 7)) is None


def test_a_tunnel_without_addresses_has_empty_ones() -> None:
    payload = HEAD + u8(7, 3) + u16(2, 1) + u32(9, 1) + u32(10, 2)
    found = l2tp.decode_tunnel("x", payload)
    assert found == Tunnel("x", 1, 2, Encap.IP, bytes(4), bytes(4))


@pytest.mark.parametrize("missing", [1, 9, 11, 12])
def test_a_session_that_lacks_something_is_nonsense(missing: int) -> None:
    parts = {1: u16(1, 5), 9: u32(9, 1), 11: u32(11, 2), 12: u32(12, 3)}
    with pytest.raises(KeyError):
        l2tp.decode_session("", HEAD + b"".join(part for kind, part in parts.items() if kind != missing))


def test_statistics_have_names() -> None:
    nest = u64(1, 10) + u64(9, 99) + u64(10, 3)
    assert l2tp.decode_statistics(HEAD + attr(30, nest)) == {"tx_packets": 10, "rx_cookie_discards": 3}


def test_without_statistics_there_are_none() -> None:
    assert l2tp.decode_statistics(HEAD) == {}


# -- finding the family ----------------------------------------------------------------------------------------------


class Answering(SimpleNamespace):
    """A socket that has one answer."""

    def get(self, requests: list[Message]) -> list[Reply | KernelError]:
        self.asked = requests
        return [self.answer]


def test_the_family_has_a_number_and_a_group() -> None:
    group = attr(1, attr(1, b"l2tp\0") + u32(2, 9))
    sock: Any = Answering(answer=Reply(16, bytes(4) + attr(2, b"l2tp\0") + u16(1, 33) + attr(7, group)))
    assert l2tp.resolve(sock) == (33, 9)


def test_a_family_that_the_kernel_lacks_is_an_error() -> None:
    sock: Any = Answering(answer=KernelError(2))
    with pytest.raises(KernelError, match="ENOENT"):
        l2tp.resolve(sock)
