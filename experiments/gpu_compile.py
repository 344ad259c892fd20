"""Compiles the training step for a GPU that is not there; needs no GPU.

Usage, in an environment with the extra ``gpu-compile`` (the CUDA plugin without
the CUDA libraries):
  python experiments/gpu_compile.py --depth=28 --widen=4

For the dense program, for the searches in XLA and for the kernel it prints what
the host waits for, the kernels that are launched, bytes accessed (without what
our kernel reads, which XLA does not know) and memory; and of our kernel alone
registers, spills and shared memory for each row that the network has. The
search in XLA also with its loops in command buffers, which is an option of the
compiler. Where the GPU has no kernel, that row is left out.
Writes ``experiments/results/gpu_compile/DEVICE-wrn-DEPTH-WIDEN.json``.
"""

import argparse
import contextlib
import functools
import itertools
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
import numpy as np
from bench import write_results
from gpu_plan import (
  read_convolutions,
  read_plan,
  waits_outside_command_buffers,
)
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sparse_regimes import TrainState, WideResNet, controllers, make_train_step
from sparse_regimes.analysis.budget_sweep import make_sweep_step
from sparse_regimes.data.dataset import normalize
from sparse_regimes.masks.kernels import pallas_gpu
from sparse_regimes.training.optimizer import sgd

PROGRAMS = ("training step", "sweep")
TARGETS = Path(__file__).parent / "gpu"
# So the loops of the search in XLA are ended on the device; the list is whole.
COMMAND_BUFFERS = {
  "xla_gpu_enable_command_buffer": (
    "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,WHILE,CONDITIONAL"
  )
}


def mesh_of(
  target: str, num_devices: int = 1, kind: AxisType = AxisType.Auto
) -> Mesh:
  """A mesh of such devices, with the axis ``data``.

  Args:
    target: a file of ``experiments/gpu``, without its suffix.
    num_devices: in one machine.
    kind: of the axis.
  """
  topology = topologies.get_topology_desc(
    platform="cuda",
    target_config=(TARGETS / f"{target}.txtpb").read_text(),
    topology=f"1x1x{num_devices}",
  )
  return Mesh(np.array(topology.devices), ("data",), axis_types=(kind,))


def compile_step(
  target: str,
  *,
  depth: int,
  widen: int,
  batch_size: int,
  variant: str,
  program: str = "training step",
) -> dict[str, Any]:
  """Compiles one program and reads what is in its plan.

  Args:
    target: as for :func:`mesh_of`.
    depth: of the network.
    widen: of the network.
    batch_size: images.
    variant: ``dense`` (no mask at all) or an implementation of the selection;
      with ``+command_buffers`` loops and conditionals are put into such.
    program: one of ``PROGRAMS``; the sweep's is its evaluation of a batch.
  """
  mesh = mesh_of(target)
  variant, _, buffers = variant.partition("+")
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
  if program == "sweep":
    ratio = jax.ShapeDtypeStruct((), jnp.float32, sharding=here)
    step: Any = make_sweep_step(apply_fn, preprocess=normalize)
    arguments: tuple[Any, ...] = (state, batch, ratio)
  else:
    step = make_train_step(apply_fn, tx, controller, preprocess=normalize)
    arguments = (state, batch)
  started = time.monotonic()
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    lowered = step.lower(*arguments)
  if buffers:
    compiled, waits = compile_into_buffers(lowered)
  else:
    compiled = lowered.compile()
  memory = compiled.memory_analysis()
  text = compiled.as_text()
  plan = read_plan(text)
  if buffers:
    plan["host_waits"] = waits
  return {
    "program": program,
    "variant": f"{variant}+{buffers}" if buffers else variant,
    **plan,
    "convolutions": read_convolutions(text),
    "gigabytes_accessed": bytes_accessed(compiled) / 1e9,
    "temporary_megabytes": memory.temp_size_in_bytes / 1e6,
    "compile_seconds": time.monotonic() - started,
  }


def why_no_kernel(target: str) -> str:
  """Why such a GPU has no kernel for the network's longest rows."""
  with jax.sharding.use_abstract_mesh(mesh_of(target).abstract_mesh):
    return pallas_gpu.why_not(65_536, jnp.dtype(jnp.bfloat16))


def compile_into_buffers(lowered: Any) -> tuple[Any, int]:
  """With loops in command buffers; and what the host still waits for."""
  with tempfile.TemporaryDirectory() as dump:
    compiled = lowered.compile(
      compiler_options=COMMAND_BUFFERS
      | {"xla_dump_to": dump, "xla_dump_hlo_as_text": True}
    )
    # Only the launch plan says what is inside a command buffer.
    (plan,) = Path(dump).glob("*thunk_sequence_after_thunk_passes.txt")
    return compiled, waits_outside_command_buffers(plan.read_text())


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
  mesh = mesh_of(target)
  here = NamedSharding(mesh, PartitionSpec())
  arguments = (
    jax.ShapeDtypeStruct((rows, size), dtype, sharding=here),
    jax.ShapeDtypeStruct((rows, 1), jnp.int32, sharding=here),
  )
  with captured() as said, jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    kernel = functools.partial(pallas_gpu.search, writes_kept=True)
    jax.jit(kernel).lower(*arguments).compile()
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
  parser.add_argument(
    "--variants",
    default="dense,xla,xla+command_buffers,xla_fixed,pallas_gpu",
  )
  args = parser.parse_args()
  setup = {
    "depth": args.depth,
    "widen": args.widen,
    "batch_size": args.batch_size,
  }
  rows: list[dict[str, Any]] = []
  variants = args.variants.split(",")
  has_kernel = not why_no_kernel(args.target)
  if not has_kernel:
    variants = [v for v in variants if v != "pallas_gpu"]
  for program, variant in itertools.product(PROGRAMS, variants):
    row = compile_step(args.target, variant=variant, program=program, **setup)
    rows.append(row)
    print(
      f"{program:>13}  {variant:>19}  {row['host_waits']:3d} host waits"
      f"  {row['kernels']:5d} kernels"
      f"  {row['gigabytes_accessed']:6.2f} GB"
      f"  {row['temporary_megabytes']:7.0f} MB"
      f"  {row['compile_seconds']:.0f} s",
      flush=True,
    )
  kernels = []
  dtypes = (jnp.bfloat16, jnp.float32) if has_kernel else ()
  for size, dtype in itertools.product((65_536, 32_768, 16_384), dtypes):
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
