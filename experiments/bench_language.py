"""Times a step of the character language model, beside one of PyTorch.

Usage:
  python experiments/bench_language.py [--rounds=21]

The sizes are those of nanoGPT's CPU settings: 4 layers, 128 wide, 12 windows of
64 characters, AdamW, gradients clipped. In turns: our training step dense, at a
keep ratio of 0.2 and under Strategy 1's traced ratio of 1, eight a call as a
run makes them; dense, one a call; and, where torch is there, the same network
and step in it, on the GPU if JAX is. Milliseconds are a step's. Writes
``results/bench_language-PLATFORM.json``.
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from bench import interleaved_milliseconds, write_results

from sparse_regimes import (
  TrainState,
  classification_loss,
  controllers,
  make_step,
)
from sparse_regimes.models import Transformer
from sparse_regimes.training.call import make_train_call

STEPS = 8
ONE = "no mask, one step a call"
BATCH, CONTEXT, DEPTH, WIDTH, HEADS, VOCABULARY = 12, 64, 4, 128, 4, 72


def our_steps(
  keep_ratio: float | None, steps: int = STEPS, **fields: Any
) -> Callable[[], Any]:
  """Steps of a call at a budget; None is a program without any mask."""
  model = Transformer(
    depth=DEPTH,
    width=WIDTH,
    heads=HEADS,
    vocabulary=VOCABULARY,
    context=CONTEXT,
    **fields,
  )

  def apply_fn(
    variables: Any, tokens: Any, ratio: Any, **arguments: Any
  ) -> Any:
    ratio = 1.0 if keep_ratio is None else ratio
    return model.apply(variables, tokens, ratio, **arguments)

  tx = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adamw(1e-3, b2=0.99, weight_decay=0.1),
  )
  controller = controllers.constant(1.0 if keep_ratio is None else keep_ratio)
  key = jax.random.key(0)
  tokens = jax.random.randint(key, (BATCH, CONTEXT + 1), 0, VOCABULARY)
  batch = {"tokens": tokens[:, :-1], "labels": tokens[:, 1:]}
  state = TrainState.create(
    jax.jit(model.init)(key, batch["tokens"], 1.0),
    tx=tx,
    controller=controller,
    rng=key,
  )
  loss = classification_loss(apply_fn, inputs="tokens")
  batches = jax.tree.map(lambda x: jnp.stack([x] * steps), batch)
  train_call = make_train_call(make_step(loss, tx, controller, jit=False))
  now = [jax.tree.map(jnp.copy, state)]

  def call() -> Any:
    now[0], metrics = train_call(now[0], batches)
    return metrics

  return call


def torch_steps() -> Callable[[], Any] | None:
  """The same steps in PyTorch, or None where there is none."""
  try:
    import torch
    from torch import nn
    from torch.nn import functional
  except ImportError:
    return None

  class Block(nn.Module):
    def __init__(self) -> None:
      super().__init__()
      self.norm1 = nn.LayerNorm(WIDTH, bias=False)
      self.norm2 = nn.LayerNorm(WIDTH, bias=False)
      self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
      self.out = nn.Linear(WIDTH, WIDTH, bias=False)
      self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
      self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Any) -> Any:
      b, t, _ = x.shape
      query, key, value = (
        part.view(b, t, HEADS, WIDTH // HEADS).transpose(1, 2)
        for part in self.qkv(self.norm1(x)).split(WIDTH, 2)
      )
      y = functional.scaled_dot_product_attention(
        query, key, value, is_causal=True
      )
      x = x + self.out(y.transpose(1, 2).reshape(b, t, WIDTH))
      return x + self.down(functional.gelu(self.up(self.norm2(x))))

  class Decoder(nn.Module):
    def __init__(self) -> None:
      super().__init__()
      self.embed = nn.Embedding(VOCABULARY, WIDTH)
      self.positions = nn.Embedding(CONTEXT, WIDTH)
      self.blocks = nn.ModuleList([Block() for _ in range(DEPTH)])
      self.norm = nn.LayerNorm(WIDTH, bias=False)

    def forward(self, tokens: Any) -> Any:
      positions = torch.arange(tokens.shape[1], device=tokens.device)
      x = self.embed(tokens) + self.positions(positions)
      for block in self.blocks:
        x = block(x)
      return self.norm(x) @ self.embed.weight.T

  torch.manual_seed(0)
  device = "cuda" if jax.default_backend() == "gpu" else "cpu"
  model = Decoder().to(device)
  optimizer = torch.optim.AdamW(
    model.parameters(), 1e-3, betas=(0.9, 0.99), weight_decay=0.1
  )
  rng = np.random.default_rng(0)
  tokens = torch.from_numpy(
    rng.integers(0, VOCABULARY, (BATCH, CONTEXT + 1))
  ).to(device)

  def step() -> None:
    optimizer.zero_grad(set_to_none=True)
    logits = model(tokens[:, :-1])
    loss = functional.cross_entropy(
      logits.flatten(0, 1), tokens[:, 1:].flatten()
    )
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()

  def call() -> None:
    for _ in range(STEPS):
      step()
    if device == "cuda":
      torch.cuda.synchronize()

  return call


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--rounds", type=int, default=21)
  args = parser.parse_args()
  calls: dict[str, Callable[[], Any]] = {
    "no mask": our_steps(None),
    "ratio 1": our_steps(1.0),
    "ratio 0.2": our_steps(0.2),
    "ratio 0.2, ReLU": our_steps(0.2, activation="relu"),
    ONE: our_steps(None, 1),
  }
  packages = ["jax", "jaxlib", "flax", "optax"]
  if torch_call := torch_steps():
    calls["torch, dense"] = torch_call
    packages.append("torch")
  times = {
    name: time / (1 if name == ONE else STEPS)
    for name, time in interleaved_milliseconds(
      calls, rounds=args.rounds
    ).items()
  }
  tokens = BATCH * CONTEXT
  for name, time in times.items():
    print(f"{name:>24} {time:7.1f} ms  {1e3 * tokens / time:8.0f} tokens/s")
  write_results(
    f"bench_language-{jax.default_backend()}",
    [{"milliseconds": times}],
    packages,
    batch_size=BATCH,
    context=CONTEXT,
    depth=DEPTH,
    width=WIDTH,
  )


if __name__ == "__main__":
  main()
