"""Sections of a run's page on what was measured later: sweep and measures."""

from etils import epath

from sparse_regimes.reports import figures, sweep_figures
from sparse_regimes.reports.page import Block, Pre, Table, Text
from sparse_regimes.reports.words import (
  argument,
  number,
  pictures,
  share,
)
from sparse_regimes.runs.tables import (
  MEASURES_FILE,
  SWEEP_FILE,
  read_measures,
  read_sweep,
)


def sweep_blocks(workdir: epath.Path) -> list[Block]:
  """The budget sweep of a run, or how to make it."""
  if not (workdir / SWEEP_FILE).exists():
    return [
      Text("Not made yet:"),
      Pre(
        f"python -m sparse_regimes.main --mode=eval {argument(workdir)}"
        " --keep_ratios=0.01:1:20"
      ),
    ]
  sweep = read_sweep(workdir)
  rows = sweep["rows"]
  names = [*sweep_figures.sweep_panels(rows[0]).values()]
  known = sweep_figures.known_of(sweep)
  sites = sweep.get("sites")
  sites = sites if isinstance(sites, list) else []
  caption = (
    f"The {sweep['checkpoint']} checkpoint (epoch {sweep['epoch']}) at other"
    " budgets."
  )
  if known["num_scored"] and "accuracy" in names:
    caption += " The band of the accuracy is Wilson's 95 % interval."
  return [
    pictures(
      [
        sweep_figures.budget_sweep(
          {workdir.absolute().name: rows},
          [title],
          **known,
        )
        for title in sweep_figures.sweep_panels(rows[0])
      ],
      caption,
    ),
    pictures(
      [
        sweep_figures.sweep_sites(rows, title, sites)
        for title, name in sweep_figures.SITES.items()
        if name in rows[0]
      ],
      "Every site at every budget.",
    ),
    Table(
      ("keep ratio", *(name.replace("_", " ") for name in names)),
      [
        (f"{row['keep_ratio']:.4g}", *(f"{row[name]:.4f}" for name in names))
        for row in rows
      ],
    ),
  ]


def measures_blocks(workdir: epath.Path) -> list[Block]:
  """Sparsity, flatness and spectra of a run, or how to measure them."""
  if not (workdir / MEASURES_FILE).exists():
    return [
      Text("Not measured yet:"),
      Pre(f"python -m sparse_regimes.main --mode=measure {argument(workdir)}"),
    ]
  content = read_measures(workdir)
  epochs = content["epochs"]
  last = epochs[-1]
  return [
    pictures(
      [
        figures.measures(epochs, title)
        for title, (field, _) in figures.MEASURES.items()
        if any(site[field] is not None for site in last["sites"].values())
      ],
      "Dense, before the first step (epoch 0) and at the end of every epoch"
      " that has a checkpoint. A line a site, from input (dark) to output"
      " (light).",
    ),
    Table(
      ("epoch", "accuracy", "after FGSM", "sharpness", "trace of the Hessian"),
      [
        (
          f"{row['epoch']}",
          share(row["accuracy"]),
          share(row["fgsm_accuracy"]),
          number(row["sharpness"]),
          number(row["hessian_trace"]),
        )
        for row in epochs
      ],
    ),
    Text(
      f"Of the first {content['num_images']} test images, before and after a"
      " step of 1/255 up the loss; sharpness (radius 0.05) and Hessian on as"
      " many training images."
    ),
    Table(
      ("weights", "concentration", "near zero", "extreme ratio"),
      [
        (
          name,
          number(entry["ratio"]),
          share(entry["near_zero"]),
          number(entry["extreme_ratio"]),
        )
        for name, entry in last["spectra"].items()
      ],
    ),
    Text(
      f"Eigenvalues of every weight matrix times its transpose, epoch"
      f" {last['epoch']}: the factor that holds 80 % of those above 0.1, the"
      " share of the others, largest over smallest."
    ),
  ]
