from PIL import Image

from sparse_regimes.report import draw_curves


def record(epoch, ema=0.5):
  names = [
    f"{split}_{quantity}"
    for split in ("train", "test_sparse", "test_dense")
    for quantity in ("loss", "accuracy", "nonzero")
  ]
  return dict.fromkeys(names, 0.4) | {
    "epoch": epoch,
    "keep_ratio": 1 / epoch,
    "ema_accuracy": ema,
  }


def test_curves_are_a_picture_replaced_at_once(tmp_path):
  path = tmp_path / "curves.png"
  for count in (1, 60):
    draw_curves([record(e, None) for e in range(1, count + 1)], path)
    with Image.open(path) as image:
      assert image.width >= 1000
      # Something other than paper is on it.
      assert len(image.convert("RGB").getcolors(2**16)) > 20
  assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]
