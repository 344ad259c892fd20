"""The numbers of docs/reliability.md are those of the result files."""

import json
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reliability.md").read_text()
RESULTS = ROOT / "experiments" / "results"


def content(name):
  return json.loads((RESULTS / f"{name}.json").read_text())


def test_kills():
  chaos = content("chaos")
  rows = chaos["rows"]
  kills = sum(len(row["kills"]) for row in rows)
  assert kills == chaos["kills"] >= 20
  same = sum(len(r["kills"]) for r in rows if all(r["same"].values()))
  assert f"{same} of {kills} kills" in PAGE
  assert f"in {len(rows)} runs" in PAGE
  lost = sum(abs(row["lines_lost"]) for row in rows)
  assert f"| log lines lost or doubled | {lost} |" in PAGE
  assert f"{chaos['seconds_to_resume']:.1f} s | 20 s" in PAGE


def test_kills_of_other_tasks():
  for name in ("tiny_text", "tiny_play"):
    chaos = content(f"chaos-{name}")
    kills = [kill for row in chaos["rows"] for kill in row["kills"]]
    assert len(kills) == chaos["kills"] == 5
    assert all(all(row["same"].values()) for row in chaos["rows"])
    assert f"`chaos-{name}.json`" in PAGE
  assert "after 5 of 5 kills each, equal bit for bit" in PAGE


def test_saves():
  (row,) = content("bench_checkpoint-cpu")["rows"]
  assert f"{row['network']}, batch {row['batch_size']}" in PAGE
  assert f"{row['overhead_at_one_a_minute']:.1%} at one a minute" in PAGE
  assert f"{row['seconds_lost']:.2f} s of training" in PAGE


def test_spoilt_inputs():
  fuzz = content("fuzz")
  readers = ", ".join(fuzz["readers"])
  assert f"spoilt inputs: {readers}, {fuzz['inputs_each']:,} each" in PAGE
  assert f"{fuzz['crashes']} crashes" in PAGE
