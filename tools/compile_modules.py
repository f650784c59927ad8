"""Write the file that the commands import from; the build runs it: PACKAGE OUTPUT."""

import sys
from pathlib import Path

directory, output = sys.argv[1:]
sys.path.insert(0, str(Path(directory).parent))

from cloche import modules  # noqa: E402

modules.write(directory, output)
