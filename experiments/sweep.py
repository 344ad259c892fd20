"""``python -m sparse_regimes search``, as result files here have it."""

import sys

from sparse_regimes.main import main

if __name__ == "__main__":
  sys.exit(main(["search", *sys.argv[1:]]))
