"""`python -m vaebench` is the `vaebench` command."""

import sys

from vaebench.cli import main

if __name__ == "__main__":
    sys.exit(main())
