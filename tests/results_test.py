"""Numbers in the pages of results are those of the files beside them."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from running import ROOT

from sparse_regimes.runs import config as configs
from sparse_regimes.studies import compare
from sparse_regimes.studies import flat_minima_tables as studies
from sparse_regimes.studies.cli import markdown
from sparse_regimes.studies.scores import Score
from sparse_regimes.studies.statistics import estimate, sign_flip_p

sys.path.insert(0, str(ROOT / "experiments"))

from tables import COLLAPSE_FILES
from tables import CPU_SCALE as CPU_SCALE_ARMS

RESULTS = Path(__file__).parent.parent / "experiments" / "results"
RESULTS_PAGE = (RESULTS.parents[1] / "docs" / "results.md").read_text()


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


CPU_SCALE = RESULTS / "cpu_scale"


def runs_of(folder):
  """Dense accuracy by arm and seed."""
  found = {}
  with open(folder / "runs.csv") as file:
    for row in csv.DictReader(file):
      accuracy = float(row["dense accuracy"])
      found.setdefault(row["arm"], {})[int(row["seed"])] = accuracy
  return found


def test_the_cpu_scale_table_follows_from_the_runs():
  page = (CPU_SCALE / "README.md").read_text()
  runs = runs_of(CPU_SCALE)
  dense = runs["cpu_dense"]
  assert set(dense) == {0, 1, 2, 3, 4}
  for arm, by_seed in runs.items():
    assert set(by_seed) == set(dense)
    (line,) = (s for s in page.splitlines() if s.startswith(f"| {arm} |"))
    got = estimate([*by_seed.values()])
    assert f"| {got.mean:.4f} ± {got.sd:.4f} [{got.low:.4f}, " in line
    if arm == "cpu_dense":
      continue
    differences = [by_seed[seed] - dense[seed] for seed in dense]
    got = estimate(differences)
    cell = f"{got.mean:.4f} ± {got.sd:.4f} [{got.low:.4f}, {got.high:.4f}]"
    assert cell in line
    assert f"| {sign_flip_p(differences):.4f} |" in line
    # What the text says of it.
    if arm in ("cpu_strategy1", "cpu_strategy2", "cpu_random"):
      assert f"{abs(got.mean):.4f}" in page.partition("| arm |")[0]


def test_every_cell_of_the_cpu_scale_table_follows_from_the_runs():
  values = {}
  measures = compare.measures_of(Score())
  with open(CPU_SCALE / "runs.csv") as file:
    for row in csv.DictReader(file):
      for name in measures:
        values.setdefault((row["arm"], name), []).append(float(row[name]))
  for page in ("README.md", "table.md"):
    text = (CPU_SCALE / page).read_text()
    header, _, *lines = [s for s in text.splitlines() if s.startswith("| ")]
    names = header.strip("| ").split(" | ")
    told = set()
    for line in lines[: len(runs_of(CPU_SCALE))]:
      arm, *cells = line.strip("|").split("|")
      for name, text in zip(names[1:], cells, strict=True):
        if name in measures:
          assert text.strip() == compare.cell(name, values[arm.strip(), name])
          told.add((arm.strip(), name))
    assert {arm for arm, _ in told} == {arm for arm, _ in values}
    # The rest of them is in table.csv.
    assert len(told) >= 3 * len(runs_of(CPU_SCALE))


def test_the_page_and_the_configs_tell_the_same():
  page = RESULTS_PAGE.partition("<!-- cpu_scale arms -->")[2]
  page = page.partition("<!-- end -->")[0]
  runs = runs_of(CPU_SCALE)
  shipped = configs.shipped_configs()
  for arm, label in CPU_SCALE_ARMS.items():
    got = estimate([*runs[arm].values()])
    (line,) = (s for s in page.splitlines() if s.startswith(f"| {label} |"))
    assert f"| {got.mean:.4f} ± {got.sd:.4f} |" in line
    assert f"Expected: {got.mean:.3f} dense" in shipped[arm].read_text()
    if arm != "cpu_dense":
      differences = [
        runs[arm][seed] - runs["cpu_dense"][seed] for seed in range(5)
      ]
      got = estimate(differences)
      told = f"{got.mean:+.4f} [{got.low:+.4f}, {got.high:+.4f}]"
      assert f"| {told} |" in line


def test_what_a_run_of_the_cpu_scale_study_costs():
  minutes = {}
  with open(CPU_SCALE / "runs.csv") as file:
    for row in csv.DictReader(file):
      minutes.setdefault(row["arm"], []).append(float(row["minutes"]))
  for arm, of_seeds in minutes.items():
    # Some shared their core with other work.
    assert 5 < np.median(of_seeds) < 9
    text = configs.shipped_configs()[arm].read_text()
    assert "Cost:     5 to 9 minutes" in text


def test_which_runs_of_the_cpu_scale_study_fell():
  fell, best, last = set(), {}, {}
  with open(CPU_SCALE / "epochs.csv") as file:
    for row in csv.DictReader(file):
      run = row["arm"], int(row["seed"])
      accuracy = float(row["train_accuracy"])
      best[run] = max(best.get(run, 0.0), accuracy)
      last[run] = float(row["test_dense_accuracy"])
      if best[run] - accuracy > 0.12:
        fell.add(run)
  for arm, by_seed in runs_of(CPU_SCALE).items():
    for seed, accuracy in by_seed.items():
      assert last[arm, seed] == pytest.approx(accuracy, abs=1e-4)
  # As the page tells it.
  assert fell == {("cpu_strategy1", 1)} | {
    ("cpu_strategy2", s) for s in (0, 1, 2, 3)
  }
  page = " ".join((CPU_SCALE / "README.md").read_text().split())
  assert (
    "`cpu_strategy1` stood more than 0.12 below its best on seed 1,"
    " `cpu_strategy2` on seeds 0 to 3; the other runs never did" in page
  )


def test_the_controls_of_the_cpu_scale_study():
  page = " ".join((CPU_SCALE / "README.md").read_text().split())
  runs = runs_of(CPU_SCALE)
  for arm, other in (
    ("cpu_matched", "cpu_dense"),
    ("cpu_matched", "cpu_strategy1"),
    ("cpu_tuned", "cpu_dense"),
  ):
    got = estimate([runs[arm][s] - runs[other][s] for s in range(5)])
    assert f"{got.mean:+.4f} [{got.low:.4f}, {got.high:.4f}]" in page
  with open(CPU_SCALE / "tuning" / "trials.csv") as file:
    best = max(
      (row for row in csv.DictReader(file) if row["state"] == "complete"),
      key=lambda row: float(row["accuracy"]),
    )
  config = configs.load("cpu_tuned")
  for field in ("model.dropout", "optimizer.weight_decay"):
    section, name = field.split(".")
    assert config[section][name] == pytest.approx(float(best[field]), rel=1e-3)


def test_the_cpu_scale_sweep():
  page = (CPU_SCALE / "README.md").read_text()
  accuracy = {}
  with open(CPU_SCALE / "sweep_seed0.csv") as file:
    for row in csv.DictReader(file):
      ratio = round(float(row["keep_ratio"]), 3)
      accuracy[row["arm"], ratio] = float(row["accuracy"])
  for ratio in (0.034, 0.113):
    for arm in ("cpu_random", "cpu_dense", "cpu_strategy1"):
      assert f"{accuracy[arm, ratio]:.4f}" in page
  for arm in ("cpu_random", "cpu_dense"):
    assert f"{accuracy[arm, 0.034]:.4f}" in RESULTS_PAGE
  price = accuracy["cpu_dense", 1.0] - accuracy["cpu_random", 1.0]
  assert f"The price is {price:.4f}" in page


def test_the_budgets_of_strategy1_are_those_of_the_matched_control():
  pooled = []
  with open(CPU_SCALE / "strategy1_budgets.csv") as file:
    rows = [*csv.DictReader(file)]
  for seed in range(5):
    moves = [row for row in rows if row["seed"] == str(seed)]
    first = [int(row["first_step"]) for row in moves]
    lasted = np.diff([*first, 20 * (4000 // 64) + 1])
    pooled += np.repeat(
      [float(r["keep_ratio"]) for r in moves], lasted
    ).tolist()
  page = (CPU_SCALE / "README.md").read_text()
  assert f"{100 * np.mean(np.array(pooled) > 0.4):.0f} % of the steps" in page
  config = configs.load("cpu_matched").controller
  expected = np.quantile(pooled, np.linspace(0, 1, len(config.quantiles)))
  assert config.quantiles == pytest.approx(expected, abs=6e-4)


def collapse_record(option, suffix):
  default = option.partition("=")[0].rpartition(".")[2]
  name = COLLAPSE_FILES.get(option, default)
  text = (RESULTS / "collapse" / (name + suffix)).read_text()
  if suffix == ".json":
    return json.loads(text)
  return {r["epoch"]: r for r in map(json.loads, text.splitlines())}


def test_what_the_pages_tell_of_the_collapse():
  released = collapse_record("", ".jsonl")
  dense, budget = (
    {epoch: r[f"test_{name}_accuracy"] for epoch, r in released.items()}
    for name in ("dense", "sparse")
  )
  best = max(dense.values())
  # Far worse without its mask from epoch 13 on, then the reset in epoch 19.
  assert max(b - dense[e] for e, b in budget.items() if e < 13) < 0.1
  assert min(budget[e] - dense[e] for e in range(13, 19)) > 0.1
  assert [e for e, r in released.items() if r["keep_ratio"] < 1][-1] == 18
  assert released[18]["keep_ratio"] == pytest.approx(0.060, abs=1e-3)
  assert round(budget[16], 2) == 0.49
  assert round(dense[16], 2) == 0.24
  assert round(released[18]["train_loss"], 1) == 1.2
  assert round(released[19]["train_loss"], 1) == 3.0
  assert max(dense[e] for e in range(19, 61)) < best
  steps = released[1]["step"]
  (started, ended), *others = collapse_record("", ".json")["collapses"]
  assert (started // steps + 1, ended, others) == (22, None, [])
  (_, recovered), *_ = collapse_record("optimizer.rollback=True", ".json")[
    "collapses"
  ]
  assert recovered // steps == 35
  clipped = collapse_record("optimizer.clip_norm=1.0", ".json")
  assert clipped["collapses"] == []
  assert f"{clipped['lowest_keep_ratio']:.3f}" == "0.054"
  floored = collapse_record("controller.keep_min=0.15", ".jsonl")
  assert (floored[12]["keep_ratio"], floored[13]["keep_ratio"]) == (
    pytest.approx(0.15),
    1,
  )
  assert [f"{floored[e]['train_loss']:.1f}" for e in (12, 13)] == ["1.3", "2.2"]
  returns = collapse_record("controller.best_decay=0.1", ".json")
  assert returns["resets"] == 2
  others = {
    path.stem: [json.loads(line) for line in path.read_text().splitlines()]
    for path in (RESULTS / "collapse" / "others").glob("*.jsonl")
  }
  broken_off = {name: len(records) for name, records in others.items()}
  assert broken_off["batch64_seed0"] == 45
  assert broken_off["batch64_seed1"] == 24
  assert broken_off["batch64_seed3407"] == 23
  lowest = others["batch128_seed1"][20]
  assert lowest["epoch"] == 21
  assert lowest["keep_ratio"] == pytest.approx(0.036, abs=5e-4)
  wrong = others["rollback_to_best_moment"]
  assert wrong[-1]["test_dense_accuracy"] == pytest.approx(0.318, abs=5e-4)
  assert f"{max(r['train_loss'] for r in wrong[18:]):.1f}" == "3.2"


def test_the_collapse_table_is_that_of_its_runs():
  with open(RESULTS / "collapse" / "runs.csv") as file:
    runs = {row["arm"].partition("+")[2]: row for row in csv.DictReader(file)}
  minutes = np.median([float(run["minutes"]) for run in runs.values()])
  cost = f"Cost:     some {round(minutes, -1):.0f} minutes"
  assert cost in configs.shipped_configs()["collapse"].read_text()
  for page in (
    RESULTS.parent.parent / "docs" / "collapse.md",
    RESULTS / "collapse" / "README.md",
  ):
    text = page.read_text()
    _, _, table = text.partition("| option | dense test accuracy at the end |")
    lines = table.partition("\n\n")[0].splitlines()[2:]
    told = {}
    for line in lines:
      option, *cells = line.strip("| ").split(" | ")
      told[option.split("`")[1] if "`" in option else ""] = cells
    assert set(told) == set(runs)
    for option, (last, best, collapses, resets, lowest) in told.items():
      run = runs[option]
      assert last == f"{float(run['dense accuracy']):.4f}"
      assert best == f"{float(run['best dense']):.4f}"
      assert collapses.partition(",")[0] == run["collapses"]
      ends = collapse_record(option, ".json")["collapses"]
      for_good = bool(ends) and ends[-1][1] is None
      assert collapses.endswith(", for good") == for_good
      assert resets == run["resets"]
      assert lowest == f"{float(run['lowest ratio']):.4f}"


FLAT_MINIMA = RESULTS / "flat_minima"


@pytest.mark.parametrize(
  "name", [path.stem for path in sorted(FLAT_MINIMA.glob("*.csv"))]
)
def test_every_cell_of_a_flat_minima_table(name, monkeypatch):
  """The table is that of the epochs in the file beside it."""
  measured = {label: {} for label in studies.STUDIES[name].arms}
  with open(FLAT_MINIMA / f"{name}.csv") as file:
    for row in csv.DictReader(file):
      arm, seed = row.pop("arm"), int(row.pop("seed"))
      epoch = int(row.pop("epoch"))
      values = {measure: float(value) for measure, value in row.items()}
      rows = measured[arm].setdefault(seed, [])
      rows.append(values | {"epoch": epoch})
  reads = {m: lambda row, m=m: row[m] for m in studies.MEASURES}
  monkeypatch.setattr(studies, "MEASURES", reads)
  header, cells = studies.table(studies.STUDIES[name], measured)
  page = (FLAT_MINIMA / f"{name}.md").read_text()
  assert markdown(header, cells) in page


def epochs_of(study):
  """The rows of every run, by arm and then by seed."""
  runs = {}
  with open(FLAT_MINIMA / f"{study}.csv") as file:
    for row in csv.DictReader(file):
      by_seed = runs.setdefault(row["arm"], {})
      by_seed.setdefault(int(row["seed"]), []).append(row)
  return runs


def values_of(runs, arm, measure, at=-1):
  return np.array([float(rows[at][measure]) for rows in runs[arm].values()])


def best_of(runs, arm):
  return np.array(
    [
      max(float(row["test accuracy"]) for row in rows[1:])
      for rows in runs[arm].values()
    ]
  )


def interval(differences, digits=4):
  got = estimate(differences)
  numbers = (f"{n:.{digits}f}" for n in (got.low, got.high))
  return f"{got.mean:+.{digits}f} [{', '.join(numbers)}]"


ALL_THREE = "jsrelu, bias, restricted"
FLAT_PAGE = " ".join((FLAT_MINIMA / "README.md").read_text().split())
FRONT_PAGE = " ".join(RESULTS_PAGE.split())


@pytest.mark.parametrize(
  ("study", "sparser", "more_accurate"),
  [("modules", 0, 3), ("mlp", 1, 3), ("longer", 1, 3)],
)
def test_what_the_page_tells_of_modules(study, sparser, more_accurate):
  runs = epochs_of(study)
  for name in ("active fraction", "test accuracy"):
    plain, every = (values_of(runs, a, name) for a in ("relu", ALL_THREE))
    assert interval(every - plain) in FLAT_PAGE
    assert study != "modules" or interval(every - plain) in FRONT_PAGE
    better = every < plain if name == "active fraction" else every > plain
    counted = sparser if name == "active fraction" else more_accurate
    assert better.sum() == counted
  for arm in ("relu", ALL_THREE):
    active = values_of(runs, arm, "active fraction").mean()
    assert f"{active:.4f}" in FLAT_PAGE


def test_what_the_page_tells_of_best_epochs_and_gradients():
  runs = epochs_of("modules")
  plain = best_of(runs, "relu")
  assert interval(best_of(runs, ALL_THREE) - plain) in FLAT_PAGE
  for arm in ("relu, restricted", "jsrelu"):
    assert f"{(best_of(runs, arm) - plain).mean():+.4f}" in FLAT_PAGE
  runs = epochs_of("mlp")
  name = "gradients above 1e-6"
  plain, other = (values_of(runs, a, name) for a in ("relu", "jsrelu"))
  assert interval(other - plain) in FLAT_PAGE
  assert (other < plain).all()
  # Sooner: all arms with it are ahead of all without after five epochs.
  early = {arm: values_of(runs, arm, "active fraction", 5) for arm in runs}
  with_it = [v.mean() for arm, v in early.items() if "jsrelu" in arm]
  without = [v.mean() for arm, v in early.items() if "jsrelu" not in arm]
  assert max(with_it) < min(without)


def test_what_the_page_tells_of_the_shifted_s():
  turns = []
  for by_seed in epochs_of("shifted").values():
    for rows in by_seed.values():
      outside = [float(row["outside the flat part"]) for row in rows]
      turns.append(int(np.argmin(outside)))
      told = (outside[0], min(outside), outside[-1])
      assert [f"{v:.2f}" for v in told] in (
        ["0.54", "0.53", "0.60"],
        ["0.54", "0.52", "0.60"],
      )
      assert min(float(row["active fraction"]) for row in rows) > 1 - 1e-5
  assert (min(turns), max(turns)) == (2, 4)


def test_what_the_page_tells_of_spectra_and_flatness():
  spectral = "spectral concentration"
  runs, longer = epochs_of("spectra"), epochs_of("longer")
  for arm in ("relu", ALL_THREE):
    start, end = (values_of(runs, arm, spectral, at) for at in (0, -1))
    last = values_of(longer, arm, spectral)
    assert (end > start).all()
    assert (last > start).all()
    for values in (start, end, last):
      assert f"{values.mean():.2f}" in FLAT_PAGE
  for study, rows in (("flatness", epochs_of("flatness")), ("longer", longer)):
    for name in ("flatness", "weight"):
      if (study, name) == ("longer", "weight"):
        continue
      full = f"log augmented {name}" if name == "flatness" else f"log {name}"
      full += " of sparsity" if name == "weight" else ""
      change = values_of(rows, "relu", full) - values_of(rows, "relu", full, 0)
      assert interval(change, 2) in FLAT_PAGE


def test_what_the_page_tells_of_regimes():
  runs = epochs_of("regimes")
  for arm in ("strategy 1", "random"):
    active, dense = (
      values_of(runs, a, "active fraction") for a in (arm, "dense")
    )
    assert (active < dense).all()
    assert interval(active - dense) in FLAT_PAGE
    assert arm == "random" or interval(active - dense) in FRONT_PAGE
    flat, others = (
      values_of(runs, a, "augmented flatness") for a in (arm, "dense")
    )
    assert (flat < others).sum() == 2
    below = [
      sum(
        float(r["keep ratio"]) < float(r["active fraction"]) for r in rows[1:]
      )
      for rows in runs[arm].values()
    ]
    assert "{}, {} and {}".format(*below) in FLAT_PAGE
  strategy = runs["strategy 1"]
  lowest = min(
    float(r["keep ratio"]) for rows in strategy.values() for r in rows
  )
  assert f"down to {lowest:.4f} of" in FLAT_PAGE
  accuracies = [f"{float(r['test accuracy']):.4f}" for r in strategy[1][16:18]]
  assert accuracies == ["0.1700", "0.4220"]
  assert "falls to 0.1700, and" in FLAT_PAGE
  # All that no interval tells from none, but one.
  told = {
    name: estimate(values_of(runs, arm, name) - values_of(runs, "dense", name))
    for arm in ("strategy 1", "random")
    for name in ("sharpness", "trace of the Hessian", "lost to FGSM")
  }
  assert all(found.low < 0 < found.high for found in told.values())
  wider = values_of(runs, "random", "spectral concentration")
  wider -= values_of(runs, "dense", "spectral concentration")
  assert interval(wider) in FLAT_PAGE


@pytest.mark.parametrize(
  ("config", "study", "arm"),
  [
    ("cpu_vit", "regimes", "dense"),
    ("cpu_vit_strategy1", "regimes", "strategy 1"),
    ("cpu_vit_sparse_finetune", "finetune", "fine-tuned"),
    ("cpu_mlp", "mlp", "relu"),
    ("cpu_mlp_shifted", "shifted", "dx +1.6, dy +1.6"),
  ],
)
def test_what_a_flat_minima_config_expects(config, study, arm):
  found = estimate(values_of(epochs_of(study), arm, "test accuracy"))
  path = RESULTS.parent.parent / "configs" / f"{config}.py"
  text = path.read_text()
  assert f"Expected: {found.mean:.4f} ± {found.sd:.4f} " in text


def test_what_the_page_tells_of_finetuning():
  runs = epochs_of("finetune")
  for name in ("active fraction", "test accuracy"):
    plain, tuned = (
      values_of(runs, arm, name) for arm in ("trained on", "fine-tuned")
    )
    assert interval(tuned - plain) in FLAT_PAGE
    assert f"{tuned.mean():.4f}" in FLAT_PAGE
    assert f"{plain.mean():.4f}" in FLAT_PAGE
    assert (tuned < plain).sum() == (2 if name == "active fraction" else 0)


def test_the_language_table_follows_from_the_runs():
  import language_table

  page = (RESULTS.parents[1] / "docs" / "language.md").read_text()
  assert language_table.table() in page
  dense = json.loads(
    (RESULTS / "language" / "lm_dense-summary.json").read_text()
  )
  # nanoGPT's, of as many steps of the same sizes.
  assert dense["final_test_dense_loss"] <= 1.88
  assert (dense["steps"], dense["collapses"]) == (2000, [])


def test_what_players_return_at_their_budgets():
  page = (RESULTS.parents[1] / "docs" / "reinforcement.md").read_text()
  folder = RESULTS / "reinforcement"
  dense, regimes = (
    json.loads((folder / f"ppo_cartpole_{arm}-sweep.json").read_text())["rows"]
    for arm in ("dense", "strategy1")
  )
  for one, other in zip(dense, regimes, strict=True):
    ratio, *returns = (one["keep_ratio"], one["return"], other["return"])
    cells = " | ".join(f"{r:.1f}" for r in returns)
    assert f"| {round(ratio, 3):g} | {cells} |" in page
  assert dense[0]["return"] == regimes[0]["return"] == 500
  for arm in ("dense", "strategy1"):
    lines = (folder / f"ppo_cartpole_{arm}-metrics.jsonl").read_text()
    records = [json.loads(line) for line in lines.splitlines()]
    first = next(r for r in records if r["test_dense_return"] == 500)
    # 51 rollouts an epoch, of 4 environments for 128 steps.
    assert f"{first['epoch'] * 51 * 4 * 128:,}" in page
  breakout = json.loads(
    (folder / "ppo_breakout_dense-summary.json").read_text()
  )
  assert f"return of {breakout['final_test_dense_return']:.1f}" in page
