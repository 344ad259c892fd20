"""Each number with a decimal point in the words of two pages has its record.

Tables that are generated are compared in ``tables_test.py``. What is left must
be made up of ``FACTS``, computed here, and of ``SETTINGS``, which are no
results; so a number that is changed, or added, is found.
"""

import json
import re
import sys

import numpy as np
import pytest
from running import ROOT

from sparse_regimes.studies.statistics import estimate

sys.path.insert(0, str(ROOT / "experiments"))

import methods_table
import regimes_table as tables

RESULTS = ROOT / "experiments" / "results"
TEXT, CPU, IMAGE, MOVED = (
  tables.arms_of(task)
  for task in ("text", "text_cpu", "image", "image_augmented")
)
DROPOUT = "dense, dropout 0.1"
AVERAGED, MATCHED = "Strategy 1, averaged", "random, matched"


def words(page):
  """Without generated tables, code, links' targets and papers' numbers."""
  text = re.sub(r"<!-- \w+ \w+ -->.*?<!-- end -->", "", page, flags=re.DOTALL)
  text = re.sub(r"```.*?```|`[^`]*`|<img[^>]*>", "", text, flags=re.DOTALL)
  text = re.sub(r"\]\([^)]*\)", "]", text)
  return " ".join(re.sub(r"\d{4}\.\d{5}", "", text).split())


def load(path):
  return json.loads((RESULTS / path).read_text())


def at(run, ratio, score="loss"):
  (row,) = (row for row in run["sweep"] if row["keep_ratio"] == ratio)
  return row[score]


def mean(values, digits):
  return f"{np.mean([*values]):.{digits}f}"


def told(runs, others, value, digits=4, sign="+"):
  """Paired by seed."""
  found, _ = tables.difference(runs, others, value)
  return tables.told(found, digits, sign)


def by(name, score):
  """What is compared: ``last``, ``at_best`` or ``over_budgets``."""
  return lambda run: getattr(tables, name)(run, score)


def arm(arms, name, kind, digits=4):
  """An arm minus the dense one."""
  score = "loss" if arms in (TEXT, CPU) else "accuracy"
  return told(arms[name], arms["dense"], by(kind, score), digits)


def gap(sign):
  """Of test over training, after the last epoch."""
  return lambda run: (
    sign * (run["epochs"][-1]["test"] - run["epochs"][-1]["train"])
  )


def over(arms, name, other, digits=4, sign="+"):
  score = "loss" if arms in (TEXT, CPU) else "accuracy"
  return told(arms[name], arms[other], by("over_budgets", score), digits, sign)


def control(name):
  runs = tables.read("text")
  return {seed: runs[name][seed] for seed in tables.CONTROL_SEEDS}


def returns(name, other, place, digits=0):
  arms = load("regimes/cartpole.json")["arms"]
  pairs = [
    run["at_ratios"][place] - dense["at_ratios"][place]
    for run, dense in zip(arms[name], arms[other], strict=True)
  ]
  return tables.told(estimate(pairs), digits)


def flat(text):
  """What the page of those studies says, which has tests of its own."""
  page = (RESULTS / "flat_minima" / "README.md").read_text()
  assert text in " ".join(page.split()), text
  return text


def about_text():
  dense, averaged = TEXT["dense"], TEXT[AVERAGED]
  dropout = TEXT[DROPOUT]
  pairs = {
    name: estimate(
      [at(TEXT[name][s], 0.125) - at(dense[s], 1.0) for s in dense]
    )
    for name in TEXT
  }
  worse = sorted(
    at(TEXT["Strategy 1"][s], 1.0) - at(dense[s], 1.0) for s in dense
  )
  rises = [
    run["epochs"][-1]["test"] - tables.at_best(run, "loss")
    for run in control(tables.DENSE).values()
  ]
  trained = [r["epochs"][-1]["train"] for r in control(tables.DENSE).values()]
  tested = [tables.last(r, "loss") for r in control(tables.DENSE).values()]
  lost = [
    run["epochs"][-1]["test"] - tables.at_best(run, "loss")
    for run in dense.values()
  ]
  gains = [
    np.mean([at(dropout[s], r) - at(averaged[s], r) for s in dense])
    for r in (1.0, 0.02)
  ]
  best_of_control = told(
    *(control("dropout_0.1"), control(tables.DENSE)), by("at_best", "loss")
  )
  return [
    f"training text {mean(trained, 2)} nats, held-out text {mean(tested, 2)}",
    f"by {min(rises):.3f} to {max(rises):.3f} nats",
    f"gain on these seeds is {best_of_control}",
    f"are {worse[-2]:.2f} and {worse[-1]:.2f} nats worse",
    f"is at {mean((at(r, 0.125) for r in averaged.values()), 3)} nats at a",
    f"activations ({tables.told(pairs[AVERAGED], 3)}), and at"
    f" {mean((at(r, 0.02) for r in averaged.values()), 3)} at 0.02",
    f"is {-gains[0]:.2f} nats behind there and {gains[1]:.2f} ahead at 0.02",
    f"best dense one loses {mean(lost, 3)} nats less than the last",
    f"best epochs is {arm(TEXT, DROPOUT, 'at_best')} on these",
  ]


