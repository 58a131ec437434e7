"""What the keys mean: YAML's traps, short forms, defaults, anchors."""

import pytest

from kl2tp.config import ConfigError, loads
from kl2tp.model.addr import parse
from kl2tp.model.spec import (
    CookieSpec,
    Encap,
    InterfaceSpec,
    IpsecSpec,
    L2Spec,
    Mode,
    RouteSpec,
    SessionSpec,
    TunnelSpec,
    Where,
)

LOCAL, REMOTE = parse("10.0.0.1"), parse("10.0.0.2")


def tunnel(keys: str = "", sessions: str = "s: {interface: i}", rest: str = "") -> TunnelSpec:
    """The tunnel with these keys beside the required ones; `rest` goes before it."""
    text = f"{rest}\ntunnels: {{t: {{local: 10.0.0.1, remote: 10.0.0.2, ids: 1/2, {keys}, sessions: {{{sessions}}}}}}}"
    (found,) = loads(text.replace(", ,", ",")).tunnels
    return found


def session(keys: str = "interface: i", of: str = "") -> SessionSpec:
    """The session with these keys."""
    (found,) = tunnel(of, f"s: {{{keys}}}").sessions
    return found


def interface(keys: str) -> InterfaceSpec:
    """The interface with these keys."""
    return session(f"interface: {{name: i, {keys}}}").interface


def ipsec(keys: str = "key_file: /k", rest: str = "") -> IpsecSpec:
    """The protection with these keys."""
    found = tunnel(f"ipsec: {{{keys}}}", rest=rest).ipsec
    assert found is not None
    return found


def test_shortest_tunnel() -> None:
    assert tunnel() == TunnelSpec("t", LOCAL, REMOTE, 1, 2, sessions=(SessionSpec("s", 1, 2, InterfaceSpec("i")),))


def test_place_of_a_tunnel_is_that_of_its_name() -> None:
    assert tunnel().where == Where("kl2tp.yaml", 2, 11)


def test_everything() -> None:
    text = """
tunnels:
  t:
    local: 2001:db8::1
    remote: 2001:db8::2
    encapsulation: udp
    ids: 0x10/0x20
    ports: 1801/1901
    checksum: no
    netns: uplink
    path_mtu: 9000
    route: {via: fe80::1, device: eth0, metric: 7, table: 100}
    ipsec:
      proposal: aes256-sha512
      credential: t.key
      mode: tunnel
      reqid: 99
      esn: yes
      replay_window: 128
      nat_traversal: 4500/4501
      mark: 0x10/0xf0
      side: left
      overlap: 1m
    sessions:
      one:
        ids: 5/6
        cookie: {local: 0badcafe, peer: 0123456789ABCDEF}
        sequencing: both
        reorder: 2s
        interface:
          name: one0
          mtu: 1400
          addresses: [10.1.0.1/30, 2001:db8:1::1/64]
          routes:
            - 10.2.0.0/16
            - {to: "2001:db8:2::/48", via: 2001:db8:1::2, metric: 3, table: local}
          vrf: red
          netns: default
          mss: off
          mac: 02:00:00:00:00:01
          up: true
      two: {ids: 7, l2_sublayer: none, cookie: auto4, interface: {name: two0, bridge: br, netns: red, up: off}}
"""
    one = SessionSpec(
        "one",
        5,
        6,
        InterfaceSpec(
            "one0",
            1400,
            ((parse("10.1.0.1"), 30), (parse("2001:db8:1::1"), 64)),
            (
                RouteSpec(parse("10.2.0.0"), 16),
                RouteSpec(parse("2001:db8:2::"), 48, parse("2001:db8:1::2"), 3, 255),
            ),
            "",
            "red",
            "",
            None,
            bytes.fromhex("020000000001"),
        ),
        CookieSpec(8, bytes.fromhex("0badcafe"), bytes.fromhex("0123456789abcdef")),
        L2Spec.DEFAULT,
        True,
        True,
        2000,
    )
    two = SessionSpec(
        "two",
        7,
        7,
        InterfaceSpec("two0", bridge="br", netns="red", up=False),
        CookieSpec(4),
        L2Spec.NONE,
    )
    expected = TunnelSpec(
        "t",
        parse("2001:db8::1"),
        parse("2001:db8::2"),
        16,
        32,
        Encap.UDP,
        1801,
        1901,
        False,
        "uplink",
        9000,
        RouteSpec(parse("2001:db8::2"), 128, parse("fe80::1"), 7, 100),
        "eth0",
        IpsecSpec(
            "aes256-sha512",
            "credential:t.key",
            Mode.TUNNEL,
            99,
            True,
            128,
            4500,
            4501,
            (0x10, 0xF0),
            "",
            False,
            "left",
            60,
        ),
        sessions=(one, two),
    )
    assert loads(text).tunnels == (expected,)


