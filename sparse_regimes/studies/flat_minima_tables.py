"""What the flat-minima studies train and look at; their tables and figures."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sparse_regimes.reports import pictures
from sparse_regimes.reports.pictures import Axes, colormaps
from sparse_regimes.studies.statistics import estimate, sign_flip_p


def _modules(config: str) -> dict[str, str]:
  """{relu, jsrelu} x {with, without zeroth bias} x {plain, restricted norm}."""
  return {
    f"{activation}{bias and ', bias'}{norm and ', restricted'}": "+".join(
      [
        config,
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
_BOTH = {
  label: _modules("cpu_vit")[label]
  for label in ("relu", "jsrelu, bias, restricted")
}
_LONGER = {label: f"{arm}+train.epochs=100" for label, arm in _BOTH.items()}
# What both networks are asked.
_OF_MODULES = (
  ("test accuracy", "active fraction", "gradients above 1e-6"),
  ("active fraction", "test accuracy", "gradients above 1e-6"),
)

Row = Mapping[str, Any]


def _of_sites(field: str, at: int | None = None) -> Callable[[Row], float]:
  """The mean over sites, of a number or of a list's entry."""

  def value(row: Row) -> float:
    values = [site[field] for site in row["sites"].values()]
    if at is not None:
      values = [numbers[at] for numbers in values]
    return math.nan if None in values else float(np.mean(values))

  return value


def _log_of_sites(field: str) -> Callable[[Row], float]:
  """The mean over sites of the logarithm to base 10; NaN if one has none."""

  def value(row: Row) -> float:
    values = [site[field] for site in row["sites"].values()]
    if not all(values):
      return math.nan
    return float(np.mean(np.log10(values)))

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
  "keep ratio": _of_epoch("keep_ratio"),
  "active fraction": _of_sites("active"),
  "outside the flat part": _of_sites("derivative"),
  "augmented flatness": _of_sites("flatness"),
  "flatness of second linears": _of_sites("flatness_behind"),
  "weight of sparsity": _of_sites("l0_coefficient"),
  "log active fraction": _log_of_sites("active"),
  "log augmented flatness": _log_of_sites("flatness"),
  "log weight of sparsity": _log_of_sites("l0_coefficient"),
  "gradient of outputs": _of_sites("output_gradient"),
  "mean squared eta": _of_sites("eta_square"),
  "mean L1 of eta": _of_sites("eta_l1"),
  "gradients above 1e-9": _of_sites("effective", 0),
  "gradients above 1e-6": _of_sites("effective", 1),
  "gradients above 1e-3": _of_sites("effective", 2),
  "spectral concentration": _of_spectra("ratio"),
  "eigenvalues near zero": _of_spectra("near_zero"),
  "largest over smallest": _of_spectra("extreme_ratio"),
  "accuracy of the images": _of_epoch("accuracy"),
  "after FGSM": _of_epoch("fgsm_accuracy"),
  "lost to FGSM": lambda row: row["accuracy"] - row["fgsm_accuracy"],
  "sharpness": _of_epoch("sharpness"),
  "trace of the Hessian": _of_epoch("hessian_trace"),
  "its standard error": _of_epoch("hessian_error"),
}


class Study(NamedTuple):
  """What is trained, and what is looked at.

  Attributes:
    arms: configs by label; the first is what others are compared with.
    measures: of ``MEASURES``, columns of the table.
    drawn: those over epochs in the figure.
    trajectories: site fields drawn against the active fraction.
    compared: whether the arms are compared with the first.
  """

  arms: dict[str, str]
  measures: tuple[str, ...]
  drawn: tuple[str, ...]
  trajectories: tuple[str, ...] = ()
  compared: bool = True


STUDIES = {
  "modules": Study(_modules("cpu_vit"), *_OF_MODULES),
  "mlp": Study(_modules("cpu_mlp"), *_OF_MODULES),
  "longer": Study(
    _LONGER,
    (
      *("test accuracy", "active fraction", "gradients above 1e-6"),
      *("spectral concentration", "log augmented flatness"),
      "log weight of sparsity",
    ),
    (
      *("active fraction", "test accuracy", "gradients above 1e-6"),
      *("spectral concentration", "augmented flatness", "weight of sparsity"),
    ),
  ),
  "shifted": Study(
    _SHIFTED,
    ("test accuracy", "outside the flat part", "active fraction"),
    ("outside the flat part", "test accuracy"),
    compared=False,
  ),
  "spectra": Study(
    _BOTH,
    ("spectral concentration", "eigenvalues near zero", "active fraction"),
    ("spectral concentration", "eigenvalues near zero"),
  ),
  "flatness": Study(
    _BOTH,
    (
      *("log active fraction", "log augmented flatness"),
      "log weight of sparsity",
    ),
    ("active fraction", "augmented flatness", "weight of sparsity"),
    trajectories=("flatness", "l0_coefficient"),
    compared=False,
  ),
  "finetune": Study(
    {"trained on": "cpu_vit", "fine-tuned": "cpu_vit_sparse_finetune"},
    *_OF_MODULES,
  ),
  "regimes": Study(
    {
      "dense": "cpu_vit",
      "strategy 1": "cpu_vit_strategy1",
      "random": "cpu_vit+controller.name=random_ratio",
    },
    (
      *("test accuracy", "keep ratio", "active fraction"),
      *("augmented flatness", "spectral concentration", "sharpness"),
      *("trace of the Hessian", "accuracy of the images", "lost to FGSM"),
    ),
    (
      *("keep ratio", "active fraction", "augmented flatness"),
      *("spectral concentration", "sharpness", "lost to FGSM"),
    ),
  ),
}
NOTE = (
  "Last epoch, dense. Mean over seeds ± standard deviation; below it what"
  " training changed since before the first step (test accuracy and Hessian"
  " were not measured there), and the difference to the first arm, both paired"
  " by seed, with a 95 % t-interval and the p of the sign-flip test, which for"
  " n seeds cannot fall below 2^(1-n). Measures of sites and of first linears"
  " are means over the network; log: to base 10, before the mean."
)

