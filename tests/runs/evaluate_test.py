import numpy as np
import pytest
from tiny import TinyNet, apply, tiny_state

from sparse_regimes import controllers, make_eval_step
from sparse_regimes.data.dataset import normalize
from sparse_regimes.runs.evaluate import evaluate, make_batches
from sparse_regimes.runs.mesh import make_mesh, place_state, state_shardings
from sparse_regimes.training.optimizer import sgd

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (23, 4, 4, 3), np.uint8)
LABELS = RNG.integers(0, 10, 23).astype(np.int32)


@pytest.mark.slow
@pytest.mark.parametrize("num_devices", [1, 8])
@pytest.mark.parametrize("batch_size", [1, 8, 23, 100])
def test_every_image_counts_once_whatever_the_batch(batch_size, num_devices):
  model = TinyNet()
  mesh = make_mesh(8, num_devices)
  state = tiny_state(model, sgd(0.1), controllers.constant())
  state = place_state(state, state_shardings(state, mesh, "replicated"))
  eval_step = make_eval_step(model.apply, preprocess=normalize)
  batches = make_batches({"images": IMAGES, "labels": LABELS}, batch_size, mesh)
  assert sum(len(b["labels"]) for b in batches) == 23

  logits, stats = apply(model, state.variables, normalize(IMAGES), 0.3)
  logits = np.asarray(logits, np.float64)
  shifted = logits - logits.max(1, keepdims=True)
  losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(23), LABELS]

  got = evaluate(eval_step, state, batches, 0.3)
  assert got["accuracy"] == np.mean(logits.argmax(1) == LABELS)
  np.testing.assert_allclose(got["loss"], losses.mean(), rtol=1e-5)
  np.testing.assert_allclose(got["nonzero"], stats.mean(), rtol=1e-5)
