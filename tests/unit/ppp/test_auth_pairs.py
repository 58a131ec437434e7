"""Both ends of every method back to back, over a line that loses, repeats, delays and reorders what it carries."""

import heapq
import random
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kl2tp.model.calls import AUTH_METHODS, CHAP, EAP_MD5, EAP_MSCHAPV2, MSCHAPV2, PAP
from kl2tp.model.objects import Secret
from kl2tp.ppp.auth import PROTOCOLS, Authenticator, Supplicant, load, make_authenticator, make_supplicant
from kl2tp.ppp.auth.attempt import MschapAttempt
from kl2tp.ppp.auth.eap_peer import EapSupplicant

EAP = (EAP_MSCHAPV2, EAP_MD5)
OFFERS = ((PAP,), (CHAP,), (MSCHAPV2,), (EAP_MD5,), (EAP_MSCHAPV2,), EAP, EAP[::-1])
PAIRS = [(ours, theirs) for ours in OFFERS for theirs in OFFERS
         if ours == theirs or (set(ours) & set(theirs) and PROTOCOLS[ours[0]] == PROTOCOLS[theirs[0]])]
USERS = {"alice": b"hush", "DOMAIN\\bob": "pässwörd".encode(), "c" * 250: b"x" * 250}
LONG = 600.0


