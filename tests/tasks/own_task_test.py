"""A task of one's own, in a file outside: what else than labels is learned."""

import json
import re

import jax
import pytest
from running import ROOT, TINY_RUN, records_of

from sparse_regimes.main import main

PAGE = (ROOT / "docs" / "your_own.md").read_text()
# The page's model and its task.
CODE = "".join(
  block
  for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
  if "class Curve" in block
)
FIELDS = (
  *("train.batch_size=32", "train.epochs=8", "train.num_devices=1"),
  *("eval.batch_size=64", "optimizer.name=adam"),
  *("optimizer.learning_rate=0.01", "optimizer.reference_batch_size=0"),
  *("task.noise=0.05", "controller.tighten_pct=0.1"),
  *("controller.signal=loss", "log.page=True"),
)


@pytest.mark.run
def test_it_trains_is_evaluated_goes_on_and_is_reported(tmp_path, capsys):
  file, folder = tmp_path / "mine.py", tmp_path / "run"
  file.write_text(CODE)
  command = [
    *(f"--config={TINY_RUN}", f"--workdir={folder}"),
    *(f"--config.task.name={file}:Curve", f"--config.model.name={file}:Fit"),
    *(f"--config.{field}" for field in FIELDS),
  ]
  with jax.numpy_dtype_promotion("standard"):
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "640 train and 128 test points: a curve" in printed
    records = records_of(folder)
    assert list(records[0])[8] == "train_fit"
    assert records[-1]["test_dense_fit"] > 0.7 > records[0]["test_dense_fit"]
    # The best epoch is that of the least loss.
    summary = json.loads((folder / "summary.json").read_text())
    best = min(records, key=lambda r: (r["test_dense_loss"], -r["epoch"]))
    assert summary["best_epoch"] == best["epoch"]
    assert summary["best_test_dense_fit"] == best["test_dense_fit"]
    page = (folder / "report.html").read_text()
    assert "test fit, dense" in page
    # It goes on, from the copy of its file.
    assert main([*command, "--config.train.epochs=9"]) == 0
    assert "resumed     after step" in capsys.readouterr().out
    file.unlink()
    assert main(["eval", f"--workdir={folder}", "--keep_ratios=1,0.2"]) == 0
    rows = json.loads((folder / "sweep.json").read_text())["rows"]
    assert rows[0]["fit"] == pytest.approx(
      max(r["test_dense_fit"] for r in records_of(folder)), abs=1e-5
    )
    assert main(["report", f"--workdir={folder}"]) == 0
    assert main(["measure", f"--workdir={folder}"]) == 2
  assert "task.name" in capsys.readouterr().err


def refused(tmp_path, capsys, *fields):
  """Trains with these; what it says in its one line."""
  code = main(
    [
      *(f"--config={TINY_RUN}", f"--workdir={tmp_path / 'run'}"),
      *(f"--config.{field}" for field in fields),
    ]
  )
  assert code == 2
  assert not (tmp_path / "run").exists()
  (line,) = capsys.readouterr().err.splitlines()
  return line


@pytest.mark.slow
@pytest.mark.parametrize(
  ("mistake", "message"),
  [
    (
      ('"signals": {"fit": fit, "stats"', '"signals": {"stats"'),
      "'fit' did not",
    ),
    (('metrics = {"fit": fit, ', "metrics = {"), "train_step of .* has no fit"),
    (
      ('return {"count": jnp.int32(count), "loss"', 'return {"loss"'),
      "no count",
    ),
    (('"loss": loss, "fit": fit} |', '"loss": loss} |'), "eval_step .* no fit"),
    (('"test": {', '"tests": {'), "evaluation_sets of .* have no test"),
    (('"fit", "loss"', '"fit", "los"'), "must be fit or loss, got 'los'"),
    (("  def extra(", "  def extras("), "lacks extra; see"),
    (
      ("self.num_train, self.arguments,", "self.a, self.arguments,"),
      "num_train",
    ),
    (
      ("nn.Dense(self.width)(x)", "nn.Dense(self.width)(x.reshape(7, 3))"),
      "inputs",
    ),
  ],
)
def test_a_mistake_in_a_task_is_a_line(tmp_path, capsys, mistake, message):
  assert CODE.count(mistake[0]) == 1, mistake
  file = tmp_path / "mine.py"
  file.write_text(CODE.replace(*mistake))
  with jax.numpy_dtype_promotion("standard"):
    line = refused(
      tmp_path,
      capsys,
      *(f"task.name={file}:Curve", f"model.name={file}:Fit", *FIELDS),
    )
  assert re.search(message, line), line


@pytest.mark.parametrize(
  ("field", "message"),
  [
    ("task.name={file}:Fit", "must be a class like sparse_regimes.tasks.Task"),
    ("task.name={file}:Nothing", "task.name: {file} has no 'Nothing'"),
    ("task.noise=0.1", "task.noise"),
  ],
)
def test_what_is_none_is_a_line(tmp_path, capsys, field, message):
  file = tmp_path / "mine.py"
  file.write_text(CODE)
  line = refused(tmp_path, capsys, field.format(file=file))
  assert message.format(file=file) in line
