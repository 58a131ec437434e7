"""xl2tpd.conf as xl2tpd reads it: sections of lines OPTION = VALUE, where `;` begins a comment."""

from dataclasses import dataclass, field

from kl2tp.migrate.finding import Findings, Kind, Place
from kl2tp.migrate.xl2tpd_table import OPTIONS, Option

YES, NO = ("yes", "y", "true"), ("no", "n", "false")


@dataclass(frozen=True, slots=True)
class Given:
    """A line of a section."""

    option: Option
    value: str
    place: Place

    @property
    def what(self) -> str:
        """The line, for the report."""
        return f"{self.option.name} = {self.value}"

    @property
    def yes(self) -> bool:
        """Whether it says yes."""
        return self.value.lower() in YES


@dataclass(slots=True)
class Section:
    """A section; those of one kind and name are one."""

    kind: str
    name: str
    place: Place
    lines: list[Given] = field(default_factory=list)

    def all(self, *names: str) -> list[Given]:
        """The lines with these options."""
        return [line for line in self.lines if line.option.name in names]

    def last(self, name: str) -> Given | None:
        """The line that counts where only one can."""
        lines = self.all(name)
        return lines[-1] if lines else None

    def value(self, name: str, default: str = "") -> str:
        """The value that counts."""
        line = self.last(name)
        return default if line is None else line.value

    def yes(self, name: str) -> bool:
        """Whether the option is there and says yes."""
        line = self.last(name)
        return line is not None and line.yes

    @property
    def title(self) -> str:
        """As it stands in the file."""
        return f"[{self.kind} {self.name}]" if self.name else f"[{self.kind}]"


def parse(path: str, text: str, findings: Findings) -> list[Section]:
    """The sections in the order of the file. What xl2tpd would not take is told, and left out."""
    sections: dict[tuple[str, str], Section] = {}
    current: Section | None = None
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition(";")[0].strip()
        place = Place(path, number)
        if line.startswith("["):
            current = _section(line, place, sections, findings)
        elif line:
            _line(line, place, current, findings)
    return list(sections.values())


def _section(line: str, place: Place, sections: dict[tuple[str, str], Section], findings: Findings) -> Section | None:
    inside, bracket, _ = line[1:].partition("]")
    kind, _, name = inside.partition(" ")
    kind = kind.lower()
    if not bracket or kind not in ("global", "lns", "lac"):
        findings.add(Kind.WRONG, place, line, "not a section: what follows is left out")
        return None
    if kind == "global":
        name = ""
    return sections.setdefault((kind, name.lower()), Section(kind, name.strip(), place))


def _line(line: str, place: Place, section: Section | None, findings: Findings) -> None:
    word, equals, value = (part.strip() for part in line.partition("="))
    option = OPTIONS.get(" ".join(word.lower().split()))
    if section is None:
        findings.add(Kind.WRONG, place, line, "stands in no section")
    elif not equals:
        findings.add(Kind.WRONG, place, line, "neither OPTION = VALUE nor a comment, which begins with ;")
    elif option is None:
        findings.add(Kind.WRONG, place, line, "no option of xl2tpd")
    elif section.kind not in option.sections:
        findings.add(Kind.WRONG, place, line, f"not an option of [{section.kind}]")
    elif option.boolean and value.lower() not in YES + NO:
        findings.add(Kind.WRONG, place, line, "neither yes nor no")
    else:
        section.lines.append(Given(option, value, place))
