"""Each kind of error: its place to the column, its message, its hint."""

import re

import pytest

from kl2tp.config import ConfigError, Problem, loads
from unit.config.wrong import ALL as TUNNELS
from unit.config.wrong import Wrong
from unit.config.wrong_calls import CALLS
from unit.config.wrong_ike import IKE

ALL = [*TUNNELS, *CALLS, *IKE]


def marked(text: str) -> tuple[str, dict[str, str]]:
    """The text without its marks, and the places of the marks as FILE:LINE:COLUMN."""
    places: dict[str, str] = {}
    plain = ""
    for part in re.split("([§¤])", text):
        if part in ("§", "¤"):
            places[part] = f"kl2tp.yaml:{plain.count(chr(10)) + 1}:{len(plain) - plain.rfind(chr(10))}"
        else:
            plain += part
    return plain, places


def problems(text: str) -> tuple[Problem, ...]:
    """What is wrong with the text."""
    with pytest.raises(ConfigError) as caught:
        loads(text)
    return caught.value.problems


@pytest.mark.parametrize("wrong", ALL, ids=[wrong.name for wrong in ALL])
def test_error_names_place_value_and_way_out(wrong: Wrong) -> None:
    text, places = marked(wrong.text)
    found = problems(text)
    assert len(found) == 1, found
    expected = wrong.message.replace("{other}", places.get("¤", "")).replace("{self}", places.get("§", ""))
    assert found[0].message == expected
    assert str(found[0]).startswith(f"{places.get('§', 'kl2tp.yaml')}: ")
    assert wrong.hint in found[0].hint


def test_every_kind_of_error_is_named_once() -> None:
    names = [wrong.name for wrong in ALL]
    assert len(set(names)) == len(names) >= 30


def test_all_problems_are_found_at_once() -> None:
    text = """\
defaults: {local: 10.0.0.1, colour: red}
tunnels:
  a:
    remote: 10.0.0.2
    ids: 010
    sessions: {s: {cookie: maybe, interface: {name: a0, mtu: 1e3, bridge: b, address: 10.1.0.1}}}
  b:
    remote: 10.0.0.3
    ids: 7/8
    encapsulation: udp
    ports: 1701/0
    ipsec: {proposal: des, mark: 1/0}
    sessions: {s: }
  c: {remote: 10.0.0.1, ids: 7/9, sessions: {s: {interface: a0}}}
sets:
  d{n}: {range: 1-3, remote: "10.0.0.{n + 254}", ids: "{n}", sessions: {s: {interface: i}}}
"""
    assert [str(problem).split("\n")[0] for problem in problems(text)] == [
        "kl2tp.yaml:1:29: unknown key 'colour' in defaults",
        "kl2tp.yaml:5:10: ids: '010' is not a whole number",
        "kl2tp.yaml:6:28: cookie: the value is none of none, auto, auto4, auto8",
        "kl2tp.yaml:6:62: mtu: '1e3' is not a whole number",
        "kl2tp.yaml:6:87: address: '10.1.0.1' has no prefix length",
        "kl2tp.yaml:11:12: ports: '0' is not from 1 to 65535",
        "kl2tp.yaml:12:12: b: ipsec has no key",
        "kl2tp.yaml:12:23: proposal: 'des' is refused: DES keys are found by trying them all; use aes256gcm16",
        "kl2tp.yaml:12:34: mark: '1/0' has bits in its value that its mask leaves out: nothing would ever match",
        "kl2tp.yaml:14:15: c: remote is 10.0.0.1, which is local as well (at kl2tp.yaml:1:19)",
        "kl2tp.yaml:14:30: c: the local tunnel id 7 is taken by b at kl2tp.yaml:9:10",
        "kl2tp.yaml:14:61: c/s: the interface name 'a0' is taken by a/s at kl2tp.yaml:6:53",
        "kl2tp.yaml:16:30: remote: '10.0.0.256' is not an IPv4 or IPv6 address (with n=2 and 1 more)",
        "kl2tp.yaml:16:88: d2/s: the interface name 'i' is taken by d1/s at kl2tp.yaml:16:88 (with n=2 and 1 more)",
    ]
