"""What `kl2tp` without a command prints, and the table of all commands behind it."""

from kl2tp.cli.options import DEFAULT_CONFIG, DEFAULT_RUN_DIR

GROUPS: dict[str, dict[str, str]] = {
    "Tunnels": {
        "plan": "show what apply would do",
        "apply": "make the kernel as declared",
        "status": "show how tunnels and calls are",
        "show": "show all about one tunnel or session",
        "explain": "find out why a tunnel or call does not work",
        "down": "take everything down that kl2tp made",
    },
    "Calls": {
        "sessions": "show who is connected",
        "disconnect": "end sessions",
        "events": "follow what happens to sessions",
    },
    "Daemon": {
        "daemon": "keep the kernel as declared",
        "keeper": "hold the sockets of calls while the daemon is away",
        "reload": "have the daemon read its configuration again",
        "restart": "start the daemon anew; tunnels and calls stay",
    },
    "Configuration": {
        "validate": "check a configuration",
        "schema": "print the reference of the configuration",
        "genkey": "make a key",
        "import": "rewrite a configuration of xl2tpd",
        "mtu": "show overhead, MTU and MSS, layer by layer",
    },
    "Machine": {
        "doctor": "find out what this machine lacks",
        "completion": "print a completion script for a shell",
        "version": "print the version",
    },
}
COMMANDS: dict[str, str] = {name: text for group in GROUPS.values() for name, text in group.items()}
"""Every command with its summary, without loading any."""

_HEAD = """\
kl2tp: L2TP in the Linux kernel: tunnels and calls, declared in YAML, protected by IPsec.

usage: kl2tp [OPTIONS] COMMAND ...
"""
_TAIL = f"""
Options, before or after the command:
  -c, --config FILE   configuration (default {DEFAULT_CONFIG})
  --run-dir DIR       where the control socket and the ledger are (default {DEFAULT_RUN_DIR})
  --json              print JSON, where data is shown
  --no-color          no colours, as with NO_COLOR set
  --version           print the version
  -h, --help          this, or all about a command: kl2tp COMMAND --help

Begin with:
  kl2tp doctor        does this machine have what is needed?
  kl2tp schema        what may stand in {DEFAULT_CONFIG}?
  kl2tp validate      is it right?
  kl2tp plan          what would happen?
  kl2tp apply         do it, once; or for good: systemctl enable --now kl2tp

Exit status: 0 done; 1 failed; 2 wrong usage or configuration; 3 done, but some tunnels have a problem.
"""


def overview() -> str:
    """All commands by group, the common options, the first steps."""
    lines = [_HEAD]
    for title, commands in GROUPS.items():
        lines.append(f"{title}:")
        lines += [f"  {name:19} {text}" for name, text in commands.items()]
    return "\n".join(lines) + "\n" + _TAIL
