"""What is written about calls becomes what is meant: lns, lac, pools, users."""

from pathlib import Path

import pytest

from kl2tp.config import ConfigError, load, loads
from kl2tp.model import addr
from kl2tp.model.calls import (
    CallInterfaceSpec,
    ControlSpec,
    HooksSpec,
    LacSpec,
    LimitsSpec,
    LnsSpec,
    PoolSpec,
    PppSpec,
    UsersSpec,
)
from kl2tp.model.desired import Desired
from kl2tp.model.spec import RouteSpec, Where

USERS = "users: /u\n"


def ip(text: str) -> bytes:
    return addr.parse(text)


def lns(keys: str, rest: str = USERS) -> LnsSpec:
    """The one profile."""
    (profile,) = loads(f"{rest}lns: {{a: {{{keys}}}}}").lns
    return profile


def lac(keys: str, rest: str = USERS) -> LacSpec:
    """The one call."""
    (call,) = loads(f"{rest}lac: {{a: {{remote: 10.0.0.2, user: joe, {keys}}}}}").lac
    return call


def ranges(pool: PoolSpec) -> list[str]:
    """The ranges of a pool as text."""
    return [f"{addr.text(first)}-{addr.text(last)}" for first, last in pool.ranges]


def problems(text: str) -> list[str]:
    """What is wrong with a text."""
    with pytest.raises(ConfigError) as caught:
        loads(text)
    return [str(problem).split("\n")[0] for problem in caught.value.problems]


# Profiles


def test_a_profile_of_nothing_is_all_defaults() -> None:
    (profile,) = loads("lns:\n  a:\nusers: /u").lns
    assert profile == LnsSpec("a")
    assert profile.where == Where("kl2tp.yaml", 2, 3)


def test_a_call_of_little_is_all_defaults() -> None:
    (call,) = loads("users: /u\nlac:\n  hq: {remote: 10.0.0.2, user: joe}").lac
    assert call == LacSpec("hq", ((ip("10.0.0.2"), 1701),), user="joe", interface=CallInterfaceSpec("hq"))
    assert call.where == Where("kl2tp.yaml", 3, 3)


def test_every_key_of_a_profile() -> None:
    text = """
users: {files: [/u, /v.yaml], refusal_delay: 1500ms, refusals: 3, refusal_time: 10m}
pools: {p: {ranges: [10.9.0.0/24], except: 10.9.0.5}}
lns:
  a:
    listen: [10.0.0.1, 10.0.0.1:1702, "[2001:db8::1]:1703", 2001:db8::2, "[::]:1704", 0.0.0.0:1705]
    peers: [10.1.0.0/16, 192.0.2.7, 2001:db8:1::/48]
    host_names: ["branch-*", "hq?"]
    control:
      host_name: lns1
      secret_file: credential:l2tp
      challenge: no
      hide_avps: yes
      window: 64
      hello: never
      retransmit: {first: 500ms, cap: 16, tries: 8}
      setup_timeout: 10s
      empty_timeout: off
    ppp:
      auth: [eap-mschapv2, pap]
      name: l2tpd
      local_address: 10.9.0.1
      pool: p
      pool6: 2001:db8:9::/48
      dns: [10.9.0.1, 2001:db8::53]
      nbns: 10.9.0.2
      mru: 1400
      path_mtu: 1492
      echo: {interval: 10s, failures: 3}
      restart: 1s
      max_configure: 20
      max_terminate: 3
      max_failure: 6
      auth_timeout: 1m
      rechallenge: 1h
    interface: {name: "in{n}", mtu: 1300, mss: 1200, vrf: blue, netns: customers}
    limits: {tunnels: 9, tunnels_per_peer: 8, sessions: 7, sessions_per_tunnel: 6, half_open: 5, setup_rate: 90/m}
    hooks: {up: /up, down: /down, timeout: 2.5s}
    sequencing: send
    reorder: 50ms
    sessions_per_user: 2
    ipsec: off
"""
    desired = loads(text)
    assert desired.users == UsersSpec(("/u", "/v.yaml"), 1.5, 3, 600.0)
    assert desired.lns == (
        LnsSpec(
            "a",
            (
                (ip("10.0.0.1"), 1701),
                (ip("10.0.0.1"), 1702),
                (ip("2001:db8::1"), 1703),
                (ip("2001:db8::2"), 1701),
                (addr.ANY6, 1704),
                (addr.ANY4, 1705),
            ),
            ((ip("10.1.0.0"), 16), (ip("192.0.2.7"), 32), (ip("2001:db8:1::"), 48)),
            ("branch-*", "hq?"),
            ControlSpec("lns1", "credential:l2tp", False, True, 64, 0.0, 0.5, 16.0, 8, 10.0, 0.0),
            PppSpec(
                ("eap-mschapv2", "pap"), ip("10.9.0.1"), "p", "2001:db8:9::/48", True, True,
                (ip("10.9.0.1"), ip("2001:db8::53")), (ip("10.9.0.2"),), 1400, 1492, 10.0, 3, 1.0, 20, 3, 6, 60.0,
                3600.0, "l2tpd",
            ),
            CallInterfaceSpec("in{n}", 1300, 1200, "blue", "customers"),
            LimitsSpec(9, 8, 7, 6, 5, 1.5),
            HooksSpec("/up", "/down", 2.5),
            True, False, 50, 2,
        ),
    )  # fmt: skip


