"""Configurations of xl2tpd become configurations of kl2tp that do the same, and no line is lost without a word."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kl2tp.config import ConfigError, loads
from kl2tp.migrate import pppd_table, report, xl2tpd_table
from kl2tp.migrate.finding import Kind
from kl2tp.migrate.writing import document
from kl2tp.model import addr
from kl2tp.model.calls import LnsSpec, PppSpec
from kl2tp.model.desired import Desired

from .conftest import Machine

DEBIAN = """\
[global]
[lns default]
ip range = 192.168.1.128-192.168.1.254
local ip = 192.168.1.99
require chap = yes
refuse pap = yes
require authentication = yes
name = LinuxVPNserver
ppp debug = yes
pppoptfile = /etc/ppp/options.xl2tpd
length bit = yes
"""
DEBIAN_OPTIONS = """\
ipcp-accept-local
ipcp-accept-remote
ms-dns  192.168.1.1
ms-dns  192.168.1.3
ms-wins 192.168.1.2
ms-wins 192.168.1.4
noccp
auth
crtscts
idle 1800
mtu 1410
mru 1410
nodefaultroute
debug
lock
proxyarp
connect-delay 5000
"""
"""What the example of Debian's package says, and the options beside it."""
EXAMPLE = Path("/usr/share/doc/xl2tpd/examples/xl2tpd.conf")
VPN_SERVER = """\
[global]
port = 1701

[lns default]
ip range = 192.168.42.10-192.168.42.250
local ip = 192.168.42.1
require chap = yes
refuse pap = yes
require authentication = yes
name = l2tpd
pppoptfile = /etc/ppp/options.xl2tpd
length bit = yes
"""
VPN_OPTIONS = """\
+mschap-v2
ipcp-accept-local
ipcp-accept-remote
noccp
auth
mtu 1280
mru 1280
proxyarp
lcp-echo-failure 4
lcp-echo-interval 30
connect-delay 5000
ms-dns 8.8.8.8
ms-dns 8.8.4.4
"""
"""As scripts that set up a VPN server in a minute write it."""
CLIENT = """\
[lac myvpn]
lns = 203.0.113.7
ppp debug = yes
pppoptfile = /etc/ppp/options.client
length bit = yes
"""
CLIENT_OPTIONS = """\
ipcp-accept-local
ipcp-accept-remote
refuse-eap
require-chap
noccp
noauth
mtu 1280
mru 1280
noipdefault
defaultroute
usepeerdns
connect-delay 5000
name "vpn user"
password 'hunter 2'
"""


def ip(text: str) -> bytes:
    return addr.parse(text)


def only(desired: Desired) -> LnsSpec:
    (profile,) = desired.lns
    return profile


def pool(desired: Desired, name: str) -> list[str]:
    """The ranges of a pool."""
    (found,) = [one for one in desired.pools if one.name == name]
    return [f"{addr.text(first)}-{addr.text(last)}" for first, last in found.ranges]


# Real configurations


def test_the_example_of_debian(machine: Machine) -> None:
    machine.write("/etc/ppp/options.xl2tpd", DEBIAN_OPTIONS)
    desired = machine.desired(DEBIAN)
    profile = only(desired)
    assert profile.ppp == PppSpec(
        ("chap",),
        ip("192.168.1.99"),
        "192.168.1.128-192.168.1.254",
        dns=(ip("192.168.1.1"), ip("192.168.1.3")),
        nbns=(ip("192.168.1.2"), ip("192.168.1.4")),
        mru=1410,
        name="LinuxVPNserver",
    )
    assert (profile.name, profile.listen) == ("default", ((addr.ANY4, 1701),))
    assert (profile.interface.name, profile.interface.mtu) == ("ppp{n}", 1410)
    assert desired.users.files == ("/etc/ppp/chap-secrets",)
    lost = machine.told(DEBIAN, Kind.LOST)
    assert [line.partition(": ")[2].partition(":")[0] for line in lost] == ["idle 1800", "proxyarp"]
    assert machine.told(DEBIAN, Kind.NEVER) == [
        "/etc/xl2tpd/xl2tpd.conf:6: refuse pap = yes: says how we would log in at the peer, and never what the peer"
        " may use: that is ppp.auth"
    ]
    assert machine.told(DEBIAN, Kind.WRONG) == machine.told(DEBIAN, Kind.DIFFERENT) == []


@pytest.mark.skipif(not EXAMPLE.exists(), reason="xl2tpd is not installed")
def test_the_example_as_it_is_installed(machine: Machine) -> None:
    machine.write("/etc/ppp/options.xl2tpd", DEBIAN_OPTIONS)
    assert machine.desired(EXAMPLE.read_text()).lns[0].ppp == machine.desired(DEBIAN).lns[0].ppp


