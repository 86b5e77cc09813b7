"""Damaged, foreign and malicious input of every loader: a result or InputError, nothing else, and soon.

Seeded; GAZE_FUZZ=20 pytest tests/test_fuzz.py tries twenty times as many mutations of each file.
"""
import argparse
import ast
import copy
import csv
import io
import itertools
import json
import os
import pickle
import random
import resource
import signal
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision.models.resnet import Bottleneck, ResNet

import exp01_benchmarks
import exp03_biases as E3
import exp04_saliency
import exp05_data
import exp05_frames
import exp05_gaze_video as E5
import exp05_looks
import exp05_train_vits as T5
import exp06_gaze_objects as E6
from common import InputError, VisionTransformer
from data import coco_categories, imagenet_wnids, load_imagefolder, read_csv, read_image, read_map, read_mask
from gaze import load_gaze, load_osie, load_salicon
from results import begin, load_checkpoint, read_arrays
from weights import (attention_state, load_head, load_resnet, load_tuned, load_vit, read_state_dict,
                     vit_from_state)

ROOT = Path(__file__).resolve().parents[1]
TIMES = int(os.environ.get("GAZE_FUZZ", 1))
LIMIT, MEMORY = 10, 2**30  # s and bytes for one file; the slowest good one takes .1 s
ODD = (None, True, 0, -1, 1.5, 10**30, float("nan"), float("inf"), "", "é\n日本", [], {}, [[]], "1e999")


# ------------------------------------------------------------------------------------------------ mutations

def damaged(raw: bytes, n: int, seed: int = 0, flips: bool = True) -> Iterator[bytes]:
    """Cut at every k-th byte, flipped bits, blocks of zeros, of noise, of another place; n TIMES of each."""
    draw, n = random.Random(seed), n * TIMES
    yield from (b"", raw * 2, bytes(len(raw)), b"\xff" * 64, raw + b"\0" * 64)
    yield from (raw[:1 + i * len(raw) // n] for i in range(n))
    for _ in range(n if flips else 0):
        flipped = bytearray(raw)
        for _ in range(draw.choice((1, 1, 4, 32))):
            flipped[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
        yield bytes(flipped)
        a, b, size = draw.randrange(len(raw)), draw.randrange(len(raw)), draw.choice((1, 4, 8, 64))
        yield raw[:a] + draw.choice((bytes(size), draw.randbytes(size), raw[b:b + size])) + raw[a + size:]


def odd_trees(tree, n: int, seed: int = 0) -> Iterator:
    """Copies of a tree of dicts and lists with one node replaced, removed or doubled."""
    def places(node, path=()):
        yield path
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            yield from places(value, (*path, key))
    draw, all_places = random.Random(seed), list(places(tree))
    yield from ODD
    for _ in range(n * TIMES):
        out, path = copy.deepcopy(tree), draw.choice(all_places[1:])
        node = out
        for key in path[:-1]:
            node = node[key]
        how = draw.randrange(6)
        if how == 0:
            del node[path[-1]]
        elif how == 1 and isinstance(node, list):
            node.append(copy.deepcopy(node[path[-1]]))
        else:
            node[path[-1]] = draw.choice(ODD)
        yield out


def odd_tables(text: str, n: int, seed: int = 0) -> Iterator[bytes]:
    """Copies of a CSV with a cell, a row or a column changed."""
    draw, rows = random.Random(seed), list(csv.reader(io.StringIO(text)))
    for _ in range(n * TIMES):
        out = copy.deepcopy(rows)
        i, j = draw.randrange(len(rows)), draw.randrange(len(rows[0]))
        how = draw.randrange(5)
        if how == 0:
            out.insert(i, out[i])
        elif how == 1:
            [row.pop(j) for row in out]
        elif how == 2:
            out[i].append("x")
        else:
            out[i][j] = str(draw.choice((*ODD, "nan", "-inf", "1_0", "x" * 200_000, '"', "\0")))
        file = io.StringIO()
        csv.writer(file).writerows(out)
        yield file.getvalue().encode("utf-8")


def snapshot(folder: Path) -> dict:
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class Late(BaseException):
    """No Exception, which a loader would turn into an InputError."""


@contextmanager
def bounded(what: str):
    """Late where the block takes longer than LIMIT, MemoryError where it takes more than MEMORY."""
    def late(*_):
        raise Late(what)
    before, room = signal.signal(signal.SIGALRM, late), resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, room[1]))
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, room)


