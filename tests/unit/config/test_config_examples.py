"""The examples that operators copy."""

from fnmatch import fnmatch
from pathlib import Path

import pytest

from kl2tp.config import load
from kl2tp.model import addr
from kl2tp.model.algorithms import parse
from kl2tp.model.overhead import for_session
from kl2tp.model.spec import TunnelSpec

DIRECTORY = Path(__file__).parents[3] / "config"
FILES = sorted(DIRECTORY.glob("*.yaml"))
DOCUMENTATION = ("192.0.2.", "198.51.100.", "203.0.113.", "2001:db8:")


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_example_is_valid(path: Path) -> None:
    desired = load(path)
    assert desired.tunnels or desired.lns or desired.lac


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_example_begins_with_what_it_shows_and_fits_a_terminal(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_remote_addresses_are_those_for_documentation(path: Path) -> None:
    for tunnel in load(path).tunnels:
        assert addr.text(tunnel.remote).startswith(DOCUMENTATION)


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_every_session_has_room_for_packets(path: Path) -> None:
    for tunnel in load(path).tunnels:
        for session in tunnel.sessions:
            assert (session.interface.mtu or 0) <= for_session(tunnel, session).mtu


def only(name: str) -> TunnelSpec:
    (tunnel,) = load(DIRECTORY / name).tunnels
    return tunnel


def test_hub_and_branch_are_two_ends_of_one_tunnel() -> None:
    hub, branch = only("hub.yaml"), only("branch.yaml")
    assert (hub.local, hub.remote) == (branch.remote, branch.local)
    assert (hub.id, hub.peer_id, hub.encap) == (branch.peer_id, branch.id, branch.encap)
    assert hub.ipsec is not None
    assert branch.ipsec is not None
    assert (hub.ipsec.key_file, hub.ipsec.cipher, hub.ipsec.mode) == (
        branch.ipsec.key_file,
        branch.ipsec.cipher,
        branch.ipsec.mode,
    )
    (here,), (there,) = hub.sessions, branch.sessions
    assert (here.id, here.peer_id, here.cookie) == (there.peer_id, there.id, there.cookie)
    assert here.interface.routes[0].via == there.interface.addresses[0][0]
    assert there.interface.routes[0].via == here.interface.addresses[0][0]


def test_lns_and_lac_are_two_ends() -> None:
    desired, calls = load(DIRECTORY / "lns.yaml"), load(DIRECTORY / "lac.yaml").lac
    office, branches = desired.lns
    assert office.listen[0] in calls[0].remotes
    assert fnmatch(calls[0].control.host_name, branches.host_names[0])
    assert set(calls[0].ppp.auth) & set(branches.ppp.auth)
    assert calls[0].control.secret_file == branches.control.secret_file


def test_lns_and_lac_with_ike_are_two_ends() -> None:
    desired, (call,) = load(DIRECTORY / "lns-ike.yaml"), load(DIRECTORY / "lac-ike.yaml").lac
    office, branches = desired.lns
    assert office.ike is not None
    assert call.ike is not None
    assert office.ike == branches.ike
    assert office.listen == branches.listen == call.remotes
    assert (office.ike.version, office.ike.auth) == (call.ike.version, call.ike.auth)
    assert fnmatch(call.control.host_name, branches.host_names[0])
    assert set(call.ppp.auth) & set(branches.ppp.auth)


def test_only_the_example_for_old_clients_offers_anything_weak() -> None:
    weak = set()
    for path in FILES:
        desired = load(path)
        for spec in (*desired.tunnels, *desired.calls):
            if spec.ike and any(one.weak for p in spec.ike.proposals for one in parse(p)):
                weak.add(path.name)
    assert weak == {"lns-legacy-clients.yaml"}


def test_the_short_form_of_a_call_finds_what_it_needs() -> None:
    call = load(DIRECTORY / "lac.yaml").lac[1]
    assert (call.interface.name, call.local[1], call.retry_cap) == ("backup", 0, 120.0)


def test_branch_set_has_500_branches() -> None:
    assert len(load(DIRECTORY / "branch-set.yaml").tunnels) == 500