def test_a_vpn_server_of_a_script(machine: Machine) -> None:
    machine.write("/etc/ppp/options.xl2tpd", VPN_OPTIONS)
    machine.write("/etc/ppp/chap-secrets", '"vpnuser" l2tpd "secret" *\n')
    desired = machine.desired(VPN_SERVER)
    profile = only(desired)
    assert profile.ppp.auth == ("mschapv2", "chap")
    assert (profile.ppp.name, profile.ppp.mru, profile.interface.mtu) == ("l2tpd", 1280, 1280)
    assert (profile.ppp.echo_interval, profile.ppp.echo_failures) == (30.0, 4)
    assert pool(desired, profile.ppp.pool) == ["192.168.42.10-192.168.42.250"]
    assert machine.told(VPN_SERVER, Kind.DIFFERENT) == []


def test_a_vpn_client_of_a_guide(machine: Machine) -> None:
    machine.write("/etc/ppp/options.client", CLIENT_OPTIONS)
    imported = machine.convert(CLIENT)
    (call,) = loads(imported.yaml).lac
    assert (call.name, call.remotes, call.user) == ("myvpn", ((ip("203.0.113.7"), 1701),), "vpn user")
    assert call.ppp.auth == ("mschapv2", "chap", "pap")
    assert (call.persist, call.routes[0].prefix_length, call.interface.mtu) == (False, 0, 1280)
    assert call.password_file == "/etc/kl2tp/myvpn.password"
    assert imported.passwords[call.password_file].reveal() == b"hunter 2"
    told = "\n".join(report.text(imported.findings))
    assert "hunter" not in imported.yaml + told + repr(imported)
    assert "[lac myvpn]: has no `autodial = yes`" in " ".join(told.split())


def test_a_file_of_comments_has_nothing_to_import(machine: Machine) -> None:
    assert machine.convert("; [lns default]\n; ip range = 10.0.0.1\n").sections == 0


# LNS


def test_everything_that_a_profile_takes_over(machine: Machine) -> None:
    machine.write("/etc/l2tp", "* * interop\n")
    machine.write("/o", "lcp-restart 5\nlcp-max-configure 20\nlcp-max-terminate 3\nlcp-max-failure 9\nchap-timeout 99\n"
                  "lcp-echo-interval 0\n+ipv6\nnoip\n")  # fmt: skip
    profile = only(
        machine.desired(
            "[global]\nlisten-addr = 10.0.0.1\nport = 1702\nauth file = /etc/l2tp\nmax retries = 9\n"
            "[lns default]\nip range = 10.9.0.2\nassign ip = no\nhostname = hub\nname = hub2\nchallenge = yes\n"
            "tunnel rws = 8\nrequire authentication = yes\nrequire pap = yes\nrequire chap = yes\npppoptfile = /o\n"
        )
    )
    assert profile.listen == ((ip("10.0.0.1"), 1702),)
    control = profile.control
    assert (control.host_name, control.secret_file, control.challenge) == ("hub", "/etc/l2tp", True)
    assert (control.window, control.retransmit_tries) == (8, 9)
    ppp = profile.ppp
    assert (ppp.auth, ppp.name, ppp.pool) == (("chap", "pap"), "hub2", "")
    assert (ppp.restart, ppp.max_configure, ppp.max_terminate, ppp.max_failure) == (5.0, 20, 3, 9)
    assert (ppp.auth_timeout, ppp.echo_interval, ppp.ipv4, ppp.ipv6) == (99.0, 0.0, False, True)


def test_the_secret_is_answered_to_but_not_asked_for_without_challenge(machine: Machine) -> None:
    machine.write("/etc/xl2tpd/l2tp-secrets", "# none\n* * interop ; here\n", 0o644)
    conf = "[lns default]\nip range = 10.9.0.2\nrequire auth = yes\nrequire chap = yes\n"
    control = only(machine.desired(conf)).control
    assert (control.secret_file, control.challenge) == ("/etc/xl2tpd/l2tp-secrets", False)
    assert machine.told(conf, Kind.DIFFERENT) == [
        "/etc/xl2tpd/l2tp-secrets: is open to others (mode 0644): kl2tp refuses files with secrets that others can"
        " read: chmod 600 /etc/xl2tpd/l2tp-secrets"
    ]


