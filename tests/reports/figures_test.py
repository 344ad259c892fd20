import io

import pytest
from journals import ARITHMETIC, journal_of
from PIL import Image

from sparse_regimes.reports import figures, pictures
from sparse_regimes.runs.trace import Trace


@pytest.mark.parametrize("num_epochs", [1, 60, 400])
@pytest.mark.parametrize(
  "draw",
  [
    figures.curves,
    lambda *run: figures.curves(*run, ["Keep ratio"]),
    figures.both_splits,
    figures.generalisation_gap,
    lambda _, trace: figures.site_heat_map(trace, "Nonzero fraction, dense"),
  ],
)
def test_a_figure_is_a_picture(draw, num_epochs):
  journal = journal_of(num_epochs)
  trace = Trace.of(journal, ARITHMETIC)
  with Image.open(
    io.BytesIO(pictures.png(draw(journal.records, trace)))
  ) as image:
    assert image.width >= 600
    # Something other than paper is on it.
    assert len(image.convert("RGB").getcolors(2**18)) > 20
