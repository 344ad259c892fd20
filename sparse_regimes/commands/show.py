"""``list`` and ``doctor``: what there is to name, and what this machine has."""

import ast
import inspect
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from sparse_regimes.data import cifar10
from sparse_regimes.data.named import DESCRIBED
from sparse_regimes.data.text import DESCRIBED as TEXTS
from sparse_regimes.errors import InputError
from sparse_regimes.runs import makers, summary
from sparse_regimes.runs.config import shipped_configs

# As in :class:`sparse_regimes.Task`, of which a person reads the last part.
_ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")


def named() -> Iterator[str]:
  """Lines: configs, models, controllers and data, each with what it is."""
  configs = {
    name: (ast.get_docstring(ast.parse(path.read_text())) or "")
    for name, path in shipped_configs().items()
  }
  yield from _section("configs", "--config=NAME", configs)
  for section, made in makers.NAMED.items():
    documented = {name: inspect.getdoc(m) or "" for name, m in made.items()}
    yield from _section(
      f"{section}s", f"--config.{section}.name=NAME", documented
    )
  yield from _section("data", "--config.data.name=NAME", DESCRIBED)
  yield from _section("text", "--config.data.name=NAME", TEXTS)


def _section(title: str, how: str, described: dict[str, str]) -> Iterator[str]:
  yield f"{title}, {how}"
  width = max(map(len, described))
  for name, text in described.items():
    first = _ROLE.sub(r"\1", text.partition("\n")[0]).replace("``", "")
    yield f"  {name:<{width}}  {first}"


def checked(data_dir: str = "") -> Iterator[str]:
  """Lines: devices, versions, where data would come from, free disk.

  Args:
    data_dir: a config's ``data.dir``.
  """
  found = summary.environment()
  yield f"devices     {found['device']}"
  yield f"host        {found['host']}"
  versions = {"python": found["python"]} | found["versions"]
  yield f"versions    {', '.join(f'{k} {v}' for k, v in versions.items())}"
  try:
    yield f"CIFAR-10    {cifar10.whereabouts(data_dir)}"
  except InputError as error:
    yield f"CIFAR-10    {error}"
  folders = {"runs": Path("runs"), "data": cifar10.folder(data_dir)}
  for what, folder in folders.items():
    # A folder that is not there yet will be on the disk of one that is.
    above = (folder.absolute(), *folder.absolute().parents)
    there = next(path for path in above if path.exists())
    free = shutil.disk_usage(there).free / 2**30
    yield f"free disk   {free:,.1f} GiB for {what} in {folder}"
