"""The page of a comparison: what is on it, and what a browser makes of it."""

import csv
import json
import re

import pytest
from browser import needs_browser, screenshot
from compare_test import summary
from PIL import Image

from sparse_regimes.studies import arms as arms_and_seeds
from sparse_regimes.studies import compare
from sparse_regimes.studies.measures import MOST_COLUMNS

RATIOS = (0.01, 0.02, 0.1, 0.5, 1.0)
ARMS = (
  "smoke",
  "smoke+controller.name=random_ratio",
  "smoke+optimizer.nesterov=True",
)
SEEDS = (0, 1, 2)


def make_study(folder, *, swept=True, arms=ARMS):
  """Runs as they are left, without the training; the first arm is the worst."""
  runs = arms_and_seeds.make_runs(arms, SEEDS, folder, [])
  for run in runs:
    run.workdir.mkdir(parents=True)
    place = arms.index(run.arm)
    accuracy = 0.5 + 0.05 * place + 0.01 * run.seed * (1 + place)
    content = summary(accuracy, run.seed)
    (run.workdir / "summary.json").write_text(json.dumps(content))
    if swept:
      rows = [
        {"keep_ratio": ratio, "accuracy": accuracy * ratio**0.1}
        | {"loss": 1.0, "nonzero": ratio, "site_nonzero": [ratio]}
        for ratio in RATIOS
      ]
      content = {"rows": rows, "checkpoint": "last", "epoch": 3}
      content["chance"] = {"accuracy": 0.1}
      (run.workdir / "sweep.json").write_text(json.dumps(content))
  return runs


def written(folder, runs, baseline="smoke"):
  command = "python -m it --out=<here>" + 20 * " --config.some.field=1"
  compare.write_all(folder, runs, baseline, command)
  return (folder / "compare.html").read_text()


def headings(page):
  return re.findall(r"<a href=\"#s\d\">([^<]*)</a>", page)


def test_the_answer_is_first_and_the_runs_are_last(tmp_path):
  page = written(tmp_path, make_study(tmp_path))
  assert headings(page) == [
    "Difference to smoke",
    "Accuracy over budgets",
    "Table",
    "Runs",
  ]
  assert page.count("better →") == 2
  # Two forests: dense, and the mean over budgets. Of two arms each.
  assert page.count('class="mean"') == 4
  assert 'class="chance"' in page
  assert "python -m it --out=&lt;here&gt;" in page
  # What is not asked for is folded.
  assert page.count("<details>") == 3
  assert page.index("More columns") > page.index('<table class="arms">')


def test_the_table_has_at_most_eight_columns(tmp_path):
  page = written(tmp_path, make_study(tmp_path))
  for table in page.split("<thead>")[1:]:
    assert table.partition("</thead>")[0].count("<th>") <= MOST_COLUMNS
  header = (tmp_path / "table.md").read_text().splitlines()[2]
  names = header.strip("| ").split(" | ")
  assert names == [
    *("arm", "seeds", "dense accuracy", "minus smoke", "p"),
    *("at the last budget", "mean over budgets", "gap"),
  ]
  # The rest is in the files.
  with open(tmp_path / "table.csv") as file:
    rows = [*csv.DictReader(file)]
  told = {row["measure"] for row in rows}
  assert {"resets", "images/s", "minutes", "zeros read, dense"} <= told
  (mean,) = (
    float(row["mean"])
    for row in rows
    if (row["arm"], row["measure"]) == ("smoke", "mean over budgets")
  )
  with open(tmp_path / "runs.csv") as file:
    each = [
      float(row["mean over budgets"])
      for row in csv.DictReader(file)
      if row["arm"] == "smoke"
    ]
  assert mean == pytest.approx(sum(each) / 3)
  assert any(
    row["measure"] == "mean over budgets minus smoke" and row["n"] == "3"
    for row in rows
  )


def test_without_sweeps_a_line_says_how_to_get_them(tmp_path):
  page = written(tmp_path, make_study(tmp_path, swept=False))
  assert "--checkpoint=last --keep_ratios=0.02:1:12; done" in page
  assert f"for run in &#34;{tmp_path}&#34;/*/seed*/" in page
  assert 'class="area"' not in page
  assert (
    "mean over budgets"
    not in (tmp_path / "table.md").read_text().split("\n\n")[1]
  )


def test_an_arm_swept_in_part_has_no_mean(tmp_path):
  runs = make_study(tmp_path)
  (runs[-1].workdir / "sweep.json").unlink()
  page = written(tmp_path, runs)
  assert "last checkpoint of 8 of 9 runs" in page
  rows = (tmp_path / "table.md").read_text().splitlines()[4:7]
  assert [row.split("|")[7].strip() != "" for row in rows] == [
    True,
    True,
    False,
  ]


def test_one_arm_has_no_differences(tmp_path):
  page = written(tmp_path, make_study(tmp_path, arms=ARMS[:1]))
  assert headings(page) == ["Accuracy over budgets", "Table", "Runs"]


# Whatever is wider than its room turns the page red.
WATCH = """<script>
for (const fold of document.querySelectorAll("details")) fold.open = true;
const wide = [...document.querySelectorAll("body, body *")].filter(
  e => !e.closest("svg") && e.scrollWidth > e.clientWidth + 1
    && e.clientWidth > 0 && getComputedStyle(e).display !== "inline");
if (document.documentElement.scrollWidth > innerWidth || wide.length)
  document.body.innerHTML =
    "<div style='position:fixed;inset:0;background:red'></div>";
</script>"""


@needs_browser
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.run
def test_a_browser_shows_all_of_it(tmp_path, width, dark):
  page = written(tmp_path, make_study(tmp_path))
  watched = tmp_path / "watched.html"
  watched.write_text(page.replace("</body>", f"{WATCH}</body>"))
  picture = tmp_path / "page.png"
  screenshot(watched, picture, width=width, height=4000, dark=dark)
  with Image.open(picture) as image:
    assert image.size == (width, 4000)
    colours = image.convert("RGB")
    assert colours.getpixel((2, 2)) != (255, 0, 0)
    grey = colours.convert("L")
    low, high = grey.crop((width - 8, 0, width, 4000)).getextrema()
    assert high < 50 if dark else low > 200
    # Letters and lines stand out from the paper.
    counts = grey.histogram()
    assert sum(counts[150:] if dark else counts[:110]) > 5000


@needs_browser
@pytest.mark.run
def test_the_watch_sees_what_sticks_out(tmp_path):
  page = written(tmp_path, make_study(tmp_path))
  wide = "<p style='white-space: nowrap'>" + 99 * "too wide " + "</p>"
  watched = tmp_path / "watched.html"
  watched.write_text(page.replace("</body>", f"{wide}{WATCH}</body>"))
  picture = tmp_path / "page.png"
  screenshot(watched, picture, width=360, height=800)
  with Image.open(picture) as image:
    assert image.convert("RGB").getpixel((2, 2)) == (255, 0, 0)