# Traps


@pytest.mark.parametrize("word", ["true", "True", "TRUE", "yes", "Yes", "on", "ON", '"true"', "!!str yes"])
def test_truth(word: str) -> None:
    assert tunnel(f"encapsulation: udp, checksum: {word}").checksum is True


@pytest.mark.parametrize("word", ["false", "False", "no", "NO", "off", "'off'"])
def test_falsehood(word: str) -> None:
    assert tunnel(f"encapsulation: udp, checksum: {word}").checksum is False


@pytest.mark.parametrize("word", ["1", "0", "y", "n", "t", "enabled", "tRuE"])
def test_no_other_word_is_a_boolean(word: str) -> None:
    with pytest.raises(ConfigError, match="neither true nor false"):
        tunnel(f"encapsulation: udp, checksum: {word}")


@pytest.mark.parametrize("name", ["no", "on", "yes", "true", "1e3", "0x1f", "12", "010", "1_000", "2001-01-01"])
def test_names_stay_text(name: str) -> None:
    keys = "local: 10.0.0.1, remote: 10.0.0.2, ids: 1"
    (found,) = loads(f"tunnels: {{{name}: {{{keys}, sessions: {{{name}: {{interface: {name}}}}}}}}}").tunnels
    assert (found.name, found.sessions[0].name, found.sessions[0].interface.name) == (name, name, name)


def test_words_that_mean_nothing_in_yaml_are_a_missing_value_not_a_name() -> None:
    for word in ("null", "~", ""):
        with pytest.raises(ConfigError, match="name has no value"):
            session(f"interface: {{name: {word}}}")
    assert session('interface: {name: "null"}').interface.name == "null"


