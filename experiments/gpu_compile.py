"""Compiles the training step for a GPU that is not there; needs no GPU.

Usage, in an environment with the extra ``gpu-compile`` (the CUDA plugin without
the CUDA libraries):
  python experiments/gpu_compile.py --depth=28 --widen=4

For the dense program, for the search in XLA and for the kernel it prints what
the host waits for, the kernels that are launched, bytes accessed (without what
our kernel moves, which XLA does not know) and memory; and of our kernel alone
registers, spills and shared memory for each row that the network has.
Writes ``experiments/results/gpu_compile/DEVICE-wrn-DEPTH-WIDEN.json``.
"""

import argparse
import contextlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The assembler says what a kernel takes.
os.environ.setdefault("MOSAIC_GPU_DUMP_PTXAS", "1")

import jax
import jax.numpy as jnp
from bench import write_results
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec

from sparse_regimes import TrainState, WideResNet, controllers, make_train_step
from sparse_regimes.data.dataset import normalize
from sparse_regimes.training.optimizer import sgd

TARGETS = Path(__file__).parent / "gpu"
# Instructions of an optimised module that are no kernels.
_NO_KERNEL = {
  *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "call"),
  *("while", "conditional", "opt-barrier", "after-all", "add-dependency"),
  "partition-id",
}
# Computations that are run, rather than compiled into an instruction.
_CALLED = re.compile(
  r"(?:body|condition|true_computation|false_computation"
  r"|branch_computations)=(\{[^}]*\}|%?[\w.-]+)"
)
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = .*? ([a-z][\w-]*)\(")


def mesh_of(target: str) -> Any:
  """A mesh of one such device.

  Args:
    target: a file of ``experiments/gpu``, without its suffix.
  """
  topology = topologies.get_topology_desc(
    platform="cuda",
    target_config=(TARGETS / f"{target}.txtpb").read_text(),
    topology="1x1x1",
  )
  return topologies.make_mesh(topology, (1,), ("data",))


def compile_step(
  target: str, *, depth: int, widen: int, batch_size: int, variant: str
) -> dict[str, Any]:
  """Compiles one program and reads what is in its plan.

  Args:
    target: as for :func:`mesh_of`.
    depth: of the network.
    widen: of the network.
    batch_size: images.
    variant: ``dense`` (no mask at all) or an implementation of the selection.
  """
  mesh = mesh_of(target)
  dense = variant == "dense"
  model = WideResNet(
    depth,
    widen,
    dtype=jnp.bfloat16,
    # At a constant ratio of 1 XLA drops its own search.
    implementation="xla" if dense else variant,
  )

  def apply_fn(variables, images, keep_ratio, **arguments):
    return model.apply(
      variables, images, 1.0 if dense else keep_ratio, **arguments
    )

  tx, controller = sgd(0.1), controllers.strategy1()
  # The mask learns from the mesh what is compiled for.
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    state = jax.eval_shape(
      lambda: TrainState.create(
        model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), 1.0),
        tx=tx,
        controller=controller,
        rng=jax.random.key(1),
      )
    )
  here = NamedSharding(mesh, PartitionSpec())
  state, batch = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here),
    (
      state,
      {
        "images": jax.ShapeDtypeStruct((batch_size, 32, 32, 3), jnp.uint8),
        "labels": jax.ShapeDtypeStruct((batch_size,), jnp.int32),
      },
    ),
  )
  step: Any = make_train_step(apply_fn, tx, controller, preprocess=normalize)
  started = time.monotonic()
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    lowered = step.lower(state, batch)
  compiled = lowered.compile()
  memory = compiled.memory_analysis()
  return {
    "variant": variant,
    **read_plan(compiled.as_text()),
    "gigabytes_accessed": bytes_accessed(compiled) / 1e9,
    "temporary_megabytes": memory.temp_size_in_bytes / 1e6,
    "compile_seconds": time.monotonic() - started,
  }


