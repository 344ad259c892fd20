"""Breaks the code on purpose, a little each time, and asks who notices.

Usage:
  python experiments/mutants.py --draw=50 --seed=15
  python experiments/mutants.py --checkout=DIR --name=LABEL
  python experiments/mutants.py --checkout=DIR --name=LABEL --together \
    [--missed_by=OTHER]

The first command draws changes, each in another file of the package, and
writes them to ``results/mutants.json``. The second makes each of them in a
checkout that has an environment of its own (``make test`` once), runs the
tests that mention the changed file, and writes down whether one failed. The
third makes all changes at once that nobody has noticed so far, runs the whole
suite, and repeats that without those which a failed test was owed to. With
``--missed_by`` it asks only of the changes that the suite of that label did not
notice: so two suites can be compared in an hour rather than in a day.
"""

import argparse
import ast
import collections
import contextlib
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench import commit

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results" / "mutants.json"
MOST_SECONDS = 900
Row = dict[str, Any]

OPERATORS: dict[type, str] = {
  ast.Lt: "<=",
  ast.LtE: "<",
  ast.Gt: ">=",
  ast.GtE: ">",
  ast.Eq: "!=",
  ast.NotEq: "==",
  ast.Is: "is not",
  ast.IsNot: "is",
  ast.In: "not in",
  ast.NotIn: "in",
  ast.Add: "-",
  ast.Sub: "+",
  ast.Mult: "/",
  ast.Div: "*",
  ast.FloorDiv: "/",
  ast.Pow: "*",
  ast.And: "or",
  ast.Or: "and",
}
PLAIN = re.compile(r"\s*[\w.<>=!+*/-]+( not| in)?\s*")


class Change(NamedTuple):
  """Characters ``start`` to ``end`` of a source become ``text``."""

  start: int
  end: int
  text: str


