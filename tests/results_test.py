"""Numbers in the pages of results are those of the files beside them."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent.parent / "experiments" / "results"


def test_the_constants():
  folder = RESULTS / "cpu_scale"
  page = (folder / "README.md").read_text()
  accuracy = {}
  for path in sorted(folder.glob("constants/*.json")):
    run = json.loads(path.read_text())
    accuracy[run["keep_ratio"], run["seed"]] = run["final_test_dense_accuracy"]
    assert f"{run['final_test_sparse_accuracy']:.4f}" in page
  ratios = sorted({ratio for ratio, _ in accuracy})
  for ratio in ratios:
    row = f"| {ratio} | {accuracy[ratio, 100]:.4f} | {accuracy[ratio, 101]:.4f}"
    assert row in page
  best = max(ratios, key=lambda r: accuracy[r, 100] + accuracy[r, 101])
  assert f"{best} was chosen" in page
