"""Pictures of sweeps, and what keeps labels and legends apart."""

import doctest
import itertools

import numpy as np
import optuna
import pytest
from etils import epath
from journals import ARITHMETIC, journal_of

from sparse_regimes.reports import figures, intervals, pictures, sweep_figures
from sparse_regimes.reports.words import names_of
from sparse_regimes.runs.trace import Trace
from sparse_regimes.studies.search_results import search_figure

RATIOS = np.geomspace(0.01, 1, 8)


def rows(scale=1.0, sites=2):
  return [
    {"keep_ratio": ratio, "accuracy": scale * (0.5 + 0.05 * ratio)}
    | {"loss": 2.0 - ratio, "nonzero": ratio}
    | {name: [ratio] * sites for name in sweep_figures.SITES.values()}
    for ratio in RATIOS
  ]


def box(figure, artist):
  return artist.get_window_extent(figure.canvas.get_renderer())


def assert_apart(figure, axis):
  """No label of an axis lies on its neighbour."""
  labels = [
    label
    for tick, label in zip(
      axis.get_majorticklocs(), axis.get_ticklabels(), strict=True
    )
    if label.get_text()
    and min(axis.get_view_interval()) <= tick <= max(axis.get_view_interval())
  ]
  assert len(labels) >= 2
  boxes = sorted((box(figure, label) for label in labels), key=lambda b: b.x0)
  for left, right in itertools.pairwise(boxes):
    assert left.x1 < right.x0


def test_wilsons_interval():
  assert doctest.testmod(intervals).failed == 0
  # Of 10 none: 0 to z^2 / (n + z^2).
  low, high = intervals.wilson(0.0, 10)
  assert low == pytest.approx(0, abs=1e-12)
  assert high == pytest.approx(1.96**2 / (10 + 1.96**2))
  low, high = intervals.wilson(0.3, 10_000)
  assert high - low == pytest.approx(
    2 * 1.96 * (0.21 / 10_000) ** 0.5, rel=0.01
  )


def test_the_axis_is_of_what_is_shown():
  figure = sweep_figures.budget_sweep({"a": rows()}, ["Accuracy"])
  low, high = figure.axes[0].get_ylim()
  assert 0.45 < low < 0.5
  assert 0.55 < high < 0.6


def test_chance_and_the_interval_are_of_the_accuracy_alone():
  figure = sweep_figures.budget_sweep(
    {"a": rows()}, chance={"accuracy": 0.1}, num_scored=100
  )
  accuracy, loss = figure.axes[:2]
  assert [text.get_text() for text in accuracy.texts] == ["chance"]
  assert accuracy.get_ylim()[0] < 0.1
  (band,) = accuracy.collections
  corners = band.get_paths()[0].vertices
  low, high = intervals.wilson(rows()[-1]["accuracy"], 100)
  assert corners[:, 1].max() == pytest.approx(high)
  assert low == pytest.approx(
    corners[corners[:, 0] == 1.0][:, 1].min(), rel=1e-6
  )
  assert not loss.texts
  assert not loss.collections


@pytest.mark.parametrize(
  "old",
  [
    {},
    {"chance": [1], "num_scored": "x"},
    {"chance": {"accuracy": "x"}, "num_scored": -1},
  ],
)
def test_a_sweep_of_an_older_version_has_neither(old):
  assert sweep_figures.known_of(old) == {"chance": {}, "num_scored": 0}


@pytest.mark.parametrize("lowest", [1e-4, 0.01, 0.1, 0.4, 0.9])
def test_labels_of_ratios_do_not_overprint(lowest):
  found = [
    row | {"keep_ratio": ratio}
    for row, ratio in zip(rows(), np.geomspace(lowest, 1, 8), strict=True)
  ]
  figure = sweep_figures.budget_sweep({"a": found})
  figure.canvas.draw()
  for ax in figure.axes[-2:]:
    assert_apart(figure, ax.xaxis)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 5, 9])
