"""What is told about passes, over few tunnels and over many."""

import pytest

from kl2tp.daemon.report import FEW, Json, Tally
from kl2tp.model.objects import Address
from kl2tp.model.plan import Operation, Stage, Verb
from kl2tp.reconcile.engine import Result


def result(name: str, *verbs: Verb, problem: str = "", gone: bool = False) -> Result:
    thing = Address("", "dev0", bytes(4), 30)
    done = [Operation(Stage.BUILD_ADDRESS, verb, name, thing) for verb in verbs]
    return Result(name, done, problem=problem, gone=gone)


def told(tally: Tally) -> Json:
    return tally.answer(seconds=1.0, sent=3, waiting={})


def test_of_few_tunnels_every_operation_is_told() -> None:
    tally = Tally(detail=False)
    tally.add([result("a", Verb.CREATE, Verb.UPDATE), result("b")])
    answer = told(tally)
    assert [op["verb"] for op in answer["operations"]] == ["+", "~"]
    assert answer["operation_counts"] == {"a": {"+": 1, "~": 1}}
    assert (answer["tunnels"], answer["changed"], answer["sent"]) == (2, 1, 3)


@pytest.mark.parametrize("detail", [True, False])
def test_of_many_only_their_number_unless_asked(*, detail: bool) -> None:
    tally = Tally(detail=detail)
    for n in range(FEW + 1):
        tally.add([result(f"t{n}", Verb.DELETE, gone=True)])
    answer = told(tally)
    assert (len(answer["operations"]) if detail else answer["operations"]) == (FEW + 1 if detail else None)
    assert answer["operation_counts"] == {f"t{n}": {"-": 1} for n in range(FEW + 1)}
    assert answer["removed"] == FEW + 1


def test_of_a_tunnel_that_comes_again_the_last_word_counts() -> None:
    tally = Tally()
    tally.add([result("a", Verb.CREATE, problem="no route")])
    tally.add([result("a", Verb.CREATE)])
    answer = told(tally)
    assert answer["problems"] == {}
    assert answer["operation_counts"] == {"a": {"+": 2}}
    assert (answer["tunnels"], answer["changed"]) == (1, 1)