def test_a_challenge_without_a_secret_is_told(machine: Machine) -> None:
    conf = DEBIAN.replace("pppoptfile = /etc/ppp/options.xl2tpd", "challenge = yes")
    assert only(machine.desired(conf)).control.challenge
    assert "no tunnel comes up" in machine.told(conf, Kind.DIFFERENT)[0]


LOGIN = "[lns default]\nip range = 10.9.0.2-10.9.0.9\npppoptfile = /o\n"


@pytest.mark.parametrize(
    ("conf", "options", "etc", "auth"),
    [
        ("require authentication = yes\nrequire chap = yes", "", "", ("chap",)),
        ("require authentication = yes", "require-mschap-v2\nrequire-eap\n+pap", "", ("eap-md5", "mschapv2", "pap")),
        ("", "require-mschap-v2", "", ("mschapv2",)),
        ("", "require-mschap", "", ("mschapv2",)),
        ("require chap = yes", "noauth", "", ()),
        ("", "noauth", "auth", ()),
        ("", "auth", "noauth", ("mschapv2", "chap")),
        ("", "", "", ("mschapv2", "chap")),
        ("require authentication = yes", "noauth", "", ("mschapv2", "chap")),
        ("refuse pap = yes\nrefuse chap = yes\nrequire authentication = yes", "require-pap", "", ("pap",)),
    ],
)
def test_who_must_log_in_and_how(machine: Machine, conf: str, options: str, etc: str, auth: tuple[str, ...]) -> None:
    machine.write("/o", options)
    if etc:
        machine.write("/etc/ppp/options", etc)
    assert only(machine.desired(LOGIN + conf)).ppp.auth == auth


def test_what_was_required_without_effect_is_told(machine: Machine) -> None:
    told = machine.told("[lns default]\nip range = 10.9.0.2\nrequire chap = yes\n", Kind.NEVER)
    assert told == ["/etc/xl2tpd/xl2tpd.conf:3: require chap = yes: without `require authentication = yes` xl2tpd"
                    " never asks pppd for it; see ppp.auth"]  # fmt: skip


def test_peers_get_the_section_that_xl2tpd_would_choose(machine: Machine) -> None:
    sections = (
        "[lns a]\nlac = 10.1.0.0-10.1.0.255\nip range = 10.9.1.1\n"
        "[lns b]\nlac = 10.1.0.128-10.1.1.255\nno lac = 10.1.1.255\nip range = 10.9.2.1\n"
        "[lns never]\nip range = 10.9.3.1\n"
        "[lns default]\nlac = 10.1.0.0-10.2.255.255\nip range = 10.9.4.1\n"
    )
    desired = machine.desired(sections)
    peers = {profile.name: [addr.prefix(*net) for net in profile.peers] for profile in desired.lns}
    assert list(peers) == ["a", "b", "default"]
    assert peers["a"] == ["10.1.0.0/25"]  # the last section is asked first
    assert peers["b"][0] == "10.1.0.128/25"
    assert "10.1.1.254/32" in peers["b"]
    assert peers["default"] == []
    assert [line.partition(": ")[2].partition(":")[0] for line in machine.told(sections, Kind.NEVER)] == [
        "[lns never]",
        "lac = 10.1.0.0-10.2.255.255",
    ]
    controlled = machine.desired("[global]\naccess control = yes\n" + sections)
    nets = [addr.prefix(*net) for net in controlled.lns[2].peers]
    assert nets[0] == "10.1.1.255/32"
    assert "10.2.0.0/16" in nets


def test_pools_do_not_overlap(machine: Machine) -> None:
    sections = (
        "[lns default]\nip range = 10.9.0.1-10.9.0.9\nno ip range = 10.9.0.5\n"
        "[lns a]\nlac = 10.1.0.1\nip range = 10.9.0.1-10.9.0.9\nno ip range = 10.9.0.5\n"
        "[lns b]\nlac = 10.1.0.2\nip range = 10.9.0.5-10.9.0.12\n"
        "[lns c]\nlac = 10.1.0.3\nip range = 10.9.0.8\n"
    )
    desired = machine.desired(sections)
    assert {profile.name: profile.ppp.pool for profile in desired.lns} == {
        "default": "default", "a": "default", "b": "b", "c": "",
    }  # fmt: skip
    assert pool(desired, "default") == ["10.9.0.1-10.9.0.4", "10.9.0.6-10.9.0.9"]
    assert pool(desired, "b") == ["10.9.0.5-10.9.0.5", "10.9.0.10-10.9.0.12"]
    assert sum("an address is in one pool only" in line for line in machine.told(sections, Kind.DIFFERENT)) == 2


