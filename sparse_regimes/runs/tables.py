"""``sweep.json`` and ``measures.json``: what was measured of a run."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from sparse_regimes import analysis
from sparse_regimes.errors import InputError
from sparse_regimes.files import read_json, write

SWEEP_FILE = "sweep.json"
MEASURES_FILE = "measures.json"
_MAX_BYTES = 1 << 26
_IN_EVERY_ROW = {"keep_ratio", "loss", "nonzero", "site_nonzero"}
# Of an epoch: numbers, of which some may be null.
NUMBERS = (
  *("step", "keep_ratio", "test_dense_accuracy", "accuracy"),
  *("fgsm_accuracy", "sharpness", "hessian_trace", "hessian_error"),
)
_LISTS = {"effective"}
_TABLES = {
  "sites": analysis.Measures._fields,
  "spectra": analysis.Concentration._fields,
}


def told_of(row: Mapping[str, Any]) -> list[str]:
  """Names of the numbers that a row of a sweep tells at its keep ratio."""
  numbers = [name for name, value in row.items() if not isinstance(value, list)]
  # Beside a return the loss is the same with a minus.
  untold = {"keep_ratio", "loss"} if "return" in row else {"keep_ratio"}
  return [name for name in numbers if name not in untold]


def write_sweep(
  folder: epath.Path,
  content: dict[str, Any],
  others: Mapping[str, Sequence[dict[str, Any]]] | None = None,
) -> None:
  """Writes ``sweep.json``, and ``sweep.csv`` with a line a ratio and site.

  Args:
    folder: of the run.
    content: ``rows`` of :func:`sweep`, ``sites`` (their names) and what
      identifies them. A number that is not finite becomes null.
    others: rows of other evaluation sets by name, for ``sweep.json``.
  """
  rows = _plain_rows(content["rows"])
  content = content | {"rows": rows}
  if others:
    content["others"] = {n: _plain_rows(each) for n, each in others.items()}
  text = json.dumps(content, indent=2, allow_nan=False)
  write(folder / SWEEP_FILE, text + "\n")
  lines = io.StringIO()
  table = csv.writer(lines)
  totals, by_site = _names(rows[0])
  table.writerow([*totals, "site", *by_site])
  for row in rows:
    for i, site in enumerate(content["sites"]):
      table.writerow(
        [*(row[n] for n in totals), site, *(row[n][i] for n in by_site)]
      )
  write(folder / "sweep.csv", lines.getvalue())


def _names(row: Mapping[str, Any]) -> tuple[list[str], list[str]]:
  """Of a row's numbers, and of its lists by site."""
  by_site = [
    name
    for name, value in row.items()
    # There where a ratio was given for each site.
    if isinstance(value, list) and name != "site_keep_ratio"
  ]
  totals = [n for n in row if n not in (*by_site, "site_keep_ratio")]
  return totals, by_site


def _plain_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  return [{name: _plain(row[name]) for name in row} for row in rows]


def _plain(value: Any) -> Any:
  if isinstance(value, list):
    return [_plain(v) for v in value]
  return value if math.isfinite(value) else None


def read_sweep(folder: epath.Path) -> dict[str, Any]:
  """Reads what :func:`write_sweep` wrote; null becomes NaN again.

  Raises:
    InputError: naming the file and what is wrong.
  """
  path = folder / SWEEP_FILE
  try:
    content = read_json(path, most=_MAX_BYTES)
    if {"checkpoint", "epoch"} - set(content) or not content["rows"]:
      raise ValueError("it has no rows of a checkpoint")
    totals, by_site = _names(content["rows"][0])
    if missing := _IN_EVERY_ROW - {*totals, *by_site}:
      raise ValueError(f"it has no {', '.join(sorted(missing))}")
    num_sites = len(content["rows"][0][by_site[0]])
    for row in content["rows"]:
      row |= {name: _number(row[name]) for name in totals}
      for name in by_site:
        if len(row[name]) != num_sites:
          raise ValueError("rows have different sites")
        row[name] = [_number(value) for value in row[name]]
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise InputError(
      f"{path} could not be read ({type(error).__name__}: {error}); --mode=eval"
      " makes it anew"
    ) from error
  return content


def _number(value: Any) -> float:
  if value is None:
    return math.nan
  if type(value) not in (int, float) or not abs(value) < 1e300:
    raise ValueError("a row's values are not finite numbers")
  return value


def write_measures(folder: epath.Path, content: Mapping[str, Any]) -> None:
  """Writes ``measures.json`` at once."""
  text = json.dumps(content, indent=1, allow_nan=False)
  write(folder / MEASURES_FILE, text + "\n")


def read_measures(folder: epath.Path) -> dict[str, Any]:
  """Reads what :func:`write_measures` wrote.

  Raises:
    InputError: naming the file and what is wrong.
  """
  path = folder / MEASURES_FILE
  try:
    content = read_json(path, most=_MAX_BYTES)
    if type(content["num_images"]) is not int:
      raise ValueError("its num_images is no number")
    before = -1
    names_of: dict[str, list[str]] = {}
    for row in content["epochs"]:
      if type(row["epoch"]) is not int or row["epoch"] <= before:
        raise ValueError("its epochs are not in order")
      before = row["epoch"]
      values = [row[name] for name in NUMBERS]
      for table, names in _TABLES.items():
        if names_of.setdefault(table, list(row[table])) != list(row[table]):
          raise ValueError(f"epoch {before} has other {table}")
        for entry in row[table].values():
          values += [entry[name] for name in names if name not in _LISTS]
          for name in _LISTS & set(names):
            values += entry[name]
      if not all(map(_is_measured, values)):
        raise ValueError(f"epoch {before} has what is no number")
    if before < 0:
      raise ValueError("it has no epoch")
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise InputError(
      f"{path} could not be read ({type(error).__name__}: {error}); delete it"
      " and --mode=measure makes it anew"
    ) from error
  return content


def _is_measured(value: Any) -> bool:
  return value is None or (type(value) in (int, float) and abs(value) < 1e300)
