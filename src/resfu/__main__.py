"""`python -m resfu` is the command `resfu`."""

import sys

from resfu.cli import main

if __name__ == "__main__":
    sys.exit(main())
