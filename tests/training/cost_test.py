"""What a mask adds to the compiled step: the costs that do not drift.

Times are for the benchmarks in ``experiments/``.
"""

import collections
import functools
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sparse_regimes import (
  TrainState,
  WideResNet,
  controllers,
  make_train_step,
  topk_mask,
)
from sparse_regimes.data.dataset import normalize
from sparse_regimes.training.optimizer import sgd

# What is counted is the program that a user gets.
pytestmark = pytest.mark.optimised

EXPERIMENTS = Path(__file__).parent.parent.parent / "experiments"
COLLECTIVE = re.compile(
  r" (all-\w+|reduce-scatter|collective-\w+)(?:-start)?\("
)


@functools.cache
def compiled_step(masked, num_devices, depth):
  """A step, on a batch split over devices if there are several."""
  model = WideResNet(depth, 1)
  tx, controller = sgd(0.1), controllers.strategy1()

  def apply_fn(variables, images, keep_ratio, **arguments):
    return model.apply(
      variables, images, keep_ratio if masked else 1.0, **arguments
    )

  def create():
    variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), 1.0)
    return TrainState.create(
      variables, tx=tx, controller=controller, rng=jax.random.key(1)
    )

  mesh = Mesh(np.array(jax.devices()[:num_devices]), ("data",))

  def placed(x, *axes):
    sharding = NamedSharding(mesh, PartitionSpec(*axes))
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

  batch = {
    "images": placed(jnp.zeros((8, 32, 32, 3), jnp.uint8), "data"),
    "labels": placed(jnp.zeros(8, jnp.int32), "data"),
  }
  state = jax.tree.map(placed, jax.eval_shape(create))
  step = make_train_step(apply_fn, tx, controller, preprocess=normalize)
  with jax.set_mesh(mesh):
    return step.lower(state, batch).compile()


def test_temporary_memory():
  """Of the program of several devices, which is compiled but once."""
  masked, dense = (
    compiled_step(masked, 8, 10).memory_analysis().temp_size_in_bytes
    for masked in (True, False)
  )
  assert 1 < masked / dense <= 1.1


def test_collectives_are_the_dense_program_s():
  masked, dense = (
    collections.Counter(COLLECTIVE.findall(compiled_step(m, 8, 10).as_text()))
    for m in (True, False)
  )
  assert masked == dense
  assert set(dense) == {"all-reduce"}


def test_at_ratio_1_nothing_is_searched():
  """A counting loop in one branch of a conditional, and nowhere else."""
  mask = functools.partial(topk_mask, axis=1, implementation="xla")
  program = jax.make_jaxpr(mask)(jnp.zeros((2, 1024)), 0.5).jaxpr
  while not any(e.primitive.name == "cond" for e in program.eqns):
    # From 0.12 on an inlined function keeps its place.
    (program,) = (
      e.params["jaxpr"].jaxpr for e in program.eqns if "jaxpr" in e.params
    )
  (conditional,) = (e for e in program.eqns if e.primitive.name == "cond")
  search, dense = conditional.params["branches"]
  assert "while" in str(search)
  # A mask full of ones is all that is made.
  assert {e.primitive.name for e in dense.jaxpr.eqns} == {"broadcast_in_dim"}
  # Outside there are only scalars: the number of entries to keep.
  for eqn in program.eqns:
    if eqn.primitive.name not in ("cond", "stop_gradient"):
      assert all(v.aval.size == 1 for v in eqn.outvars), eqn


@pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="needs jax[tpu]"
)
@pytest.mark.run
def test_bytes_of_the_tpu_program():
  """At 1.3 the search reads each activation about once, and stays on chip."""
  code = (
    "import json, tpu_compile\n"
    "for variant in ('dense', 'pallas_tpu'):\n"
    "  print(json.dumps(tpu_compile.compile_step('v5e:2x2', depth=10, widen=2,"
    " batch_per_chip=128, variant=variant)))\n"
  )
  result = subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    text=True,
    check=False,
    cwd=EXPERIMENTS,
  )
  assert result.returncode == 0, result.stderr
  dense, masked = map(json.loads, result.stdout.splitlines()[-2:])
  assert masked["gigabytes_accessed"] <= 1.3 * dense["gigabytes_accessed"]
  assert masked["peak_megabytes"] <= 1.1 * dense["peak_megabytes"]
  assert masked["collectives"] == dense["collectives"]
