"""`kl2tp completion SHELL`: completion scripts, made from the parsers themselves."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from kl2tp.cli import exits
from kl2tp.cli.options import DEFAULT_CONFIG, DEFAULT_RUN_DIR, common

_DESCRIPTION = "Print a completion script for a shell."
_EPILOG = """\
to use it:
  bash  kl2tp completion bash > /usr/share/bash-completion/completions/kl2tp
  zsh   kl2tp completion zsh > /usr/local/share/zsh/site-functions/_kl2tp
  fish  kl2tp completion fish > ~/.config/fish/completions/kl2tp.fish"""
_NAMES = "kl2tp completion names 2>/dev/null"
_FILES, _DIRECTORIES = "FILE", "DIR"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "completion",
        help="print a completion script for a shell",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=(*_SCRIPTS, "names"), metavar="SHELL", help="bash, zsh or fish")
    common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the script; `names` prints the names of all tunnels, for the scripts' use."""
    if args.shell == "names":
        print("\n".join(_tunnels(args)))
    else:
        print("\n".join(_SCRIPTS[args.shell](commands())))
    return exits.OK


def _tunnels(args: argparse.Namespace) -> list[str]:
    """Names of tunnels and of calls that we place: from the daemon if it answers, otherwise from the configuration."""
    from kl2tp.cli.client import connect

    if not args.config:
        try:
            if daemon := connect(args.run_dir or DEFAULT_RUN_DIR):
                status = daemon.call("status")
                placed = (status.get("calls") or {}).get("lac") or ()
                return [str(one["name"]) for one in (*(status.get("tunnels") or ()), *placed)]
        except exits.CommandError:
            pass
    from pathlib import Path

    from kl2tp.config import ConfigError, load

    try:
        desired = load(Path(args.config or DEFAULT_CONFIG))
        return [*(tunnel.name for tunnel in desired.tunnels), *(call.name for call in desired.lac)]
    except ConfigError:
        return []


class Option(NamedTuple):
    """An option of a command."""

    flags: tuple[str, ...]
    help: str
    metavar: str
    """Empty: takes no value."""
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """What completion knows of a command."""

    name: str
    help: str
    options: tuple[Option, ...]
    choices: tuple[str, ...]
    """Of its argument."""
    argument: str
    """Metavar of its last argument: TUNNEL completes names, FILE files."""


def commands() -> list[Command]:
    """All commands of the command line, the root first with an empty name."""
    from kl2tp.cli.entry import build
    from kl2tp.cli.overview import COMMANDS

    root = build(COMMANDS.keys())
    found = [_command("", "", root)]
    for action in root._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [_command(name, COMMANDS[name], parser) for name, parser in action.choices.items()]
    return found


def _command(name: str, summary: str, parser: argparse.ArgumentParser) -> Command:
    options = tuple(
        Option(tuple(a.option_strings), _help(a), _metavar(a), _choices(a)) for a in parser._actions if a.option_strings
    )
    arguments = [a for a in parser._actions if not a.option_strings and not isinstance(a, argparse._SubParsersAction)]
    choices = tuple(c for a in arguments for c in _choices(a) if c != "names")
    return Command(name, summary, options, choices, _metavar(arguments[-1]) if arguments else "")


def _help(action: argparse.Action) -> str:
    return "" if action.help in (None, argparse.SUPPRESS) else str(action.help)


