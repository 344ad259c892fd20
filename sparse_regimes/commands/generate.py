"""``--mode=generate``: text of a language model, at several budgets."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from sparse_regimes.data.text import decode, encode
from sparse_regimes.errors import InputError, in_range
from sparse_regimes.masks.sites import check_sites
from sparse_regimes.runs.past_run import load_config, load_run
from sparse_regimes.runs.summary import active_fraction
from sparse_regimes.tasks import Language
from sparse_regimes.tasks.language.generate import generate


def generate_text(
  workdir: epath.Path,
  overrides: Sequence[str],
  keep_ratios: Sequence[float | tuple[float, ...]],
  which: str,
  *,
  prompt: str | None = None,
  num_tokens: int = 300,
  temperature: float = 0.8,
  seed: int = 0,
  gather: bool = False,
  log: Callable[[str], None] = print,
) -> list[str]:
  r"""Goes on with a prompt, at each budget with the same draws.

  Args:
    workdir: of a run of the task ``language``.
    overrides: of its config.
    keep_ratios: each in ``[0, 1]``, or one for each site.
    which: ``best`` or ``last`` checkpoint.
    prompt: what the text begins with, by default a line's end, or else the
      first character of the vocabulary; in it ``\n`` is a line's end.
    num_tokens: to make.
    temperature: 0 takes the likeliest token; 1 draws as the network says.
    seed: of the draws.
    gather: read the weights of kept activations alone.
    log: takes a line at a time.

  Returns:
    The texts, with the prompt.

  Raises:
    InputError: for another run, or a prompt that it cannot go on with.
  """
  try:
    in_range("--num_tokens", num_tokens, 1, 10**7)
    in_range("--temperature", temperature, 0)
    in_range("--draw_seed", seed, 0, 2**32 - 1)
  except ValueError as error:
    raise InputError(str(error)) from error
  config = load_config(workdir, which, overrides)
  if config.task.name != "language":
    raise InputError(
      "--workdir must hold a run of the task language, got one of"
      f" {config.task.name} in {workdir}"
    )
  run = load_run(workdir, config, which, log)
  task: Any = run.task
  assert isinstance(task, Language)
  model = run.parts.model
  vocabulary = task.text.vocabulary
  if prompt is None:
    prompt = "\n" if not vocabulary or "\n" in vocabulary else vocabulary[0]
  prompt = prompt.replace("\\n", "\n")
  try:
    tokens = encode(prompt, vocabulary)
    if not 1 <= len(tokens) <= config.task.context:
      raise ValueError(
        f"it must have 1 to {config.task.context} tokens, the context, got"
        f" {len(tokens)}"
      )
  except ValueError as error:
    raise InputError(f"--prompt: {error}") from error
  active = active_fraction(run.journal) or 1.0
  if active < 0.9 and sum(np.min(r) > active for r in keep_ratios) > 1:
    log(
      f"{active:.1%} of its activations are not zero without a mask: keep"
      " ratios above that give the same text"
    )
  texts = []
  for ratio in keep_ratios:
    try:
      check_sites(ratio, len(model.site_names))
    except ValueError as error:
      raise InputError(f"--keep_ratios: {error}") from error
    parts = generate(
      *(model, run.state.variables, tokens, num_tokens),
      np.asarray(ratio, np.float32),
      key=jax.random.key(seed),
      temperature=temperature,
      gather=gather,
    )
    # At once: a character of several bytes may come in two parts.
    made = decode(np.concatenate(list(parts)), vocabulary)
    texts.append(prompt + made)
    shown = "/".join(f"{r:g}" for r in np.atleast_1d(ratio))
    log(f"\n--- keep ratio {shown}")
    log(texts[-1])
  return texts
