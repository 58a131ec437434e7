"""Files of pppd: the options of a call, the secrets of its users.

Its secrets have fixed places in /etc/ppp: in the lab those are written to memory.
"""

from collections.abc import Iterable
from pathlib import Path

from interop.rig.terms import LNS_NAME, USERS, Terms, password, user

ETC = Path("/etc/ppp")
METHODS = {"pap": "pap", "chap": "chap", "mschapv2": "mschap-v2", "eap-md5": "eap"}
"""Our names of the ways to authenticate, and those of pppd's options."""
ECHO_INTERVAL_S = 1


def prepare(users: Iterable[int] = USERS) -> None:
    """Users with passwords; none of the distribution's scripts, whose shells take longer than the calls."""
    for script in ("ip-pre-up", "ip-up", "ip-down", "ipv6-up", "ipv6-down"):
        (ETC / script).unlink(missing_ok=True)
    (ETC / "options").write_text("")
    lines = "".join(f'{user(n)} {LNS_NAME} "{password(n)}" *\n' for n in users)
    for name in ("chap-secrets", "pap-secrets"):
        path = ETC / name
        path.unlink(missing_ok=True)
        path.touch(0o600)
        path.write_text(lines)


def _common(terms: Terms, log: Path) -> list[str]:
    lines = ["debug", f"logfile {log}", "mtu 1400", "mru 1400", "nodefaultroute"]
    lines += [f"lcp-echo-interval {ECHO_INTERVAL_S}", f"lcp-echo-failure {terms.echo_failures}"]
    if terms.sequence:
        lines += ["pppol2tp_send_seq", "pppol2tp_recv_seq"]
    return [*lines, "+ipv6" if terms.ipv6 else "noipv6"]


def write(path: Path, lines: Iterable[str]) -> Path:
    """An options file."""
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def server_options(directory: Path, terms: Terms) -> Path:
    """The options of an LNS that demands the one method of the terms."""
    refused = [f"refuse-{option}" for method, option in METHODS.items() if method != terms.auth]
    demands = ["auth", f"name {LNS_NAME}", f"require-{METHODS[terms.auth]}"]
    lines = _common(terms, directory / "pppd.log") + demands + refused
    return write(directory / "options", lines)


def client_options(directory: Path, terms: Terms, name: str, secret: str) -> Path:
    """The options of an LAC that is willing to do the one method of the terms."""
    refused = [f"refuse-{option}" for method, option in METHODS.items() if method != terms.auth]
    willing = ["noauth", f"name {name}", f'password "{secret}"', "noipdefault"]
    willing += ["ipcp-accept-local", "ipcp-accept-remote"]
    return write(directory / "options", _common(terms, directory / "pppd.log") + willing + refused)
