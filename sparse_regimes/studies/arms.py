"""Which runs an experiment has: a config with a seed each, and its results."""

import dataclasses
import functools
import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath

from sparse_regimes.errors import InputError
from sparse_regimes.runs import config as configs
from sparse_regimes.runs.journal import read_records
from sparse_regimes.runs.workdir import (
  CONFIG_FILE,
  check_same,
  check_workdir,
  in_use,
)
from sparse_regimes.studies.scores import fields_of, score_of

_NUMBER = (float, int)
# Between a config and its overrides: not the plus of 1e+2.
_OVERRIDE = re.compile(r"\+(?=[A-Za-z_][\w.]*=|$|\+)")
# Between arms: not the comma of a tuple.
_ARM = re.compile(r",(?![^()\[\]]*[)\]])")
# What tables take from a run's summary.
_SUMMARY: dict[str, tuple[type, ...]] = {
  "epochs": (int,),
  "seed": (int,),
  "diverged": (bool,),
  "resets": (int,),
  "collapses": (list,),
  "device": (str,),
  "host": (str,),
  "versions": (dict,),
  "lowest_keep_ratio": _NUMBER,
  "skippable_share_dense": _NUMBER,
  "skippable_share_sparse": _NUMBER,
  "seconds": _NUMBER,
}
_MAY_BE_UNKNOWN = ("skippable_share_dense", "skippable_share_sparse")


@dataclasses.dataclass(frozen=True)
class Run:
  """One config with one seed, to be trained.

  Attributes:
    arm: what it is called.
    config: a config file or the name of a shipped one.
    seed: of the run.
    workdir: its folder; what it prints goes to ``WORKDIR.log``.
    overrides: ``section.field=value`` each.
  """

  arm: str
  config: str
  seed: int
  workdir: Path
  overrides: Sequence[str] = ()

  @property
  def all_overrides(self) -> list[str]:
    """With the seed."""
    return [*self.overrides, f"seed={self.seed}"]

  @property
  def command(self) -> list[str]:
    """Of the process that trains it, or goes on with it."""
    return [
      *(sys.executable, "-u", "-m", "sparse_regimes.main"),
      *(f"--config={self.config}", f"--workdir={self.workdir}"),
      *(f"--config.{override}" for override in self.all_overrides),
    ]

  def load(self) -> Any:
    """The complete config."""
    return _load(self.config, tuple(self.all_overrides))

  def summary(self) -> dict[str, Any] | None:
    """What the finished run came to; None if it is not finished.

    One that diverged is, unless it is to go on from there.

    Raises:
      InputError: if its summary cannot be read, or is of another config.
    """
    path = self.workdir / "summary.json"
    try:
      summary = json.loads(path.read_bytes())
      _check_summary(summary)
    except (FileNotFoundError, NotADirectoryError):
      return None
    except (OSError, ValueError, RecursionError) as error:
      raise InputError(
        f"{path} must be a run's summary, but cannot be read"
        f" ({type(error).__name__}: {error}); delete it and the run writes it"
        " again"
      ) from error
    wanted = self.load()
    if (self.workdir / CONFIG_FILE).exists():
      check_same(epath.Path(self.workdir), wanted)
    if summary["diverged"]:
      ended = wanted.train.on_nonfinite == "stop"
    else:
      ended = summary["epochs"] == wanted.train.epochs
    return summary if ended and summary["seed"] == self.seed else None

  def finished(self) -> bool:
    """Whether there is nothing left to do."""
    return self.summary() is not None

  def epochs_done(self) -> int:
    """As far as its log tells."""
    path = epath.Path(self.workdir) / "metrics.jsonl"
    return len(read_records(path)) if path.exists() else 0


@functools.cache
def _load(config: str, overrides: tuple[str, ...]) -> Any:
  return configs.load(config, overrides)


