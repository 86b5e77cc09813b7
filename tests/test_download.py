"""Data sets by name: downloaded once from a local server, whole or not there."""
import functools
import hashlib
import http.server
import threading
import zipfile

import numpy as np
import pytest

import download
from common import InputError


@pytest.fixture
def server(tmp_path, monkeypatch):
    """OSIE's address points to a small archive of the same layout on this machine; the requests so far."""
    inside = f"{download.OSIE}/eye/fixations.mat", f"{download.OSIE}/stimuli/1001.jpg"
    content = np.random.default_rng(0).bytes(1000)
    (tmp_path / "served").mkdir()
    with zipfile.ZipFile(tmp_path / "served/osie.zip", "w") as z:
        for name in (*inside, "other/README.txt"):
            z.writestr(name, content)
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            requests.append(self.path)

    serve = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=tmp_path / "served"))
    threading.Thread(target=serve.serve_forever, daemon=True).start()
    archive = download.ARCHIVES["osie"]._replace(
        url=f"http://127.0.0.1:{serve.server_port}/osie.zip",
        checked=("fixations.mat", "sha256", hashlib.sha256(content).hexdigest()))
    monkeypatch.setitem(download.ARCHIVES, "osie", archive)
    yield requests
    serve.shutdown()


def test_a_data_set_is_downloaded_once_and_laid_out_as_the_loaders_expect(server, tmp_path):
    for _ in range(2):
        folder = download.data_folder("osie", tmp_path / "data")
    assert sorted(p.name for p in folder.rglob("*")) == ["1001.jpg", "fixations.mat", "stimuli"]
    assert server == ["/osie.zip"] and [p.name for p in (tmp_path / "data").iterdir()] == ["osie"]


def test_a_folder_of_that_name_is_the_users_own(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "osie").mkdir()
    assert download.data_folder("osie") == download.Path("osie")
    assert download.data_folder(tmp_path / "nowhere") == tmp_path / "nowhere" and not server


@pytest.mark.parametrize("fault", ["absent", "damaged", "another file", "another layout"])
def test_what_fails_is_one_sentence_and_leaves_nothing(server, tmp_path, monkeypatch, fault):
    archive = download.ARCHIVES["osie"]
    if fault == "absent":
        archive = archive._replace(url=archive.url + ".no.zip")
    if fault == "damaged":
        whole = (tmp_path / "served/osie.zip").read_bytes()
        (tmp_path / "served/osie.zip").write_bytes(whole[:700])
    if fault == "another file":
        archive = archive._replace(checked=("fixations.mat", "sha256", "0" * 64))
    if fault == "another layout":
        archive = archive._replace(parts={"stimuli": "elsewhere"})
    monkeypatch.setitem(download.ARCHIVES, "osie", archive)
    with pytest.raises(InputError, match="osie cannot be downloaded .* unpack it, and give the folder"):
        download.data_folder("osie", tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())
