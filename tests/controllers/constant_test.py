import pytest

from sparse_regimes.controllers import constant


def test_never_moves():
  controller = constant(0.3)
  state = controller.init()
  for accuracy in (0.0, 1.0, 0.1):
    state = controller.update(state, accuracy=accuracy)
  assert state.keep_ratio == pytest.approx(0.3)


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_ratio_outside_is_refused(ratio):
  with pytest.raises(ValueError, match=r"keep_ratio must be in \[0, 1\]"):
    constant(ratio)
