"""``python -m cloche``: the same as the command ``cloche``."""

import sys

from cloche.cli.main import main

sys.exit(main())
