"""Pages as a browser shows them, where one is installed."""

import shutil
import subprocess

import pytest

CHROMIUM = next(
  filter(
    None,
    map(
      shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")
    ),
  ),
  None,
)
needs_browser = pytest.mark.skipif(
  CHROMIUM is None, reason="no Chromium is installed"
)


def screenshot(page, picture, *, width, height, dark=False):
  """The page in a window, in the scheme of a light or dark desktop."""
  subprocess.run(
    [
      *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"),
      *("--hide-scrollbars", f"--user-data-dir={picture.parent / 'profile'}"),
      f"--blink-settings=preferredColorScheme={0 if dark else 1}",
      *(f"--screenshot={picture}", f"--window-size={width},{height}"),
      f"file://{page}",
    ],
    check=True,
    capture_output=True,
    timeout=300,
  )
