r"""Sparsity through flat minima: trains arms over seeds, measures every epoch.

Usage:
  python experiments/flat_minima.py --study=modules [--seeds=3] [--jobs=1] \
    [--out=runs/flat_minima] [--full] [--minutes=0] \
    [--num_images=256] [--config.section.field=value ...]

Studies:
  modules  {relu, jsrelu} x {with, without zeroth bias} x {plain, restricted
           layer norm}: do they make activations sparse, at what accuracy?
  shifted  an S whose flat part is at 1.6: do pre-activations gather in it
           though no activation there is zero?
  spectra  of the first linears while training goes on.
  flatness augmented flatness against active fraction over training.
  regimes  Strategy 1 and random budgets: sparsity, flatness, spectra, FGSM.

Small configs by default; ``--full`` takes the full-size ones, for which every
epoch of a run is a checkpoint of some 65 MB. Runs lie below ``--out`` and are
shared by studies. What is finished is neither trained nor
measured again: the same command goes on. Writes ``STUDY.md``, ``STUDY.csv`` (a
row an arm, seed and epoch) and ``STUDY.png`` to the folder. Exits as
``compare.py`` does.
"""

import contextlib
import csv
import functools
import io
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.figure
import numpy as np
from command import Parser, check_minutes, exit_code, markdown, state, typed
from etils import epath
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.ticker import MaxNLocator
from paired import estimate, sign_flip_p
from run_queue import Interrupted, Run, make_runs, parse_seeds, train_all

from sparse_regimes import config as configs
from sparse_regimes import figures
from sparse_regimes.errors import InputError, one_of
from sparse_regimes.files import write
from sparse_regimes.measures import MEASURES_FILE, read_measures
from sparse_regimes.over_epochs import measure_run
from sparse_regimes.pace import format_seconds

# Every epoch is measured, so every epoch is kept.
_KEEP = "checkpoint.keep=1000"
FULL = {
  "cpu_vit": "vit_vanilla",
  "cpu_vit_strategy1": "vit_strategy1",
  "cpu_mlp_shifted": "mlp_shifted",
}
_MODULES = {
  f"{activation}{bias and ', bias'}{norm and ', restricted'}": "+".join(
    [
      "cpu_vit",
      *([f"model.activation={activation}"] if activation != "relu" else []),
      *(["model.zeroth_bias=input"] if bias else []),
      *(["model.norm=restricted"] if norm else []),
    ]
  )
  for activation in ("relu", "jsrelu")
  for bias in ("", "bias")
  for norm in ("", "restricted")
}
_SHIFTED = {
  f"dx {x:+}, dy {y:+}": (
    f"cpu_mlp_shifted+model.shift_x={x}+model.shift_y={y}"
  )
  for x in (1.6, -1.6)
  for y in (1.6, -1.6)
}
_BOTH = ("relu", "jsrelu, bias, restricted")

Row = Mapping[str, Any]


def _of_sites(field: str) -> Callable[[Row], float]:
  """The mean over sites."""

  def value(row: Row) -> float:
    values = [site[field] for site in row["sites"].values()]
    return math.nan if None in values else float(np.mean(values))

  return value


def _of_spectra(field: str) -> Callable[[Row], float]:
  """The mean over the linears before a site."""

  def value(row: Row) -> float:
    values = [
      spectrum[field]
      for name, spectrum in row["spectra"].items()
      if name.endswith("linear1/kernel")
    ]
    return math.nan if None in values else float(np.mean(values))

  return value


def _of_epoch(field: str) -> Callable[[Row], float]:
  return lambda row: math.nan if row[field] is None else row[field]


MEASURES: dict[str, Callable[[Row], float]] = {
  "test accuracy": _of_epoch("test_dense_accuracy"),
  "active fraction": _of_sites("active"),
  "outside the flat part": _of_sites("derivative"),
  "augmented flatness": _of_sites("flatness"),
  "weight of sparsity": _of_sites("l0_coefficient"),
  "mean squared eta": _of_sites("eta_square"),
  "spectral concentration": _of_spectra("ratio"),
  "eigenvalues near zero": _of_spectra("near_zero"),
  "accuracy of the images": _of_epoch("accuracy"),
  "after FGSM": _of_epoch("fgsm_accuracy"),
  "lost to FGSM": lambda row: row["accuracy"] - row["fgsm_accuracy"],
  "sharpness": _of_epoch("sharpness"),
  "trace of the Hessian": _of_epoch("hessian_trace"),
}


