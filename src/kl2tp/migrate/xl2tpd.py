"""xl2tpd.conf, with all files that it names, as a configuration of kl2tp."""

from dataclasses import dataclass

from kl2tp.migrate import world, writing
from kl2tp.migrate.addresses import Resolve, look_up
from kl2tp.migrate.files import Files
from kl2tp.migrate.finding import Findings
from kl2tp.migrate.lac import Calls
from kl2tp.migrate.lns import Profiles
from kl2tp.migrate.writing import COMMENT, Tree
from kl2tp.migrate.xl2tpd_conf import Section, parse
from kl2tp.model.objects import Secret

CONF = "/etc/xl2tpd/xl2tpd.conf"
PASSWORDS = "/etc/kl2tp"
"""Where files with passwords shall be, unless something else is said."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of it."""

    yaml: str
    findings: Findings
    passwords: dict[str, Secret]
    """Files that must be made, with the password that each holds."""
    sections: int
    """Profiles and calls."""


def convert(path: str, *, root: str = "", secrets: str = PASSWORDS, resolve: Resolve = look_up) -> Imported:
    """Read xl2tpd.conf.

    `root`: the directory that holds a copy of the other machine's files; `secrets`: that for new files with passwords.
    Raises OSError if the file itself can't be read.
    """
    findings = Findings()
    files = Files(findings, root)
    sections = parse(path, files.open(path), findings)
    common = world.make(findings, files, resolve, secrets, sections)
    tree = _tree(common, sections)
    count = sum(len(part) for key in ("lns", "lac") if isinstance(part := tree.get(key), dict))
    tree[COMMENT] = f"Made by: kl2tp import xl2tpd {path}\nIt does what xl2tpd did with that file, and no more."
    return Imported(writing.document(tree), findings, common.passwords, count)


def _tree(common: world.World, sections: list[Section]) -> dict[str, Tree]:
    common.fates(common.settings)
    profiles = Profiles(common)
    lns = profiles.write([section for section in sections if section.kind == "lns"])
    lac = Calls(common).write([section for section in sections if section.kind == "lac"])
    common.scripts()
    users: list[str | dict[str, Tree]] = [*common.users]
    parts: dict[str, Tree] = {"users": users, "lns": lns, "lac": lac, "pools": profiles.pools()}
    return {key: part for key, part in parts.items() if part}