def assert_read_or_refused(path: Path, contents, load: Callable) -> tuple[int, int]:
    """load() reads `path` or raises InputError of one line's length, for each content, and changes nothing in
    the folder; (read, refused)."""
    good, counts = path.read_bytes(), [0, 0]
    others = snapshot(path.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # decoders warn of what they then refuse
        for i, content in enumerate(contents):
            path.write_bytes(content)
            try:
                with bounded(f"mutation {i}"):
                    load()
                counts[0] += 1
            except InputError as e:
                counts[1] += 1
                assert str(e) and "\n" not in str(e)
            except BaseException as e:
                e.add_note(f"mutation {i} of {path.name}")
                raise
            assert path.read_bytes() == content
    path.write_bytes(good)
    assert snapshot(path.parent) == others
    load()
    return tuple(counts)


def dumps(trees) -> Iterator[bytes]:
    return (json.dumps(tree).encode() for tree in trees)


# ------------------------------------------------------------------------------------------------ gaze

def salicon_json(folder: Path) -> Path:
    images = [{"id": i, "file_name": f"COCO_val2014_{i:012d}.jpg", "height": 480, "width": 640}
              for i in (4, 7)]
    annotations = [{"id": k, "image_id": 4 + 3 * (k % 2), "worker_id": k,
                    "fixations": [[k + 1, 9], [3, k + 4]]} for k in range(4)]
    path = folder / "fixations_val2014.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    for image in images:
        (folder / image["file_name"]).write_bytes(b"")
    return path


def test_salicon_json(tmp_path):
    path = salicon_json(tmp_path)
    tree = json.loads(path.read_text())
    contents = itertools.chain(damaged(path.read_bytes(), 60), dumps(odd_trees(tree, 200)),
                               [b"[" * 100_000, b'{"images": ' * 9_000])
    assert_read_or_refused(path, contents, lambda: (load_salicon(path), load_gaze(tmp_path, "val")))


def test_freeview_json(tmp_path):
    path = tmp_path / "COCOFreeView_fixations_trainval.json"
    tree = [dict(name=f"{k}.jpg", subject=k, X=[840, 9 + k, 640.5], Y=[525, 7, k], T=[1, 2, 3], split="valid")
            for k in range(3)]
    path.write_text(json.dumps(tree))
    for k in range(3):
        (tmp_path / f"{k}.jpg").write_bytes(b"")
    contents = itertools.chain(damaged(path.read_bytes(), 60), dumps(odd_trees(tree, 200)))
    assert_read_or_refused(path, contents, lambda: load_gaze(tmp_path, "val"))


def test_salicon_mat(tmp_path):
    gaze = np.zeros((2, 1), dtype=[("location", "O"), ("timestamp", "O"), ("fixations", "O")])
    for i in range(2):
        gaze[i, 0] = np.ones((5, 2)), np.arange(5.)[:, None], np.array([[5, 6], [7, 8]], np.uint16)
    path = tmp_path / "COCO_val2014_000000000042.mat"
    for packed in (True, False):  # flips in unpacked files, which have no checksum, crash SciPy's own parser
        scipy.io.savemat(path, {"image": path.stem, "gaze": gaze}, do_compression=packed)
        assert_read_or_refused(path, damaged(path.read_bytes(), 60, flips=packed),
                               lambda: load_salicon(tmp_path))


@pytest.mark.parametrize("compressed", [False, True])
def test_osie(tmp_path, compressed):
    cells = np.empty((2, 1), dtype=object)
    for i in range(2):
        subjects = np.empty((2, 1), dtype=object)
        for j in range(2):
            subjects[j, 0] = {"fix_x": [5., 6], "fix_y": [7., 8], "fix_duration": np.array([9, 8], np.uint16)}
        cells[i, 0] = {"img": f"100{i}.jpg", "subjects": subjects}
        (tmp_path / f"100{i}.jpg").write_bytes(b"")
    path = tmp_path / "fixations.mat"
    scipy.io.savemat(path, {"fixations": cells}, do_compression=compressed)
    assert_read_or_refused(path, damaged(path.read_bytes(), 60, flips=compressed), lambda: load_osie(path))


def coco_tree() -> dict:
    rle = {"size": [20, 30], "counts": [100, 200, 300]}
    anns = [{"id": 1, "image_id": 4, "category_id": 1, "area": 50., "iscrowd": 0,
             "segmentation": [[1, 1, 9, 1, 9, 9, 1, 9]]},
            {"id": 2, "image_id": 4, "category_id": 3, "area": 20., "iscrowd": 0,
             "segmentation": [[3, 3, 20, 3, 20, 15]]},
            {"id": 3, "image_id": 4, "category_id": 1, "area": 200., "iscrowd": 1, "segmentation": rle}]
    return {"images": [{"id": 4, "file_name": "COCO_val2014_000000000004.jpg", "height": 20, "width": 30}],
            "annotations": anns, "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]}


def test_coco(tmp_path):
    folder = tmp_path / "annotations"
    folder.mkdir()
    path, name = folder / "instances_val2014.json", "COCO_val2014_000000000004.jpg"
    path.write_text(json.dumps(coco_tree()))

    def load() -> None:
        coco_categories([path], [name])
        coco, (scene,) = E3.load_scenes(tmp_path, [name])
        canvas = E3.paint_masks(scene["anns"], coco, scene["height"], scene["width"])
        for region in E3.regions_of(canvas, scene["anns"]).values():
            E3.density(torch.rand(2, *canvas.shape), region)
    texts = [text for text in dumps(odd_trees(coco_tree(), 250))
             if b'"counts": "' not in text]  # compressed masks are not checked, pycocotools refuses bad ones
    contents = itertools.chain(texts, damaged(path.read_bytes(), 30))
    assert_read_or_refused(path, contents, load)


def test_fixations_csv(tmp_path):
    path = tmp_path / "fixations.csv"
    path.write_text("participant,image,x_px,y_px,duration_s\n" + "p1,a.png,3,4,.2\np2,ä.png,5,6,\n" * 2)

    def load() -> None:
        for _, gaze in E6.load_data(tmp_path, None):
            E6.fixation_maps(gaze, sorted({person for person, *_ in gaze}), (20, 30), (2, 3))
    text = path.read_text()
    assert_read_or_refused(path, itertools.chain(odd_tables(text, 150), damaged(text.encode(), 40)), load)


def test_any_csv(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("image,condition,x\nä,b,3\nc,d,nan\n")
    contents = itertools.chain(odd_tables(path.read_text(), 100), damaged(path.read_bytes(), 30))
    assert_read_or_refused(path, contents, lambda: (read_csv(path), read_csv(path, ["image"], ["x"])))


def test_gaze_key_points_and_groups_of_videos(tmp_path):
    (tmp_path / "clips" / "one").mkdir(parents=True)
    for k in range(3):
        Image.new("RGB", (32, 32), (k, 9, 9)).save(tmp_path / "clips" / "one" / f"{k}.png")
    gaze = "".join(f"v{v},{t / 50},{9 + t},8\n" for v in range(3) for t in range(6))
    tables = {"gaze/one.csv": "viewer,t_s,x_px,y_px\n" + gaze,
              "keypoints/one.csv": "frame,part,x_px,y_px\n0,eyes,3,4\n1,mouth,,\n2,animal_eyes,9,9\n",
              "viewers.csv": "viewer,group\nv0,adult\nv1,child\n",
              "clips.csv": "clip,genre,fps\none,film,24\n"}
    for name, text in tables.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def load() -> None:
        for clip in exp05_data.load_study(str(tmp_path)).clips:
            exp05_data.viewers_of(clip, np.arange(3) / 24, (32, 32), True, [])
            if clip.points:
                exp05_looks.key_points(clip.points, 3)
    for name, text in tables.items():
        contents = itertools.chain(odd_tables(text, 60), damaged(text.encode(), 20))
        assert_read_or_refused(tmp_path / name, contents, load)


def test_masks_of_videos(tmp_path):
    path = tmp_path / "one.npz"
    np.savez_compressed(path, body=np.zeros((3, 8, 8), bool), ground=np.ones((3, 8, 8), bool))
    assert_read_or_refused(path, damaged(path.read_bytes(), 100),
                           lambda: exp05_looks.read_masks(path, 3, (8, 8)))


def test_n2010(tmp_path):
    (tmp_path / "clips" / "one").mkdir(parents=True)
    gaze, path = np.random.default_rng(0).uniform(0, 30, (4, 60, 2)), tmp_path / "allclip1.mat"
    cells = np.empty((4, 1), object)
    cells[:, 0] = list(gaze)
    scipy.io.savemat(path, {"eyeclip1": cells, "goodsubj": [1, 2, 4], "gr": [1, 2, 2, 4]}, do_compression=True)

    def load() -> None:
        clip = exp05_data.load_study(str(tmp_path)).clips[0]
        exp05_data.viewers_of(clip, np.arange(50) / 24, (32, 32), True, [])
    assert_read_or_refused(path, damaged(path.read_bytes(), 60), load)


def write_video(path: Path) -> Path:
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for _ in range(6):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (32, 48, 3), dtype=np.uint8), "rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def test_videos(tmp_path):
    path = write_video(tmp_path / "one.mp4")

    def load() -> None:
        notes = []
        seen = exp05_data.watch(exp05_frames.Clip("one", path, dict), None, notes)
        assert len(seen.times) or notes
    av.logging.set_level(None)
    assert_read_or_refused(path, damaged(path.read_bytes(), 40), load)


def test_cw2019(tmp_path):
    clips, viewer = tmp_path / "Clips_small_size", tmp_path / "GazeData" / "NV" / "v1"
    clips.mkdir()
    viewer.mkdir(parents=True)
    write_video(clips / "one_c.mov")
    mat, table = viewer / "a.mat", tmp_path / "30s_segment_description.csv"
    record = dict(t=np.arange(9) * 16., x=np.arange(9) * 300., y=np.arange(9) * 99., missing=np.zeros(9))
    scipy.io.savemat(mat, {"movieFileName": "D:\\one_c.mov", "eyetrackRecord": record}, do_compression=True)
    table.write_text("file name,genre category\none,drama\n")

    def load() -> None:
        study = exp05_data.load_study(str(tmp_path))
        for clip in study.clips:
            exp05_data.viewers_of(clip, np.arange(4) / 24, (32, 48), True, study.notes)
    assert_read_or_refused(mat, damaged(mat.read_bytes(), 50), load)
    assert_read_or_refused(table, itertools.chain(odd_tables(table.read_text(), 40),
                                                  damaged(table.read_bytes(), 20)), load)


def test_object_net(tmp_path):
    wnids, folder = imagenet_wnids(), tmp_path / "mappings"
    folder.mkdir()
    names = [f"name {i}" for i in range(1000)]
    for k in ("cup", "fox"):
        (tmp_path / "images" / k).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / "images" / k / "1.png")
    trees = {"folder_to_objectnet_label.json": {"cup": "Cup", "fox": "Fox"},
             "objectnet_to_imagenet_1k.json": {"Cup": "name 1; name 2", "Fox": "name 3"},
             "pytorch_to_imagenet_2012_id.json": {str(i): i for i in range(6)}}
    for name, tree in trees.items():
        (folder / name).write_text(json.dumps(tree))
    (folder / "imagenet_to_label_2012_v2").write_text("\n".join(names[:6]))
    for name, tree in trees.items():
        contents = itertools.chain(dumps(odd_trees(tree, 40)), damaged((folder / name).read_bytes(), 20))
        assert_read_or_refused(folder / name, contents,
                               lambda: exp01_benchmarks.objectnet_pictures(tmp_path, wnids))


# ------------------------------------------------------------------------------------------------ images

@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
def test_images(tmp_path, kind):
    path = tmp_path / f"a.{kind.lower()}"
    noise = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, kind)
    assert_read_or_refused(path, damaged(path.read_bytes(), 60), lambda: read_image(path, as_displayed=True))