class Study(NamedTuple):
  """What is trained, and what is looked at.

  Attributes:
    arms: configs by label; the first is what others are compared with.
    measures: of ``MEASURES``, columns of the table.
    drawn: those over epochs in the figure.
    trajectories: whether the figure also has augmented flatness against active
      fraction.
  """

  arms: dict[str, str]
  measures: tuple[str, ...]
  drawn: tuple[str, ...]
  trajectories: bool = False


STUDIES = {
  "modules": Study(
    _MODULES,
    ("test accuracy", "active fraction", "augmented flatness", "sharpness"),
    ("active fraction", "test accuracy"),
  ),
  "shifted": Study(
    _SHIFTED,
    ("test accuracy", "outside the flat part", "active fraction"),
    ("outside the flat part", "active fraction"),
  ),
  "spectra": Study(
    {label: _MODULES[label] for label in _BOTH},
    ("spectral concentration", "eigenvalues near zero", "active fraction"),
    ("spectral concentration", "eigenvalues near zero"),
  ),
  "flatness": Study(
    {label: _MODULES[label] for label in _BOTH},
    ("active fraction", "augmented flatness", "weight of sparsity"),
    ("active fraction", "augmented flatness", "weight of sparsity"),
    trajectories=True,
  ),
  "regimes": Study(
    {
      "dense": "cpu_vit",
      "strategy 1": "cpu_vit_strategy1",
      "random": "cpu_vit+controller.name=random_ratio",
    },
    (
      *("test accuracy", "active fraction", "augmented flatness"),
      *("spectral concentration", "sharpness", "trace of the Hessian"),
      *("accuracy of the images", "lost to FGSM"),
    ),
    ("active fraction", "augmented flatness", "sharpness", "lost to FGSM"),
  ),
}
NOTE = (
  "Last epoch, dense. Mean over seeds ± standard deviation; below it the"
  " difference to the first arm, paired by seed, its 95 % t-interval and the p"
  " of the sign-flip test, which for n seeds cannot fall below 2^(1-n)."
  " Measures of sites and of first linears are means over the network."
)

Measured = dict[str, dict[int, list[dict[str, Any]]]]


def values_of(measured: Measured, label: str, name: str) -> dict[int, float]:
  """A measure after the last epoch, by seed."""
  return {
    seed: MEASURES[name](rows[-1]) for seed, rows in measured[label].items()
  }


def table(
  study: Study, measured: Measured
) -> tuple[list[str], list[list[str]]]:
  """Header and cells: a row an arm, and one for its difference to the first."""
  first = next(iter(study.arms))
  last = max(
    (rows[-1]["epoch"] for runs in measured.values() for rows in runs.values()),
    default=0,
  )
  cells = []
  for label in study.arms:
    if not measured[label]:
      continue
    early = sum(rows[-1]["epoch"] < last for rows in measured[label].values())
    seeds = str(len(measured[label]))
    if early:
      seeds += f", {early} ended early"
    row, below = [label, seeds], [f"minus {first}", ""]
    for name in study.measures:
      values = values_of(measured, label, name)
      row.append(_mean(list(values.values())))
      other = values_of(measured, first, name)
      below.append(
        _difference([values[s] - other[s] for s in values if s in other])
      )
    cells.append(row)
    if label != first:
      cells.append(below)
  return ["arm", "seeds", *study.measures], cells


def _mean(values: Sequence[float]) -> str:
  found = estimate(values)
  text = f"{found.mean:.4g}"
  return text + (f" ± {found.sd:.2g}" if found.n > 1 else "")


def _difference(values: Sequence[float]) -> str:
  if not values:
    return ""
  found = estimate(values)
  text = f"{found.mean:+.3g}"
  if found.n > 1:
    p = sign_flip_p(values)
    text += f" [{found.low:.3g}, {found.high:.3g}], p {p:.3g}"
  return text