def changes(source: str) -> Iterator[Change]:
  """Every change that can be drawn from a file."""
  tree = ast.parse(source)
  starts = [0]
  for line in source.splitlines(keepends=True):
    starts.append(starts[-1] + len(line.encode()))

  def begin(node: Any) -> int:
    return starts[node.lineno - 1] + node.col_offset

  def end(node: Any) -> int:
    return starts[node.end_lineno - 1] + node.end_col_offset

  # A default of a signature, an annotation or a docstring is no behaviour.
  passive = {
    id(inner)
    for node in ast.walk(tree)
    for field in ("annotation", "returns", "type_params")
    if (outer := getattr(node, field, None)) is not None
    for part in (outer if isinstance(outer, list) else [outer])
    for inner in ast.walk(part)
  }
  for node in ast.walk(tree):
    if id(node) in passive:
      continue
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
      text = OPERATORS[type(node.ops[0])]
      yield Change(end(node.left), begin(node.comparators[0]), f" {text} ")
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
      text = OPERATORS[type(node.op)]
      yield Change(end(node.left), begin(node.right), f" {text} ")
    elif isinstance(node, ast.BoolOp):
      text = OPERATORS[type(node.op)]
      yield Change(end(node.values[0]), begin(node.values[1]), f" {text} ")
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
      yield Change(begin(node), begin(node.operand), "")
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
      yield Change(begin(node), end(node), repr(not node.value))
    elif isinstance(node, ast.Constant) and isinstance(
      node.value, (int, float)
    ):
      yield Change(begin(node), end(node), repr(node.value + 1))
    elif isinstance(node, ast.If):
      yield Change(begin(node.test), end(node.test), "False")
    elif isinstance(node, ast.AugAssign) or (
      isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
      yield Change(begin(node), end(node), "pass")


def draw(number: int, seed: int) -> list[Row]:
  """Changes that still parse, each of another file, from every room first."""
  rng = random.Random(seed)
  files = sorted((ROOT / "sparse_regimes").rglob("*.py"))
  files = [f for f in files if f.name != "__init__.py"]
  rows: list[Row] = []
  rooms: collections.Counter[str] = collections.Counter()
  turns = {}
  for path in rng.sample(files, len(files)):
    room = path.relative_to(ROOT).parts[1]
    turns[path] = rooms[room]
    rooms[room] += 1
  for path in sorted(turns, key=lambda path: turns[path]):
    source = path.read_bytes()
    for change in rng.sample(
      every := sorted(set(changes(source.decode()))), len(every)
    ):
      before = source[change.start : change.end].decode()
      # Not an operator with a parenthesis or a comment beside it.
      if change.text not in ("pass", "False") and not PLAIN.fullmatch(before):
        continue
      row = {
        "file": str(path.relative_to(ROOT)),
        "line": source[: change.start].count(b"\n") + 1,
        **change._asdict(),
        "before": before,
      }
      with contextlib.suppress(SyntaxError):
        ast.parse(changed(source, row))
        rows.append(row)
        break
    if len(rows) == number:
      break
  return rows


def changed(source: bytes, row: Row) -> bytes:
  return source[: row["start"]] + row["text"].encode() + source[row["end"] :]


@contextlib.contextmanager
def made(checkout: Path, rows: Iterable[Row]) -> Iterator[None]:
  """The changes are in the checkout, and afterwards are not."""
  before = {}
  for row in rows:
    path = checkout / row["file"]
    source = before[path] = path.read_bytes()
    line = source[row["start"] : row["end"]].decode()
    if line != row["before"]:
      raise SystemExit(f"error: {path} is not the file that was drawn from")
    path.write_bytes(changed(source, row))
  try:
    yield
  finally:
    for path, source in before.items():
      path.write_bytes(source)


def failures(checkout: Path, *arguments: str) -> list[str]:
  """The tests that fail; a run that hangs or cannot begin is one, too."""
  command = [str(checkout / ".venv/bin/python"), "-m", "pytest", "-q", "-rfE"]
  try:
    done = subprocess.run(
      [*command, *arguments],
      cwd=checkout,
      capture_output=True,
      text=True,
      check=False,
      timeout=MOST_SECONDS if arguments else 4 * MOST_SECONDS,
    )
  except subprocess.TimeoutExpired:
    return ["timeout"]
  found = re.findall(
    r"^(?:FAILED|ERROR) (\S+?::.*?)(?: - |$)", done.stdout, re.M
  )
  return found or ([f"it ended with {done.returncode}"] * (done.returncode > 0))


def tests_of(checkout: Path, file: str) -> list[str]:
  """The file's own tests and examples, and other tests that name it."""
  path = Path(file)
  inside = path.relative_to("sparse_regimes").with_suffix("")
  own = checkout / "tests" / inside.parent / f"{inside.name}_test.py"
  name = re.compile(rf"\b{inside.name}\b")
  others = [
    p
    for p in sorted((checkout / "tests").rglob("*_test.py"))
    if p != own and name.search(p.read_text())
  ]
  found = [own] * own.exists() + others
  # `step` and `page` are words, too.
  return [*(str(p.relative_to(checkout)) for p in found[:8]), file]


def each(checkout: Path, name: str) -> None:
  content = json.loads(RESULTS.read_text())
  for i, row in enumerate(content["changes"], start=1):
    if name in row:
      continue
    started = time.monotonic()
    with made(checkout, [row]):
      found = failures(checkout, "-x", *tests_of(checkout, row["file"]))
    row[name] = found[:1]
    write(content)
    print(
      f"{i:3} {row['file']}:{row['line']} {row['before']!r} -> {row['text']!r}"
      f" {found[:1] or 'NOT NOTICED'}, {time.monotonic() - started:.0f} s",
      flush=True,
    )


def together(checkout: Path, name: str, missed_by: str | None) -> None:
  content = json.loads(RESULTS.read_text())
  left = [r for r in content["changes"] if not r.get(name)]
  if missed_by:
    left = [r for r in left if not r[missed_by]]
  for row in left:
    row[name] = []
  while left:
    with made(checkout, left):
      found = failures(checkout)
    print(f"{len(left)} changes at once: {len(found)} fail {found}", flush=True)
    owed = []
    for test in found:
      if failures(checkout, test):
        print(f"{test} fails without a change, too", flush=True)
        continue
      for row in left:
        if row in owed:
          continue
        with made(checkout, [row]):
          if failures(checkout, test):
            row[name] = [test]
            owed.append(row)
            print(f"{row['file']}:{row['line']} by {test}", flush=True)
    write(content)
    if not owed:
      break
    left = [row for row in left if row not in owed]


def write(content: Row) -> None:
  RESULTS.write_text(json.dumps(content, indent=2) + "\n")


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--draw", type=int)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--checkout", type=Path)
  parser.add_argument("--name", help="of the suite, in the result file")
  parser.add_argument("--together", action="store_true")
  parser.add_argument("--missed_by", help="a label that was asked before")
  args = parser.parse_args()
  if args.draw:
    rows = draw(args.draw, args.seed)
    # The places of the changes are those of this commit's files.
    write({"seed": args.seed, "commit": commit(), "changes": rows})
  elif args.together:
    together(args.checkout.resolve(), args.name, args.missed_by)
  else:
    each(args.checkout.resolve(), args.name)
  return 0


if __name__ == "__main__":
  sys.exit(main())
