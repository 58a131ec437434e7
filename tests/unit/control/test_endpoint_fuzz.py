"""Whatever peers send and owners do, an endpoint raises nothing, keeps its bounds, and can be ended."""

from hypothesis import given
from hypothesis import strategies as st

from fuzz.endpoint import endpoint, seeds

octet = st.integers(0, 255)
event = st.tuples(octet, octet, st.just(b"") | st.binary(max_size=40))


@given(octet, st.lists(event, max_size=120))
def test_any_packets_deeds_and_restarts(seed: int, events: list[tuple[int, int, bytes]]) -> None:
    data = bytearray((seed,))
    for what, number, octets in events:
        data += bytes((what, number, 2 * len(octets) + 1 if octets else 0)) + octets
    endpoint(bytes(data))


def test_what_fuzzing_begins_with() -> None:
    for data in seeds():
        endpoint(data)
