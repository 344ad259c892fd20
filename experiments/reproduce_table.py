"""``python -m sparse_regimes table``, as result files here have it."""

import sys

from sparse_regimes.main import main

if __name__ == "__main__":
  sys.exit(main(["table", *sys.argv[1:]]))