@pytest.mark.parametrize("name, kind", [("a.npy", np.float64), ("a.png", np.uint16), ("a.tif", np.float32)])
def test_maps_and_masks(tmp_path, name, kind):
    path, values = tmp_path / name, np.random.default_rng(0).integers(0, 3, (12, 16)).astype(kind)
    np.save(path, values) if name == "a.npy" else Image.fromarray(values).save(path)
    assert_read_or_refused(path, damaged(path.read_bytes(), 60), lambda: (read_map(path), read_mask(path)))


def test_pictures_that_unpack_to_more_than_any_memory_are_refused_unopened(tmp_path):
    Image.new("RGB", (1, 1)).save(tmp_path / "a.png")
    raw = (tmp_path / "a.png").read_bytes()
    ihdr = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + raw[24:29]
    bombs = {"a.png": raw[:12] + ihdr + zlib.crc32(ihdr).to_bytes(4, "big") + raw[33:],
             "a.ppm": b"P6 60000 60000 255\n", "a.bmp": None}
    Image.new("RGB", (1, 1)).save(tmp_path / "a.bmp")
    bmp = (tmp_path / "a.bmp").read_bytes()
    bombs["a.bmp"] = bmp[:18] + (60_000).to_bytes(4, "little") * 2 + bmp[26:]
    for name, content in bombs.items():
        (tmp_path / name).write_bytes(content)
        with bounded(name), pytest.raises(InputError, match="decompression bomb"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.npy", "a.png"])
def test_maps_of_other_models(tmp_path, name):
    path, values = tmp_path / name, np.random.default_rng(0).random((12, 16)).astype(np.float32)
    np.save(path, values) if name == "a.npy" else Image.fromarray((values * 255).astype(np.uint8)).save(path)

    def load() -> None:
        whole = E3.other_map(path)  # NaN where there is none
        assert whole.shape == (224, 224) and (whole.isnan().all() or whole.min() == 0)
        assert exp04_saliency.given_map(0, [path], (4, 4))["map"].shape == (4, 4)
    assert_read_or_refused(path, damaged(path.read_bytes(), 100), load)


def test_meta_of_image_net(tmp_path):
    (tmp_path / "val" / "n03").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "val" / "n03" / "a.png")
    torch.save(({"n03": ("cat",), "n01": ("fox",)}, ["n01"]), tmp_path / "meta.bin")
    assert_read_or_refused(tmp_path / "meta.bin", damaged((tmp_path / "meta.bin").read_bytes(), 60),
                           lambda: load_imagefolder(tmp_path))


