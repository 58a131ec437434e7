"""The rules of the code base that no linter knows: who imports whom, one door to the kernel, sizes, docstrings."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import kl2tp

SOURCE = Path(kl2tp.__file__).parent
TESTS = Path(__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))

BELOW: dict[str, set[str]] = {
    "model": set(),
    "wire": {"model"},
    "config": {"model"},
    "control": {"model", "wire"},
    "ppp": {"model", "wire"},
    "ipsec": {"model", "wire", "access"},
    "kernel": {"model", "wire"},
    "access": {"model", "config"},
    "keeper": set(),
    "migrate": {"model"},
    "reconcile": {"model", "wire", "control", "ppp", "ipsec", "kernel"},
    "calls": {"model", "wire", "control", "ppp", "access", "ipsec", "kernel", "keeper", "reconcile"},
    "doctor": {"model", "config", "access", "ipsec", "kernel"},
    "daemon": {
        *("model", "wire", "control", "ppp", "access", "ipsec", "kernel", "keeper", "reconcile", "calls", "config")
    },
    "cli": {"model", "config", "access", "ipsec", "kernel", "keeper", "reconcile", "daemon", "doctor", "migrate"},
}
"""What each package may import, beside itself."""
LATE = (
    *("asyncio", "pyroute2", "yaml"),
    *("kl2tp.config", "kl2tp.daemon", "kl2tp.kernel", "kl2tp.migrate", "kl2tp.reconcile"),
)
"""What a command loads only when it needs it: together they take longer than the command line may take to start."""
LONGEST_MODULE = 600
LONGEST_UNDOCUMENTED = 5
"""Lines of a function whose name says all."""

every_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _package(path: Path) -> str:
    """The package of a module below kl2tp; "" for the top."""
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else ""


def _imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all that is imported, at any depth of the code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import hides the direction"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _names(tree: ast.AST) -> Iterator[str]:
    """Every name and attribute in the code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


@every_module
def test_imports_go_one_way(path: Path) -> None:
    package = _package(path)
    if not package:
        return
    allowed = BELOW[package] | {package}
    for name in _imports(_tree(path)):
        if name.startswith("kl2tp.") and name != "kl2tp.__version__":
            assert name.split(".")[1] in allowed, f"{package} imports {name}"


@every_module
def test_only_the_kernel_package_talks_to_the_kernel(path: Path) -> None:
    if _package(path) == "kernel":
        return
    tree = _tree(path)
    assert not {"AF_NETLINK", "ioctl", "setns", "unshare", "CDLL"} & set(_names(tree))
    assert not {"pyroute2", "ctypes"} & {name.split(".")[0] for name in _imports(tree)}


@every_module
def test_above_the_kernel_package_nobody_packs_a_struct(path: Path) -> None:
    if _package(path) in {"model", "config", "reconcile", "doctor", "cli"}:
        assert "struct" not in set(_imports(_tree(path)))


def test_commands_load_daemon_netlink_and_yaml_only_when_needed() -> None:
    modules = [f"kl2tp.cli.{path.stem}" for path in (SOURCE / "cli").glob("*.py") if not path.stem.startswith("__")]
    code = f"import sys, {', '.join(modules)}; print(*(m for m in {LATE!r} if m in sys.modules))"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(SOURCE.parent)})
    assert found.stdout.split() == []


@every_module
def test_modules_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < LONGEST_MODULE


@every_module
def test_no_exception_is_caught_without_a_name(path: Path) -> None:
    handlers = [node for node in ast.walk(_tree(path)) if isinstance(node, ast.ExceptHandler)]
    assert [node.lineno for node in handlers if node.type is None] == []


def _undocumented(node: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[str]:
    """Public classes without a docstring, and functions that need one."""
    for part in node.body:
        if not isinstance(part, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or part.name.startswith("_"):
            continue
        documented = ast.get_docstring(part) is not None
        if isinstance(part, ast.ClassDef):
            yield from _undocumented(part, f"{part.name}.")
        elif (part.end_lineno or 0) - part.body[0].lineno < LONGEST_UNDOCUMENTED:
            continue
        if not documented:
            yield prefix + part.name


@every_module
def test_what_is_public_is_documented(path: Path) -> None:
    tree = _tree(path)
    assert ast.get_docstring(tree), "the module says not what it holds"
    assert list(_undocumented(tree)) == []


def _sleeps(tree: ast.AST) -> Iterator[int]:
    """Lines that sleep; to yield to the event loop, `asyncio.sleep(0)`, is not to sleep."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sleep":
            module = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            nothing = len(node.args) == 1 and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
            if module == "time" or (module == "asyncio" and not nothing):
                yield node.lineno


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: path.relative_to(TESTS).as_posix())
def test_unit_tests_do_not_sleep(path: Path) -> None:
    assert list(_sleeps(_tree(path))) == []
