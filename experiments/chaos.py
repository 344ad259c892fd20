"""Kills a run again and again and compares what it ends with.

Usage:
  python experiments/chaos.py [--kills=20] [--seed=0] [--epochs=4]
    [--config=tests/tiny_text.py] [--write]

One run is left alone. Others get ``kill -9`` at seeded moments and are started
again each time until they end: while compiling, in the middle of an epoch,
during a save, during an evaluation, while a log line is written. Each must end
with the same parameters, optimizer, controller, metrics and summary, bit for
bit. Exits with 1 if one does not. With ``--write`` it writes
``results/chaos.json``, or ``chaos-NAME.json`` for another config.
"""

import argparse
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from bench import write_results
from etils import epath

from sparse_regimes.runs.pace import format_seconds
from sparse_regimes.runs.past_run import load_config, load_run

ROOT = Path(__file__).parent.parent
STEPS_PER_EPOCH = 10
MOMENTS = ("compiling", "anywhere", "saving", "evaluating", "logging")


class Run:
  """A run folder and the process that trains in it.

  Args:
    workdir: its folder.
    epochs: to train.
    config: a file, of whatever task; an epoch has ten steps.
  """

  def __init__(self, workdir: Path, epochs: int, config: Path):
    self.workdir, self.epochs, self.config = workdir, epochs, config
    self.log = workdir.with_suffix(".log")

  def start(self) -> None:
    """Starts the process, or starts it again."""
    command = [
      *(sys.executable, "-u", "-m", "sparse_regimes.main"),
      f"--config={self.config}",
      f"--workdir={self.workdir}",
      f"--config.train.epochs={self.epochs}",
      # A save in the middle of each epoch and at its end, before evaluation.
      f"--config.checkpoint.every_steps={STEPS_PER_EPOCH // 2}",
      "--config.eval.batch_size=16",
    ]
    self.started = time.monotonic()
    with self.log.open("w") as log:
      self.process = subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT
      )

  def wait_for(self, happened: Callable[[], bool]) -> bool:
    """Returns whether it happened before the process ended."""
    while not happened():
      if self.process.poll() is not None:
        return False
      time.sleep(0.001)
    return True

  def names(self) -> list[str]:
    """Of checkpoints, finished or not."""
    folder = self.workdir / "checkpoints"
    try:
      return [p.name for p in folder.iterdir()]
    except FileNotFoundError:
      return []

  def wait_until(self, moment: str, rng: random.Random, seconds: float) -> None:
    """Waits for a moment to kill at; ``seconds`` is what a whole run takes."""
    before = set(self.names())
    lines = self.num_lines()
    if moment == "anywhere":
      until = self.started + rng.uniform(0, seconds)
      self.wait_for(lambda: time.monotonic() >= until)
    elif moment == "compiling":
      self.wait_for(lambda: "\nsteps " in self.log.read_text())
      time.sleep(rng.uniform(0, 3))
    elif moment == "saving":
      self.wait_for(lambda: any("tmp" in n for n in set(self.names()) - before))
      time.sleep(rng.uniform(0, 0.03))
    elif moment == "evaluating":
      # The checkpoint at an epoch's last step is saved before it is evaluated.
      ends = {
        str(e * STEPS_PER_EPOCH + e - 1) for e in range(1, self.epochs + 1)
      }
      self.wait_for(
        lambda: any(n.split(".")[0] in ends for n in set(self.names()) - before)
      )
      time.sleep(rng.uniform(0, 0.5))
    else:
      self.wait_for(
        lambda: (
          self.num_lines() > lines
          or any(self.workdir.glob(".metrics.jsonl.*.tmp"))
        )
      )

  def num_lines(self) -> int:
    """Of the log."""
    try:
      return (self.workdir / "metrics.jsonl").read_text().count("\n")
    except FileNotFoundError:
      return 0

  def result(self) -> dict[str, Any]:
    """All that a run leaves, without what a clock decides."""
    workdir = epath.Path(self.workdir)
    config = load_config(workdir, "last")
    run = load_run(workdir, config, "last", lambda _: None)
    state = run.state.replace(rng=jax.random.key_data(run.state.rng))
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    summary = json.loads((workdir / "summary.json").read_text())
    return {
      "state": [np.asarray(x).tobytes() for x in jax.tree.leaves(state)],
      "records": [without_times(r) for r in run.journal.records],
      "lines": [without_times(json.loads(line)) for line in lines],
      "summary": without_times(summary),
    }


