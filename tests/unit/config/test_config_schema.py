"""The table of keys: complete, true, and readable."""

import dataclasses
import json

import pytest

from kl2tp.config import ConfigError, document, loads, schema
from kl2tp.config.document import Mapping, Node
from kl2tp.config.fields import Fields, Reader
from kl2tp.config.key import Key, Section
from kl2tp.config.problem import Mark, Problems
from kl2tp.model import calls, desired, ike, spec

SPECS = (
    calls.ControlSpec,
    calls.PppSpec,
    calls.CallInterfaceSpec,
    calls.LimitsSpec,
    calls.HooksSpec,
    calls.LnsSpec,
    calls.LacSpec,
    calls.PoolSpec,
    calls.UsersSpec,
    ike.IkeSpec,
    desired.Desired,
    desired.DaemonSpec,
    spec.TunnelSpec,
    spec.SessionSpec,
    spec.InterfaceSpec,
    spec.RouteSpec,
    spec.CookieSpec,
    spec.IpsecSpec,
)
KEYS = [(section, key) for section in schema.sections() for key in section]
IDS = [f"{section.name}.{key.name}" for section, key in KEYS]


def test_every_field_of_a_spec_is_filled_by_a_key() -> None:
    fields = {f"{one.__name__}.{field.name}" for one in SPECS for field in dataclasses.fields(one)}
    shorts = [section.short for section in schema.sections() if section.short is not None]
    filled = {field for key in [*(key for _, key in KEYS), *shorts] for field in key.fills}
    assert filled == fields


@pytest.mark.parametrize(("section", "key"), KEYS, ids=IDS)
def test_every_key_is_documented(section: Section, key: Key) -> None:
    assert key.doc.endswith(".")
    assert key.name in schema.reference()
    assert key.eg or key.section is not None


@pytest.mark.parametrize(("section", "key"), KEYS, ids=IDS)
def test_every_example_is_valid(section: Section, key: Key) -> None:
    problems = Problems()
    taken: list[Fields] = []

    class Only:
        """Reads the one pair of the document as a mapping of its own."""

        def pair(self, name: str, mark: Mark, node: Node) -> None:
            mapping = Mapping(mark)
            mapping.pairs.append((name, mark, node))
            taken.append(Reader(problems, {}).section(section, mapping, section.name, mark))

        def root(self, node: Node | None) -> None:
            raise AssertionError("no mapping")

        def streams(self, key: str, mark: Mark) -> bool:
            return False

        def entry(self, name: str, mark: Mark, node: Node) -> None:
            raise AssertionError("not asked for")

    assert document.stream(f"{key.name}: {key.eg}", "example", problems, Only())
    (fields,) = taken
    problems.check()
    assert (key.name in fields.own) is bool(key.eg or key.section)


@pytest.mark.parametrize("section", schema.sections(), ids=[section.name for section in schema.sections()])
def test_every_section_is_documented_and_used(section: Section) -> None:
    assert section.doc.endswith(".")
    assert section is schema.TOP or any(key.section is section for _, key in KEYS)


def test_reference_is_bounded_in_width_and_has_no_trailing_space() -> None:
    for line in schema.reference(100).splitlines():
        assert line == line.rstrip()
        assert len(line) <= 100 + len("   [default: TUNNEL-SESSION, if that is short enough]")


def test_reference_names_every_section_and_repeats_no_key() -> None:
    text = schema.reference()
    for section in schema.sections():
        assert f"\n{section.name.upper()}\n" in f"\n{text}"
    assert text.count("The peer's address.") == 1


def test_reference_for_programs() -> None:
    found = json.loads(json.dumps(schema.as_json()))
    assert list(found) == [section.name for section in schema.sections()]
    assert found["tunnel"]["keys"]["encapsulation"] == {
        "syntax": "ip | udp",
        "default": "ip",
        "required": False,
        "doc": "ip: protocol 115; udp: through NAT and firewalls, 12 bytes more.",
        "example": "udp",
        "alias": None,
        "section": None,
        "list": False,
        "named": False,
        "in_defaults": True,
        "words": ["ip", "udp"],
    }
    assert found["ipsec"]["short"] == "off"


@pytest.mark.parametrize("key", list(schema.SYNONYMS.values()))
def test_synonyms_lead_to_keys_that_exist(key: str) -> None:
    assert any(key in section.keys for section in schema.sections())


@pytest.mark.parametrize("word", [word for word in schema.SYNONYMS if any(word in s.keys for s in schema.sections())])
def test_a_synonym_that_is_a_key_elsewhere_does_no_harm(word: str) -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        loads(f"daemon: {{{word}: 1}}")


def test_unknown_keys_without_likeness_get_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="known keys: resync_interval, log_level, keep_calls"):
        loads("daemon: {qqq: 1}")
