"""`kl2tp mtu`: what it prints, and what it refuses."""

import io
import json
import sys

import pytest

from kl2tp.cli import main
from kl2tp.model.ciphers import CIPHERS


def run(*arguments: str) -> int:
    return main(["mtu", *arguments])


NAT = (
    "--encapsulation",
    "udp",
    "--cookie",
    "8",
    "--cipher",
    "aes256gcm16",
    "--nat-traversal",
    "--outer",
    "ipv6",
)

NAT_PICTURE = """\
L2TPv3 over UDP over IPv6, aes256gcm16 in transport mode, NAT traversal

  +-------------+-------+
  | IPv6        |    40 | outer header
  | UDP         |     8 | ESP in UDP, RFC 3948
  | ESP         |     8 | SPI, sequence number
  | ESP IV      |     8 | aes256gcm16
  +-------------+-------+ encrypted from here
  | UDP         |     8 |
  | L2TPv3      |     8 | flags, session id
  | L2TP cookie |     8 |
  | L2 sublayer |     4 | no sequence number
  | Ethernet    |    14 |
  | payload     |  1376 | inner IP packet
  | ESP padding |     0 | to a multiple of 4
  | ESP trailer |     2 | pad length, next header
  +-------------+-------+ to here
  | ESP ICV     |    16 | aes256gcm16
  +-------------+-------+
  | total       |  1500 | 124 of overhead
  +-------------+-------+

  MTU   1376  on a path of 1500
  MSS   1336  IPv4
        1316  IPv6

  payload  outer packet  efficiency
       64           188      34.0 %
      128           252      50.8 %
      256           380      67.4 %
      512           636      80.5 %
     1024          1148      89.2 %
     1376          1500      91.7 %
"""


def printed(monkeypatch: pytest.MonkeyPatch, encoding: str, *arguments: str) -> str:
    """What the command prints on a terminal of that encoding."""
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert run(*arguments) == 0
        stream.flush()
        return raw.getvalue().decode(encoding)


def test_the_picture_shows_every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch, "ascii", *NAT) == NAT_PICTURE


def test_the_picture_has_real_lines_where_the_terminal_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = printed(monkeypatch, "utf-8", *NAT)
    assert "│ payload     │  1376 │ inner IP packet" in drawn
    assert [len(line) for line in drawn.splitlines()] == [len(line) for line in NAT_PICTURE.splitlines()]


def test_json_holds_the_same_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*NAT, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["mtu"] == 1376
    assert data["mss"] == {"ipv4": 1336, "ipv6": 1316}
    assert sum(layer["bytes"] for layer in data["layers"]) == data["outer_length"] == 1500
    assert (data["overhead"], data["fits"]) == (124, True)
    assert data["efficiency"][0] == {"payload": 64, "outer_length": 188, "percent": 34.04}


def test_a_payload_above_the_mtu_is_said_to_leave_in_fragments(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--l2tp", "2", "--payload", "1463") == 0
    assert "1 more than the path MTU of 1500: leaves in fragments" in capsys.readouterr().out
    run("--l2tp", "2", "--payload", "1462")
    assert "fragments" not in capsys.readouterr().out


def test_a_small_path_has_no_mss_for_ipv6(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--path-mtu", "1300") == 0
    assert "IPv6: needs an MTU of 1280" in capsys.readouterr().out
    run("--path-mtu", "1300", "--json")
    assert json.loads(capsys.readouterr().out)["mss"]["ipv6"] is None


@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_cipher_has_a_picture(cipher: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--cipher", cipher, "--mode", "tunnel") == 0
    assert f"{cipher} in tunnel mode" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--l2tp", "2", "--encapsulation", "ip"), "L2TPv2 runs over UDP only"),
        (("--l2tp", "2", "--cookie", "4"), "L2TPv2 has no cookies"),
        (("--length-field",), "no length field"),
        (("--sequencing", "--l2-sublayer", "none"), "cannot be none"),
        (("--nat-traversal",), "needs a cipher"),
        (("--mode", "tunnel"), "needs a cipher"),
        (("--cipher", "3des"), "3DES has 64-bit blocks"),
        (("--cipher", "aes"), "choose one of aes128gcm16"),
        (("--path-mtu", "60"), "below the 68 that IPv4 needs"),
        (("--path-mtu", "1000", "--outer", "ipv6"), "below the 1280 that IPv6 needs"),
        (("--path-mtu", "100", "--cipher", "aes256gcm16"), "too small"),
    ],
)
def test_what_makes_no_sense_is_refused_with_status_2(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    shown = capsys.readouterr()
    assert not shown.out
    assert shown.err.startswith("kl2tp: error: ")
    assert words in shown.err


@pytest.mark.parametrize("arguments", [("--path-mtu", "-1"), ("--payload", "big"), ("--cookie", "5"), ("--l2tp", "4")])
def test_wrong_values_are_refused_by_the_parser(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert arguments[0] in capsys.readouterr().err


def test_where_ike_chooses_the_worst_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--l2tp", "2", "--ike", "--json") == 0
    negotiated = json.loads(capsys.readouterr().out)
    assert run("--l2tp", "2", "--cipher", "aes256-sha256", "--nat-traversal", "--json") == 0
    assert negotiated == json.loads(capsys.readouterr().out)
    assert run("--ike", "aes256gcm16,chacha20poly1305", "--mode", "tunnel", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["cipher"], found["mode"], found["nat_traversal"]) == ("aes256gcm16", "tunnel", True)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--ike", "--cipher", "aes256gcm16"), "leave --cipher out"),
        (("--ike", "aes257gcm"), "there is no algorithm 'aes257gcm'"),
        (("--ike", "aes256"), "without encryption and integrity"),
    ],
)
def test_what_ike_cannot_choose(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], problem: str) -> None:
    assert run(*arguments) == 2
    assert problem in capsys.readouterr().err