def read_plan(text: str) -> dict[str, int]:
  """What an optimised module launches, and what the host waits for.

  A ``while`` without a known number of iterations copies its condition to the
  host before each, a ``conditional`` its index once. Kernels are those of the
  whole program and of one pass of every loop; what is inside a fusion or a
  reduction is none of its own.
  """
  called = {
    name
    for names in _CALLED.findall(text)
    for name in re.findall(r"[\w.-]+", names)
  }
  waits = {"while": 0, "conditional": 0}
  kernels = 0
  is_counted = False
  for line in text.splitlines():
    if line.endswith("{") and not line.startswith(" "):
      name = line.removeprefix("ENTRY ").lstrip("%").split(" ")[0]
      is_counted = line.startswith("ENTRY") or name in called
    match = _INSTRUCTION.match(line)
    if match is None or not is_counted:
      continue
    opcode = match[1]
    if opcode in waits:
      waits[opcode] += opcode == "conditional" or "known_trip_count" not in line
    kernels += opcode not in _NO_KERNEL
  return {
    "host_waits": sum(waits.values()),
    "whiles": waits["while"],
    "conditionals": waits["conditional"],
    "kernels": kernels,
  }


def bytes_accessed(compiled: Any) -> float:
  """Of the optimised module; what a kernel of ours moves is not known to it."""
  from jax._src.lib import _jax

  (module,) = compiled.runtime_executable().hlo_modules()
  cpu = jax.devices("cpu")[0].client
  return _jax.hlo_module_cost_analysis(cpu, module)["bytes accessed"]


def compile_kernel(
  target: str, rows: int, size: int, dtype: Any
) -> dict[str, Any]:
  """What the assembler says of the search of such rows."""
  from sparse_regimes.masks.kernels import pallas_gpu

  mesh = mesh_of(target)
  here = NamedSharding(mesh, PartitionSpec())
  arguments = (
    jax.ShapeDtypeStruct((rows, size), dtype, sharding=here),
    jax.ShapeDtypeStruct((rows, 1), jnp.int32, sharding=here),
  )
  with captured() as said, jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    jax.jit(pallas_gpu.search).lower(*arguments).compile()
  text = said()

  def number(pattern: str) -> int | None:
    found = re.findall(pattern, text)
    return max(map(int, found)) if found else None

  return {
    "size": size,
    "dtype": jnp.dtype(dtype).name,
    "registers": number(r"Used (\d+) registers"),
    "bytes_spilled": number(r"(\d+) bytes spill (?:stores|loads)"),
    "shared_bytes": pallas_gpu.shared_bytes(size, jnp.dtype(dtype)),
  }


@contextlib.contextmanager
def captured() -> Iterator[Any]:
  """What is written to the standard streams, by whatever library."""
  with tempfile.TemporaryFile("w+") as file:
    sys.stdout.flush()
    before = [os.dup(1), os.dup(2)]
    text = ""
    for stream in (1, 2):
      os.dup2(file.fileno(), stream)
    try:
      yield lambda: text
    finally:
      for stream, old in zip((1, 2), before, strict=True):
        os.dup2(old, stream)
        os.close(old)
      file.seek(0)
      text = file.read()


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--target", default="h100_sxm")
  parser.add_argument("--depth", type=int, default=28)
  parser.add_argument("--widen", type=int, default=4)
  parser.add_argument("--batch_size", type=int, default=128)
  parser.add_argument("--variants", default="dense,xla,pallas_gpu")
  args = parser.parse_args()
  setup = {
    "depth": args.depth,
    "widen": args.widen,
    "batch_size": args.batch_size,
  }
  rows: list[dict[str, Any]] = []
  for variant in args.variants.split(","):
    row = compile_step(args.target, variant=variant, **setup)
    rows.append(row)
    print(
      f"{variant:>12}  {row['host_waits']:3d} host waits"
      f"  {row['kernels']:5d} kernels"
      f"  {row['gigabytes_accessed']:6.2f} GB"
      f"  {row['temporary_megabytes']:7.0f} MB"
      f"  {row['compile_seconds']:.0f} s",
      flush=True,
    )
  kernels = []
  for size in (65_536, 32_768, 16_384):
    for dtype in (jnp.bfloat16, jnp.float32):
      kernel = compile_kernel(args.target, args.batch_size, size, dtype)
      kernels.append(kernel)
      print(kernel, flush=True)
  write_results(
    f"gpu_compile/{args.target}-wrn-{args.depth}-{args.widen}",
    rows,
    ("jax", "jaxlib", "jax-cuda12-plugin"),
    device=args.target,
    search=kernels,
    **setup,
  )


if __name__ == "__main__":
  main()
