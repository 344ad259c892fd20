import contextlib
import hashlib
import http.server
import os
import socket
import threading
import time

import pytest

from sparse_regimes.data import archive
from sparse_regimes.data.release import AbsentError, UnavailableError


@contextlib.contextmanager
def host(respond):
  """A server on this machine; gives its port."""

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      with contextlib.suppress(ConnectionError):
        respond(self)

    def log_message(self, *args):
      pass

  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
      yield server.server_port
    finally:
      server.shutdown()
      thread.join()


def send(content, length=None):
  def respond(handler):
    handler.send_response(200)
    if length is not None:
      handler.send_header("Content-Length", str(length))
    handler.end_headers()
    handler.wfile.write(content)

  return respond


def serve(toy, port, content=b""):
  return toy.release._replace(
    archive_url=f"http://127.0.0.1:{port}/cifar-10-binary.tar.gz",
    archive_sha256=hashlib.sha256(content).hexdigest(),
  )


@pytest.fixture
def content(toy, tmp_path):
  path = tmp_path / "host" / "archive.tar.gz"
  toy.write_archive(path)
  return path.read_bytes()


def test_read(toy, tmp_path):
  path = tmp_path / toy.release.archive_name
  toy.write_archive(path)
  batches = archive.read(tmp_path, toy.release, print)
  assert batches.files == toy.files
  assert batches.source == f"official archive {path}"


def test_read_nothing(toy, tmp_path):
  with pytest.raises(AbsentError, match="download http"):
    archive.read(tmp_path, toy.release, print)


@pytest.mark.parametrize("says_length", [True, False])
def test_download(says_length, toy, content, tmp_path):
  length = len(content) if says_length else None
  with host(send(content, length)) as port:
    batches = archive.download(tmp_path, serve(toy, port, content), print)
  assert batches.files == toy.files
  assert batches.source == (
    f"official archive from http://127.0.0.1:{port}/cifar-10-binary.tar.gz"
  )
  assert os.listdir(tmp_path) == ["host"]  # where the fixture wrote


@pytest.mark.parametrize(
  ("respond", "message"),
  [
    (lambda handler: handler.send_error(404), "HTTP Error 404: Not Found"),
    (send(b"short", length=9), "it broke off after 5 of 9 bytes"),
    (send(b"other", length=5), "sent a file with SHA-256 d9298a10d1b0735"),
    (send(bytes(1 << 23)), "it is longer than 1417336 bytes"),
    (lambda handler: handler.wfile.write(b"?\r\n"), "could not be downloaded"),
  ],
)
def test_download_fails(respond, message, toy, tmp_path):
  with (
    host(respond) as port,
    pytest.raises(UnavailableError, match=message) as caught,
  ):
    archive.download(tmp_path, serve(toy, port), print)
  assert f"http://127.0.0.1:{port}/" in caught.value.reason
  assert os.listdir(tmp_path) == []


def test_download_of_something_else_with_the_right_hash(toy, tmp_path):
  with (
    host(send(b"no archive")) as port,
    pytest.raises(UnavailableError, match="cannot be read"),
  ):
    archive.download(tmp_path, serve(toy, port, b"no archive"), print)
  assert os.listdir(tmp_path) == []


def test_download_does_not_wait_forever(toy, tmp_path, monkeypatch):
  monkeypatch.setattr(archive, "_TIMEOUT_SECONDS", 0.1)
  start = time.monotonic()
  with socket.create_server(("127.0.0.1", 0)) as silent:
    release = serve(toy, silent.getsockname()[1])
    with pytest.raises(UnavailableError, match="timed out"):
      archive.download(tmp_path, release, print)
  assert time.monotonic() - start < 3
  assert os.listdir(tmp_path) == []