def rows_of(study: Study, measured: Measured) -> list[list[Any]]:
  """Every epoch of every run, for the CSV."""
  return [
    [label, seed, row["epoch"], row["keep_ratio"]]
    + [MEASURES[name](row) for name in MEASURES]
    for label in study.arms
    for seed, rows in sorted(measured[label].items())
    for row in rows
  ]


def draw(study: Study, measured: Measured) -> bytes:
  """Means over seeds by epoch, with the range of the seeds."""
  panels = len(study.drawn) + study.trajectories
  columns = min(panels, 2)
  lines = -(-panels // columns)
  figure = matplotlib.figure.Figure(
    figsize=(4.8 * columns, 3.6 * lines), layout="constrained"
  )
  FigureCanvasAgg(figure)
  axes = list(figure.subplots(lines, columns, squeeze=False).ravel())
  for ax in axes[panels:]:
    ax.axis("off")
  styles = {
    label: {
      "color": colormaps["tab10"](i // 2 if len(study.arms) > 4 else i),
      "linestyle": "-" if i % 2 == 0 else "--",
    }
    for i, label in enumerate(study.arms)
  }
  labels = [label for label in study.arms if measured[label]]
  for ax, name in zip(axes, study.drawn, strict=False):
    for label in labels:
      _draw_over_epochs(ax, name, measured[label], label, styles[label])
    ax.set_title(name.capitalize(), fontsize=12)
    ax.set_xlabel("Epoch", fontsize=11)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    if name in ("augmented flatness", "weight of sparsity"):
      ax.set_yscale("log")
  axes[0].legend(fontsize=8, loc="best", framealpha=0.7)
  if study.trajectories:
    ax = axes[len(study.drawn)]
    for label in labels:
      _draw_trajectories(ax, measured[label], styles[label])
    ax.set_title("Every site and seed, from ○ to ●", fontsize=12)
    ax.set_xlabel("Active fraction", fontsize=11)
    ax.set_ylabel("Augmented flatness", fontsize=11)
    ax.set_yscale("log")
    ax.grid(alpha=0.3)
  return figures.png(figure, 120)


def _draw_over_epochs(
  ax: Axes,
  name: str,
  runs: Mapping[int, Sequence[Row]],
  label: str,
  style: Mapping[str, Any],
) -> None:
  by_epoch: dict[int, list[float]] = {}
  for rows in runs.values():
    for row in rows:
      by_epoch.setdefault(row["epoch"], []).append(MEASURES[name](row))
  epochs = sorted(by_epoch)
  values = [by_epoch[epoch] for epoch in epochs]
  ax.plot(epochs, [np.mean(v) for v in values], lw=1.6, label=label, **style)
  low, high = [min(v) for v in values], [max(v) for v in values]
  ax.fill_between(epochs, low, high, color=style["color"], alpha=0.15, lw=0)


def _draw_trajectories(
  ax: Axes, runs: Mapping[int, Sequence[Row]], style: Mapping[str, Any]
) -> None:
  for rows in runs.values():
    for site in rows[0]["sites"]:
      active = [row["sites"][site]["active"] for row in rows]
      flat = [row["sites"][site]["flatness"] for row in rows]
      ax.plot(active, flat, lw=0.9, alpha=0.7, **style)
      ax.plot(active[0], flat[0], "o", ms=4, mfc="w", mec=style["color"])
      ax.plot(active[-1], flat[-1], "o", ms=4, color=style["color"])


def write_all(
  folder: Path,
  name: str,
  measured: Measured,
  total: int,
  command: str,
) -> str:
  """Writes every file; returns the table as text."""
  study = STUDIES[name]
  done = sum(map(len, measured.values()))
  how_far = state(done, total)
  header, cells = table(study, measured)
  text = markdown(header, cells)
  out = epath.Path(folder)
  out.mkdir(parents=True, exist_ok=True)
  write(out / f"{name}.md", f"{how_far}\n\n{text}\n{NOTE}\n\n`{command}`\n")
  lines = io.StringIO()
  writer = csv.writer(lines, lineterminator="\n")
  writer.writerow(["arm", "seed", "epoch", "keep_ratio", *MEASURES])
  writer.writerows(rows_of(study, measured))
  write(out / f"{name}.csv", lines.getvalue())
  if done:
    write(out / f"{name}.png", draw(study, measured))
  return f"{how_far}\n{text}"


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
  """A SIGTERM is told of as a ^C is; what is measured is kept."""

  def interrupt(number: int, _: Any) -> None:
    raise Interrupted(number)

  before = signal.signal(signal.SIGTERM, interrupt)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)


def collect(runs: Mapping[str, Sequence[Run]], num_images: int) -> Measured:
  """What is measured of the finished runs."""
  measured: Measured = {label: {} for label in runs}
  for label, of_arm in runs.items():
    for run in of_arm:
      workdir = epath.Path(run.workdir)
      if run.summary() is None or not (workdir / MEASURES_FILE).exists():
        continue
      content = read_measures(workdir)
      if content["num_images"] == num_images:
        measured[label][run.seed] = content["epochs"]
  return measured


def measure_all(
  runs: Mapping[str, Sequence[Run]], num_images: int, deadline: float
) -> None:
  """Measures every finished run that there is time for."""
  finished = [
    (label, run)
    for label, of_arm in runs.items()
    for run in of_arm
    if run.summary() is not None
  ]
  started = time.monotonic()
  for done, (label, run) in enumerate(finished):
    if time.monotonic() > deadline:
      break
    left = ""
    if done:
      pace = (time.monotonic() - started) / done
      left = f", about {format_seconds(pace * (len(finished) - done))} left"
    print(
      f"measure     {label}, seed {run.seed}: run {done + 1} of"
      f" {len(finished)}{left}",
      flush=True,
    )
    measure_run(
      epath.Path(run.workdir),
      num_images=num_images,
      log=functools.partial(print, flush=True),
    )


def flat_minima(argv: Sequence[str] | None = None) -> int:
  """Runs the command."""
  parser = Parser(__doc__)
  parser.add_argument("--study", required=True)
  parser.add_argument("--seeds", default="3")
  parser.add_argument("--out", type=Path, default=Path("runs/flat_minima"))
  parser.add_argument("--jobs", type=int, default=1)
  parser.add_argument("--minutes", type=float, default=0.0)
  parser.add_argument("--num_images", type=int, default=256)
  parser.add_argument("--full", action="store_true")
  args, rest = parser.parse_known_args(argv)
  try:
    one_of("--study", args.study, STUDIES)
  except ValueError as error:
    raise InputError(str(error)) from error
  if not 1 <= args.jobs <= 1000:
    raise InputError(f"--jobs must be from 1 to 1000, got {args.jobs}")
  if args.num_images < 1:
    raise InputError(f"--num_images must be at least 1, got {args.num_images}")
  check_minutes(args.minutes)
  overrides = [*configs.parse_overrides(rest), _KEEP]
  study, seeds = STUDIES[args.study], parse_seeds(args.seeds)
  arms = {
    label: "+".join([_sized(arm, full=args.full), *own])
    for label, (arm, *own) in (
      (label, spec.split("+")) for label, spec in study.arms.items()
    )
  }
  deadline = time.monotonic() + (args.minutes * 60 or math.inf)
  runs = make_runs([*arms.values()], seeds, args.out, overrides)
  by_label = {
    label: [run for run in runs if run.arm == _name(arm)]
    for label, arm in arms.items()
  }
  command = typed("flat_minima.py", argv)
  try:
    train_all(runs, jobs=args.jobs, minutes=args.minutes)
    with interruptible():
      measure_all(by_label, args.num_images, deadline)
  finally:
    measured = collect(by_label, args.num_images)
    print(write_all(args.out, args.study, measured, len(runs), command))
    print(f"written     {args.study}.md, .csv and .png in {args.out}")
  return 0 if sum(map(len, measured.values())) == len(runs) else 4


def _sized(config: str, *, full: bool) -> str:
  return FULL[config] if full else config


def _name(arm: str) -> str:
  config, *own = arm.split("+")
  return "+".join([Path(config).stem, *own])


if __name__ == "__main__":
  sys.exit(exit_code(flat_minima))
