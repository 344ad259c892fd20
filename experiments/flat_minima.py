"""``python -m sparse_regimes flat_minima``, as result files here have it."""

import sys

from sparse_regimes.main import main

if __name__ == "__main__":
  sys.exit(main(["flat_minima", *sys.argv[1:]]))