# ------------------------------------------------------------------------------------------------ weights

def small_vit() -> VisionTransformer:
    return VisionTransformer(32, 16, 24, depth=1, num_heads=2, num_classes=3)


def load_as_vit(path: Path) -> None:
    with torch.no_grad():
        vit_from_state(read_state_dict(path), num_heads=2)(torch.zeros(1, 3, 32, 32))


def test_weights(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(small_vit().state_dict(), path)
    assert_read_or_refused(path, damaged(path.read_bytes(), 80), lambda: load_as_vit(path))


def odd_states(state: dict, n: int, seed: int = 0) -> Iterator[dict]:
    """State dicts with one entry of another shape, kind or name."""
    draw, odd = random.Random(seed), [
        lambda v: v.flatten()[:0], lambda v: v.flatten(), lambda v: v[None], lambda v: v.sum(),
        lambda v: v.to(torch.int8), lambda v: v * torch.nan, lambda v: v / 0, lambda v: v.to_sparse(),
        lambda v: v.to("meta"), lambda v: v.to(torch.complex64), lambda v: v.bool(), lambda v: None,
        lambda v: 3., lambda v: "x",
        lambda v: v.double(), lambda v: v.bfloat16(), lambda v: v.repeat(2, *[1] * (v.ndim - 1)),
        lambda v: v.mT if v.ndim > 1 else v, lambda v: {"a": v}, lambda v: v.flatten()[:1].expand(10**6)]
    for _ in range(n * TIMES):
        out, key = dict(state), draw.choice(list(state))
        how = draw.randrange(len(odd) + 3)
        if how < len(odd):
            out[key] = odd[how](out[key])
        else:
            value = out.pop(key)
            if how > len(odd):
                out[draw.choice((key * 2, 7, None, "", "blocks.10000000000.norm1.weight", "x.y"))] = value
        yield out


@pytest.mark.parametrize("kind", ["vit", "resnet", "head", "tuned", "trained"])
def test_state_dicts(tmp_path, kind):
    vit, path = small_vit(), tmp_path / "a.pth"
    args = T5.parse(f"--method supervised --depth 1 --width 24 --eval --weights {path}".split())
    state, load = {
        "vit": (vit.state_dict(), lambda: load_as_vit(path)),
        "resnet": (ResNet(Bottleneck, [1, 1, 1, 1], 3, width_per_group=2).state_dict(),
                   lambda: load_resnet("resnet50", path)),
        "head": (torch.nn.Linear(4, 3).state_dict(), lambda: load_head(path)),
        "tuned": (attention_state(vit), lambda: load_tuned(vit, path)),
        "trained": (T5.build(args, 3, torch.Generator()).state_dict(),
                    lambda: T5.load_model(args, 3, tmp_path)),
    }[kind]

    def contents():
        for odd in odd_states(state, 20 if kind == "resnet" else 60):
            if kind == "trained" and not all(isinstance(key, str) for key in odd):
                continue  # nobody's but another project's; torch itself has no sentence for it
            buffer = io.BytesIO()
            torch.save(odd, buffer)
            yield buffer.getvalue()
    torch.save(state, path)
    assert_read_or_refused(path, contents(), load)


# ------------------------------------------------------------------------------------------------ runs

def test_arguments_of_an_interrupted_run(tmp_path):
    args = argparse.Namespace(seed=0, resume=True, plot_only=False, out=tmp_path, data="demo")
    begin(args, ["a"])
    path = tmp_path / "args.json"
    before = path.read_bytes()
    trees = [tree for tree in odd_trees(json.loads(before), 40) if isinstance(tree, dict)]
    for content in (*dumps(trees), *damaged(before, 30)):
        path.write_bytes(content)
        try:
            with bounded("args.json"):
                begin(args, ["a"])
            assert json.loads(path.read_bytes()) == json.loads(before)
        except InputError:
            assert path.read_bytes() == content


def test_batches_and_checkpoints_of_an_interrupted_run(tmp_path):
    np.savez_compressed(tmp_path / "00000.npz", x=np.arange(9), names=["a", "b"])
    torch.save({"step": 3, "w": torch.rand(4, 4)}, tmp_path / "last.pt")
    for name, load in (("00000.npz", read_arrays), ("last.pt", load_checkpoint)):
        path = tmp_path / name
        assert_read_or_refused(path, damaged(path.read_bytes(), 60), lambda: load(path))


# ------------------------------------------------------------------------------------------------ malice

class Hostile:
    """Unpickling it makes the file `marker`."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def hostile_files(folder: Path, marker: Path) -> None:
    evil, objects = Hostile(marker), np.array([Hostile(marker)], object)
    torch.save({"weight": evil, "bias": evil}, folder / "zip.pth")
    torch.save({"a": evil}, folder / "old.pth", _use_new_zipfile_serialization=False)
    (folder / "bare.pth").write_bytes(pickle.dumps(evil))
    (folder / "bare.safetensors").write_bytes(pickle.dumps(evil))
    torch.save((evil, []), folder / "meta.bin")
    np.save(folder / "map.npy", objects, allow_pickle=True)
    (folder / "bare.npy").write_bytes(pickle.dumps(evil))
    for name in ("gaze.npz", "masks.npz"):
        np.savez(folder / name, allow_pickle=True, gaze=objects, group=objects, body=objects, ground=objects)
    (folder / "bare.npz").write_bytes(pickle.dumps(evil))
    (folder / "bare.mat").write_bytes(pickle.dumps(evil))
    (folder / "val" / "n01").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(folder / "val" / "n01" / "a.png")
    (folder / "clips" / "one").mkdir(parents=True)


DOORS = {  # how each kind of file is read, anywhere in the project
    "read_state_dict": lambda f: read_state_dict(f / "zip.pth"),
    "old format": lambda f: read_state_dict(f / "old.pth"),
    "bare pickle": lambda f: read_state_dict(f / "bare.pth"),
    "safetensors": lambda f: read_state_dict(f / "bare.safetensors"),
    "head": lambda f: load_head(f / "zip.pth"),
    "resnet": lambda f: load_resnet("resnet50", f / "old.pth"),
    "vit": lambda f: load_vit("auto", f / "zip.pth"),
    "tuned": lambda f: load_tuned(small_vit(), f / "zip.pth"),
    "unisal": lambda f: exp04_saliency.load_unisal(f / "zip.pth"),
    "models of videos": lambda f: E5.load_models([f"dino4={f}/bare.pth"], None, torch.device("cpu")),
    "resume": lambda f: load_checkpoint(f / "zip.pth"),
    "old resume": lambda f: load_checkpoint(f / "old.pth"),
    "meta.bin": load_imagefolder,
    "saliency": lambda f: exp04_saliency.given_map(0, [f / "map.npy"], (4, 4)),
    "bare saliency": lambda f: exp04_saliency.given_map(0, [f / "bare.npy"], (4, 4)),
    "masks": lambda f: exp05_looks.read_masks(f / "masks.npz", 3, (8, 8)),
    "arrays of a run": lambda f: read_arrays(f / "gaze.npz"),
    "bare arrays of a run": lambda f: read_arrays(f / "bare.npz"),
    "mat": lambda f: load_osie(f / "bare.mat")}


@pytest.mark.parametrize("door", DOORS)
def test_code_in_a_file_is_refused_and_not_run(tmp_path, door):
    marker = tmp_path / "was_run"
    hostile_files(tmp_path, marker)
    with pytest.raises(InputError):
        DOORS[door](tmp_path)
    assert not marker.exists()


def test_code_in_a_map_is_not_run_and_leaves_no_map(tmp_path):
    hostile_files(tmp_path, marker := tmp_path / "was_run")
    for name in ("map.npy", "bare.npy", "gaze.npz"):
        assert E3.other_map(tmp_path / name).isnan().all()
    assert not marker.exists()
    pickle.loads((tmp_path / "bare.pth").read_bytes())
    assert marker.exists()  # so it does tell: read without care, the file runs its code


def test_no_reader_in_the_project_unpickles_code():
    for path in ROOT.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                options = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
                name = ast.unparse(node.func)
                assert name != "torch.load" or options.get("weights_only") is True, path
                assert not (name.startswith("np.") and options.get("allow_pickle")), path
                assert name not in ("pickle.load", "pickle.loads", "joblib.load"), path
