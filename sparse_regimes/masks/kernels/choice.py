"""Which of the searches fits the platform, the dtype and the length of rows."""

import jax
import jax.numpy as jnp

from sparse_regimes.errors import one_of
from sparse_regimes.masks.kernels import pallas_gpu
from sparse_regimes.masks.kernels.pallas_tpu import MAX_BLOCK_BYTES, fits_kernel

IMPLEMENTATIONS = (
  "lax_top_k",
  "xla",
  "xla_fixed",
  "pallas_tpu",
  "pallas_gpu",
)


def choose(implementation: str | None, size: int, dtype: jnp.dtype) -> str:
  """The implementation asked for, or the fastest here.

  Args:
    implementation: one of ``IMPLEMENTATIONS``, or None.
    size: entries of a row, which share a budget.
    dtype: of the scores.

  Raises:
    ValueError: for a name that there is not, or one that cannot run here.
  """
  one_of("implementation", implementation, (None, *IMPLEMENTATIONS))
  fits_tpu = fits_kernel(size, dtype)
  why_no_gpu = pallas_gpu.why_not(size, dtype)
  if implementation == "pallas_gpu" and why_no_gpu:
    raise ValueError(
      f"implementation pallas_gpu needs {why_no_gpu}; xla_fixed, xla and"
      " lax_top_k run anywhere, None takes the fastest"
    )
  if implementation == "pallas_tpu" and not fits_tpu:
    raise ValueError(
      "implementation pallas_tpu takes rows of float32, bfloat16 or float16 up"
      f" to {MAX_BLOCK_BYTES // 128} bytes, got {size} of {dtype}"
    )
  if implementation is not None:
    return implementation
  platform, _ = pallas_gpu.device()
  if platform == "gpu":
    # A loop that ends by itself would ask the host before every pass.
    return "xla_fixed" if why_no_gpu else "pallas_gpu"
  # XLA cannot split a kernel over chips by itself; see search_rows.
  is_told = jax.device_count() == 1 or not (
    jax.sharding.get_abstract_mesh().empty
  )
  return "pallas_tpu" if platform == "tpu" and is_told and fits_tpu else "xla"
