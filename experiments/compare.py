"""``python -m sparse_regimes compare``, as result files here have it."""

import sys

from sparse_regimes.main import main

if __name__ == "__main__":
  sys.exit(main(["compare", *sys.argv[1:]]))
