"""Sets: expressions, ranges, and what they expand to."""

import pytest

from kl2tp.config import ConfigError, loads
from kl2tp.config.problem import Bad
from kl2tp.config.template import Template, numbers, parse
from kl2tp.model.addr import parse as address
from kl2tp.model.spec import CookieSpec, InterfaceSpec, IpsecSpec, RouteSpec, SessionSpec, TunnelSpec


def render(text: str, n: int) -> str:
    template = parse(text)
    return template.render(n) if isinstance(template, Template) else template


@pytest.mark.parametrize(
    ("text", "n", "expected"),
    [
        ("plain", 1, "plain"),
        ("{n}", 7, "7"),
        ("{n:04}", 7, "0007"),
        ("{n:4}", 7, "   7"),
        ("{n:x}", 255, "ff"),
        ("{n:04X}", 255, "00FF"),
        ("{ n }", 7, "7"),
        ("{n+1}-{n - 1}", 7, "8-6"),
        ("{1000 + n * 2}", 7, "1014"),
        ("{n // 250}.{n % 250 + 1}", 501, "2.2"),
        ("{2 + 3 * 4}", 0, "14"),
        ("{(2 + 3) * 4}", 0, "20"),
        ("{10 - 3 - 2}", 0, "5"),
        ("{100 // 7 // 2}", 0, "7"),
        ("{100 % 7 * 3}", 0, "6"),
        ("{-n}", 7, "-7"),
        ("{--n}", 7, "7"),
        ("{2 - -n}", 7, "9"),
        ("{-7 // 2}", 0, "-4"),
        ("{0x10 + n}", 1, "17"),
        ("{{n}}", 7, "{n}"),
        ("{{{n}}}", 7, "{7}"),
        ("100%{n}%d", 7, "100%7%d"),
        ("%s{{", 7, "%s{"),
    ],
)
def test_expressions(text: str, n: int, expected: str) -> None:
    assert render(text, n) == expected


@pytest.mark.parametrize(
    "text",
    ["{m}", "{n.x}", "{n()}", "{n ** 2}", "{n / 2}", "{n < 2}", "{'a'}", "{n,}", "{1 2}", "{n:05.2f}", "{n!r}", "{010}",
     "{n}}", "{", "}", "{n:999}", "{n:}", "{1_0}", "{n:0>4}", "{__import__}", "{n if n else n}", "{[1]}", "{()}"],
)  # fmt: skip
def test_nothing_but_arithmetic(text: str) -> None:
    with pytest.raises(Bad):
        parse(text)


def test_numbers_in_between_may_be_large_but_results_are_bounded() -> None:
    big = "*".join(["99999999999999999999"] * 10)
    assert render(f"{{{big} % 7 + n}}", 0) in "0123456"
    with pytest.raises(Bad, match="becomes longer than 256 characters"):
        render(f"{{{big}}}{{{big[:20]}:99}}", 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", [5]),
        ("1-3", [1, 2, 3]),
        ("1-3,7,10-11", [1, 2, 3, 7, 10, 11]),
        ("7, 1 - 3", [7, 1, 2, 3]),
        ("0x10-0x11", [16, 17]),
        ("4-4", [4]),
        ("0-1", [0, 1]),
    ],
)
def test_ranges(text: str, expected: list[int]) -> None:
    found = numbers(text)
    assert (list(found), len(found)) == (expected, len(expected))


@pytest.mark.parametrize("text", ["", "-", "1-", "-1", "1-2-3", "1,,2", "1,", "a-b", "3-1", "1,1", "1-5,5-9", "01"])
def test_wrong_ranges(text: str) -> None:
    with pytest.raises(Bad):
        numbers(text)


SET = """
defaults:
  local: 198.51.100.1
  ipsec: {key_dir: /keys}
  session: {cookie: auto}
  interface: {mtu: 1300}
sets:
  branch-{n:04}:
    range: 1-2,300
    remote: 10.20.{n // 250}.{n % 250 + 1}
    ids: "{1000 + n}/{2000 + n}"
    path_mtu: "{1400 + n % 2}"
    ipsec: {mark: "{n}"}
    sessions:
      lan:
        interface:
          name: br{n:04}
          addresses: ["10.64.{n // 64}.{n % 64 * 4 + 1}/30", 2001:db8::1/64]
          vrf: v{n}
          routes: ["10.65.{n % 256}.0/24", {to: 10.66.0.0/16, via: "10.64.{n // 64}.{n % 64 * 4 + 2}"}]
      wan: {ids: "{5000 + n}/5", interface: "w{n}"}
"""


