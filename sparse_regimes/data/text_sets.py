"""``tfds:NAME``: text that tensorflow-datasets has prepared."""

from pathlib import Path
from typing import Any

from sparse_regimes.data import cifar10, tfds, tfds_sets


def load(name: str, data_dir: str) -> tuple[bytes, bytes, str]:
  """Reads a prepared directory, as :func:`sparse_regimes.data.tfds_sets.load`.

  Args:
    name: such as ``tiny_shakespeare``; split rules as for images.
    data_dir: looked through first; empty: the usual places.

  Returns:
    The text of ``train`` and of ``test`` (or ``validation``), UTF-8, examples
    one to a line; and where it lies.

  Raises:
    ValueError: in one line, if it is not there or has no text.
  """
  builder, rules = tfds_sets.prepared(name, Path(cifar10.folder(data_dir)))
  if "text" not in builder.info.features:
    found = ", ".join(builder.info.features)
    raise ValueError(f"it must have text, got {found}")
  train, test = (_text(builder, rule) for rule in rules)
  return train, test, f"tensorflow-datasets directory {builder.data_dir}"


def _text(builder: Any, rule: str) -> bytes:
  examples = (example["text"] for example in tfds.examples(builder, rule))
  return b"\n".join(
    text.encode() if isinstance(text, str) else bytes(text) for text in examples
  )
