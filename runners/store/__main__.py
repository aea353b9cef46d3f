"""The command `python -m runners.store`."""

import sys

from runners.store.inventory import main

sys.exit(main(sys.argv[1:]))
