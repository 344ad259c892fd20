"""Which devices a run uses, and how its arrays lie on them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sparse_regimes.errors import InputError
from sparse_regimes.masks.kernels.sharding import DATA_AXIS

PARAMETERS = ("replicated", "sharded")


def make_mesh(batch_size: int, num_devices: int = 0) -> Mesh:
  """A mesh with the one axis ``data``, over which batches are split.

  Args:
    batch_size: a multiple of the number of devices.
    num_devices: 0 for as many as divide the batch; a process among others has
      to use all of its own.

  Raises:
    InputError: if so many devices are not there or do not divide the batch.
  """
  devices = jax.devices()
  wanted = num_devices or (
    len(devices)
    if jax.process_count() > 1
    else max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
  )
  if wanted > len(devices) or wanted % jax.process_count():
    raise InputError(
      f"train.num_devices must be at most the {len(devices)} devices and the"
      f" same for each of {jax.process_count()} processes, got {wanted}"
    )
  if batch_size % wanted:
    raise InputError(
      f"train.batch_size must be a multiple of the {wanted} devices it is split"
      f" over, got {batch_size}"
    )
  each = wanted // jax.process_count()
  used = [
    device
    for process in range(jax.process_count())
    for device in [d for d in devices if d.process_index == process][:each]
  ]
  if len(used) < wanted:
    raise InputError(
      f"train.num_devices must leave {each} devices to every process, got"
      f" {wanted}"
    )
  return Mesh(np.array(used), (DATA_AXIS,))


def state_shardings(state: Any, mesh: Mesh, parameters: str) -> Any:
  """How each array of a state lies on the mesh.

  Args:
    state: a pytree of arrays or of ``jax.ShapeDtypeStruct``.
    mesh: of :func:`make_mesh`.
    parameters: ``replicated``: each device holds all; ``sharded``: each array
      of a parameter's or a moment's size is split over the devices along its
      longest axis that they divide, and gathered where it is used.

  Returns:
    The same structure of ``NamedSharding``.
  """

  def sharding(x: Any) -> NamedSharding:
    spec: list[str | None] = [None] * x.ndim
    divided = [a for a in range(x.ndim) if x.shape[a] % mesh.size == 0]
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    if parameters == "sharded" and divided and not is_key:
      spec[max(divided, key=lambda a: x.shape[a])] = DATA_AXIS
    return NamedSharding(mesh, PartitionSpec(*spec))

  return jax.tree.map(sharding, state)


def over_batches(mesh: Mesh, axis: int, size: int) -> NamedSharding:
  """Splits ``axis``, of a batch of ``size``, if the devices divide it."""
  spec = [None] * axis + [DATA_AXIS] if size % mesh.size == 0 else []
  return NamedSharding(mesh, PartitionSpec(*spec))


def replicated(mesh: Mesh) -> NamedSharding:
  """Every device holds all of it."""
  return NamedSharding(mesh, PartitionSpec())


def place(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
  """Puts an array, which all processes have, on the devices of a sharding."""
  return jax.make_array_from_callback(
    array.shape, sharding, lambda index: array[index]
  )


def place_state(state: Any, shardings: Any) -> Any:
  """Puts a state, which all processes have made, where it is to lie."""

  def place_leaf(x: jax.Array, sharding: NamedSharding) -> jax.Array:
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      data = place(np.asarray(jax.random.key_data(x)), sharding)
      return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
    return place(np.asarray(x), sharding)

  return jax.tree.map(place_leaf, state, shardings)


def described(state: Any, shardings: Any) -> Any:
  """Shapes, dtypes and shardings of a state, to restore one like it."""
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    state,
    shardings,
  )
