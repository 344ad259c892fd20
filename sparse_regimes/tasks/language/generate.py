"""Text that goes on, a token at a time, at any keep ratio."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jax.typing import ArrayLike

from sparse_regimes.layers.gathered import padded
from sparse_regimes.masks.budget import num_kept


def generate(
  model: nn.Module,
  variables: Any,
  prompt: np.ndarray,
  num_tokens: int,
  keep_ratio: ArrayLike,
  *,
  key: jax.Array,
  temperature: float = 0.8,
  gather: bool = False,
) -> Iterator[np.ndarray]:
  r"""Tokens that follow a prompt, as they come.

  .. math:: p(x_{t+1}) = \mathrm{softmax}(z_t / T)

  Keys and values of what was seen are kept, so a token costs one pass of one
  token. When the context is full, its second half begins a new one.

  Args:
    model: a :class:`sparse_regimes.models.Transformer`.
    variables: its parameters.
    prompt: int ``[n]``, at least one token, at most the context.
    num_tokens: to make.
    keep_ratio: real scalar or one a site.
    key: of what is drawn.
    temperature: T; 0 takes the likeliest token.
    gather: MLPs read the weights of kept activations alone, which is the faster
      the wider they are; the last bits may differ.

  Yields:
    int32 ``[m]`` at a time, ``num_tokens`` in all.

  Raises:
    ValueError: for a prompt that is empty or longer than the context.

  Source: ours.
  """
  context = model.context
  if not 1 <= len(prompt) <= context:
    raise ValueError(
      f"prompt must have 1 to {context} tokens, as many as the context, got"
      f" {len(prompt)}"
    )
  rows = None
  if gather:
    # For the largest of the sites' budgets; few sizes, few programs.
    width = model.hidden_width
    most = int(num_kept(width, float(np.max(keep_ratio))))
    rows = padded(most, width)
  # Of float32, in which 1e-50 is 0.
  is_greedy = np.float32(temperature) == 0
  fill = _filler(model, rows, bool(is_greedy))
  seen = np.asarray(prompt, np.int32)
  heat = jnp.float32(1.0 if is_greedy else temperature)
  ratio = jnp.asarray(keep_ratio, jnp.float32)
  while num_tokens > 0:
    if len(seen) == context:
      seen = seen[context - max(1, context // 2) :]
    key, used = jax.random.split(key)
    tokens = np.zeros(context, np.int32)
    tokens[: len(seen)] = seen
    filled = np.asarray(
      fill(variables, tokens, np.int32(len(seen)), ratio, heat, used)
    )
    new = filled[len(seen) :][:num_tokens]
    num_tokens -= len(new)
    yield new
    seen = filled


@functools.cache
def _filler(model: nn.Module, num_gathered: int | None, is_greedy: bool) -> Any:
  """A compiled program that fills a context that has begun."""

  @jax.jit
  def fill(
    variables: Any,
    tokens: jax.Array,
    length: jax.Array,
    keep_ratio: jax.Array,
    temperature: jax.Array,
    key: jax.Array,
  ) -> jax.Array:
    def step(carry: Any, place: jax.Array) -> Any:
      tokens, cache = carry
      logits, cache = model.apply(
        variables,
        tokens[place][None, None],
        keep_ratio,
        cache=cache,
        num_gathered=num_gathered,
      )
      logits = logits[0, 0]
      if is_greedy:
        new = jnp.argmax(logits).astype(jnp.int32)
      else:
        drawn = jax.random.fold_in(key, place)
        new = jax.random.categorical(drawn, logits / temperature)
      # What was given stays.
      new = jnp.where(place + 1 < length, tokens[place + 1], new)
      return (tokens.at[place + 1].set(new.astype(jnp.int32)), cache), None

    cache = model.empty_cache()
    places = jnp.arange(tokens.shape[0] - 1)
    (tokens, _), _ = lax.scan(step, (tokens, cache), places)
    return tokens

  return fill