def test_every_key_of_a_call() -> None:
    text = """
lac:
  a:
    remote: [10.0.0.2, "10.0.0.3:1702"]
    local: 10.0.0.1
    local_port: auto
    user: joe@example.net
    password_file: /p
    control: {retransmit: 2s}
    ppp: {auth: chap, local: 10.9.0.7, echo: off}
    interface: {name: "out{n}", vrf: blue, routes: [10.0.0.0/8, {to: 0.0.0.0/0, metric: 9, table: 7}]}
    hooks: {up: /up}
    sequencing: both
    reorder: 5
    outgoing: no
    called_number: "5550100"
    persist: no
    retry: {first: 2m}
    own_tunnel: yes
"""
    (call,) = loads(text).lac
    assert call == LacSpec(
        "a",
        ((ip("10.0.0.2"), 1701), (ip("10.0.0.3"), 1702)),
        (ip("10.0.0.1"), 0),
        "joe@example.net",
        "/p",
        ControlSpec(retransmit_first=2.0),
        PppSpec(("chap",), ip("10.9.0.7"), echo_interval=0.0),
        CallInterfaceSpec("out{n}", vrf="blue"),
        HooksSpec("/up"),
        (RouteSpec(ip("10.0.0.0"), 8), RouteSpec(addr.ANY4, 0, metric=9, table=7)),
        True, True, 5, False, "5550100", False, 120.0, 120.0, True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("listen: 10.0.0.1", "listen: [10.0.0.1]"),
        ("peers: 10.0.0.9", "peers: [10.0.0.9/32]"),
        ("host_name: x*", "host_names: [x*]"),
        ("ppp: {auth: chap}", "ppp: {auth: [chap]}"),
        ("ppp: {dns: 10.9.0.1}", "ppp: {dns: [10.9.0.1]}"),
        ("ppp: {local: 10.9.0.1}", "ppp: {local_address: 10.9.0.1}"),
        ("ppp: {pool6: '2001:db8::/48'}", "ppp: {pool6: '2001:db8::/48', ipv6: true}"),
        ("ppp: {echo: 5s}", "ppp: {echo: {interval: 5s}}"),
        ("control: {retransmit: 2s}", "control: {retransmit: {first: 2s}}"),
        ("interface: 'x{n}'", "interface: {name: 'x{n}'}"),
        ("listen: [10.0.0.1, 10.0.0.1]", "listen: 10.0.0.1"),
        ("limits: {setup_rate: 5}", "limits: {setup_rate: 5/s}"),
        ("ipsec: off", ""),
    ],
)
def test_short_forms(short: str, long: str) -> None:
    assert lns(short) == lns(long)


