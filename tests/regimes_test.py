"""The page of results says what the records of the study of regimes say."""

import json
import sys

import numpy as np
import pytest
from running import ROOT

from sparse_regimes.studies.statistics import estimate

sys.path.insert(0, str(ROOT / "experiments"))

import regimes_table as tables

PAGE = (ROOT / "docs" / "results.md").read_text()
WORDS = " ".join(PAGE.split())
TEXT = tables.arms_of("text")
DENSE = TEXT["dense"]


def at(run, ratio):
  (row,) = (row for row in run["sweep"] if row["keep_ratio"] == ratio)
  return row["loss"]


def test_every_arm_has_five_seeds():
  assert {len(runs) for runs in TEXT.values()} == {5}
  assert {*DENSE} == set(range(5))


@pytest.mark.parametrize(
  ("arm", "told"),
  [
    ("Strategy 1, averaged", "(-0.016 [-0.044, +0.012])"),
    ("Strategy 2 (ours)", "(-0.027 [-0.047, -0.006])"),
  ],
)
def test_masked_beside_the_dense_arm_with_all(arm, told):
  pairs = [at(TEXT[arm][s], 0.125) - at(DENSE[s], 1.0) for s in DENSE]
  d = estimate(pairs)
  assert told == f"({d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}])"
  assert told in WORDS


def test_the_control_overfits():
  rises = []
  for seed in tables.CONTROL_SEEDS:
    losses = [
      e["test"] for e in tables.read("text")[tables.DENSE][seed]["epochs"]
    ]
    rises.append(losses[-1] - min(losses))
  assert f"by {min(rises):.3f} to {max(rises):.3f} nats" in WORDS


def test_what_dropout_is_behind_and_ahead():
  dropout, strategy = TEXT["dense, dropout 0.1"], TEXT["Strategy 1, averaged"]

  def gap(ratio):
    return np.mean(
      [at(dropout[s], ratio) - at(strategy[s], ratio) for s in DENSE]
    )

  told = (
    f"is {-gap(1.0):.2f} nats behind there and {gap(0.02):.2f} ahead at 0.02"
  )
  assert told in WORDS


IMAGES = tables.arms_of("image")


@pytest.mark.parametrize(
  ("arm", "other", "ratio", "told"),
  [
    ("random, matched", "Strategy 1, averaged", None, "+.4f"),
    ("random, matched", "dense, dropout 0.3", 0.02, ".4f"),
    ("dense, dropout 0.3", "random, matched", None, ".4f"),
  ],
)
def test_images_over_budgets(arm, other, ratio, told):
  def value(run):
    if ratio is None:
      return tables.over_budgets(run, "accuracy")
    return next(r["accuracy"] for r in run["sweep"] if r["keep_ratio"] == ratio)

  d, _ = tables.difference(IMAGES[arm], IMAGES[other], value)
  numbers = [format(x, told) for x in (d.mean, d.low, d.high)]
  assert "{} [{}, {}]".format(*numbers) in WORDS


def test_dropout_is_the_best_on_images_over_budgets():
  means = {
    arm: np.mean([tables.over_budgets(r, "accuracy") for r in runs.values()])
    for arm, runs in IMAGES.items()
  }
  first, second, *_ = sorted(means, key=lambda arm: means[arm], reverse=True)
  assert (first, second) == ("dense, dropout 0.3", "random, matched")


def test_the_front_page_tells_of_cartpole():
  readme = (ROOT / "README.md").read_text()
  rows = tables.cartpole_table().splitlines()
  told = {row.split("|")[1].strip(): row.split("|") for row in rows[2:]}
  assert f"(dense arm: {told['dense'][4].strip()})" in readme
  for arm in ("Strategy 1", "random"):
    assert f"| {told[arm][6].strip()} | 10 |" in readme


def test_over_calibrated_thresholds():
  def value(run):
    return tables.over_budgets(run, "accuracy")

  peer = tables.read("image")["dense_calibrated"]
  d, _ = tables.difference(IMAGES["Strategy 1, averaged"], peer, value)
  assert f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}]" in WORDS


def test_with_crop_and_flip_nothing_overfits():
  runs = tables.arms_of("image_augmented")
  train = [run["epochs"][-1]["train"] for run in runs["dense"].values()]
  assert f"training images is {np.mean(train):.2f}" in WORDS


def test_the_budgets_of_a_seed_are_its_own():
  content = json.loads((tables.RESULTS / "cartpole.json").read_text())
  lowest = {r["lowest_keep_ratio"] for r in content["arms"]["random"]}
  assert len(lowest) == 10


def test_the_price_of_random_budgets_on_cartpole():
  arms = json.loads((tables.RESULTS / "cartpole.json").read_text())["arms"]
  d = estimate(
    [
      run["at_ratios"][0] - other["at_ratios"][0]
      for run, other in zip(arms["random"], arms["dense"], strict=True)
    ]
  )
  assert f"({d.mean:+.0f} [{d.low:+.0f}, {d.high:+.0f}])" in WORDS


CPU = tables.arms_of("text_cpu")


def gain(arms, runs):
  """Of each seed over budgets, beside the dense arm of the same group."""
  return {
    seed: tables.over_budgets(run, "loss")
    - tables.over_budgets(arms["dense"][seed], "loss")
    for seed, run in runs.items()
  }


def told_of(pairs, digits):
  d = estimate(pairs)
  return f"{d.mean:+.{digits}f} [{d.low:+.{digits}f}, {d.high:+.{digits}f}]"


def when_all_is_kept(arm):
  return [
    tables.last(run, "loss") - tables.last(CPU["dense"][seed], "loss")
    for seed, run in CPU[arm].items()
  ]


def test_random_budgets_on_text():
  assert {len(runs) for runs in CPU.values()} == {5}
  ours = gain(CPU, CPU["random, matched"])
  controller = gain(TEXT, TEXT["Strategy 1, averaged"])
  pairs = [ours[seed] - controller[seed] for seed in ours]
  assert f"({told_of(pairs, 3)} between the two gains)" in WORDS
  matched = told_of(when_all_is_kept("random, matched"), 4)
  assert f"cannot be told from the dense arm ({matched})" in WORDS
  spread = when_all_is_kept("random")
  told = f"dense arm when all is kept: {told_of(spread, 4)} nats"
  assert told in WORDS
  dropout = TEXT["dense, dropout 0.1"]
  gained = [
    tables.last(dropout[s], "loss") - tables.last(DENSE[s], "loss")
    for s in DENSE
  ]
  share = 100 * np.mean(spread) / np.mean(gained)
  assert f"That is about {share:.0f} % of dropout's gain" in WORDS
  readme = " ".join((ROOT / "README.md").read_text().split())
  assert f"{told_of(spread, 4)} nats" in readme


def test_calibrated_thresholds_on_text():
  calibrated = gain(CPU, tables.read("text_cpu")["dense_calibrated"])
  worse = told_of([*calibrated.values()], 3)
  assert f"are worse than top-k of the same network, by {worse}" in WORDS
  strategy = gain(TEXT, TEXT["Strategy 1, averaged"])
  ahead = told_of([strategy[s] - calibrated[s] for s in strategy], 3)
  assert f"Strategy 1 is ahead of them by {ahead}" in WORDS
