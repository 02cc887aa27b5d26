"""Run the `vaebench` command as `python -m vaebench`."""

import sys

from vaebench.cli import main

if __name__ == "__main__":
    sys.exit(main())