def test_a_legend_is_clear_of_the_curves(count):
  sweeps = {f"an_arm+with.a=longer_name_{i}": rows(i) for i in range(count)}
  drawn = [sweep_figures.budget_sweep(sweeps)]
  journal = journal_of(5)
  trace = Trace.of(journal, ARITHMETIC)
  for draw in (
    figures.curves,
    figures.both_splits,
    figures.generalisation_gap,
    lambda *run: figures.curves(*run, ["Keep ratio", "Accuracy"]),
  ):
    drawn.append(draw(journal.records, trace))
  for figure in drawn:
    figure.canvas.draw()
    (legend,) = figure.legends
    below = max(
      max(box(figure, ax.title).y1, box(figure, ax).y1) for ax in figure.axes
    )
    here = box(figure, legend)
    assert here.y0 > below
    assert 0 <= here.x0 < here.x1 <= figure.bbox.x1
    assert here.y1 <= figure.bbox.y1


def test_sites_have_their_names():
  figure = sweep_figures.sweep_sites(rows(), "Threshold", ["first", "second"])
  labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
  assert labels == ["first", "second"]
  # Of an older version, or another network: not names of others.
  figure = sweep_figures.sweep_sites(rows(), "Threshold", ["first"])
  labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
  assert "first" not in labels


def test_runs_are_called_by_what_tells_them_apart():
  for paths, names in (
    (["runs/x/dense/seed0", "runs/x/top/seed0"], ["dense", "top"]),
    (["runs/x/dense/seed0", "runs/x/dense/seed1"], ["seed0", "seed1"]),
    (["a/dense/seed0", "b/top/seed1"], ["a/dense/seed0", "b/top/seed1"]),
    (["runs/one"], ["one"]),
    (["runs/one", "runs/one"], ["one", "one"]),
  ):
    assert names_of([*map(epath.Path, paths)]) == names


FIELDS = {
  "model.dropout": optuna.distributions.FloatDistribution(0, 0.5),
  "optimizer.weight_decay": optuna.distributions.FloatDistribution(
    1e-5, 1e-2, log=True
  ),
  "optimizer.learning_rate": optuna.distributions.FloatDistribution(
    0.011, 0.014, log=True
  ),
  "controller.tighten_pct": optuna.distributions.FloatDistribution(
    0.02, 0.2, log=True
  ),
  "controller.decide_every": optuna.distributions.IntDistribution(
    1, 640, log=True
  ),
  "model.mask": optuna.distributions.CategoricalDistribution(
    ["topk", "threshold:channel", "statistical", "batch_topk"]
  ),
}


@pytest.mark.slow
def test_labels_of_a_search_do_not_overprint():
  study = optuna.create_study(direction="maximize")
  study.sampler = optuna.samplers.RandomSampler(seed=0)
  for i in range(12):
    study.tell(study.ask(FIELDS), 0.3 + 0.01 * i)
  names = sorted(FIELDS)
  figure = search_figure(study, study.trials, names, "accuracy")
  pictures.png(figure)
  figure.canvas.draw()
  by_name = {
    ax.get_xlabel().replace("\n", ""): ax for ax in figure.axes[: len(names)]
  }
  assert {*by_name} == {*FIELDS}
  for name, ax in by_name.items():
    if name == "model.mask":
      # Beside each other only when they are turned.
      assert {label.get_rotation() for label in ax.get_xticklabels()} == {30}
    else:
      assert_apart(figure, ax.xaxis)


def test_differences_of_nothing_look_like_it():
  rows = [
    {"keep_ratio": ratio, "loss": 1.8527 + tiny, "nonzero": ratio}
    for ratio, tiny in ((1.0, 0.0), (0.5, 0.0001), (0.2, -0.0001))
  ]
  ax, *_ = sweep_figures.budget_sweep({"run": rows}, ["Loss (nats)"]).axes
  low, high = ax.get_ylim()
  assert high - low > 0.08
  ax.figure.canvas.draw()
  assert ax.yaxis.get_offset_text().get_text() == ""