def _check_summary(summary: Any) -> None:
  if not isinstance(summary, dict):
    raise ValueError("it is not a JSON object")
  # Before there was such a thing, a run that diverged left no summary.
  summary.setdefault("diverged", False)
  score = score_of(summary)
  paced = f"{score.unit}_per_second"
  numbers = dict.fromkeys((*fields_of(score), paced), _NUMBER)
  may_be_unknown = {paced, *_MAY_BE_UNKNOWN}
  if score.less_is_better:
    # Not written by older versions.
    may_be_unknown.add("final_train_dense_loss")
  for name, kinds in {**_SUMMARY, **numbers}.items():
    value = summary.get(name)
    unknown = summary.get("epochs") == 0 or name in may_be_unknown
    if value is None and kinds is _NUMBER and unknown:
      # It diverged before an evaluation, trained no epoch in one go, has a
      # network that does not say what reads its sites.
      summary[name] = math.nan
    elif type(value) not in kinds or (
      isinstance(value, float) and not math.isfinite(value)
    ):
      raise ValueError(f"{name} must be {kinds[0].__name__}, got {value!r}")


def split_arms(text: str) -> list[str]:
  """Arms by commas, of which those inside brackets belong to a value.

  Example:
    >>> split_arms("a,b+optimizer.milestones=(1,2),c")
    ['a', 'b+optimizer.milestones=(1,2)', 'c']
  """
  return _ARM.split(text)


def parse_seeds(text: str) -> list[int]:
  """Reads a number of seeds, ``5``, or the seeds themselves, ``3,5,8``.

  Example:
    >>> parse_seeds("3"), parse_seeds("7,9"), parse_seeds("4,")
    ([0, 1, 2], [7, 9], [4])
  """
  if not re.fullmatch(r"\d{1,9}(,\d{1,9})*,?", text):
    raise InputError(
      f"--seeds must be a number of seeds or seeds by commas, got {text!r}"
    )
  seeds = [int(part) for part in text.split(",") if part]
  if "," not in text:
    # A date meant as one seed must not become a list of as many.
    seeds = list(range(min(seeds[0], 1001)))
  if not 0 < len(set(seeds)) == len(seeds) <= 1000:
    raise InputError(
      f"--seeds must be 1 to 1000 different seeds, got {text!r}; a single seed"
      " ends with a comma"
    )
  return seeds


def make_runs(
  arms: Sequence[str],
  seeds: Sequence[int],
  folder: Path,
  overrides: Sequence[str],
) -> list[Run]:
  """All pairs, the seeds one after another, below ``folder/ARM/seedN``.

  Args:
    arms: configs, each with overrides of its own:
      ``collapse+optimizer.clip_norm=1.0``.
    seeds: of each.
    folder: of them all.
    overrides: of every run.

  Raises:
    InputError: for arms of different tasks, data or epochs, an arm given twice,
      or a folder that has something else.
  """
  runs = []
  for seed in seeds:
    for arm in arms:
      config, *own = _OVERRIDE.split(arm)
      for override in own:
        if not override or override.startswith(("seed=", "data.dir=")):
          raise InputError(
            "--configs takes CONFIG+section.field=value, without seed and"
            f" data.dir, got {arm!r}"
          )
      name = "+".join([Path(config).stem, *own])
      workdir = folder / name / f"seed{seed}"
      runs.append(Run(name, config, seed, workdir, (*overrides, *own)))
  if len({run.workdir for run in runs}) < len(runs):
    raise InputError(
      f"--configs must have different names, got {', '.join(arms)}"
    )
  expected: dict[str, Any] = {}
  for run in runs:
    config = run.load()
    for field, value in {
      **{f"data.{name}": config.data[name] for name in config.data},
      "eval.num_train": config.eval.num_train,
      "task.name": config.task.name,
      "train.epochs": config.train.epochs,
    }.items():
      if field != "data.dir" and expected.setdefault(field, value) != value:
        raise InputError(
          f"--configs must agree in {field}, got {expected[field]!r} in"
          f" {runs[0].arm} and {value!r} in {run.arm}"
        )
    if folder.exists() and not folder.is_dir():
      raise InputError(f"--out must be a folder, got {folder}, a file")
    workdir = epath.Path(run.workdir)
    if not in_use(workdir):
      check_workdir(workdir, config)
    elif (workdir / CONFIG_FILE).exists():
      check_same(workdir, config)
  return runs