def test_a_range_of_local_addresses_becomes_the_first(machine: Machine) -> None:
    conf = DEBIAN.replace("local ip = 192.168.1.99", "local ip range = 10.8.0.3-10.8.0.9")
    assert only(machine.desired(conf)).ppp.local_address == ip("10.8.0.3")


def test_users_of_other_servers_and_open_files_are_told(machine: Machine) -> None:
    lines = [f"u{n} elsewhere x *" for n in range(5)] + ["joe LINUXvpnserver x *"]
    machine.write("/etc/ppp/chap-secrets", "\n".join(lines), 0o640)
    told = machine.told(DEBIAN.replace("pppoptfile = /etc/ppp/options.xl2tpd\n", ""), Kind.DIFFERENT)
    assert "chmod 600 /etc/ppp/chap-secrets" in told[0]
    assert sum("is for the server elsewhere" in line for line in told) == 3
    assert sum("2 more users" in line for line in told) == 1


def test_pap_users_are_users_unless_everybody_is(machine: Machine) -> None:
    conf = "[lns default]\nip range = 10.9.0.2\nrequire auth = yes\nrequire pap = yes\n"
    machine.write("/etc/ppp/pap-secrets", "joe * x *\n")
    assert machine.desired(conf).users.files == ("/etc/ppp/chap-secrets", "/etc/ppp/pap-secrets")
    machine.write("/etc/ppp/pap-secrets", 'joe * x *\n* * "" *\n')
    assert machine.desired(conf).users.files == ("/etc/ppp/chap-secrets",)
    assert "/etc/ppp/pap-secrets:2: an empty secret" in machine.told(conf, Kind.DIFFERENT)[0]


def test_scripts_of_pppd_are_missed(machine: Machine) -> None:
    machine.write("/etc/ppp/ip-up.d/0000usepeerdns", "")
    machine.write("/etc/ppp/ip-up.d/routes", "")
    assert machine.told(DEBIAN, Kind.LOST)[-1].startswith("/etc/ppp/ip-up.d/routes: a script: pppd ran it")


def test_radius_and_mppe_are_told(machine: Machine) -> None:
    machine.write("/etc/ppp/options.xl2tpd", "plugin /usr/lib/pppd/radius.so\nplugin pppol2tp.so\nrequire-mppe-128\n")
    assert machine.told(DEBIAN, Kind.LOST) == [
        "/etc/ppp/options.xl2tpd:1: plugin /usr/lib/pppd/radius.so: there is no RADIUS: users stand in files",
        "/etc/ppp/options.xl2tpd:3: require-mppe-128: MPPE (RC4) is refused: protect the tunnel by IPsec",
    ]


# LAC


def test_everything_that_a_call_takes_over(machine: Machine) -> None:
    machine.write("/etc/xl2tpd/l2tp-secrets", "* * interop\n")
    machine.write(
        "/o", "user joe\nname other\nrefuse-eap\nunit 7\ndefaultroute\ndefaultroute-metric 50\nms-dns 1.1.1.1\n"
    )
    conf = (
        "[global]\nlisten-addr = 10.0.0.1\nport = 1702\n"
        "[lac my vpn/1]\nlns = lns.example.net\nlns = 10.0.0.9:1703\nredial = yes\nredial timeout = 15\n"
        "autodial = yes\nlocal ip = 10.9.0.7\nrefuse chap = yes\nchallenge = yes\npppoptfile = /o\n"
    )
    (call,) = machine.desired(conf).lac
    assert (call.name, call.user, call.password_file) == ("my-vpn-1", "joe", "")
    assert call.remotes == ((ip("203.0.113.9"), 1701), (ip("10.0.0.9"), 1703))
    assert (call.local, call.ppp.local_address) == ((ip("10.0.0.1"), 1702), ip("10.9.0.7"))
    assert (call.ppp.auth, call.ppp.dns) == (("mschapv2", "pap"), ())
    assert (call.interface.name, call.routes[0].metric) == ("ppp7", 50)
    assert (call.persist, call.retry_first, call.control.challenge) == (True, 15.0, True)
    told = machine.told(conf, Kind.DIFFERENT)
    assert any("lns.example.net is 203.0.113.9 today" in line for line in told)
    assert any("only ever tried the first server" in line for line in told)


def test_of_the_default_call_only_the_server_is_for_others(machine: Machine) -> None:
    conf = "[lac default]\nlns = 10.0.0.2\nredial = yes\n[lac a]\nautodial = yes\n"
    (call,) = machine.desired(conf).lac
    assert (call.remotes, call.persist) == (((ip("10.0.0.2"), 1701),), False)
    assert [line.partition(": ")[2].partition(":")[0] for line in machine.told(conf, Kind.NEVER)] == ["redial = yes"]