def test_without_login_nobody_is_asked_for_a_user() -> None:
    assert lns("ppp: {auth: none, pool: 10.9.0.0/24}", "").ppp.auth == ()
    assert loads("lac: {a: {remote: 10.0.0.2}}").lac[0].ppp.auth == ()


def test_a_call_for_which_the_peer_calls_us_gives_addresses() -> None:
    call = lac("outgoing: yes, called_number: '7', ppp: {pool: 10.9.0.0/24}")
    assert (call.ppp.pool, call.outgoing) == ("10.9.0.0/24", True)


@pytest.mark.parametrize(
    ("name", "device"), [("hq", "hq"), ("a-very-long-name-of-a-call", "l2tp{n}"), ("default", "l2tp{n}")]
)
def test_a_call_gives_its_interface_its_name_if_it_can_be_one(name: str, device: str) -> None:
    (call,) = loads(f"lac: {{{name}: {{remote: 10.0.0.2}}}}").lac
    assert call.interface.name == device


# What is inherited

DEFAULTS = """
defaults:
  lns:
    listen: 10.0.0.1
    control: {hello: 10s, secret_file: /s, retransmit: {cap: 20s}}
    ppp: {auth: pap, echo: {interval: 7s}}
    interface: {vrf: blue}
    limits: {sessions: 5}
    hooks: {up: /up}
  lac:
    user: joe
    control: {hello: 20s}
    retry: {cap: 5m}
    interface: {mtu: 1300}
users: /u
"""


def test_profiles_inherit_key_by_key() -> None:
    text = (
        DEFAULTS + "lns: {a: , b: {listen: 10.0.0.2, control: {window: 9, retransmit: 2s}, ppp: {echo: {failures: 9}}}}"
    )
    a, b = loads(text).lns
    assert a.listen == ((ip("10.0.0.1"), 1701),)
    assert a.control == ControlSpec(secret_file="/s", hello_interval=10.0, retransmit_cap=20.0)
    assert b.control == ControlSpec(
        secret_file="/s", hello_interval=10.0, retransmit_first=2.0, retransmit_cap=20.0, window=9
    )
    assert (a.ppp, b.ppp) == (
        PppSpec(("pap",), echo_interval=7.0),
        PppSpec(("pap",), echo_interval=7.0, echo_failures=9),
    )
    assert (b.interface, b.limits, b.hooks) == (a.interface, LimitsSpec(sessions=5), HooksSpec("/up"))
    assert a.interface.vrf == "blue"


def test_calls_inherit_from_their_own_defaults() -> None:
    (call,) = loads("lac: {a: {remote: 10.0.0.2, interface: x}}" + DEFAULTS).lac
    assert (call.user, call.control.hello_interval, call.retry_cap, call.retry_first) == ("joe", 20.0, 300.0, 1.0)
    assert call.interface == CallInterfaceSpec("x", 1300)


def test_what_is_wrong_in_the_defaults_is_said_once() -> None:
    text = "defaults: {lns: {ppp: {auth: chop}, control: {hello: x}}}\nusers: /u\nlns: {a: , b: {listen: 10.0.0.1}}\n"
    assert problems(text) == [
        "kl2tp.yaml:1:30: auth: 'chop' is none of eap-mschapv2, mschapv2, eap-md5, chap, pap, none",
        "kl2tp.yaml:1:54: hello: 'x' is not a time",
    ]