def branch(n: int) -> TunnelSpec:
    """What the set above says, by hand."""
    gateway = address(f"10.64.{n // 64}.{n % 64 * 4 + 2}")
    lan = InterfaceSpec(
        f"br{n:04}",
        1300,
        ((address(f"10.64.{n // 64}.{n % 64 * 4 + 1}"), 30), (address("2001:db8::1"), 64)),
        (RouteSpec(address(f"10.65.{n % 256}.0"), 24), RouteSpec(address("10.66.0.0"), 16, gateway)),
        vrf=f"v{n}",
    )
    return TunnelSpec(
        f"branch-{n:04}",
        address("198.51.100.1"),
        address(f"10.20.{n // 250}.{n % 250 + 1}"),
        1000 + n,
        2000 + n,
        path_mtu=1400 + n % 2,
        ipsec=IpsecSpec("aes256gcm16", f"/keys/branch-{n:04}.key", reqid=0x6B6C0000 + 1000 + n, mark=(n, 0xFFFFFFFF)),
        sessions=(
            SessionSpec("lan", 1000 + n, 2000 + n, lan, CookieSpec(8)),
            SessionSpec("wan", 5000 + n, 5, InterfaceSpec(f"w{n}", 1300), CookieSpec(8)),
        ),
    )


def test_a_set_is_as_if_its_tunnels_were_written_out() -> None:
    assert loads(SET).tunnels == tuple(branch(n) for n in (1, 2, 300))


def test_tunnels_of_a_set_share_what_is_equal() -> None:
    first, second, _ = loads(SET).tunnels
    assert first.local is second.local
    assert first.where is second.where
    assert first.sessions[0].cookie is second.sessions[0].cookie
    assert first.sessions[0].name is second.sessions[0].name


def test_a_set_of_one_needs_no_number_in_its_name() -> None:
    text = SET.replace("branch-{n:04}", "only").replace("1-2,300", "7")
    assert [tunnel.name for tunnel in loads(text).tunnels] == ["only"]


def test_sets_follow_tunnels_in_the_order_of_the_file() -> None:
    one = "local: 10.0.0.1, sessions: {s: {interface: 'X{n}'}}"
    text = f"sets: {{'b{{n}}': {{range: 1-2, remote: '10.0.1.{{n}}', ids: '{{n}}', {one.replace('X', 'b')}}}, "
    text += f"'a{{n}}': {{range: 1, remote: '10.0.2.{{n}}', ids: '{{n + 9}}', {one.replace('X', 'a')}}}}}\n"
    text += "tunnels: {z: {remote: 10.0.0.9, local: 10.0.0.1, ids: 99, sessions: {s: }}}"
    assert [tunnel.name for tunnel in loads(text).tunnels] == ["z", "b1", "b2", "a1"]


def test_braces_of_a_scalar_outside_of_sets_are_braces() -> None:
    text = "tunnels: {t: {local: 10.0.0.1, remote: 10.0.0.2, ids: 1, ipsec: {key_file: '/{{k}}'}, sessions: {s: }}}"
    protection = loads(text).tunnels[0].ipsec
    assert protection is not None
    assert protection.key_file == "/{{k}}"


def test_doubled_braces_in_a_set_are_single() -> None:
    text = SET.replace("{key_dir: /keys}", "off").replace('{mark: "{n}"}', '{key_file: "/{{x}}"}')
    protection = loads(text).tunnels[0].ipsec
    assert protection is not None
    assert protection.key_file == "/{x}"


def test_all_kinds_of_errors_of_one_place_are_reported() -> None:
    text = SET.replace('    ids: "{1000 + n}/{2000 + n}"\n', "").replace("    remote", "    # remote")
    with pytest.raises(ConfigError) as caught:
        loads(text)
    assert [problem.message for problem in caught.value.problems] == [
        "branch-0001: ids is missing (with n=1 and 2 more)",
        "branch-0001: remote is missing (with n=1 and 2 more)",
    ]


def test_more_tunnels_than_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kl2tp.config.build.MAX_TUNNELS", 2)
    with pytest.raises(ConfigError, match=r"kl2tp.yaml:8:3: there are more than 2 tunnels \(with n=300\)"):
        loads(SET)


def test_a_large_set_is_loaded_whole() -> None:
    text = (
        'sets:\n  "t{n}":\n    range: 1-3000\n    local: 10.0.0.1\n    remote: 10.9.{n // 256}.{n % 256}\n'
        '    ids: "{n}"\n    sessions: {s: {interface: "i{n}"}}\n'
    )
    assert len(loads(text).tunnels) == 3000
