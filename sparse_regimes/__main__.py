"""``python -m sparse_regimes COMMAND``, as the console script does."""

import sys

try:
  from sparse_regimes.main import leave
except KeyboardInterrupt:
  sys.exit(130)

leave()