def about_images():
  cut = told(
    *(IMAGE[MATCHED], IMAGE["dense, dropout 0.3"]),
    *(lambda run: at(run, 0.02, "accuracy"), 4, ""),
  )
  calibrated = {**IMAGE, "calibrated": tables.read("image")["dense_calibrated"]}
  best = arm(IMAGE, "dense, dropout 0.3", "at_best")
  moved = [run["epochs"][-1]["train"] for run in MOVED["dense"].values()]
  most = max(
    np.mean([tables.over_budgets(r, "accuracy") for r in runs.values()])
    for runs in MOVED.values()
  ) - np.mean(
    [tables.over_budgets(r, "accuracy") for r in MOVED["dense"].values()]
  )
  lowest = min(r["lowest_keep_ratio"] for r in MOVED["`gentle`"].values())
  return [
    f"dropout cannot either ({best})",
    f"(the latter {over(IMAGE, 'constant 0.1', AVERAGED)} above",
    f"rule chooses ({over(IMAGE, 'constant 0.25', AVERAGED)})",
    f"better than the averaged arm: {over(IMAGE, MATCHED, AVERAGED)}; and",
    f"Strategy 1 as released: {over(IMAGE, MATCHED, 'Strategy 1')}",
    f"are the best of all, {cut} above",
    "over budgets, by"
    f" {over(IMAGE, 'dense, dropout 0.3', MATCHED, 4, '')} or more",
    f"at the same share: {over(calibrated, AVERAGED, 'calibrated')}",
    f"is, too: {over(calibrated, 'Strategy 1', 'calibrated')}",
    f"on training images is {mean(moved, 2)}",
    f"No arm gains more than {most:.3f} over budgets",
    f"never falls below {lowest:.2f}",
  ]


def about_claims():
  gaps = [
    told(arms[AVERAGED], arms["dense"], gap(sign))
    for arms, sign in ((TEXT, 1), (IMAGE, -1))
  ]
  return [
    f"text {arm(TEXT, AVERAGED, 'last')} nats, images"
    f" {arm(IMAGE, AVERAGED, 'last')} (Strategy 1, averaged)",
    f"worse on text, by {arm(TEXT, 'Strategy 2 (ours)', 'last')}",
    f"test loss {gaps[0]} nats; gap in accuracy {gaps[1]}",
    f"over budgets {arm(TEXT, AVERAGED, 'over_budgets', 3)} nats,"
    f" {arm(IMAGE, AVERAGED, 'over_budgets', 3)};"
    f" return at a quarter {returns('strategy1', 'dense', 2)}",
    f"in random order: {over(CPU, AVERAGED, MATCHED, 3)} nats,"
    f" {over(IMAGE, AVERAGED, MATCHED)} accuracy",
    f"{arm(MOVED, AVERAGED, 'last')} of accuracy",
    *map(
      flat,
      (
        "+0.0168 [0.0086, 0.0250]",
        "-0.0007 [-0.0172, 0.0159]",
        "-0.0239 [-0.0428, -0.0049]",
        "+0.75 [0.32, 1.18]",
        "+0.0007 [-0.0140, 0.0154]",
        "+0.0093 [0.0017, 0.0169]",
        "+0.0295 [0.0164, 0.0426]",
        "-0.0205 [-0.0536, 0.0127]",
      ),
    ),
    flat("from 0.54 to 0.53")[5:9] + " at first",
    flat("rises to 0.60")[9:] + " at the end",
    flat("a factor of 4.03") + " at first",
    flat("to 4.57")[3:] + " at the end",
  ]