def test_a_call_without_a_server_is_left_out(machine: Machine) -> None:
    conf = "[lac a]\nlns = nowhere.example.net\n[lac b]\nlns = 10.0.0.2\n"
    assert [call.name for call in machine.desired(conf).lac] == ["b"]
    assert any("[lac a]: no server is known" in line for line in machine.told(conf, Kind.LOST))


# All lines

VALUES = st.sampled_from(
    ["yes", "no", "10.9.0.1", "10.9.0.2-10.9.0.40", "10.9.0.30-50", "lns.example.net", "nowhere", "5", "0", "99999",
     "/o", "/none", "a b", "x", ""]
)  # fmt: skip
LINES = st.lists(st.tuples(st.sampled_from(sorted(xl2tpd_table.OPTIONS)), VALUES), max_size=25)
SECTIONS = st.lists(
    st.tuples(st.sampled_from(["global", "lns default", "lns a", "lns b", "lac default", "lac a", "lac b c"]), LINES),
    max_size=6,
)
WORDS = st.lists(
    st.sampled_from([*pppd_table.OPTIONS, "1", "x", "10.0.0.1", "10.0.0.1:", "/o", '"a', "\n"]), max_size=30
)
IMPOSSIBLE = ("there is nothing in it", "and no pool", "carry nothing", "no address but our own")
"""What kl2tp refuses to do, as xl2tpd could not do it either."""


def refused(text: str) -> list[str]:
    """What is wrong with a configuration."""
    try:
        loads(text)
    except ConfigError as error:
        return [problem.message for problem in error.problems]
    return []


FIXTURES = [HealthCheck.function_scoped_fixture]


@settings(deadline=None, max_examples=80, suppress_health_check=FIXTURES)
@given(SECTIONS, WORDS)
def test_no_line_is_lost_without_a_word(machine: Machine, sections: list[tuple[str, list[tuple[str, str]]]],
                                        words: list[str]) -> None:  # fmt: skip
    machine.write("/o", " ".join(words))
    lines = []
    for name, options in sections:
        lines += [f"[{name}]", *(f"{option} = {value}" for option, value in options)]
    imported = machine.convert("\n".join(lines))
    told = {finding.place.line for kind in Kind for finding in imported.findings.of(kind)}
    options_at = {number for number, line in enumerate(lines, 1) if not line.startswith("[")}
    assert options_at <= told
    assert "\n".join(report.text(imported.findings))
    assert all(any(words in message for words in IMPOSSIBLE) for message in refused(imported.yaml))


@pytest.mark.parametrize("name", sorted(pppd_table.BY_NAME))
def test_every_option_of_pppd_is_told_of(machine: Machine, name: str) -> None:
    option = pppd_table.BY_NAME[name]
    word = "10.0.0.1:" if name == "ADDRESS:ADDRESS" else name
    machine.write("/o", " ".join([word, *["/none"] * option.words]))
    imported = machine.convert("[lns default]\nip range = 10.9.0.2\npppoptfile = /o\n")
    assert any(one.place.file in ("/o", "/none") for kind in Kind for one in imported.findings.of(kind))


def test_options_that_are_lost_or_were_never_done_say_why() -> None:
    for option in (*xl2tpd_table.BY_NAME.values(), *pppd_table.BY_NAME.values()):
        assert option.key or option.note or option.kind is not Kind.TAKEN
        assert option.note or option.kind not in (Kind.NEVER,)


def test_the_table_has_every_option_once() -> None:
    lines = list(report.table())
    for name in (*xl2tpd_table.BY_NAME, *pppd_table.BY_NAME):
        assert sum(line.startswith(f"{name} ") for line in lines) >= 1
    assert len(lines) == len(xl2tpd_table.BY_NAME) + len(pppd_table.BY_NAME) + 5


# Writing


def test_what_is_written_reads_back_as_it_was() -> None:
    tree = {
        "#": "one\ntwo",
        "users": ["/a", "it's: [odd] #x", "{n}"],
        "lns": {"a": {"#": "x", "listen": "10.0.0.1:1702", "long": [f"10.9.0.{n}" for n in range(20)]}},
    }
    import yaml

    text = document(tree)  # type: ignore[arg-type]
    assert text.startswith("# one\n# two\n\nusers: ")
    del tree["#"], tree["lns"]["a"]["#"]  # type: ignore[attr-defined]
    assert yaml.load(text, yaml.BaseLoader) == tree