_AXES = {
  "flatness": "Augmented flatness",
  "l0_coefficient": "Weight of sparsity",
}
Measured = dict[str, dict[int, list[dict[str, Any]]]]


def values_of(
  measured: Measured, label: str, name: str, *, at: int = -1
) -> dict[int, float]:
  """A measure by seed, after the last epoch or at another place."""
  return {
    seed: MEASURES[name](rows[at]) for seed, rows in measured[label].items()
  }


def table(
  study: Study, measured: Measured
) -> tuple[list[str], list[list[str]]]:
  """Header and cells: an arm, what training changed, and the first arm's."""
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
    row = [label, seeds]
    changed, below = ["since the start", ""], [f"minus {first}", ""]
    for name in study.measures:
      values = values_of(measured, label, name)
      # A run that goes on from another has no first step of its own.
      before = {
        seed: value
        for seed, value in values_of(measured, label, name, at=0).items()
        if measured[label][seed][0]["epoch"] == 0
      }
      other = values_of(measured, first, name)
      row.append(_mean([*values.values()]))
      changed.append(_difference(values, before))
      below.append(_difference(values, other))
    cells.append(row)
    if any(changed[2:]):
      cells.append(changed)
    if study.compared and label != first:
      cells.append(below)
  return ["arm", "seeds", *study.measures], cells


def _mean(values: Sequence[float]) -> str:
  found = estimate(values)
  text = f"{found.mean:.4g}"
  text += f" ± {found.sd:.2g}" if found.n > 1 else ""
  # One that cannot be measured, such as the weight of a dead site.
  return text + (f" (n = {found.n})" if found.n < len(values) else "")


def _difference(
  values: Mapping[int, float], others: Mapping[int, float]
) -> str:
  """Of the seeds that both have."""
  pairs = [values[seed] - others[seed] for seed in values if seed in others]
  found = estimate(pairs)
  if not found.n:
    return ""
  text = f"{found.mean:+.3g}"
  if found.n > 1:
    p = sign_flip_p(pairs)
    text += f" [{found.low:.3g}, {found.high:.3g}], p {p:.3g}"
  return text + (f" (n = {found.n})" if found.n < len(pairs) else "")


def rows_of(study: Study, measured: Measured) -> list[list[Any]]:
  """Every epoch of every run, for the CSV."""
  return [
    [label, seed, row["epoch"]] + [MEASURES[name](row) for name in MEASURES]
    for label in study.arms
    for seed, rows in sorted(measured[label].items())
    for row in rows
  ]


def draw(study: Study, measured: Measured) -> bytes:
  """Means over seeds by epoch, with the range of the seeds."""
  count = len(study.drawn) + len(study.trajectories)
  figure, axes = pictures.panels(count, height=3.4, measured=True)
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
    ax.set_title(name[0].upper() + name[1:], fontsize=12)
    pictures.over_epochs(ax)
    if name in ("augmented flatness", "weight of sparsity"):
      ax.set_yscale("log")
  axes[0].legend(fontsize=8, loc="best", framealpha=0.7)
  behind = axes[len(study.drawn) :]
  for ax, field in zip(behind, study.trajectories, strict=False):
    for label in labels:
      _draw_trajectories(ax, field, measured[label], styles[label])
    ax.set_title("Every site and seed, from ○ to ●", fontsize=12)
    ax.set_xlabel("Active fraction", fontsize=11)
    ax.set_ylabel(_AXES[field], fontsize=11)
    ax.set_xscale("log")
    ax.set_yscale("log")
  return pictures.png(figure, 120)


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
  ax: Axes,
  field: str,
  runs: Mapping[int, Sequence[Row]],
  style: Mapping[str, Any],
) -> None:
  for rows in runs.values():
    for site in rows[0]["sites"]:
      active = [row["sites"][site]["active"] for row in rows]
      # null where nothing is active
      values = [row["sites"][site][field] or math.nan for row in rows]
      ax.plot(active, values, lw=0.9, alpha=0.7, **style)
      ax.plot(active[0], values[0], "o", ms=4, mfc="w", mec=style["color"])
      ax.plot(active[-1], values[-1], "o", ms=4, color=style["color"])