def seconds_to_resume(run: Run) -> float:
  """From the command to the first step of a run that goes on.

  Without compilation, which is told in whole seconds.
  """
  run.epochs += 1
  run.start()
  run.wait_for(lambda: "\ncompiled" in run.log.read_text())
  seconds = time.monotonic() - run.started
  run.process.kill()
  run.process.wait()
  ((minutes, rest),) = re.findall(
    r"\ncompiled .* in (?:(\d+) min )?(\d+) s", run.log.read_text()
  )
  return seconds - 60 * int(minutes or 0) - int(rest)


def without_times(values: dict[str, Any]) -> dict[str, Any]:
  """What a clock decides, and nothing else, may differ.

  And the commit: the checkout may change while this kills.
  """
  return {
    name: value
    for name, value in values.items()
    if name not in ("seconds", "commit") and not name.endswith("_per_second")
  }


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--kills", type=int, default=20)
  parser.add_argument("--epochs", type=int, default=4)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument(
    "--config", type=Path, default=ROOT / "configs" / "smoke.py"
  )
  parser.add_argument("--moments", default=",".join(MOMENTS))
  parser.add_argument(
    "--write", action="store_true", help="results/chaos*.json"
  )
  args = parser.parse_args()
  rng = random.Random(args.seed)
  moments = args.moments.split(",")

  with tempfile.TemporaryDirectory() as folder:
    undisturbed = Run(Path(folder) / "undisturbed", args.epochs, args.config)
    undisturbed.start()
    if undisturbed.process.wait():
      print(undisturbed.log.read_text())
      return 1
    seconds = time.monotonic() - undisturbed.started
    expected = undisturbed.result()
    assert len(expected["lines"]) == args.epochs
    print(f"undisturbed: {seconds:.0f} s", flush=True)
    if args.write:
      resume_seconds = seconds_to_resume(undisturbed)

    rows: list[dict[str, Any]] = []
    killed, started = 0, time.monotonic()
    while killed < args.kills:
      run = Run(Path(folder) / f"run{len(rows)}", args.epochs, args.config)
      kills: list[str] = []
      while True:
        run.start()
        if killed < args.kills:
          moment = moments[killed % len(moments)]
          run.wait_until(moment, rng, seconds)
          run.process.send_signal(signal.SIGKILL)
        code = run.process.wait()
        if code != -signal.SIGKILL:
          break
        killed += 1
        kills.append(moment)
        left = (time.monotonic() - started) / killed * (args.kills - killed)
        print(
          f"kill {killed} of {args.kills}: {moment}, about"
          f" {format_seconds(left)} left",
          flush=True,
        )
      if code:
        print(run.log.read_text())
        return 1
      result = run.result()
      row = {
        "kills": kills,
        "same": {name: result[name] == expected[name] for name in expected},
        "lines_lost": len(expected["lines"]) - len(result["lines"]),
      }
      rows.append(row)
      print(row, flush=True)

  unequal = [row for row in rows if not all(row["same"].values())]
  print(f"{killed} kills in {len(rows)} runs, {len(unequal)} ended differently")
  if args.write:
    is_smoke = args.config.stem == "smoke"
    write_results(
      "chaos" if is_smoke else f"chaos-{args.config.stem}",
      rows,
      ("jax", "jaxlib", "flax", "orbax-checkpoint"),
      seed=args.seed,
      epochs=args.epochs,
      kills=killed,
      seconds_undisturbed=seconds,
      seconds_to_resume=resume_seconds,
    )
  return 1 if unequal else 0


if __name__ == "__main__":
  sys.exit(main())