# Pools


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        ("10.9.0.0/30", ["10.9.0.1-10.9.0.2"]),
        ("10.9.0.0/31", ["10.9.0.0-10.9.0.1"]),
        ("10.9.0.7", ["10.9.0.7-10.9.0.7"]),
        ("10.9.0.7/32", ["10.9.0.7-10.9.0.7"]),
        ("10.9.0.0-10.9.0.255", ["10.9.0.0-10.9.0.255"]),
        ("[10.9.1.0-10.9.1.9, 10.9.0.5, 10.9.1.10]", ["10.9.0.5-10.9.0.5", "10.9.1.0-10.9.1.10"]),
        ("{ranges: 10.9.0.0/28, except: [10.9.0.0/30, 10.9.0.8]}", ["10.9.0.4-10.9.0.7", "10.9.0.9-10.9.0.14"]),
        ("'2001:db8::/62'", ["2001:db8::-2001:db8:0:3::"]),
        ("'2001:db8::-2001:db8:0:9::'", ["2001:db8::-2001:db8:0:9::"]),
        ("{ranges: '2001:db8::/48', prefix_length: 56}", ["2001:db8::-2001:db8:0:ff00::"]),
        ("{ranges: '2001:db8::/62', except: '2001:db8:0:1::/64'}", ["2001:db8::-2001:db8::",
                                                                    "2001:db8:0:2::-2001:db8:0:3::"]),
    ],
)  # fmt: skip
def test_what_a_pool_can_give(pool: str, expected: list[str]) -> None:
    (found,) = loads(f"pools: {{p: {pool}}}").pools
    assert ranges(found) == expected
    assert found.prefix_length in (32, 56, 64)


def test_our_own_addresses_are_left_out_of_pools() -> None:
    text = """
users: /u
lns:
  a: {listen: 10.9.0.2, ppp: {local: 10.9.0.1, pool: 10.9.0.0/29}}
  b: {listen: 10.0.0.1, ppp: {pool: 10.9.0.0/29, local: 10.9.0.6}}
tunnels:
  t: {local: 10.0.0.1, remote: 10.0.0.2, ids: 1, sessions: {s: {interface: {name: i, address: 10.9.0.4/30}}}}
""".replace("10.9.0.4/30", "10.9.0.5/30")
    desired = loads(text)
    assert [ranges(pool) for pool in desired.pools] == [["10.9.0.3-10.9.0.4"]]
    assert {profile.ppp.pool for profile in desired.lns} == {"10.9.0.0/29"}


def test_pools_of_vrfs_that_never_meet_may_be_the_same_addresses() -> None:
    text = """
users: /u
pools: {blue: 10.9.0.0/29, green: 10.9.0.0/29}
lns:
  a: {listen: 10.0.0.1, ppp: {pool: blue, local: 10.9.0.1}, interface: {vrf: b}}
  c: {listen: 10.0.0.2, ppp: {pool: green, local: 10.9.0.2}, interface: {vrf: g}}
"""
    blue, green = loads(text).pools
    assert (ranges(blue), ranges(green)) == (["10.9.0.2-10.9.0.6"], ["10.9.0.1-10.9.0.1", "10.9.0.3-10.9.0.6"])
    assert len(problems(text.replace("vrf: g", "vrf: b"))) == 1


def test_a_pool_knows_its_place() -> None:
    desired = loads("users: /u\nlns: {a: {ppp: {pool: 10.9.0.0/24}}}\npools:\n  p: 10.8.0.0/24\n")
    assert {pool.name: str(pool.where) for pool in desired.pools} == {
        "10.9.0.0/24": "kl2tp.yaml:2:23",
        "p": "kl2tp.yaml:4:3",
    }


# Files