class Line:
    """An authenticator, the users it knows, a supplicant, and what is between them. Time is made up."""

    def __init__(self, ours: tuple[str, ...], theirs: tuple[str, ...], name: str, secret: bytes, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.demands = make_authenticator(ours, "lns", self.random.randbytes)
        self.answers = make_supplicant(theirs, name, Secret(secret), self.random.randbytes)
        self.now = 0.0
        self.events: list[tuple[float, int, str, bytes]] = []
        self.order = count()
        self.lossy, self.losses = 0.0, 0
        self.jitter = self.repeat = 0.0
        self.pondering = 0.0
        """How long a verdict takes."""
        self.verdicts = 0
        self.in_network = 0.0

    def run(self, until: float = LONG) -> None:
        """From the start to the end of all that happens by itself."""
        self.demands.start(self.now)
        self.answers.start(self.now)
        self._send()
        while (moment := self._next()) is not None and moment <= until:
            self.now = moment
            self._happen()
            self._send()

    def _next(self) -> float | None:
        moments = [self.events[0][0]] if self.events else []
        moments += [side.deadline for side in (self.demands, self.answers) if side.deadline is not None]
        return min(moments, default=None)

    def _happen(self) -> None:
        for side in (self.demands, self.answers):
            if side.deadline is not None and side.deadline <= self.now:
                side.handle_timer(self.now)
        while self.events and self.events[0][0] <= self.now:
            _, _, what, frame = heapq.heappop(self.events)
            if what == "verdict":
                self._verdict()
            elif what == "network":
                self._network()
            else:
                before = self.demands.attempt
                side = self.demands if what == "demands" else self.answers
                side.receive(frame, self.now)
                if self.demands.attempt is not None and before is None:
                    self._later("verdict", self.pondering)

    def _verdict(self) -> None:
        attempt = self.demands.attempt
        if attempt is not None:
            self.verdicts += 1
            self.demands.verdict(attempt.verify(USERS.get(attempt.identity)), "", self.now)  # type: ignore[arg-type]
            if self.demands.result:
                self._later("network", 0.1)

    def _network(self) -> None:
        """A side that is content begins with IPCP, and goes on doing so."""
        if self.demands.result and isinstance(self.answers, EapSupplicant):
            self.answers.network_seen(self.now)
        if self.answers.result is None and self.now < LONG:
            self._later("network", 3.0)

    def _send(self) -> None:
        for side, to in ((self.demands, "answers"), (self.answers, "demands")):
            for frame in side.take_frames():
                assert len(frame) == int.from_bytes(frame[2:4])
                self._carry(to, frame)

    def _carry(self, to: str, frame: bytes) -> None:
        for _ in range(2 if self.random.random() < self.repeat else 1):
            if self.losses and self.random.random() < self.lossy:
                self.losses -= 1
            else:
                self._later(to, 0.01 + self.random.random() * self.jitter, frame)

    def _later(self, what: str, delay: float, frame: bytes = b"") -> None:
        heapq.heappush(self.events, (self.now + delay, next(self.order), what, frame))


@pytest.mark.parametrize("name", USERS)
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_who_knows_the_password_is_let_in(ours: tuple[str, ...], theirs: tuple[str, ...], name: str) -> None:
    line = Line(ours, theirs, name, USERS[name])
    line.run()
    assert line.demands.result is True
    assert line.answers.result is True
    assert line.demands.identity == name
    assert line.now < 1.0
    assert (line.demands.deadline, line.answers.deadline) == (None, None)


@pytest.mark.parametrize(("name", "secret"), [("alice", b"hash"), ("nobody", b"hush"), ("alice", b""), ("", b"")])
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_who_does_not_is_not(ours: tuple[str, ...], theirs: tuple[str, ...], name: str, secret: bytes) -> None:
    line = Line(ours, theirs, name, secret)
    line.run()
    assert line.demands.result is False
    assert line.answers.result is False
    assert line.answers.reason
    assert (line.demands.deadline, line.answers.deadline) == (None, None)


@pytest.mark.parametrize("method", [MSCHAPV2, EAP_MSCHAPV2])
def test_a_server_that_does_not_know_the_password_is_found_out(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretend(attempt: MschapAttempt, secret: bytes | None) -> bool:
        attempt.proof = b"S=" + b"0" * 40
        return True

    monkeypatch.setattr(MschapAttempt, "verify", pretend)
    line = Line((method,), (method,), "alice", b"the real one")
    line.run()
    assert line.answers.result is False
    assert line.answers.reason == "the peer let us in without knowing our password: it is not who it should be"


@pytest.mark.parametrize(
    ("ours", "theirs"), [((EAP_MD5,), (EAP_MSCHAPV2,)), ((EAP_MSCHAPV2,), (EAP_MD5,))]
)
def test_methods_that_do_not_meet_end_in_failure(ours: tuple[str, ...], theirs: tuple[str, ...]) -> None:
    line = Line(ours, theirs, "alice", b"hush")
    line.run()
    assert (line.demands.result, line.answers.result, line.verdicts) == (False, False, 0)


@pytest.mark.parametrize("side", ["demands", "answers"])
@pytest.mark.parametrize("offer", OFFERS)
def test_a_dead_line_is_given_up(offer: tuple[str, ...], side: str) -> None:
    line = Line(offer, offer, "alice", b"hush")
    line.lossy, line.losses = 1.0, 1 << 30
    line.run()
    assert (line.demands.result, line.answers.result) == (False, False)
    assert line.now == 30.0


@given(
    pair=st.sampled_from(PAIRS),
    right=st.booleans(),
    seed=st.integers(0, 1 << 32),
    losses=st.integers(0, 5),
    jitter=st.sampled_from([0.0, 0.5, 5.0]),
    repeat=st.sampled_from([0.0, 0.5]),
    pondering=st.sampled_from([0.0, 1.0, 8.0]),
)
@settings(max_examples=250, deadline=None)
def test_whatever_the_line_does_both_agree_in_the_end(
    pair: tuple[tuple[str, ...], tuple[str, ...]],
    right: bool,
    seed: int,
    losses: int,
    jitter: float,
    repeat: float,
    pondering: float,
) -> None:
    line = Line(*pair, "alice", b"hush" if right else b"hash", seed)
    line.lossy, line.losses, line.jitter, line.repeat, line.pondering = 0.5, losses, jitter, repeat, pondering
    line.run()
    assert line.verdicts <= 1
    assert line.demands.result is right
    assert line.answers.result is right
    assert (line.demands.deadline, line.answers.deadline) == (None, None)


def fed(machine: Authenticator | Supplicant, packets: list[bytes]) -> None:
    """Feed a machine anything; it answers, or is silent."""
    machine.start(0.0)
    for number, packet in enumerate(packets):
        machine.receive(packet, float(number))
        machine.handle_timer(float(number))
        assert all(len(frame) == int.from_bytes(frame[2:4]) for frame in machine.take_frames())


packets = st.builds(
    lambda code, identifier, data, more: bytes((code, identifier)) + (4 + len(data) + more).to_bytes(2) + data,
    st.integers(0, 5),
    st.sampled_from([0, 1, 7, 8]),
    st.one_of(
        st.binary(max_size=60),
        st.builds(lambda kind, data: bytes((kind,)) + data, st.sampled_from([1, 2, 3, 4, 26]), st.binary(max_size=60)),
        st.builds(lambda op, data: bytes((26, op, 8)) + (4 + len(data)).to_bytes(2) + data,
                  st.integers(1, 4), st.binary(max_size=60)),
        st.builds(lambda value, name: bytes((len(value),)) + value + name,
                  st.sampled_from([bytes(16), bytes(49), bytes(3)]), st.binary(max_size=9)),
    ),
    st.sampled_from([0, 0, 0, 1, -1]),
)


@given(offer=st.sampled_from(OFFERS), frames=st.lists(st.one_of(packets, st.binary(max_size=80)), max_size=12))
@settings(deadline=None)
def test_no_packet_does_any_harm(offer: tuple[str, ...], frames: list[bytes]) -> None:
    demands = make_authenticator(offer, "lns", lambda length: b"\6" * length)
    fed(demands, frames)
    assert not demands.result
    answers = make_supplicant(offer, "alice", Secret(b"hush"), lambda length: b"\6" * length)
    fed(answers, frames)
    assert answers.reason.isprintable()
    if offer[0] in (MSCHAPV2, EAP_MSCHAPV2) and len(offer) == 1:
        assert not answers.result, "without the password nobody proves anything"


def test_every_method_has_an_offer() -> None:
    assert set(PROTOCOLS) == set(AUTH_METHODS)
    assert PROTOCOLS[EAP_MD5] == PROTOCOLS[EAP_MSCHAPV2]
    assert {method: offer.option.hex() for method, offer in PROTOCOLS.items()} == {
        PAP: "c023", CHAP: "c22305", MSCHAPV2: "c22381", EAP_MD5: "c227", EAP_MSCHAPV2: "c227"}
    assert all(offer.option[:2] == offer.protocol.to_bytes(2) for offer in PROTOCOLS.values())


def test_what_is_needed_can_be_loaded_beforehand() -> None:
    load(AUTH_METHODS)
    load((PAP,))
