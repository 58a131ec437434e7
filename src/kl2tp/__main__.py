"""`python -m kl2tp`."""

import sys

from kl2tp.cli import main

sys.exit(main())