def _metavar(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    return str(action.metavar or action.dest.upper())


def _choices(action: argparse.Action) -> tuple[str, ...]:
    return tuple(str(choice) for choice in action.choices or ())


def _valued(command: Command, metavar: str) -> list[str]:
    return [flag for option in command.options if option.metavar == metavar for flag in option.flags]


def _bash(found: list[Command]) -> Iterator[str]:
    """One function: which command is there decides the words."""
    root, *rest = found
    takes_value = sorted({f for c in found for o in c.options if o.metavar for f in o.flags})
    yield "# bash completion of kl2tp; printed by: kl2tp completion bash"
    yield "_kl2tp() {"
    yield "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= word= skip= i"
    yield "    local words="
    yield "    COMPREPLY=()"
    yield "    for ((i = 1; i < COMP_CWORD; i++)); do"
    yield "        word=${COMP_WORDS[i]}"
    yield "        if [[ -n $skip ]]; then skip=; continue; fi"
    yield '        case "$word" in'
    yield f"            {'|'.join(takes_value)}) skip=1 ;;"
    yield "            -*) ;;"
    yield "            *) command=$word; break ;;"
    yield "        esac"
    yield "    done"
    yield '    case "$command:$prev" in'
    for metavar, how in ((_FILES, "-f"), (_DIRECTORIES, "-d")):
        flags = sorted({flag for command in found for flag in _valued(command, metavar)})
        yield f"        {'|'.join('*:' + flag for flag in flags)})"
        yield f'            mapfile -t COMPREPLY < <(compgen {how} -- "$cur"); return ;;'
    for command in rest:
        for option in command.options:
            if option.choices:
                yield f"        {'|'.join(f'{command.name}:{flag}' for flag in option.flags)})"
                yield f"            words={_quoted(' '.join(option.choices))} ;;"
    yield "        *)"
    yield '            case "$command" in'
    for command in (root, *rest):
        yield from (f"                {line}" for line in _bash_case(command, rest))
    yield "            esac ;;"
    yield "    esac"
    yield '    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")'
    yield "}"
    yield "complete -F _kl2tp kl2tp"


def _bash_case(command: Command, rest: list[Command]) -> Iterator[str]:
    flags = " ".join(flag for option in command.options for flag in option.flags)
    positional = " ".join(command.choices) if command.name else " ".join(c.name for c in rest)
    yield f"{command.name or _quoted('')})"
    yield f"    if [[ $cur == -* ]]; then words={_quoted(flags)}"
    if command.argument == _FILES:
        first = f'compgen -W {_quoted(positional)} -- "$cur"; ' if command.choices else ""
        yield f'    else mapfile -t COMPREPLY < <({first}compgen -f -- "$cur"); return; fi ;;'
    elif command.argument == "TUNNEL":
        yield f"    else words=$({_NAMES}); fi ;;"
    else:
        yield f"    else words={_quoted(positional)}; fi ;;"


def _zsh(found: list[Command]) -> Iterator[str]:
    root, *rest = found
    yield "#compdef kl2tp"
    yield "# zsh completion of kl2tp; printed by: kl2tp completion zsh"
    yield "_kl2tp_tunnels() {"
    yield "    local -a names"
    yield f'    names=("${{(@f)$({_NAMES})}}")'
    yield "    _describe tunnel names"
    yield "}"
    yield "_kl2tp_commands() {"
    yield "    local -a commands"
    yield "    commands=("
    yield from (f"        {_quoted(f'{command.name}:{command.help}')}" for command in rest)
    yield "    )"
    yield "    _describe command commands"
    yield "}"
    yield "_kl2tp() {"
    yield "    local context state state_descr line"
    yield "    typeset -A opt_args"
    yield "    _arguments -C \\"
    yield from (f"        {spec} \\" for option in root.options for spec in _zsh_option(option))
    yield "        '1: :_kl2tp_commands' '*:: :->arguments'"
    yield "    [[ $state == arguments ]] || return"
    yield '    case "$words[1]" in'
    for command in rest:
        yield f"        {command.name})"
        yield "            _arguments \\"
        yield from (f"                {spec} \\" for option in command.options for spec in _zsh_option(option))
        yield f"                {_zsh_argument(command)} ;;"
    yield "    esac"
    yield "}"
    yield 'if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _kl2tp "$@"; else compdef _kl2tp kl2tp; fi'


def _zsh_option(option: Option) -> Iterator[str]:
    text = option.help.replace("[", "(").replace("]", ")").replace(":", ";").replace("%%", "%")
    value = ""
    if option.metavar:
        value = f":{option.metavar.lower()}:{_zsh_values(option.metavar, option.choices)}"
    for flag in option.flags:
        yield _quoted(f"{flag}[{text}]{value}")


def _zsh_values(metavar: str, choices: tuple[str, ...]) -> str:
    if choices:
        return f"({' '.join(choices)})"
    return {_FILES: "_files", _DIRECTORIES: "_files -/", "TUNNEL": "_kl2tp_tunnels"}.get(metavar, "")


def _zsh_argument(command: Command) -> str:
    if command.choices and command.argument == _FILES:
        first = _quoted(f"1: :({' '.join(command.choices)})")
        return f"{first} '*: :_files'"
    values = _zsh_values(command.argument, command.choices)
    return _quoted(f"*: :{values}" if values else "*: :()")


def _fish(found: list[Command]) -> Iterator[str]:
    root, *rest = found
    yield "# fish completion of kl2tp; printed by: kl2tp completion fish"
    yield "complete -c kl2tp -f"
    for command in rest:
        about = _quoted(command.help, fish=True)
        yield f"complete -c kl2tp -n __fish_use_subcommand -a {command.name} -d {about}"
    for option in root.options:
        yield f"complete -c kl2tp -n __fish_use_subcommand {_fish_option(option)}"
    for command in rest:
        condition = f"-n '__fish_seen_subcommand_from {command.name}'"
        for option in command.options:
            yield f"complete -c kl2tp {condition} {_fish_option(option)}"
        if command.argument == _FILES:
            yield f"complete -c kl2tp {condition} -F"
            if command.choices:
                yield f"complete -c kl2tp {condition} -a {_quoted(' '.join(command.choices), fish=True)}"
        elif command.argument == "TUNNEL":
            yield f"complete -c kl2tp {condition} -a {_quoted(f'({_NAMES})', fish=True)}"
        elif command.choices:
            yield f"complete -c kl2tp {condition} -a {_quoted(' '.join(command.choices), fish=True)}"


def _fish_option(option: Option) -> str:
    words = [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags]
    if option.choices:
        words.append(f"-x -a {_quoted(' '.join(option.choices), fish=True)}")
    elif option.metavar:
        words.append("-r -F" if option.metavar in (_FILES, _DIRECTORIES) else "-x")
    if option.help:
        words.append(f"-d {_quoted(option.help.replace('%%', '%'), fish=True)}")
    return " ".join(words)


def _quoted(text: str, *, fish: bool = False) -> str:
    """In single quotes."""
    if fish:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return "'" + text.replace("'", "'\\''") + "'"


_SCRIPTS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
