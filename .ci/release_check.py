"""Builds both archives and tries the wheel: ``make release-check``.

On each Python from 3.11 to 3.13 that is at hand, the wheel is installed into
an empty environment, with the versions of ``constraints.txt``. There, away from
the checkout, it begins the quickstart, goes on with it to its end, evaluates
it, and runs the core tests out of the source archive.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
# What a release must not break: masks, controllers, the step, the command line.
CORE = (
  "tests/masks/selection_test.py",
  "tests/masks/rules_test.py",
  "tests/controllers",
  "tests/training/step_test.py",
  "tests/main_test.py",
)
# What `make test` and `make docs` read of an unpacked source archive.
COMPLETE = (
  *("Makefile", "constraints.txt", "README.md", "CHANGELOG.md", "LICENSE"),
  *("CONTRIBUTING.md", "CITATION.cff", "SECURITY.md", "docs/conf.py"),
  *("configs/quickstart.py", "tests/conftest.py", "tests/parity/wrn.npz"),
  *("examples/vae.py", "experiments/chaos.py", ".github/workflows/tests.yml"),
  *("experiments/results/quickstart/summary.json", "docs/static/site.css"),
)


def run(*command: object, where: Path = ROOT) -> None:
  """Runs a command to its end; what it printed is shown if it fails."""
  done = subprocess.run(
    [str(part) for part in command],
    cwd=where,
    check=False,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
  )
  if done.returncode:
    print(done.stdout[-6000:], file=sys.stderr)
    shown = " ".join(str(part) for part in command)
    raise SystemExit(f"error: failed with {done.returncode}: {shown}")


def python(version: str) -> str | None:
  """The interpreter of a version: on the path, or where pyenv puts it."""
  candidates = [shutil.which(f"python{version}")]
  installed = (Path.home() / ".pyenv" / "versions").glob(f"{version}.*")
  candidates += [str(path / "bin" / "python") for path in sorted(installed)]
  if sys.version_info[:2] == tuple(map(int, version.split("."))):
    candidates.append(sys.executable)
  for candidate in candidates:
    if not candidate:
      continue
    # A shim may be there without the version behind it.
    done = subprocess.run(
      [candidate, "-c", "import sys; print(*sys.version_info[:2], sep='.')"],
      capture_output=True,
      text=True,
      check=False,
    )
    if done.stdout.strip() == version:
      return candidate
  return None


def build() -> tuple[Path, Path]:
  """Both archives, in ``dist/``."""
  shutil.rmtree(ROOT / "dist", ignore_errors=True)
  run(sys.executable, "-m", "hatchling", "build")
  (wheel,) = (ROOT / "dist").glob("*.whl")
  (source,) = (ROOT / "dist").glob("*.tar.gz")
  with tarfile.open(source) as archive:
    names = {name.partition("/")[2] for name in archive.getnames()}
  missing = [name for name in COMPLETE if name not in names]
  if missing:
    raise SystemExit(f"error: {source.name} lacks {', '.join(missing)}")
  for path in (wheel, source):
    print(f"{path.name}: {path.stat().st_size / 2**20:.1f} MiB")
  return wheel, source


def try_it(interpreter: str, wheel: Path, source: Path, folder: Path) -> None:
  """Installs the wheel into an empty environment and uses it there."""
  run(interpreter, "-m", "venv", folder / "env")
  own = folder / "env" / "bin" / "python"
  pinned = ("--constraint", ROOT / "constraints.txt")
  pip = (own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
  run(*pip, *pinned, wheel)
  # As a user has it: nothing of the tests is installed yet.
  regimes = folder / "env" / "bin" / "sparse-regimes"
  train = (regimes, "train", "--config=quickstart", "--workdir=run", "--quiet")
  run(*train, "--config.train.epochs=1", where=folder)
  run(*train, where=folder)
  run(regimes, "eval", "--workdir=run", "--keep_ratios=1,0.1", where=folder)
  summary = json.loads((folder / "run" / "summary.json").read_text())
  # It is there to show these.
  for event in ("compressions", "resets"):
    if not summary[event]:
      raise SystemExit(f"error: the quickstart had no {event}")
  if not (folder / "run" / "sweep.json").exists():
    raise SystemExit("error: the evaluation left no sweep.json")
  run(*pip, *pinned, f"{wheel}[test]")
  with tarfile.open(source) as archive:
    archive.extractall(folder, filter="data")
  (unpacked,) = folder.glob("sparse_regimes-*")
  # The tests are to meet the installed package, not the one beside them.
  pytest = ("env", "PYTHONSAFEPATH=1", own, "-m", "pytest", "-q")
  alone = ("-m", "not run and not slow", "--override-ini=addopts=-n 2")
  run(*pytest, *alone, *CORE, where=unpacked)


def main() -> None:
  """Reports a line for each Python."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--pythons", default=",".join(PYTHONS))
  pythons = parser.parse_args().pythons.split(",")
  wheel, source = build()
  tried = 0
  for version in pythons:
    interpreter = python(version)
    if interpreter is None:
      print(f"Python {version}: not on this machine, not tried")
      continue
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
      try_it(interpreter, wheel, source, Path(folder))
    tried += 1
    print(f"Python {version}: works, {time.monotonic() - start:.0f} s")
  if not tried:
    raise SystemExit("error: no Python was tried")


if __name__ == "__main__":
  main()
