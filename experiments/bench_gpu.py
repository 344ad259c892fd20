"""Everything that is to be known of a GPU, in a few minutes of one.

Usage, on a machine with a GPU:
  python experiments/bench_gpu.py [--minutes=8] [--workdir=runs/gpu]
      [--config.data.dir=...]

First it checks that masks and gradients are exact, and that every kind of mask
decides as on the CPU; then it times the mask (where torch is there,
``torch.topk`` beside) and the full step (masked, at ratio 1, without any mask)
and writes each number to ``results/bench_gpu-DEVICE.json`` as soon as it is
known. With what is left of the minutes it trains the paper's run, which goes on
where it was when the command is given again.
"""

import argparse
import functools
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from bench import interleaved_milliseconds, write_results
from bench_masks import MASKS
from bench_step import make_call

from sparse_regimes import (
  SparseActivation,
  num_kept,
  sparse_activation,
  topk_mask,
)
from sparse_regimes.masks.kernels.choice import IMPLEMENTATIONS

_ROWS = (65_536, 32_768, 16_384)
_SITES = 10
_RATIOS = (1e-6, 0.037, 0.2, 0.5, 0.999, 1.0)


def implementations(scores: jax.Array) -> list[str]:
  """Those that run here; what they would be compared with is not among them."""
  found = []
  for name in IMPLEMENTATIONS:
    try:
      jax.eval_shape(
        functools.partial(topk_mask, axis=-1, implementation=name), scores, 0.5
      )
    except ValueError:
      continue
    # Elsewhere it is interpreted.
    if name != "pallas_tpu" or jax.default_backend() == "tpu":
      found.append(name)
  return found


def check_and_time(size: int, dtype: Any, num_rows: int) -> dict[str, Any]:
  """Whether the masks of such rows are exact, and what they take."""
  key = jax.random.key(size)
  scores = jax.nn.relu(jax.random.normal(key, (num_rows, size))).astype(dtype)
  names = implementations(scores)
  masks = {
    name: jax.jit(functools.partial(topk_mask, axis=-1, implementation=name))
    for name in names
  }
  exact = {
    name: all(
      bool(jnp.all(masks[name](scores, r) == masks["lax_top_k"](scores, r)))
      for r in map(jnp.float32, _RATIOS)
    )
    for name in names
  }
  exact |= {f"{name}, gradient": _is_exact(name, scores) for name in names}
  keys = jax.random.split(key, _SITES)
  xs = [jax.random.normal(k, scores.shape).astype(dtype) for k in keys]
  calls: dict[str, Any] = {
    name: functools.partial(_sites(name), xs) for name in (*names, "relu")
  }
  if on_torch := _torch_call(scores, 0.2):
    calls["torch.topk"] = on_torch
  times = interleaved_milliseconds(calls, rounds=21)
  return {
    "size": size,
    "rows": num_rows,
    "dtype": jnp.dtype(dtype).name,
    "exact": exact,
    "microseconds": {n: 1e3 * time / _SITES for n, time in times.items()},
  }


def _sites(name: str) -> Any:
  """Several masked ReLUs in a call: of one, most would be its launch."""

  def masked(xs: list[jax.Array]) -> list[jax.Array]:
    if name == "relu":
      return [jax.nn.relu(x) for x in xs]
    ratio = jnp.float32(0.2)
    return [sparse_activation(x, ratio, implementation=name) for x in xs]

  return jax.jit(masked)


def _is_exact(name: str, x: jax.Array) -> bool:
  """Whether a masked ReLU and its derivative are those by the reference."""

  def found(implementation: str) -> list[jax.Array]:
    def activation(x: jax.Array, ratio: jax.Array) -> jax.Array:
      return sparse_activation(x, ratio, implementation=implementation)

    y, vjp = jax.vjp(jax.jit(activation), x - 1, jnp.float32(0.1))
    return [y, vjp(y)[0]]

  pairs = zip(found(name), found("lax_top_k"), strict=True)
  return all(bool(jnp.all(a == b)) for a, b in pairs)


