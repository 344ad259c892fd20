"""The numbers of docs/performance.md are those of the result files."""

import json
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "performance.md").read_text()
RESULTS = ROOT / "experiments" / "results"


def rows(name):
  return json.loads((RESULTS / f"{name}.json").read_text())["rows"]


def test_the_selection():
  every = rows("bench_selection-cpu")
  (headline,) = (
    r["milliseconds"] for r in every if "lax.top_k" in r["milliseconds"]
  )
  search = headline["search"]
  assert f"{search:.2f} ms" in PAGE
  for name, factor in (("lax.top_k", ".0f"), ("torch.topk", ".2f")):
    assert f"({headline[name]:.2f} ms)" in PAGE
    assert f"{headline[name] / search:{factor}}x faster than `{name}`" in PAGE
  worst = max(
    r["milliseconds"]["search"] / r["milliseconds"]["bisection"] for r in every
  )
  assert f"{worst:.2f} of its time at worst" in PAGE


def test_the_step():
  for row in rows("bench_step-cpu"):
    ratios = (row["masked_over_ratio_1"], row["masked_over_no_mask"])
    (line,) = (s for s in PAGE.splitlines() if f"{row['network']}, batch" in s
               and "2 CPU cores" in s)  # fmt: skip
    assert " / ".join(f"{r:.3f}" for r in ratios) in line
    assert f"{row['temporary_masked_over_no_mask']:.2f}" in PAGE


def test_the_tpu_compiler():
  dense, masked = rows("tpu_compile/v5e-2x4-wrn-28-4")
  assert masked["variant"] == "pallas_tpu"
  for name, unit, digits in (
    ("gigabytes_accessed", "GB", 2),
    ("peak_megabytes", "MB", 0),
  ):
    assert (
      f"{masked[name]:.{digits}f} {unit} / {dense[name]:.{digits}f} {unit} ="
      f" {masked[f'{name}_over_dense']:.2f}"
    ) in PAGE
  assert masked["collectives"] == dense["collectives"] == {"all-reduce": 3}
