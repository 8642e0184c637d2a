"""`python -m ltp_core`: the command line."""

import sys

from ltp_core.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
