"""What the records of the study of regimes are, and what is said in words."""

import json
import sys

import numpy as np
from running import ROOT

sys.path.insert(0, str(ROOT / "experiments"))

import regimes_table as tables

WORDS = " ".join((ROOT / "docs" / "results.md").read_text().split())
ARMS = {task: tables.arms_of(task) for task in tables.TASKS}


def test_every_arm_has_five_seeds():
  for arms in ARMS.values():
    assert {*arms["dense"]} == set(range(5))
    assert {len(runs) for runs in arms.values()} == {5}


def test_no_step_was_skipped():
  for arms in ARMS.values():
    assert not any(
      r["skipped"] for runs in arms.values() for r in runs.values()
    )


def test_dropout_is_the_best_on_images_over_budgets():
  means = {
    arm: np.mean([tables.over_budgets(r, "accuracy") for r in runs.values()])
    for arm, runs in ARMS["image"].items()
  }
  first, second, *_ = sorted(means, key=lambda arm: means[arm], reverse=True)
  assert (first, second) == ("dense, dropout 0.3", "random, matched")


def test_which_arms_gain_on_images_over_budgets():
  arms = ARMS["image"]
  gained = {
    arm
    for arm, runs in arms.items()
    if arm != "dense"
    and tables.difference(
      runs, arms["dense"], lambda run: tables.over_budgets(run, "accuracy")
    )[0].low
    > 0.0005
  }
  assert {*arms} - gained == {"dense", "constant 0.5", "`gentle`"}
  assert "every regime but `gentle` and the constant ratio of 0.5" in WORDS


def test_how_often_the_budget_was_reset_on_images():
  def resets(arm):
    return [run["resets"] for run in ARMS["image"][arm].values()]

  released, averaged = resets("Strategy 1"), resets("Strategy 1, averaged")
  assert f"here: {min(released)} to {max(released)}, the" in WORDS
  assert f"averaged one {min(averaged)} or {max(averaged)}." in WORDS


def test_what_the_protocol_s_rule_chooses():
  assert tables.chosen(tables.read("text"), "text", "constant") == (
    "constant_0.5"
  )
  image = tables.chosen(tables.read("image"), "image", "constant")
  assert image == "constant_0.25"


def test_the_budgets_of_a_seed_are_its_own():
  content = json.loads((tables.RESULTS / "cartpole.json").read_text())
  lowest = {r["lowest_keep_ratio"] for r in content["arms"]["random"]}
  assert len(lowest) == 10


def test_returns_at_a_quarter():
  rows = tables.cartpole_table().splitlines()
  told = {row.split("|")[1].strip(): row.split("|") for row in rows[2:]}
  random, dense = told["random"], told["dense"]
  assert f"keep a return of {random[4].strip()} of 500 with" in WORDS
  assert f"the dense networks fall to {dense[4].strip()} there" in WORDS
  readme = (ROOT / "README.md").read_text()
  assert f"(dense arm: {dense[4].strip()})" in readme
  cells = ", ".join(told[arm][6].strip() for arm in ("Strategy 1", "random"))
  assert f"| {cells} | 10 |" in readme