def about_cartpole():
  arms = load("regimes/cartpole.json")["arms"]
  fewer = np.mean([r["at_ratios"][0] for r in arms["dense"]]) - np.mean(
    [r["at_ratios"][0] for r in arms["random"]]
  )
  price = returns("random", "dense", 0)
  return [f"return {fewer:.0f} less, which cannot be told from 0 ({price})"]


def about_others():
  runs = load("methods/runs.json")
  baseline = runs[methods_table.BASELINE]

  def to_topk(name):
    other = runs[name]
    return np.mean(
      [other[s]["at_share"] - baseline[s]["at_share"] for s in other]
    )

  alike = [
    to_topk(f"lm_constant+model.mask={m}") for m in ("nm:4", "threshold")
  ]
  near = max(abs(x) for x in alike)
  statistical = to_topk("lm_constant+model.mask=statistical")
  straight = to_topk("lm_constant+model.gradient=straight_through")
  losses = {
    name: load(f"language/lm_{name}-sweep.json")["rows"][0]["loss"]
    for name in ("dense", "strategy1", "random")
  }
  clipped, dense = (
    load(f"collapse/{name}.json")["final_test_dense_accuracy"]
    for name in ("clip_norm", "dense")
  )
  other = load("quickstart/summary-another_processor.json")
  accuracies = (RESULTS / "cpu_scale" / "README.md").read_text()
  for number in ("0.3185", "0.1515", "-0.0185", "0.0351", "0.0721"):
    assert number in accuracies
  return [
    f"which matters by {to_topk('lm_dense'):.2f} nats",
    f"within {np.ceil(1000 * near) / 1000:.3f} of each other",
    f"gradient are {statistical:.2f} and {straight:.2f} worse",
    f"small sizes reaches {losses['dense']:.3f} nats",
    f"all is kept ({losses['strategy1']:.3f}), and random budgets cost little"
    f" ({losses['random']:.3f})",
    f"ends at an accuracy of {clipped:.4f}; the dense one ends at {dense:.4f}",
    f"ended at {other['final_test_dense_accuracy']:.4f}",
    "accuracy is 0.3185, and that of the dense one 0.1515",
    "seen: -0.0185 [-0.0721, 0.0351] over",
    *about_thresholds(),
  ]


def about_thresholds():
  rows = {}
  for name in ("lm_dense", "lm_random"):
    lines = (RESULTS / "calibrate" / f"{name}.md").read_text().splitlines()
    for line in lines[2:]:
      sparsity, *cells = map(float, line.strip("| ").split(" | "))
      rows[name, sparsity] = cells
  first = rows["lm_dense", 0.0][0]
  half, much = (rows["lm_dense", x][0] - first for x in (0.5, 0.8))
  assert all(
    rows["lm_random", x][0] <= rows["lm_random", 0.0][0] + 1e-4
    for x in (0.5, 0.8, 0.9)
  )
  better = max(
    uniform - greedy
    for (name, sparsity), (uniform, greedy, *_) in rows.items()
    if name == "lm_dense" and sparsity <= 0.7
  )
  assert rows["lm_dense", 0.9][1] > rows["lm_dense", 0.9][0]
  return [
    f"trained dense loses {half:.2f} nats at a sparsity of a half and"
    f" {much:.1f} at 0.8; the one trained under random budgets loses nothing"
    " up to 0.9",
    f"lose up to {better:.2f} nats less than the same sparsity everywhere, up"
    " to a sparsity of 0.7, and more at 0.9",
  ]


def about_float32():
  calibrated = tables.read("text_cpu")["dense_calibrated"]
  nats = by("over_budgets", "loss")
  trial = load("regimes/text_cpu/trial/gentle.json")["runs"]
  (floor,) = {run["lowest_keep_ratio"] for run in trial}
  assert [run["budget_quantiles"][10] for run in trial] == [floor] * 3
  return [
    f"by {arm(CPU, AVERAGED, 'over_budgets', 3)} nats over budgets",
    f"at best epochs, too: {arm(CPU, DROPOUT, 'at_best')}",
    f"is ahead of it by {over(CPU, AVERAGED, DROPOUT, 3)}",
    f"its budget fell to its floor of {floor} at once",
    f"({over(CPU, MATCHED, AVERAGED, 3)} beside it)",
    "kept they cannot be told from the dense arm"
    f" ({arm(CPU, MATCHED, 'last')})",
    f"when all is kept: {arm(CPU, 'random', 'last')} nats, in",
    f"best epochs it is {arm(CPU, 'random', 'at_best')}",
    f"same network, by {told(calibrated, CPU['dense'], nats, 3)} nats over",
    f"ahead of them by {told(CPU[AVERAGED], calibrated, nats, 3)}",
  ]


