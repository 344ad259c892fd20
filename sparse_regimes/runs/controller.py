"""The controller of a config, with what goes around it."""

from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from sparse_regimes import controllers
from sparse_regimes.controllers import Controller
from sparse_regimes.controllers.bounds import MAX_COUNT
from sparse_regimes.errors import in_range, section_of
from sparse_regimes.runs.makers import maker, task_class


def make_controller(
  config: ConfigDict, site_names: Sequence[str] = ()
) -> Controller:
  """The controller of ``config.controller``, watched for a collapse.

  A collapse is one of the task's metric, whatever the controller follows.

  What it draws depends on the run's seed, too, so that no two seeds share it.
  With ``signal.average_over`` above 0 it hears the mean of so many batches,
  with ``signal.shuffle_window`` above 0 of accuracy at random times.
  With ``budget.share_every`` above 0 sites share its budget, with
  ``budget.dense_start`` above 0 it begins after so many dense steps.

  Args:
    config: the whole config.
    site_names: of the model, if it says them.
  """
  with section_of("controller"):
    given = config.controller.to_dict()
    if "draw_seed" in given:
      in_range("draw_seed", given["draw_seed"], 0, MAX_COUNT)
      given["draw_seed"] = _seed(config, given["draw_seed"])
    controller = maker("controller", given.pop("name"))(**given)
    if not isinstance(controller, Controller):
      raise ValueError(
        f"name: {config.controller.name} must make a Controller, got"
        f" {type(controller).__name__}"
      )
  metric = task_class(config.task.name).metric
  with section_of("signal"):
    window = in_range("average_over", config.signal.average_over, 0, MAX_COUNT)
    if window:
      _check_window(window, config.controller)
      controller = controllers.averaged(
        controller,
        window=window,
        signal=config.controller.get("signal", metric),
      )
  if config.signal.shuffle_window:
    with section_of("signal"):
      in_range("shuffle_window", config.signal.shuffle_window, 0, 10**6)
      in_range("shuffle_seed", config.signal.shuffle_seed, 0, MAX_COUNT)
    controller = controllers.shuffled(
      controller,
      window=config.signal.shuffle_window,
      draw_seed=_seed(config, config.signal.shuffle_seed),
      signal=config.controller.get("signal", metric),
    )
  with section_of("budget"):
    controller = _around(controller, config.budget, len(site_names))
  with section_of("collapse"):
    decisions = in_range("decisions", config.collapse.decisions, 1, 10**6)
    section = config.controller
    every = section.get("decide_every", section.get("check_every", 1))
    patience = decisions * every
    return controllers.watched(
      controller,
      patience=min(patience, MAX_COUNT),
      drop_tol=config.collapse.drop_tol,
      signal=metric,
    )


def _check_window(window: int, section: ConfigDict) -> None:
  """Raises a ``ValueError`` for a mean that no decision would rest on."""
  if section.name == "ssd_switch" and section.signal == "stats":
    raise ValueError(
      "average_over must be 0 where ssd_switch follows stats, which are no"
      f" scalar, got {window}"
    )
  every = section.get("decide_every", section.get("check_every", window))
  if every % window:
    raise ValueError(
      f"average_over must divide the controller's {every} steps from one"
      f" decision to the next, got {window}"
    )


def _around(
  controller: Controller, budget: ConfigDict, num_sites: int
) -> Controller:
  """What ``config.budget`` puts around a controller."""
  in_range("share_every", budget.share_every, 0, MAX_COUNT)
  in_range("dense_start", budget.dense_start, 0, MAX_COUNT)
  if budget.share_every:
    weights = budget.share_weights or (1.0,) * num_sites
    if not weights:
      raise ValueError(
        "share_weights must have an entry for each site where the model has no"
        " site_names, got ()"
      )
    in_range("share_weights", weights, 1e-6)
    in_range("share_strength", budget.share_strength, 0, 1)
    in_range("share_least", budget.share_least, 0, 1)
    if jax.eval_shape(controller.init).keep_ratio.shape:
      raise ValueError(
        "share_every must be 0 where the controller has a budget for each"
        f" site, got {budget.share_every}"
      )
    controller = controllers.shared(
      controller,
      weights,
      every=budget.share_every,
      strength=budget.share_strength,
      least=budget.share_least,
    )
  if budget.dense_start:
    controller = controllers.dense_start(controller, budget.dense_start)
  return controller


def _seed(config: ConfigDict, offset: int) -> int:
  return (config.seed + offset) % (MAX_COUNT + 1)
