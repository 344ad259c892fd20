"""Whatever lies where a run's files should be is read, or refused by an error.

``make fuzz`` tries 10,000 of each.
"""

import dataclasses
import gc
import json
import tempfile

import pytest
from damage import spoilt
from etils import epath
from hypothesis import given
from hypothesis import strategies as st
from journals import ARITHMETIC, journal_of, record
from saved import save_epochs, state_at

from sparse_regimes.errors import InputError
from sparse_regimes.runs import config as configs
from sparse_regimes.runs import past_run
from sparse_regimes.runs.journal import checksum_of, read_records
from sparse_regimes.runs.trace import Trace, read_trace


def check_line(error):
  assert "\n" not in str(error)


JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
  lambda inner: (
    st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=8), inner, max_size=4)
  ),
  max_leaves=8,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A folder with one checkpoint, and a state like the one in it."""
  folder = tmp_path_factory.mktemp("run")
  save_epochs(epath.Path(folder), [0.5])
  template = state_at(0)
  # A damaged checkpoint's reader collects garbage: what lives already need not
  # be looked through each time.
  gc.freeze()
  yield folder, template
  gc.unfreeze()


@pytest.mark.slow
@pytest.mark.parametrize(
  "name",
  [
    "journal/metadata",
    "state/_METADATA",
    "state/manifest.ocdbt",
    "_CHECKPOINT_METADATA",
  ],
)
@given(data=st.data())
def test_checkpoint_metadata(run, name, data):
  folder, template = run
  path = folder / "checkpoints" / "3" / name
  intact = path.read_bytes()
  try:
    path.write_bytes(data.draw(spoilt(intact)))
    state, journal = past_run.restore(
      epath.Path(folder), "last", template, lambda _: None
    )
  except InputError as error:
    check_line(error)
    return
  finally:
    path.write_bytes(intact)
    # What is left lives on: the next need not look through it.
    gc.freeze()
  assert int(state.step) == 2
  assert len(journal.records) == 1


TRACE = dataclasses.asdict(Trace.of(journal_of(2), ARITHMETIC))
TRACE["checksum"] = checksum_of(TRACE)


@given(
  changed=st.dictionaries(st.sampled_from(sorted(TRACE)), JSON, max_size=3)
)
def test_traces(changed):
  with tempfile.TemporaryDirectory() as temporary:
    workdir = epath.Path(temporary)
    (workdir / "trace.json").write_text(json.dumps(TRACE | changed))
    try:
      trace = read_trace(workdir)
    except InputError as error:
      check_line(error)
      return
  trace.budget.cycles(trace.steps)
  Trace.of(journal_of(1), trace.arithmetic)


METRICS = "".join(
  json.dumps(record(epoch, 0.5)) + "\n" for epoch in (1, 2)
).encode()


@given(content=spoilt(METRICS))
def test_metrics(content):
  with tempfile.TemporaryDirectory() as temporary:
    path = epath.Path(temporary) / "metrics.jsonl"
    path.write_bytes(content)
    try:
      records = read_records(path)
    except InputError as error:
      check_line(error)
      return
  for number, values in enumerate(records, start=1):
    assert values["epoch"] == number


FIELDS = sorted(configs.flatten(configs.default_config()))


@given(
  field=st.sampled_from(FIELDS) | st.text(max_size=20),
  value=st.text(max_size=20)
  | st.integers().map(str)
  | st.floats().map(str)
  | JSON.map(repr),
)
def test_overrides(field, value):
  try:
    config = configs.load("smoke", [f"{field}={value}"])
  except InputError as error:
    check_line(error)
    return
  assert field in configs.flatten(config)
