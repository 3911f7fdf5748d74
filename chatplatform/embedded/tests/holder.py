"""A process that holds the embedded servers of the DATA_DIR in its argument.

It says `owner` or `attached` once they answer, and lets them go when its input ends.
"""

import sys
from pathlib import Path

from chatplatform import embedded

if __name__ == "__main__":
    with embedded.ensure(Path(sys.argv[1])) as servers:
        sys.stdout.write("owner\n" if servers.owner else "attached\n")
        sys.stdout.flush()
        sys.stdin.read()