def _torch_call(scores: jax.Array, keep_ratio: float) -> Any:
  """The mask by ``torch.topk`` and a scatter, if torch is there for GPUs."""
  try:
    import torch
  except ImportError:
    return None
  if not torch.cuda.is_available():
    return None
  x = torch.from_numpy(np.asarray(scores.astype(jnp.float32))).cuda()
  x = x.to(getattr(torch, scores.dtype.name))
  kept = int(num_kept(scores.shape[1], keep_ratio))

  def call() -> None:
    for _ in range(_SITES):
      mask = torch.zeros_like(x, dtype=torch.bool)
      mask.scatter_(1, torch.topk(x, kept, dim=1, sorted=False).indices, True)
    torch.cuda.synchronize()

  return call


def check_rules() -> dict[str, Any]:
  """The share of entries that a mask decides otherwise than on the CPU.

  Of a ReLU's values and of their gradients; sums that are added in another
  order may move a threshold by a rounding.
  """
  x, g = jax.random.normal(jax.random.key(0), (2, 768, 512))
  cpu = jax.devices("cpu")[0]
  differ = {}
  for mask in MASKS:
    layer = SparseActivation(activation="relu", mask=mask, scope="channel")

    def both(variables: Any, x: Any, g: Any, layer: Any = layer) -> Any:
      def forward(x: jax.Array) -> Any:
        return layer.apply(variables, x, 0.25, mutable=["masks"])

      y, pull, _ = jax.vjp(forward, x, has_aux=True)
      return y != 0, pull(g)[0] != 0

    variables = layer.init(jax.random.key(0), x, 0.25)
    here = jax.jit(both)(variables, x, g)
    there = jax.jit(both)(*jax.device_put((variables, x, g), cpu))
    differ[mask] = max(
      float(np.mean(np.asarray(a) != np.asarray(b)))
      for a, b in zip(here, there, strict=True)
    )
  return {"decided_otherwise_than_on_cpu": differ}


def time_step(network: str) -> dict[str, Any]:
  """The full step, ``DEPTHxWIDENxBATCH``, as ``bench_step`` times it."""
  depth, widen, batch_size = map(int, network.split("x"))
  calls = {
    name: make_call(depth, widen, batch_size, ratio)[0]
    for name, ratio in (("masked", 0.2), ("ratio 1", 1.0), ("no mask", None))
  }
  times = interleaved_milliseconds(calls, rounds=21)
  return {
    "network": network,
    "milliseconds": times,
    "masked_over_no_mask": times["masked"] / times["no mask"],
    "images_per_second": 1e3 * batch_size / times["masked"],
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--minutes", type=float, default=8.0)
  parser.add_argument("--network", default="28x4x128")
  parser.add_argument("--rows", type=int, default=128)
  parser.add_argument("--config", default="wrn_strategy1")
  parser.add_argument("--workdir", type=Path, default=Path("runs/gpu"))
  args, overrides = parser.parse_known_args()
  ends = time.monotonic() + 60 * args.minutes
  name = jax.devices()[0].device_kind.replace(" ", "_")
  rows: list[dict[str, Any]] = []

  def known(row: dict[str, Any]) -> None:
    rows.append(row)
    print(row, flush=True)
    write_results(f"bench_gpu-{name}", rows, ["jax", "jaxlib"])

  for size in _ROWS:
    for dtype in (jnp.bfloat16, jnp.float32):
      known(check_and_time(size, dtype, args.rows))
  known(check_rules())
  known(time_step(args.network))
  left = ends - time.monotonic()
  if left <= 0:
    return
  command = [
    *(sys.executable, "-m", "sparse_regimes", "train"),
    *(f"--config={args.config}", f"--workdir={args.workdir}", *overrides),
  ]
  print(f"training for {left:.0f} s: {' '.join(command)}", flush=True)
  with subprocess.Popen(command) as process:
    try:
      process.wait(left)
    except subprocess.TimeoutExpired:
      # It saves what it has, and goes on from there the next time.
      process.terminate()


if __name__ == "__main__":
  main()
