"""`make demo` works, and leaves nothing: in the lab's guest that the test runs in, or else in a new one."""

import os
import subprocess
import sys
from pathlib import Path

from demo import xl2tpd
from demo.host import ROOT
from demo.network import ROUTER, SITES

XL2TPD = "systemctl start xl2tpd"
TREE = Path(__file__).resolve().parents[2]


def test_the_demo_ends_well_and_leaves_nothing() -> None:
    command = [sys.executable, str(TREE / "tests/demo/demo.py")]
    environment = os.environ | {"PYTHONPATH": str(TREE / "src")}
    if "LAB_KERNEL" not in os.environ:
        command = [str(TREE / "tests/lab/lab"), "run", "--env", "PYTHONPATH", "--", *command]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-3000:]
    assert "All of it worked" in ended.stdout
    assert (XL2TPD in ended.stdout) == xl2tpd.installed()
    left = [path for path in (ROOT, *(Path("/run/netns", name) for name in (ROUTER, *SITES))) if path.exists()]
    assert not left
