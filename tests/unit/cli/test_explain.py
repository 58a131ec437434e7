"""What `kl2tp explain` prints."""

from typing import Any

import pytest

from kl2tp.cli.explain import text
from kl2tp.cli.terminal import Paint

WRONG: dict[str, Any] = {
    "broken": "the peer accepts none of our IKE proposals (NO_PROPOSAL_CHOSEN)",
    "cause": "no proposal in common",
    "cure": ["add one", "$ kl2tp reload"],
    "evidence": ["peer '192.0.2.2'"],
    "compare": [{"what": "IKE proposals", "ours": ["aes256-ecp384", "b"], "theirs": ["3des"], "verdict": ""}],
}
ANSWER: dict[str, Any] = {
    "name": "madrid",
    "kind": "tunnel",
    "state": "broken",
    "first_broken": "IKE SA",
    "notes": ["the daemon says: no"],
    "layers": [
        {
            "layer": "way",
            "state": "ok",
            "text": "a -> b",
            "details": [{"name": "MTU", "value": "1500"}],
            "diagnosis": None,
        },
        {"layer": "IKE SA", "state": "broken", "text": "no", "details": [], "diagnosis": WRONG},
        {"layer": "IPsec SA", "state": "waiting", "text": "comes\x1b[2J later", "details": [], "diagnosis": None},
    ],
}


def printed(answer: dict[str, Any], *, brief: bool = False) -> list[str]:
    return list(text(answer, Paint(False), None, brief=brief))


def test_layers_come_first_then_what_is_broken_with_cause_and_cure() -> None:
    assert printed(ANSWER) == [
        "madrid (tunnel): broken",
        "",
        "  ok  way       a -> b",
        "                  MTU: 1500",
        "  XX  IKE SA    no",
        "  ... IPsec SA  comes?[2J later",
        "",
        "First broken: IKE SA: the peer accepts none of our IKE proposals (NO_PROPOSAL_CHOSEN)",
        "Seen:         peer '192.0.2.2'",
        "Cause:        no proposal in common",
        "              IKE proposals",
        "                ours           theirs",
        "                aes256-ecp384  3des",
        "                b",
        "Cure:         add one",
        "              $ kl2tp reload",
        "Note:         the daemon says: no",
    ]


def test_brief_leaves_the_numbers_out() -> None:
    assert "                  MTU: 1500" not in printed(ANSWER, brief=True)


@pytest.mark.parametrize(
    ("state", "words"),
    [("ok", "Nothing is broken."), ("waiting", "Nothing is broken; it waits: IPsec SA: comes?[2J later")],
)
def test_where_nothing_is_broken_that_is_said(state: str, words: str) -> None:
    layers = ANSWER["layers"][::2] if state == "waiting" else ANSWER["layers"][:1]
    answer = ANSWER | {"state": state, "first_broken": None, "layers": layers, "notes": []}
    assert printed(answer)[-1] == words
