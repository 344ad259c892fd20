"""The run page, and what it is made of."""

import dataclasses
import json

import pytest
from browser import needs_browser, screenshot
from etils import epath
from journals import ARITHMETIC, journal_of
from PIL import Image

from sparse_regimes.analysis.budget_sweep import SITES, TOTALS
from sparse_regimes.main import main
from sparse_regimes.reports.run_page import write_report
from sparse_regimes.runs import config as configs
from sparse_regimes.runs.cycles import Budget
from sparse_regimes.runs.journal import Journal, read_records
from sparse_regimes.runs.trace import Trace, read_trace
from sparse_regimes.runs.writers import write_records


def make_run(folder, num_epochs=5):
  """A folder as a run leaves it, without the training."""
  workdir = epath.Path(folder)
  workdir.mkdir(parents=True, exist_ok=True)
  config = configs.load("smoke", ["data.dir=<b>/a & b"])
  (workdir / "config.json").write_text(json.dumps(config.to_dict()))
  journal = journal_of(num_epochs)
  write_records(workdir, journal.records)
  Trace.of(journal, ARITHMETIC).write(workdir)
  (workdir / "environment.json").write_text(
    json.dumps({"command": "python -m <it>", "versions": {"jax": "1"}})
  )
  return workdir


def add_sweep(workdir):
  row = dict.fromkeys(TOTALS, 0.5) | {name: [0.5, 0.5] for name in SITES}
  rows = [row | {"keep_ratio": ratio} for ratio in (0.1, 1.0)]
  content = {"rows": rows, "checkpoint": "best", "epoch": 2}
  (workdir / "sweep.json").write_text(json.dumps(content))


@pytest.mark.slow
def test_everything_is_on_the_page_and_nothing_is_fetched(tmp_path):
  workdir = make_run(tmp_path / "run")
  add_sweep(workdir)
  page = write_report(workdir).read_text()
  for text in (
    "Result",
    "Cycles of the budget",
    "5 compressions and 4 resets",
    "the end",  # of the second collapse
    "The best checkpoint (epoch 2)",
    "controller.tighten_pct",
    "python -m &lt;it&gt;",
    "&lt;b&gt;/a &amp; b",
    "multiply-adds of a forward pass",
    "A mask alone saves no arithmetic",
  ):
    assert text in page, text
  for fetched in ("http:", "https:", "<script", "<link", "url("):
    assert fetched not in page
  assert page.count("data:image/png;base64,") == 16


@pytest.mark.slow
def test_total_time_and_a_divergence_are_told(tmp_path):
  workdir = make_run(tmp_path / "run")
  records = read_records(workdir / "metrics.jsonl")
  content = {"steps": records[-1]["step"], "seconds": 125.0}
  (workdir / "summary.json").write_text(json.dumps(content))
  page = write_report(workdir).read_text()
  assert "2 min 5 s" in page
  assert "diverged" not in page
  # Of another run's end, or of a number that is none, nothing is told.
  for other in ({"steps": 1}, {"seconds": 1e400}, {"seconds": "a"}):
    (workdir / "summary.json").write_text(json.dumps(content | other))
    assert "total time" not in write_report(workdir).read_text()
  unfinished = dict.fromkeys(records[-1]) | {"epoch": 6, "step": 99}
  write_records(workdir, [*records, unfinished])
  assert "diverged in epoch 6" in write_report(workdir).read_text()


@pytest.mark.slow
def test_a_long_run_stays_below_three_megabytes(tmp_path):
  workdir = make_run(tmp_path / "run", num_epochs=500)
  trace = read_trace(workdir)
  # As many moves as a random control makes, and as many sites as WRN-28-4 has.
  sites = {f"group1_block{i}_norm1": 10 for i in range(25)}
  for epoch in trace.epochs:
    for name in ("test_sparse_sites", "test_dense_sites"):
      epoch[name] = [0.4] * 25
  ratios = [0.1 + (i * 0.618) % 0.9 for i in range(195_000)]
  trace = dataclasses.replace(
    trace,
    site_multiply_adds=sites,
    budget=Budget([*range(1, 195_001)], ratios),
    steps=195_000,
  )
  trace.write(workdir)
  add_sweep(workdir)
  assert write_report(workdir).stat().length < 3_000_000
  assert "more, in trace.json" in (workdir / "report.html").read_text()


@pytest.mark.slow
def test_a_run_without_a_reset_or_a_sweep_says_so(tmp_path):
  workdir = make_run(tmp_path)
  trace = read_trace(workdir)
  trace = dataclasses.replace(trace, budget=Budget([1], [0.3]), collapses=[])
  trace.write(workdir)
  page = write_report(workdir).read_text()
  assert "The budget stayed at 0.3." in page
  assert "Not made yet:" in page
  assert "None." in page


EMPTY = json.dumps(dataclasses.asdict(Trace.of(Journal(), ARITHMETIC)))


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("config.json", None, "--workdir must hold a run"),
    ("config.json", "{", "config.json could not be read"),
    ("config.json", "[]", "must give a dict or a ConfigDict"),
    ("metrics.jsonl", None, "metrics.jsonl could not be read"),
    ("metrics.jsonl", '{"epoch": 1', "metrics.jsonl, line 1"),
    ("metrics.jsonl", "", "a run with a finished epoch"),
    ("trace.json", None, "trace.json could not be read"),
    ("trace.json", "{}", "trace.json must be a run's trace"),
    ("trace.json", EMPTY, "it must have a keep ratio and an epoch"),
    ("sweep.json", "[1]", "sweep.json could not be read"),
    ("environment.json", "[1]", "environment.json could not be read"),
  ],
)
def test_a_folder_that_is_no_run_is_a_line(
  tmp_path, capsys, name, content, message
):
  workdir = make_run(tmp_path / "run")
  if content is None:
    (workdir / name).unlink()
  else:
    (workdir / name).write_text(content)
  assert main(["--mode=report", f"--workdir={workdir}"]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert message in line
  assert not (workdir / "report.html").exists()


@pytest.mark.slow
def test_the_command_writes_the_page(tmp_path, capsys):
  workdir = make_run(tmp_path / "run")
  assert main(["--mode=report", f"--workdir={workdir}"]) == 0
  assert f"{workdir}/report.html" in capsys.readouterr().out
  assert main(["--mode=report"]) == 2


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(412, False), (1100, True)])
@pytest.mark.run
def test_a_browser_shows_it(tmp_path, width, dark):
  workdir = make_run(tmp_path / "run")
  add_sweep(workdir)
  picture = tmp_path / "page.png"
  page = write_report(workdir)
  screenshot(page, picture, width=width, height=6000, dark=dark)
  with Image.open(picture) as image:
    assert image.size == (width, 6000)
    grey = image.convert("L")
    # Text and figures fill the page; the right margin stays empty: nothing
    # sticks out.
    low, high = grey.crop((width - 8, 0, width, 6000)).getextrema()
    assert high < 50 if dark else low > 200
    assert (
      sum(grey.histogram()[128:] if dark else grey.histogram()[:128]) > 5000
    )
