"""Every field of a config, with its default."""

from typing import Any

from ml_collections import ConfigDict

from sparse_regimes.runs import makers


def default_config() -> ConfigDict:
  """Every field with its default; a config file sets what it wants.

  The sections of model and controller have ``name`` and the arguments of the
  one that is named.
  """
  return ConfigDict(
    {
      "seed": 0,
      "task": {"name": "classification"} | _every_argument("task"),
      "data": {
        "name": "cifar10",  # `sparse-regimes list` has the others
        "dir": "",  # empty: the user's cache directory
        "num_train": 0,  # the first of each split; 0: all
        "num_test": 0,
        "image_size": 0,  # of folder: the side of a square; 0: as they are
        "evaluate_on": "test",  # or validation: the last training images
        "num_validation": 0,  # the last, held out to choose the best epoch
        "stream": "auto",  # always or never: images are read when needed
      },
      "model": {"name": "wide_resnet"} | _every_argument("model"),
      "controller": {"name": "constant"} | _every_argument("controller"),
      # Training images and labels; the evaluation sees them as they are.
      "augment": {
        "crop": 0,  # pixels that an image is moved by, at most
        "flip": False,  # left to right, half of them
        "mixup_alpha": 0.0,
        "label_smoothing": 0.0,
      },
      # What the controller hears of; 0: the accuracy of this very batch.
      "signal": {
        "average_over": 0,  # batches since the last window's end
        "shuffle_window": 0,
        "shuffle_seed": 0,
      },
      # What is around any controller.
      "budget": {
        "dense_start": 0,  # steps at 1, of which the controller does not hear
        "share_every": 0,  # steps from one sharing among sites to the next
        "share_strength": 0.5,  # 0: alike; 1: as each is active
        "share_least": 0.1,  # of the budget, for every site
        "share_weights": (),  # sizes of the sites; empty: all alike
      },
      # Not back within drop_tol of the best, so many decisions after a reset.
      "collapse": {"decisions": 10, "drop_tol": 0.12},
      "optimizer": {
        # or adam, whose beta1 is the momentum; or any other of optax, or
        # FILE.py:function, with its arguments in place of those of these two
        "name": "sgd",
        "beta2": 0.999,  # of adam
        "zeroth_bias_bound": 0.1,  # times the norm's scale
        "zeroth_bias_kept": True,  # within that bound
        "uplift_steps": 0,  # of restricted norms that are fine-tuned
        "learning_rate": 0.1,
        "reference_batch_size": 128,  # 0: the rate is not scaled
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0.0,
        "schedule": "cosine",
        "per_step": False,
        "milestones": (60, 120, 160),
        "decay_factor": 0.2,
        "clip_norm": 0.0,  # of the whole gradient; 0: not clipped
        "restart_at_resets": False,  # the schedule, over the steps left
        "rollback": False,  # after a collapse, to the last healthy reset
      },
      "train": {
        "start_from": "",  # a run whose parameters this one begins with
        "epochs": 500,
        "batch_size": 128,
        "accumulate": 1,  # steps whose mean gradient makes an update
        "ema_decay": 0.0,  # of parameters' average, evaluated beside; 0: none
        "steps_per_call": 0,  # 0: 1 to 8 on CPU, about 100 elsewhere
        "num_devices": 0,  # 0: as many as divide the batch
        "parameters": "replicated",  # or sharded over the devices
        "on_nonfinite": "stop",  # or skip the step and count it
      },
      "eval": {
        "batch_size": 500,
        "num_train": 1000,  # training images, to show the gap
        "sets": "",  # more test splits: NAME=DATA;NAME=DATA
        "parameters": "trained",  # or ema: what --mode=eval looks at
      },
      # tensorboard, wandb, FILE.py:Name, by commas; metrics.jsonl is always.
      "log": {
        "backends": "tensorboard",
        "page": True,  # curves.png while it runs, report.html at its end
      },
      # Whenever one of them is due (0: never), and at the end.
      "checkpoint": {
        "every_epochs": 1,
        "every_steps": 0,
        "every_minutes": 10.0,
        "keep": 2,  # the latest, besides the best
      },
    }
  )


def _every_argument(section: str) -> dict[str, Any]:
  """Arguments and defaults of all that a section may name."""
  every = [makers.arguments(section, name) for name in makers.NAMED[section]]
  return {field: value for one in every for field, value in one.items()}
