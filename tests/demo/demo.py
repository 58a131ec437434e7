#!/usr/bin/env python3
"""Entry point of `make demo`: run it as root, in the lab."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from demo.scenes import main  # noqa: E402

sys.exit(main())
