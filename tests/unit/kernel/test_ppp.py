"""Frames of PPP descriptors, what holds are called, and the numbers of ioctls and addresses as the kernel has them."""

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.kernel import ppp, pppox
from kl2tp.kernel.holds import SessionHold, sort_kept
from kl2tp.kernel.pppox import Ids

FRAME = bytes.fromhex("c0210901000c01020304")


def ioctl_number(direction: int, number: int, size: int) -> int:
    """_IOC() of linux/ioctl.h, for the type 't' of linux/ppp-ioctl.h."""
    return direction << 30 | size << 16 | ord("t") << 8 | number


READ, WRITE = 2, 1


@pytest.mark.parametrize(
    ("ours", "direction", "number", "size"),
    [
        (pppox._GCHAN, READ, 55, 4),
        (ppp._ATTCHAN, WRITE, 56, 4),
        (ppp._CONNECT, WRITE, 58, 4),
        (ppp._DISCONN, 0, 57, 0),
        (ppp._GUNIT, READ, 86, 4),
        (ppp._SMRU, WRITE, 82, 4),
        (ppp._SNPMODE, WRITE, 75, 8),
        (ppp._GIDLE, READ, 63, 16),
    ],
)
def test_ioctls_have_the_numbers_of_linux_ppp_ioctl_h(ours: int, direction: int, number: int, size: int) -> None:
    assert ours == ioctl_number(direction, number, size)


def test_the_address_of_a_session_is_laid_out_as_in_linux_if_pppol2tp_h() -> None:
    address = pppox._ADDRESS.pack(24, 1, 0, -1, 0x1234, 0x5678, 0x9ABC, 0xDEF0)
    assert len(address) == 38
    assert address == bytes.fromhex("1800" "01000000" "00000000" "ffffffff" + "00" * 16 + "34127856bc9af0de")
    assert pppox._IDS.unpack_from(address) == (0x1234, 0x5678, 0x9ABC, 0xDEF0)
    assert pppox._IDS6.unpack_from(address[:14] + address[30:] + bytes(28)) == (0x1234, 0x5678, 0x9ABC, 0xDEF0)


def test_a_descriptor_that_is_no_session_s_is_told() -> None:
    reading, writing = os.pipe()
    with pytest.raises(OSError, match="the session of a socket"):
        pppox.identity(reading)
    for fd in (reading, writing):
        os.close(fd)


def test_of_another_socket_there_is_no_session() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(OSError, match="none of PPP"):
        pppox.identity(sock.fileno())


def test_ids_are_told_apart_by_name() -> None:
    assert Ids(1, 2, 3, 4)._asdict() == {"tunnel": 1, "session": 2, "peer_tunnel": 3, "peer_session": 4}


# -- frames ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[int, int]]:
    """Two ends between which frames stay whole."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours, theirs:
        yield ours.fileno(), theirs.fileno()


def test_frames_are_read_until_none_is_left(pair: tuple[int, int]) -> None:
    for number in range(3):
        assert ppp.write_frame(pair[1], FRAME + bytes((number,)))
    assert ppp.read_frames(pair[0]) == ([FRAME + bytes((number,)) for number in range(3)], True)
    assert ppp.read_frames(pair[0]) == ([], True)


def test_no_more_frames_are_read_than_asked_for(pair: tuple[int, int]) -> None:
    for number in range(40):
        ppp.write_frame(pair[1], FRAME + bytes((number,)))
    assert [len(ppp.read_frames(pair[0], limit)[0]) for limit in (1, 32, 32)] == [1, 32, 7]


def test_after_the_last_frame_the_end_is_told(pair: tuple[int, int]) -> None:
    ppp.write_frame(pair[1], FRAME)
    with socket.socket(fileno=os.dup(pair[1])) as theirs:
        theirs.shutdown(socket.SHUT_WR)
    assert ppp.read_frames(pair[0]) == ([FRAME], False)


def test_a_descriptor_that_is_closed_has_no_frames_and_takes_none() -> None:
    assert ppp.read_frames(-1) == ([], False)
    assert not ppp.write_frame(-1, FRAME)


def test_a_frame_too_long_to_read_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [OSError(errno.EOVERFLOW, ""), FRAME, BlockingIOError()]

    def read(fd: int, size: int) -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return bytes(answer)

    monkeypatch.setattr(ppp.os, "read", read)
    assert ppp.read_frames(9) == ([FRAME], True)


# -- names -----------------------------------------------------------------------------------------------------------


def test_a_session_has_two_descriptors_to_keep() -> None:
    hold = SessionHold(7, 8, "", 11, 12)
    assert dict(zip(hold.names(), hold.fds(), strict=True)) == {"session/7/8": 11, "unit/7/8": 12}


ids = st.integers(1, 65535)


@given(st.dictionaries(st.tuples(ids, ids), st.sampled_from(("both", "session", "unit"))), st.sets(ids), st.booleans())
def test_what_was_kept_is_sorted_and_halves_are_told_apart(
    sessions: dict[tuple[int, int], str], tunnels: set[int], foreign: bool
) -> None:
    names = [f"tunnel/{number}" for number in tunnels]
    names += [f"session/{t}/{s}" for (t, s), parts in sessions.items() if parts != "unit"]
    names += [f"unit/{t}/{s}" for (t, s), parts in sessions.items() if parts != "session"]
    names += ["tunnel/x", "session/1", "encap/ab/4500"] if foreign else []
    descriptors = {name: number for number, name in enumerate(names)}
    kept = sort_kept(descriptors)
    assert kept.tunnels.keys() == tunnels
    assert kept.sessions.keys() == {pair for pair, parts in sessions.items() if parts == "both"}
    for (tunnel, session), fds in kept.sessions.items():
        assert fds == (descriptors[f"session/{tunnel}/{session}"], descriptors[f"unit/{tunnel}/{session}"])
    everything = [*kept.tunnels.values(), *(fd for pair in kept.sessions.values() for fd in pair), *kept.rest.values()]
    assert sorted(everything) == sorted(descriptors.values())


@pytest.mark.parametrize("name", ["session/1/x", "session//", "session/1/2/3"])
def test_names_that_only_look_like_ours_are_left_over(name: str) -> None:
    other = "unit" + name.removeprefix("session")
    assert sort_kept({name: 1, other: 2}).rest == {name: 1, other: 2}