@pytest.mark.parametrize(
    "text", ["12:30:00", "0b11", "1e3", "1.0", "0o17", "+5", "\uff11\uff12", "0x", "0xg", "1/2/3", "1 2"]
)
def test_numbers_are_decimal_or_hexadecimal_only(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a whole number"):
        tunnel(f'path_mtu: "{text}"')


def test_hexadecimal_cookies_that_look_like_numbers_stay_text() -> None:
    cookie = session("interface: i, cookie: {local: 00000010, peer: 1234567890123456}").cookie
    assert cookie == CookieSpec(8, bytes.fromhex("00000010"), bytes.fromhex("1234567890123456"))


def test_a_mac_of_decimal_digits_is_no_number_to_the_base_of_60() -> None:
    assert interface("mac: 12:34:56:00:11:22").mac == bytes.fromhex("123456001122")


# Short forms


def test_one_id_stands_for_both() -> None:
    assert (session("ids: 5, interface: i").id, session("ids: 5, interface: i").peer_id) == (5, 5)


def test_interface_by_name_alone() -> None:
    assert session("interface: eth7").interface == InterfaceSpec("eth7")


@pytest.mark.parametrize("keys", ["", "interface: ", "interface: {}", "interface: {mtu: auto}"])
def test_interface_is_called_after_tunnel_and_session(keys: str) -> None:
    assert session(keys).interface == InterfaceSpec("t-s")


def test_one_address_needs_no_list() -> None:
    expected = ((parse("10.1.0.1"), 30),)
    assert interface("address: 10.1.0.1/30").addresses == expected
    assert interface("addresses: [10.1.0.1/30]").addresses == expected
    assert interface("addresses: 10.1.0.1/30").addresses == expected


def test_route_by_gateway_alone() -> None:
    found = tunnel("route: 10.0.0.9")
    assert (found.route, found.route_device) == (RouteSpec(REMOTE, 32, parse("10.0.0.9")), "")


def test_route_by_device_alone() -> None:
    found = tunnel("route: {device: eth0}")
    assert (found.route, found.route_device) == (RouteSpec(REMOTE, 32), "eth0")


def test_route_to_a_single_host_needs_no_length() -> None:
    assert interface("routes: 10.2.0.1").routes == (RouteSpec(parse("10.2.0.1"), 32),)


@pytest.mark.parametrize(("word", "length"), [("none", 0), ("auto", 8), ("auto8", 8), ("auto4", 4)])
def test_kinds_of_cookies(word: str, length: int) -> None:
    found = session(f"interface: i, cookie: {word}", of="secret_file: /s").cookie
    assert found == (CookieSpec(length) if length else CookieSpec(0, b"", b""))


def test_a_cookie_on_one_side_only() -> None:
    found = session("interface: i, cookie: {local: none, peer: 0badcafe}").cookie
    assert found == CookieSpec(4, b"", bytes.fromhex("0badcafe"))


@pytest.mark.parametrize(
    ("word", "expected"),
    [("none", (False, False)), ("send", (True, False)), ("require", (False, True)), ("both", (True, True))],
)
def test_sequencing(word: str, expected: tuple[bool, bool]) -> None:
    found = session(f"interface: i, sequencing: {word}")
    assert (found.send_sequence, found.require_sequence) == expected


@pytest.mark.parametrize(("text", "expected"), [("50", 50), ("50ms", 50), ("2s", 2000), ('"2 s"', 2000)])
def test_times_may_have_units(text: str, expected: int) -> None:
    assert session(f"interface: i, sequencing: both, reorder: {text}").reorder_ms == expected


@pytest.mark.parametrize(("word", "expected"), [("auto", 0), ("off", None), ("none", None), ("1300", 1300)])
def test_mss(word: str, expected: int | None) -> None:
    assert interface(f"mss: {word}").mss == expected


def test_masters_can_be_switched_off() -> None:
    assert interface("bridge: none, vrf: off") == InterfaceSpec("i")


# Protection


def test_protection_by_default() -> None:
    assert ipsec() == IpsecSpec("aes256gcm16", "/k", reqid=0x6B6C0001)


def test_key_directory_has_a_file_for_each_tunnel() -> None:
    assert ipsec("key_dir: /etc/keys/").key_file == "/etc/keys/t.key"
    assert ipsec("key_dir: /").key_file == "/t.key"


def test_esn_brings_a_replay_window() -> None:
    assert (ipsec("key_file: /k, esn: yes").esn, ipsec("key_file: /k, esn: yes").replay_window) == (True, 64)


def test_default_reqid_wraps_to_32_bits() -> None:
    text = "tunnels: {t: {local: 10.0.0.1, remote: 10.0.0.2, ids: 0xffffffff, ipsec: {key_file: /k}, sessions: {s: }}}"
    protection = loads(text).tunnels[0].ipsec
    assert protection is not None
    assert protection.reqid == 0x6B6BFFFF


def test_offload() -> None:
    assert ipsec("key_file: /k, offload: {device: eth0}").offload_device == "eth0"
    assert ipsec("key_file: /k, offload: {device: eth0, type: packet}").offload_packet is True
    assert ipsec("key_file: /k, offload: off").offload_device == ""


def test_mark_without_mask_is_all_bits() -> None:
    assert ipsec("key_file: /k, mark: 5").mark == (5, 0xFFFFFFFF)


# Defaults

DEFAULTS = """
defaults:
  path_mtu: 1400
  encapsulation: udp
  ports: 1801/1901
  secret_file: /s
  ipsec: {proposal: aes128gcm16, key_dir: /d, overlap: 5, nat_traversal: 4500, offload: off, mark: 1}
  session: {cookie: auto4, sequencing: both, reorder: 9}
  interface: {mtu: 1300, mss: off, bridge: br, up: no}
"""


def test_defaults_apply_key_by_key() -> None:
    found = tunnel("ipsec: {overlap: 7}", "s: {sequencing: send, interface: {name: i, mss: auto}}", DEFAULTS)
    assert (found.path_mtu, found.encap, found.local_port, found.remote_port) == (1400, Encap.UDP, 1801, 1901)
    assert found.ipsec == IpsecSpec(
        "aes128gcm16",
        "/d/t.key",
        reqid=0x6B6C0001,
        nat_local_port=4500,
        nat_remote_port=4500,
        mark=(1, 0xFFFFFFFF),
        overlap=7,
    )
    (inner,) = found.sessions
    assert (inner.cookie, inner.send_sequence, inner.require_sequence) == (CookieSpec(4), True, False)
    assert inner.reorder_ms == 9
    assert inner.interface == InterfaceSpec("i", 1300, bridge="br", mss=0, up=False)


def test_defaults_apply_where_nothing_is_said() -> None:
    found = tunnel("", "s: ", DEFAULTS)
    assert found.ipsec is not None
    assert found.ipsec.key_file == "/d/t.key"
    assert found.sessions[0].interface == InterfaceSpec("t-s", 1300, bridge="br", mss=None, up=False)


def test_defaults_can_be_undone() -> None:
    keys = "ipsec: off, encapsulation: ip, secret_file: none"
    found = tunnel(keys, "s: {cookie: none, interface: {name: i, bridge: none, up: yes, mtu: auto}}", DEFAULTS)
    assert (found.ipsec, found.encap, found.local_port, found.secret_file) == (None, Encap.IP, 0, "")
    assert found.sessions[0].cookie.length == 0
    assert found.sessions[0].interface == InterfaceSpec("i", mss=None)


def test_optional_parts_of_protection_can_be_undone() -> None:
    rest = "defaults: {ipsec: {key_file: /k, mark: 7, nat_traversal: 4500, offload: off}}"
    assert ipsec("mark: none, nat_traversal: off", rest) == IpsecSpec("aes256gcm16", "/k", reqid=0x6B6C0001)


def test_a_tunnels_own_key_wins_over_the_default_key_directory() -> None:
    rest = "defaults: {ipsec: {key_dir: /d}}"
    assert ipsec("key_file: /own", rest).key_file == "/own"
    assert ipsec("credential: own", rest).key_file == "credential:own"


def test_protection_off_by_default_can_be_switched_on() -> None:
    assert ipsec("key_file: /k", "defaults: {ipsec: off}") == ipsec()
    assert tunnel("", rest="defaults: {ipsec: off}").ipsec is None


def test_an_interfaces_own_vrf_wins_over_the_default_bridge() -> None:
    rest = "defaults: {interface: {bridge: br}}"
    (inner,) = tunnel("", "s: {interface: {name: i, vrf: red}}", rest).sessions
    assert (inner.interface.bridge, inner.interface.vrf) == ("", "red")


def test_an_address_in_the_default_bridge_is_an_error_that_names_it() -> None:
    rest = "defaults: {interface: {bridge: br}}"
    with pytest.raises(ConfigError, match=r"kl2tp.yaml:2:\d+: t/s: .* \(br, at kl2tp.yaml:1:32\) has no addresses"):
        tunnel("", "s: {interface: {name: i, address: 10.1.0.1/30}}", rest)


def test_inherited_udp_settings_do_not_disturb_a_tunnel_over_ip() -> None:
    assert tunnel("encapsulation: ip", rest="defaults: {ports: 5/6, checksum: no}").local_port == 0


def test_an_inherited_secret_beside_protection_is_no_error() -> None:
    assert tunnel("ipsec: {key_file: /k}", rest="defaults: {secret_file: /s}").secret_file == ""


@pytest.mark.parametrize("key", ["remote: 10.0.0.2", "ids: 1", "sessions: {}"])
def test_what_is_a_tunnels_own_is_no_default(key: str) -> None:
    with pytest.raises(ConfigError, match="in defaults"):
        loads(f"defaults: {{{key}}}")


@pytest.mark.parametrize("key", ["name: i", "address: 10.1.0.1/30", "routes: []", "mac: 02:00:00:00:00:01"])
def test_what_is_an_interfaces_own_is_no_default(key: str) -> None:
    with pytest.raises(ConfigError, match=r"in defaults\.interface"):
        loads(f"defaults: {{interface: {{{key}}}}}")


def test_no_default_name_for_all_interfaces() -> None:
    with pytest.raises(ConfigError, match="interface: one value where a mapping belongs"):
        loads("defaults: {interface: i}")


def test_a_wrong_default_is_reported_once_and_causes_no_other_error() -> None:
    text = "defaults: {local: 10.0.0.256, ipsec: {key_dir: keys}, session: {cookie: autos}, interface: {mtu: 1}}\n"
    text += "tunnels:\n"
    for number in (1, 2, 3):
        text += f"  t{number}: {{remote: 10.0.1.{number}, ids: {number}, sessions: {{s: }}}}\n"
    with pytest.raises(ConfigError) as caught:
        loads(text)
    assert [problem.where.line for problem in caught.value.problems] == [1, 1, 1, 1]


# What is right although it looks wrong


def test_many_tunnels_to_one_peer_over_ip() -> None:
    text = "defaults: {local: 10.0.0.1, remote: x}\n".replace(", remote: x", "")
    text += "tunnels: {a: {remote: 10.0.0.2, ids: 1, sessions: {s: }}, b: {remote: 10.0.0.2, ids: 2, sessions: {s: }}}"
    assert len(loads(text).tunnels) == 2


def test_same_ids_names_and_addresses_in_other_namespaces() -> None:
    one = "local: 10.0.0.1, remote: 10.0.0.2, ids: 1, encapsulation: udp, ipsec: {key_file: /k}"
    inner = "sessions: {s: {interface: {name: i, address: 10.1.0.1/30, routes: [10.2.0.0/16]}}}"
    text = f"tunnels: {{a: {{{one}, {inner}}}, b: {{netns: x, {one}, {inner}}}}}"
    assert len(loads(text).tunnels) == 2


def test_same_interface_names_in_the_namespaces_that_they_are_moved_to() -> None:
    text = "s: {ids: 1, interface: {name: i, netns: x}}, u: {ids: 2, interface: {name: i, netns: y}}"
    assert len(tunnel("", text).sessions) == 2


def test_same_address_in_two_vrfs() -> None:
    text = "s: {ids: 1, interface: {name: i, vrf: a, address: 10.1.0.1/30}},"
    text += "u: {ids: 2, interface: {name: j, vrf: b, address: 10.1.0.1/30}}"
    assert len(tunnel("", text).sessions) == 2


def test_session_ids_over_udp_are_the_tunnels_own() -> None:
    text = "defaults: {local: 10.0.0.1, encapsulation: udp}\ntunnels:\n"
    for number in (1, 2):
        text += (
            f"  t{number}: {{remote: 10.0.1.{number}, ids: {number}, ports: {number}, sessions: {{s: {{ids: 9}}}}}}\n"
        )
    assert [found.sessions[0].id for found in loads(text).tunnels] == [9, 9]


def test_protected_udp_tunnels_to_one_peer_with_distinct_ports() -> None:
    text = "defaults: {local: 10.0.0.1, encapsulation: udp, ipsec: {key_dir: /d, nat_traversal: 4500}}\ntunnels:\n"
    for number in (1, 2):
        text += f"  t{number}: {{remote: 10.0.1.1, ids: {number}, ports: {number}/1701, sessions: {{s: }}}}\n"
    assert len(loads(text).tunnels) == 2


def test_the_same_route_to_one_peer_twice() -> None:
    text = "defaults: {local: 10.0.0.1, route: 10.0.0.9}\n"
    text += "tunnels: {a: {remote: 10.0.0.2, ids: 1, sessions: {s: }}, b: {remote: 10.0.0.2, ids: 2, sessions: {s: }}}"
    assert len(loads(text).tunnels) == 2


def test_a_default_route_to_the_peer_can_be_undone() -> None:
    assert tunnel("route: none", rest="defaults: {route: 10.0.0.9}").route is None


# Anchors, aliases, merge keys


def test_anchors_aliases_and_merge_keys() -> None:
    text = """
tunnels:
  a: &a
    local: &us 10.0.0.1
    remote: 10.0.0.2
    ids: 1
    sessions: {s: {interface: i}}
  b:
    <<: *a
    ids: 2
    local: *us
    sessions: {s: {interface: j}}
  c:
    <<: [{remote: 10.0.0.3, ids: 3}, *a]
    sessions: {s: {interface: k}}
"""
    found = loads(text).tunnels
    assert [(one.remote[3], one.id) for one in found] == [(2, 1), (2, 2), (3, 3)]


def test_an_error_in_a_merged_value_is_where_it_was_written() -> None:
    text = "tunnels:\n  a: {<<: &x {remote: nowhere}, local: 10.0.0.1, ids: 1, sessions: {s: }}\n"
    with pytest.raises(ConfigError, match=r"^kl2tp.yaml:2:23: remote: 'nowhere'"):
        loads(text)


def test_expansion_of_aliases_is_bounded() -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 10):
        text += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    with pytest.raises(ConfigError, match="aliases repeat more than 1,000,000 values"):
        loads(text)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "a:\n"])
