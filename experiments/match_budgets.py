"""``python -m sparse_regimes match_budgets``, as result files here have it."""

import sys

from sparse_regimes.main import main

if __name__ == "__main__":
  sys.exit(main(["match_budgets", *sys.argv[1:]]))
