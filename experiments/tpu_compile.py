"""Compiles the training step with the real TPU compiler; needs no TPU.

Usage, in an environment with ``jax[tpu]``:
  python experiments/tpu_compile.py --topology=v5e:2x4 --batch_per_chip=128

Prints, for the dense program and for each implementation of the selection:
bytes accessed and peak memory per chip, the collectives, compile time.
Writes ``experiments/results/tpu_compile/TOPOLOGY.json``.
"""

import argparse
import collections
import os
import re
import time
from typing import Any

os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from bench import write_results
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sparse_regimes import TrainState, WideResNet, controllers, make_train_step
from sparse_regimes.data.dataset import normalize
from sparse_regimes.training.optimizer import sgd

COLLECTIVE = re.compile(
  r" (all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)"
  r"(?:-start)?\("
)


def compile_step(
  topology: str, *, depth: int, widen: int, batch_per_chip: int, variant: str
) -> dict:
  """Compiles one program and reads what the compiler says of it.

  Args:
    topology: such as ``v5e:2x4``.
    depth: of the network.
    widen: of the network.
    batch_per_chip: images on each chip.
    variant: ``dense`` (no mask at all) or an implementation of the selection.
  """
  devices = topologies.get_topology_desc(
    platform="tpu", topology_name=topology
  ).devices
  mesh = Mesh(np.array(devices), ("data",))
  dense = variant == "dense"
  model = WideResNet(
    depth,
    widen,
    dtype=jnp.bfloat16,
    implementation=None if dense else variant,
  )

  def apply_fn(variables, images, keep_ratio, **arguments):
    return model.apply(
      variables, images, 1.0 if dense else keep_ratio, **arguments
    )

  tx, controller = sgd(0.1), controllers.strategy1()
  state = jax.eval_shape(
    lambda: TrainState.create(
      model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), 1.0),
      tx=tx,
      controller=controller,
      rng=jax.random.key(1),
    )
  )
  everywhere = NamedSharding(mesh, PartitionSpec())
  split = NamedSharding(mesh, PartitionSpec("data"))
  batch_size = batch_per_chip * len(devices)
  state = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), state
  )
  batch = {
    "images": jax.ShapeDtypeStruct(
      (batch_size, 32, 32, 3), jnp.uint8, sharding=split
    ),
    "labels": jax.ShapeDtypeStruct((batch_size,), jnp.int32, sharding=split),
  }
  step: Any = make_train_step(apply_fn, tx, controller, preprocess=normalize)
  started = time.monotonic()
  # The kernels learn from the mesh in force how the batch is split.
  with jax.set_mesh(mesh):
    compiled = step.lower(state, batch).compile()
  seconds = time.monotonic() - started
  cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
  collectives = collections.Counter(COLLECTIVE.findall(compiled.as_text()))
  return {
    "variant": variant,
    "gigabytes_accessed": cost["bytes accessed"] / 1e9,
    "teraflops": cost["flops"] / 1e12,
    "peak_megabytes": memory.peak_memory_in_bytes / 1e6,
    "collectives": dict(sorted(collectives.items())),
    "compile_seconds": seconds,
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--topology", default="v5e:2x4")
  parser.add_argument("--depth", type=int, default=28)
  parser.add_argument("--widen", type=int, default=4)
  parser.add_argument("--batch_per_chip", type=int, default=128)
  parser.add_argument("--variants", default="dense,pallas_tpu,xla")
  args = parser.parse_args()
  setup = {
    "depth": args.depth,
    "widen": args.widen,
    "batch_per_chip": args.batch_per_chip,
  }
  rows: list[dict] = []
  for variant in args.variants.split(","):
    row = compile_step(args.topology, variant=variant, **setup)
    base = rows[0] if rows else row
    for name in ("gigabytes_accessed", "peak_megabytes"):
      row[f"{name}_over_dense"] = row[name] / base[name]
    rows.append(row)
    print(
      f"{variant:>12}  {row['gigabytes_accessed']:6.2f} GB accessed"
      f" ({row['gigabytes_accessed_over_dense']:.2f}x)"
      f"  {row['peak_megabytes']:7.0f} MB at the peak"
      f" ({row['peak_megabytes_over_dense']:.2f}x)"
      f"  {row['collectives']}  {row['compile_seconds']:.0f} s",
      flush=True,
    )
  name = args.topology.replace(":", "-")
  write_results(
    f"tpu_compile/{name}-wrn-{args.depth}-{args.widen}",
    rows,
    ("jax", "jaxlib", "libtpu"),
    device=args.topology,
    **setup,
  )


if __name__ == "__main__":
  main()
