"""Data sets by name: downloaded once from a local server, whole or not there."""
import functools
import hashlib
import http.server
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

import data
import download
import exp01_finetune_vit as exp01
import exp02_resnet as exp02
import exp04_saccades as exp04
import exp04_saliency
import exp06_gaze_objects as exp06
from common import InputError
from results import fixed_args, only_draw, read_json
from test_data import write_jpeg, write_osie


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


# --- scripts, by the name of a data set -----------------------------------------------------------------

@pytest.fixture
def by_name(tmp_path, monkeypatch) -> dict:
    """Stand-ins for the archives, {name: folder}, in a folder where nothing else is: fourteen pictures with
    two observers, and two of ImageNet's classes."""
    folders = {name: tmp_path / "archive" / name for name in download.ARCHIVES}
    rng = np.random.default_rng(1)
    names = [f"{1001 + i}.jpg" for i in range(14)]
    gaze = {name: [rng.uniform((10, 10, 100), (790, 590, 300), (9, 3)).T for _ in range(2)] for name in names}
    for name in names:
        write_jpeg(folders["osie"] / "stimuli" / name, (800, 600))
    write_osie(folders["osie"] / "fixations.mat", gaze)
    for wnid in ("n01440764", "n03888257"):
        for split, n in (("train", 3), ("val", 2)):
            for i in range(n):
                write_jpeg(folders["imagenette"] / split / wnid / f"{i}.JPEG", (60, 60), (200 * (wnid < "n02"), 40 * i, 90))
    monkeypatch.setattr(download, "data_folder", lambda place: folders.get(str(place), Path(place)))
    monkeypatch.chdir(tmp_path)
    return folders


@pytest.mark.parametrize("script", [exp01, exp02])
def test_osie_by_its_name_is_where_people_looked_for_exp01_and_exp02(script, by_name):
    args = script.parse(["--data", "osie"])
    assert args.out == Path("runs") / script.__name__ / "osie" and fixed_args(args)["data"] == "osie"
    assert args.model == script.PAPER["model"] and not only_draw(args)
    places = data.data_places(args, ("salicon", "coco", "imagenet"), ())
    assert places == {"salicon": by_name["osie"], "coco": None, "imagenet": None}
    training, validation, *_ = exp01.load_data(places, None, 2)
    assert len(training) == 10 and len(validation) == 4 and validation[0].path.parent == by_name["osie"] / "stimuli"


def test_exp06_runs_on_osie_by_its_name(by_name, monkeypatch):
    monkeypatch.setattr(exp06, "draw", lambda *a: None)
    argv = "--data osie --model demo_dino4 --size 64 64 --sigmas .5 2.5 .5 --limit 3 --workers 0 --device cpu".split()
    exp06.main(argv)
    (folder,) = Path("runs/exp06_gaze_objects").iterdir()
    assert folder.name.startswith("osie_") and len(data.read_csv(folder / "per_image.csv")) == 3 * 6
    exp06.main([*argv, "--plot-only"])


@pytest.mark.parametrize("script", [exp04, exp04_saliency])
def test_exp04_runs_on_imagenette_by_its_name(script, by_name, monkeypatch):
    monkeypatch.setattr(script, "draw", lambda *a: None)
    monkeypatch.setattr(exp04_saliency, "load_others", lambda *a: (None, None, []))  # nothing is downloaded
    script.main("--data imagenette --model demo_dino4 --train-head --fovea 3 --workers 0 --device cpu --out o".split())
    results = read_json(Path("o/results.json"))
    assert results["data"] == "imagenette" and results["head_fitted"]["images"] == 6
    assert {row["image"].split("/")[0] for row in data.read_csv("o/per_image.csv")} == {"n01440764", "n03888257"}


def test_a_folder_named_like_an_archive_is_a_folder_and_another_name_is_refused(by_name):
    Path("osie").mkdir()
    args = exp06.parse(["--data", "osie"])
    assert fixed_args(args)["data"] == str(Path("osie").resolve()) and args.out.name.startswith("osie-")
    with pytest.raises(InputError, match="--data osi: no such folder"):
        only_draw(exp06.parse(["--data", "osi"]))