def write(directory: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    return directory / "kl2tp.yaml"


def found(path: Path) -> list[str]:
    """What is wrong with files, with relative paths."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [str(problem).replace(f"{path.parent}/", "").split("\n")[0] for problem in caught.value.problems]


def test_calls_pools_and_users_may_stand_in_any_file(tmp_path: Path) -> None:
    files = {
        "kl2tp.yaml": "lns: {a: {ppp: {pool: p}}}\nusers: {file: /u, refusals: 5}\ndefaults: {lns: {reorder: 0}}\n",
        "conf.d/a.yaml": "pools: {p: 10.9.0.0/24}\nusers: [/v, /u]\n",
        "conf.d/b.yaml": "lac: {b: {remote: 10.0.0.2, user: joe}}\nlns: {b: {listen: 10.0.0.1}}\n",
    }
    desired = load(write(tmp_path, files))
    assert [profile.name for profile in desired.lns] == ["a", "b"]
    assert [call.name for call in desired.lac] == ["b"]
    assert [pool.name for pool in desired.pools] == ["p"]
    assert desired.users == UsersSpec(("/u", "/v"), refusals=5)


def test_what_files_say_twice_is_found_in_both(tmp_path: Path) -> None:
    files = {
        "kl2tp.yaml": "pools: {p: 10.9.0.0/24}\nusers: {refusals: 5}\nlac: {a: {remote: 10.0.0.2}}\n",
        "conf.d/a.yaml": "pools: {p: 10.8.0.0/24}\nusers: {refusals: 6}\nlac: {a: {remote: 10.0.0.2}}\n",
    }
    assert found(write(tmp_path, files)) == [
        "conf.d/a.yaml:1:9: p: the name is taken in pools at kl2tp.yaml:1:9",
        "conf.d/a.yaml:2:19: users: refusals is set at kl2tp.yaml:2:19 too",
        "conf.d/a.yaml:3:7: a: the name is taken in lac at kl2tp.yaml:3:7",
    ]


def test_a_file_that_cannot_be_read_is_not_missed_a_second_time(tmp_path: Path) -> None:
    files = {"kl2tp.yaml": "lns: {a: {ppp: {pool: p}}}\n", "conf.d/a.yaml": "pools: {p: 10.9.0.0/24}\nusers: [/v\n"}
    (problem,) = found(write(tmp_path, files))
    assert problem.startswith("conf.d/a.yaml:3:1: not YAML")


def test_all_problems_of_calls_are_found_at_once() -> None:
    text = """\
defaults: {lns: {limits: {tunnels: 0}}}
lns:
  a: {listen: 10.0.0.300, ppp: {auth: chop, pool: nowhere, dns: x}, colour: red}
  b: {listen: 10.0.0.1, ppp: {pool: gone, ipv4: no}, control: {hide_avps: yes}, interface: in}
  c: {listen: 10.0.0.1}
lac:
  d: {remote: 10.0.0.2, retry: {first: never}, ppp: {dns: 10.0.0.1}}
pools:
  gone: 10.9.0.0/33
  p: {except: 10.9.0.1}
users: users.yaml
"""
    assert problems(text) == [
        "kl2tp.yaml:1:36: tunnels: '0' is not from 1 to 65535",
        "kl2tp.yaml:3:15: listen: '10.0.0.300' is not an IPv4 or IPv6 address",
        "kl2tp.yaml:3:39: auth: 'chop' is none of eap-mschapv2, mschapv2, eap-md5, chap, pap, none",
        "kl2tp.yaml:3:51: a: there is no pool 'nowhere'",
        "kl2tp.yaml:3:65: dns: 'x' is not an IPv4 or IPv6 address",
        "kl2tp.yaml:3:69: unknown key 'colour' in lns",
        "kl2tp.yaml:4:37: b: pool is gone, but ipv4 is false (at kl2tp.yaml:4:49)",
        "kl2tp.yaml:4:49: b: calls that carry neither IPv4 nor IPv6 carry nothing",
        "kl2tp.yaml:4:75: b: hide_avps needs a secret",
        "kl2tp.yaml:4:92: b: all calls would have an interface called 'in'",
        "kl2tp.yaml:5:15: c: which profile a peer gets is open: at 10.0.0.1 port 1701 there is also b at"
        " kl2tp.yaml:4:15",
        "kl2tp.yaml:7:40: first: 'never' is not a time",
        "kl2tp.yaml:7:59: d: dns means nothing on a call that we place: the peer says what we get",
        "kl2tp.yaml:9:9: gone: '10.9.0.0/33' has a prefix length over 32",
        "kl2tp.yaml:10:3: p: the pool has no ranges",
        "kl2tp.yaml:11:8: users: the value is not an absolute path",
    ]


def test_nothing_said_of_calls_is_nothing() -> None:
    assert loads("lns:\nlac:\npools:\nusers:\n") == Desired()


def test_unknown_users_do_not_make_other_problems() -> None:
    assert len(problems("users: {files: [x]}\nlns: {a: }\n")) == 1