def about_front_page():
  low = [
    mean((at(r, 0.02) for r in CPU[n].values()), 2) for n in (AVERAGED, "dense")
  ]
  dense, batches, random = (
    load(f"language/lm_{name}-sweep.json")["rows"][0]["loss"]
    for name in ("dense", "strategy1", "random")
  )
  return [
    f"has a loss of {low[0]} nats per character",
    f"that is without a mask, {low[1]}.",
    f"costs {batches - dense:.2f} nats when all is kept; random budgets cost"
    f" {random - dense:.2f}.",
    f"from 0.02 to 1 | {arm(CPU, AVERAGED, 'over_budgets', 3)} |",
    f"it overfits | {arm(IMAGE, AVERAGED, 'over_budgets', 3)} |",
    f"ratio of 0.25 gains as much, and dropout more |"
    f" {arm(IMAGE, 'constant 0.25', 'over_budgets', 3)},"
    f" {arm(IMAGE, 'dense, dropout 0.3', 'over_budgets', 3)} |",
    f"text {over(CPU, AVERAGED, MATCHED, 3)} nats, images"
    f" {over(IMAGE, AVERAGED, MATCHED)} accuracy",
    f"not seen: {arm(CPU, AVERAGED, 'last')} nats,"
    f" {arm(IMAGE, AVERAGED, 'last')} accuracy",
    f"{arm(CPU, DROPOUT, 'last')} nats after the last epoch,"
    f" {arm(CPU, DROPOUT, 'at_best')} at best epochs",
    f"from 0.1 to 1 are, on text | {arm(CPU, 'random', 'last')} after the last"
    f" epoch, {arm(CPU, 'random', 'at_best')} at best epochs",
    flat("+0.0168 [0.0086, 0.0250]"),
  ]


FACTS = {
  "docs/results.md": [
    *(
      about_claims,
      about_text,
      about_float32,
      about_images,
      about_cartpole,
      about_others,
    ),
  ],
  "README.md": [about_front_page],
}
# Of the setting, of the papers, or of a page with tests of its own.
SETTINGS = {
  "docs/results.md": [
    "cannot go below 0.06 with five seeds",
    "a transformer of 0.8 million parameters",
    "a residual MLP of 0.2 million",
    "a ViT of 0.2 million parameters and a residual MLP of 1.1 million",
    "(0.8797 to 0.869, one run each)",
    "dense 0.869, Strategy 1 0.8797, Strategy 2 0.8802",
    "goes from 1 to 0.1 and back",
    "from 0.1 to 1",
    "does by 1.8 % every 128",
    "a tolerance of 0.1 nats and a weight of 0.9",
    "had asked for 0.02 in all",
    "a keep ratio of 0.02 to 1",
    "keep ratio of 0.125",
    "ratio of 0.1 or 0.25 gains",
    "chooses 0.5",
    "accuracies, 0.01, which",
    "Below 0.1, where",
    "with a tolerance of 0.1 nats was tried",
    "constant ratio of 0.5",
    "constant ratio of 0.1",
    "or 0.25, which",
    "At a ratio of 0.02",
    "keep ratio of 0.034",
    "nanoGPT reports 1.88",
    "(here about 0.4)",
    "measured step of 6.5 ms",
  ],
  "README.md": ["Python 3.11", "Apache-2.0", "JAX below 0.12"],
}


@pytest.mark.parametrize("page", FACTS)
def test_each_number_has_its_record(page):
  text = words((ROOT / page).read_text())
  facts = [fact for about in FACTS[page] for fact in about()]
  for fact in facts:
    assert fact in text, fact
  for phrase in sorted([*facts, *SETTINGS[page]], key=len, reverse=True):
    text = text.replace(phrase, "")
  left = [text[max(0, m.start() - 40) : m.end()] for m in NUMBER.finditer(text)]
  assert not left


NUMBER = re.compile(r"\d\.\d+")