def test_depth_is_bounded(opening: str) -> None:
    text = "".join(" " * level + opening for level in range(200)) if "\n" in opening else opening * 5000
    with pytest.raises(ConfigError, match=r"nested deeper|not YAML"):
        loads(text)


# Secrets


@pytest.mark.parametrize(
    "keys",
    [
        "ipsec: {key_file: hunter2hunter2}",
        "ipsec: {key_dir: hunter2hunter2}",
        "ipsec: {credential: hunter2/hunter2}",
        "ipsec: {psk: hunter2hunter2}",
        "ipsec: hunter2hunter2",
        "secret_file: hunter2hunter2",
        "secret: hunter2hunter2",
    ],
)
def test_a_secret_in_the_wrong_place_is_not_shown(keys: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tunnel(keys)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("cookie", ["hunter2", "{local: hunter2, peer: hunter2}"])
def test_a_cookie_is_not_shown(cookie: str) -> None:
    with pytest.raises(ConfigError) as caught:
        session(f"interface: i, cookie: {cookie}")
    assert "hunter2" not in str(caught.value)


def test_messages_are_of_one_line_whatever_the_value() -> None:
    with pytest.raises(ConfigError) as caught:
        loads('tunnels: {"a\\nb": {local: "x\\ny", "c\\nd": 1, sessions: {"s\\nt": {interface: "i\\nj"}}}}')
    for problem in caught.value.problems:
        assert "\n" not in problem.message + problem.hint
