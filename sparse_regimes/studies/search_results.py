"""What a search of ``sweep.py`` has found: its table, figure, page and best."""

from collections.abc import Sequence
from pathlib import Path

import optuna
from etils import epath
from ml_collections import ConfigDict
from optuna.trial import FrozenTrial, TrialState

from sparse_regimes.files import write
from sparse_regimes.reports import pictures
from sparse_regimes.reports.page import Pictures, Pre, Table, Text, render
from sparse_regimes.reports.pictures import (
  ROUND,
  Axes,
  Figure,
  FigureCanvasAgg,
  MaxNLocator,
  factor_ticks,
  plain,
)
from sparse_regimes.runs import config as configs
from sparse_regimes.studies.cli import csv_text

# Of labels below a panel.
_LETTERS = 26
# Panels in a row: more are small on a page.
_ABREAST = 3


def finished(study: optuna.Study) -> list[FrozenTrial]:
  """Trials that need no more time."""
  return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def write_results(
  study: optuna.Study,
  folder: Path,
  config: str,
  overrides: Sequence[str],
  judged_by: str,
) -> None:
  """Writes what is known so far; ``judged_by`` ends with the score's name."""
  score = judged_by.rpartition("_")[2]
  out = epath.Path(folder)
  trials = finished(study)
  names = sorted({name for trial in trials for name in trial.params})
  header = ["trial", "state", score, "epochs", *names]
  rows = [
    [
      *(str(trial.number), trial.state.name.lower()),
      "" if trial.value is None else f"{trial.value:.4f}",
      str(max(trial.intermediate_values, default=0)),
      *(f"{trial.params[name]}" for name in names),
    ]
    for trial in trials
  ]
  write(out / "trials.csv", csv_text([header, *rows]))
  complete = [t for t in trials if t.state == TrialState.COMPLETE]
  if not complete:
    return
  best = study.best_trial
  values = [f"{name}={value}" for name, value in best.params.items()]
  chosen = configs.load(
    config,
    [*(o for o in overrides if not o.startswith("data.evaluate_on")), *values],
  )
  chosen.data.evaluate_on = "test"
  claim = (
    f"best of {len(trials)} trials, {best.value:.4f} dense {score} on held-out"
    f" examples in trial {best.number} of {folder}."
  )
  write(out / "best.py", _as_file(chosen, "best", claim))
  picture = pictures.png(search_figure(study, complete, names, score), 110)
  write(out / "importance.png", picture)
  page = render(
    f"Search around {config}",
    f"{len(complete)} trials finished, {len(trials) - len(complete)} pruned",
    {
      "Best": [Text(claim), Pre("\n".join(values))],
      "Search": [
        Pictures(
          [picture],
          f"{score.capitalize()} of finished trials over each field, and how"
          " much of it the field explains (PED-ANOVA).",
        )
      ],
      "Trials": [Table(header, rows)],
    },
  )
  write(out / "sweep.html", page)
  print(f"best        {best.value:.4f} with {', '.join(values)}")


@plain
def search_figure(
  study: optuna.Study,
  trials: Sequence[FrozenTrial],
  names: Sequence[str],
  score: str,
) -> Figure:
  """The score over each field, and the fields' importance."""
  columns = min(len(names) + 1, _ABREAST)
  rows = -(-(len(names) + 1) // columns)
  figure = Figure(figsize=(3.2 * columns, 3.4 * rows), layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.subplots(rows, columns, squeeze=False).ravel()
  for ax in axes[len(names) + 1 :]:
    ax.axis("off")
  for ax, name in zip(axes, names, strict=False):
    at = [t.params[name] for t in trials]
    ax.plot(at, [t.value or 0.0 for t in trials], "o", color="#1b4965")
    _ticks(ax, at, trials[-1].distributions[name])
    ax.set_xlabel(_broken(name))
    ax.grid(alpha=0.3)
  for ax in axes[: len(names) : columns]:
    ax.set_ylabel(f"{score}, held-out examples")
  importance = importances(study)
  bars = [_broken(name) for name in importance]
  last = axes[len(names)]
  last.barh(bars, list(importance.values()), color="#2a7f62")
  last.invert_yaxis()
  last.tick_params(axis="y", labelsize=8)
  last.xaxis.set_major_locator(MaxNLocator(4, steps=ROUND))
  last.set_xlabel("importance")
  return figure


def _broken(name: str) -> str:
  """A field's name in two lines, section and rest."""
  return name.replace(".", ".\n", 1)


def _ticks(
  ax: Axes,
  values: Sequence[object],
  distribution: optuna.distributions.BaseDistribution,
) -> None:
  """Ticks of which no label lies on another."""
  if isinstance(distribution, optuna.distributions.CategoricalDistribution):
    # Beside each other they have no more room than a few letters.
    if sum(len(str(value)) + 2 for value in {*values}) > _LETTERS:
      ax.tick_params(axis="x", rotation=30)
      for label in ax.get_xticklabels():
        label.set(horizontalalignment="right", rotation_mode="anchor")
  elif getattr(distribution, "log", False):
    ax.set_xscale("log")
    factor_ticks(ax, [float(str(value)) for value in values], _LETTERS)
  else:
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=ROUND))


def importances(study: optuna.Study) -> dict[str, float]:
  """Of the fields; empty while too few trials are finished to say."""
  evaluator = optuna.importance.PedAnovaImportanceEvaluator()
  try:
    return optuna.importance.get_param_importances(study, evaluator=evaluator)
  except (ValueError, RuntimeError):
    return {}


def _as_file(config: ConfigDict, name: str, claim: str) -> str:
  """A config file that gives ``config``, complete.

  Args:
    config: from :func:`load`.
    name: of the file.
    claim: a line on where it comes from.
  """
  claim = claim.replace("\\", "/").replace('"', "'")
  lines = [
    f'"""{claim}',
    "",
    f"Command:  python -m sparse_regimes.main --config={name}.py",
    '"""',
    "",
    "from ml_collections import ConfigDict",
    "",
    "",
    "def get_config() -> ConfigDict:",
    '  """Every field, as it was chosen."""',
    "  config = ConfigDict()",
  ]
  for section, values in config.items():
    if isinstance(values, ConfigDict):
      lines += ["", f"  config.{section} = ConfigDict()"]
      lines += [f"  config.{section}.{k} = {v!r}" for k, v in values.items()]
    else:
      lines.append(f"  config.{section} = {values!r}")
  return "\n".join([*lines, "  return config", ""])
