"""Loaders of gaze and images: tiny files in the real formats, and (marked `real`) the real data."""
import argparse
import contextlib
import csv
import dataclasses
import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision import transforms

import common
import data
from common import InputError, generator, input_errors
from data import (Images, coco_categories, data_places, entries, gaze_files, imagenet_wnids, load_imagefolder,
                  passed_over, read_csv, read_image, read_map, read_mask, readable_only)
from common import training_order
from gaze import (check_units, gaze_pictures, load_fixations, load_gaze, load_osie, load_salicon, looks_of,
                  off_the_bars, picture_size, place_hints, read_gaze, with_size)
from weights import Preprocess

SHARED = Path(os.environ.get("GAZE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet statistics


def real(*parts: str) -> Path:
    path = SHARED.joinpath("real", *parts)
    if not path.exists():
        pytest.skip(f"real data not found at {path}")
    return path


# --- SALICON --------------------------------------------------------------------------------------------

def write_salicon(path: Path, *workers, **image) -> Path:
    """A SALICON JSON: image 42 with these workers' fixations, image 7 without any."""
    images = [{"id": i, "file_name": f"COCO_val2014_{i:012d}.jpg", "height": 480, "width": 640, **image}
              for i in (42, 7)]
    annotations = [{"id": k, "image_id": 42, "worker_id": k, "fixations": w} for k, w in enumerate(workers)]
    path.write_text(json.dumps({"info": {}, "images": images, "licenses": [], "type": "fixations",
                                "annotations": annotations}))
    return path


def test_salicon_json_becomes_zero_based_rows_and_columns(tmp_path):
    images = load_salicon(write_salicon(tmp_path / "a.json", [[1, 640], [480, 1]], [[10, 20]]))
    image_id, name, workers, size = images[0]
    assert (image_id, name, len(workers), size) == (42, "COCO_val2014_000000000042.jpg", 2, (480, 640))
    rows, cols = workers[0]
    assert rows.dtype == cols.dtype == np.float64
    assert rows.tolist() == [0, 479] and cols.tolist() == [639, 0]


def test_salicon_worker_without_fixations_is_empty_and_image_without_workers_has_no_entry(tmp_path):
    images = load_salicon(write_salicon(tmp_path / "a.json", [], [[3, 4]]))
    assert [len(rows) for rows, _ in images[0][2]] == [0, 1]
    assert images[1] == (7, "COCO_val2014_000000000007.jpg", [], (480, 640))


@pytest.mark.parametrize("points, reason", [
    ([[0, 5], [3, 4]], "counts from 0"),
    ([[600, 300], [20, 40]], "swapped"),
    ([[481, 600]], "outside"),
    ([[-3, 4]], "outside"),
    ([[1.5, 4]], "fractional"),
    ([[float("nan"), 4]], "NaN"),
    ([[1, None]], "NaN"),
    ([[1, 2, 3]], "shape"),
    ([1, 2], "shape"),
    ([["row", "col"]], "expected"),
    ([[1, 2], [3]], "expected"),
    (5, "expected"),
])
def test_salicon_in_another_convention_is_refused_with_the_image_named(tmp_path, points, reason):
    path = write_salicon(tmp_path / "a.json", [[9, 9]], points)
    with pytest.raises(InputError, match=f"(?s)image 42, worker 1.*{reason}"):
        load_salicon(path)


def test_salicon_truncated_empty_missing_and_foreign_json_are_refused(tmp_path):
    good = write_salicon(tmp_path / "a.json", [[3, 4]])
    (tmp_path / "cut.json").write_text(good.read_text()[:-40])
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "list.json").write_text("[1, 2]")
    coco = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "bbox": [0, 0, 1]}]}
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    for name in ("cut", "empty", "list", "coco", "absent"):
        with pytest.raises(InputError, match=f"{name}.json"):
            load_salicon(tmp_path / f"{name}.json")
    with pytest.raises(InputError, match="without any annotation"):
        load_salicon(write_salicon(tmp_path / "none.json"))
    with pytest.raises(InputError, match="no-size.json"):
        load_salicon(write_salicon(tmp_path / "no-size.json", [[3, 4]], height=None))


@pytest.mark.parametrize("points, height, width", [([[640, 427]], 640, 427), ([[1, 1], [333, 500]], 333, 500)])
def test_salicons_format_is_read_for_images_of_any_size(tmp_path, points, height, width):
    """An upright COCO image and a wide one, with points in their last row and column."""
    file = write_salicon(tmp_path / "fixations_val2014.json", points, height=height, width=width)
    (rows, cols), = load_salicon(file)[0][2]
    assert (rows[-1], cols[-1]) == (height - 1, width - 1)
    write_jpeg(tmp_path / "images" / "COCO_val2014_000000000042.jpg", (width, height))
    (image,), _ = load_gaze(tmp_path, "val")
    assert image.size == (height, width) and [int(v[-1]) for v in image.observers[0]] == [223, 223]


@pytest.mark.parametrize("points, height, width, reason", [
    ([[3, 600], [428, 10]], 427, 640, "outside"), ([[10, 640]], 640, 427, "swapped"), ([[0, 3]], 333, 500, "counts from 0")])
def test_a_point_off_an_image_of_its_own_size_names_the_image(tmp_path, points, height, width, reason):
    file = write_salicon(tmp_path / "a.json", points, height=height, width=width)
    with pytest.raises(InputError, match=f"COCO_val2014_000000000042.jpg.*{reason}"):
        load_salicon(file)


@pytest.mark.parametrize("size, height, width", [((480, 640), 480, 640), ((224, 224), 480, 640), ((500, 333), 333, 400)])
def test_a_picture_of_another_shape_than_its_fixations_is_named(tmp_path, size, height, width):
    """Turned, cut or squashed after people saw it."""
    write_salicon(tmp_path / "fixations_val2014.json", [[5, 6]], height=height, width=width)
    picture = write_jpeg(tmp_path / "images" / "COCO_val2014_000000000042.jpg", size)
    with pytest.raises(InputError, match=f"{picture} is {size[1]} x {size[0]} px.*of a picture of {height} x {width}"):
        load_gaze(tmp_path, "val")
    for change in (.985, 1.015):  # a smaller copy, but for a row or two, is the same picture
        write_jpeg(picture, (round(change * width / 2), height // 2))
        assert load_gaze(tmp_path, "val")[0][0].size == (height, width)
    write_jpeg(picture, (round(.975 * width), height))
    with pytest.raises(InputError, match="give the pictures that people saw"):
        load_gaze(tmp_path, "val")


@pytest.mark.parametrize("name", [{}, ["a.jpg"], 7, None])
def test_salicon_file_names_that_are_no_text_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="a.json: a file name"):
        load_salicon(write_salicon(tmp_path / "a.json", [[3, 4]], file_name=name))


def write_salicon_mat(path: Path, *fixations) -> None:
    gaze = np.zeros((len(fixations), 1), dtype=[("location", "O"), ("timestamp", "O"), ("fixations", "O")])
    for i, xy in enumerate(fixations):
        gaze[i, 0] = np.ones((5, 2)), np.arange(5.0)[:, None], np.array(xy, dtype=np.uint16).reshape(-1, 2)
    scipy.io.savemat(path, {"image": path.stem, "resolution": [480, 640], "gaze": gaze})


def test_salicon_mat_release_equals_the_json_release(tmp_path):
    write_salicon_mat(tmp_path / "COCO_val2014_000000000042.mat", [[640, 1], [1, 480]], [[20, 10]], [])
    write_salicon_mat(tmp_path / "COCO_val2014_000000000007.mat", [[5, 6]])  # a lone worker
    images = load_salicon(tmp_path)
    assert [(i, name) for i, name, *_ in images] == [(7, "COCO_val2014_000000000007.jpg"),
                                                    (42, "COCO_val2014_000000000042.jpg")]
    twin = load_salicon(write_salicon(tmp_path / "a.json", [[1, 640], [480, 1]], [[10, 20]], []))
    np.testing.assert_equal(images[1][2], twin[0][2])
    np.testing.assert_equal(images[0][2], [(np.array([5.0]), np.array([4.0]))])


def test_salicon_mat_faults_are_refused_with_the_file_named(tmp_path):
    with pytest.raises(InputError, match="expected"):
        load_salicon(tmp_path)  # no .mat in it
    path = tmp_path / "COCO_val2014_000000000042.mat"
    write_salicon_mat(path, [[5, 600]])
    with pytest.raises(InputError, match=r"042.mat, gaze\(1\).*(swapped|outside)"):
        load_salicon(tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="042.mat"):
        load_salicon(tmp_path)
    scipy.io.savemat(path, {"fixations": np.ones((2, 2))})
    with pytest.raises(InputError, match="042.mat.*gaze"):
        load_salicon(tmp_path)


@pytest.mark.real
def test_real_salicon_has_10_images_610_workers_73630_samples_over_the_whole_image():
    images = load_salicon(real("salicon", "fixations_train2014examples.json"))
    workers = [w for _, _, ws, _ in images for w in ws]
    rows, cols = (np.concatenate([w[k] for w in workers]) for k in (0, 1))
    assert (len(images), len(workers), len(rows)) == (10, 610, 73630)
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (0, 479, 0, 639)
    assert all(real("salicon", "images", name).is_file() for _, name, *_ in images)


# --- OSIE -----------------------------------------------------------------------------------------------

def write_osie(path: Path, images: dict) -> Path:
    """The nesting of the released file: cell of images -> struct -> cell of subjects -> struct of 1 x n."""
    cells = np.empty((len(images), 1), dtype=object)
    for i, (name, observers) in enumerate(images.items()):
        subjects = np.empty((len(observers), 1), dtype=object)
        for j, (x, y, ms) in enumerate(observers):
            subjects[j, 0] = {"fix_x": x, "fix_y": y, "fix_duration": np.array(ms, dtype=np.uint16)}
        cells[i, 0] = {"img": name, "subjects": subjects}
    scipy.io.savemat(path, {"fixations": cells})
    return path


def test_osie_floors_to_the_authors_pixel_and_durations_are_seconds(tmp_path):
    first = ([1.2, 244.6, 244.4, 799.9], [1.2, 308.5, 308.4, 600.7], [102, 142, 214, 20])
    images = {"1002.jpg": [first, ([7.0], [8.0], [500])], "1001.jpg": [([], [], [])]}
    path = write_osie(tmp_path / "f.mat", images)
    (image_id, name, observers), lone = load_osie(path)
    assert (image_id, name, len(observers)) == (1002, "1002.jpg", 2)
    rows, cols, seconds = observers[0]
    # round(x) kept within 1 to 800, round(y) within 1 to 600 (MATLAB rounds halves up), minus 1
    assert np.floor(cols).tolist() == [0, 244, 243, 799] and np.floor(rows).tolist() == [0, 308, 307, 599]
    assert seconds.tolist() == [0.102, 0.142, 0.214, 0.02]
    assert [v.tolist() for v in observers[1]] == [[7.5], [6.5], [0.5]]
    assert lone[0] == 1001 and [len(v) for v in lone[2][0]] == [0, 0, 0]


@pytest.mark.parametrize("observer, says", [
    (([float("nan")], [2.0], [3]), "NaN gaze on 1001.jpg"), (([1.0, 2.0], [2.0], [3]), "inhomogeneous")])
def test_osie_with_nan_or_unequal_lengths_is_refused(tmp_path, observer, says):
    with pytest.raises(InputError, match=f"f.mat: .*{says}"):
        load_osie(write_osie(tmp_path / "f.mat", {"1001.jpg": [observer, observer]}))


def test_osie_missing_foreign_or_truncated_file_is_refused(tmp_path):
    path = write_osie(tmp_path / "f.mat", {"1001.jpg": [([5.0], [5.0], [9])] * 3})
    (tmp_path / "cut.mat").write_bytes(path.read_bytes()[:300])
    (tmp_path / "text.mat").write_text("not MATLAB")
    scipy.io.savemat(tmp_path / "other.mat", {"fixations": np.ones(3)})
    for name in ("cut", "text", "other", "absent"):
        with pytest.raises(InputError, match=f"{name}.mat"):
            load_osie(tmp_path / f"{name}.mat")


@pytest.mark.real
def test_real_osie_has_350_images_of_15_observers_inside_600_by_800():
    images = load_osie(real("osie", "fixations.mat"))
    rows, cols, seconds = (np.concatenate([o[k] for _, _, os in images for o in os]) for k in range(3))
    assert len(images) == 350 and {len(observers) for _, _, observers in images} == {15}
    assert len(rows) == len(cols) == len(seconds) == 49205
    assert 0 <= rows.min() and rows.max() < 600 and 0 <= cols.min() and cols.max() < 800 and cols.max() > 600
    assert (seconds.min(), seconds.max()) == (0.02, 1.967)  # 20 to 1967 ms; images were shown for 3 s


# --- ImageNet folders -----------------------------------------------------------------------------------

def write_jpeg(path: Path, size=(20, 15), colour=(200, 100, 50)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, "JPEG")
    return path


def write_devkit(folder: Path, wnid_of_id: list[str], truth: list[int]) -> None:
    """meta.mat and ground truth as in ILSVRC2012_devkit_t12/data; internal nodes follow the leaves."""
    folder.mkdir(parents=True)
    fields = ["ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height",
              "num_train_images"]
    synsets = np.zeros((len(wnid_of_id) + 1, 1), dtype=[(field, "O") for field in fields])
    for i, wnid in enumerate([*wnid_of_id, "n00001740"]):
        inner = i == len(wnid_of_id)
        synsets[i, 0] = (float(i + 1), wnid, "kit fox, Vulpes", "a fox", float(2 * inner),
                         np.array([1.0, 2.0]) if inner else np.empty((0, 0)), 0.0, 1300.0)
    scipy.io.savemat(folder / "meta.mat", {"synsets": synsets})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("\n".join(map(str, truth)) + "\n")


def test_shipped_wnids_are_1000_distinct_in_sorted_order():
    wnids = imagenet_wnids()
    assert len(set(wnids)) == 1000 and wnids == sorted(wnids)
    # tench, golden retriever, toilet tissue
    assert (wnids[0], wnids[207], wnids[999]) == ("n01440764", "n02099601", "n15075141")


def test_subset_of_class_folders_keeps_its_imagenet_indices(tmp_path):
    wnids = imagenet_wnids()
    for k in (999, 5, 207):
        write_jpeg(tmp_path / "val" / wnids[k] / "b.JPEG")
        write_jpeg(tmp_path / "val" / wnids[k] / "a.JPEG")
    (tmp_path / "val" / wnids[5] / "notes.txt").write_text("x")
    (tmp_path / "val" / "words.txt").write_text("x")
    for root in (tmp_path, tmp_path / "val", str(tmp_path)):
        items, classes = load_imagefolder(root, wnids)
        assert [label for _, label in items] == [5, 5, 207, 207, 999, 999]
        assert [path.name for path, _ in items] == ["a.JPEG", "b.JPEG"] * 3
        assert classes == wnids
        assert len(items) == 6


def test_without_class_list_sorted_folder_names_are_the_classes(tmp_path):
    for name in ("katze", "hund", "äpfel"):
        write_jpeg(tmp_path / "bilder größe" / name / "bild é.png")
    items, classes = load_imagefolder(tmp_path / "bilder größe")
    assert classes == ["hund", "katze", "äpfel"] and [label for _, label in items] == [0, 1, 2]
    assert all(read_image(path).size == (20, 15) for path, _ in items)


def test_unknown_class_folder_is_named(tmp_path):
    write_jpeg(tmp_path / imagenet_wnids()[0] / "a.JPEG")
    write_jpeg(tmp_path / "n99999999" / "a.JPEG")
    with pytest.raises(InputError, match="n99999999.*1000"):
        load_imagefolder(tmp_path, imagenet_wnids())


IDS = ["n03", "n01", "n02"]  # ILSVRC ids 1, 2, 3: not in sorted order, as in the real devkit


def write_flat(folder: Path) -> None:
    for number in (1, 2, 3, 50_000):
        write_jpeg(folder / f"ILSVRC2012_val_{number:08d}.JPEG")


TRUTH = [1, 2, 3] + [1] * 49_996 + [2]


@pytest.mark.parametrize("root, devkit", [
    ("flat", "ILSVRC2012_devkit_t12/data"), ("flat", "flat/ILSVRC2012_devkit_t12/data"),
    ("", "ILSVRC2012_devkit_t12/data"), ("", "../ILSVRC2012_devkit_t12/data"), ("flat", "flat")])
def test_flat_validation_ids_go_through_meta_mat_to_sorted_wnid_indices(tmp_path, root, devkit):
    base = tmp_path / "imagenet"
    flat = base / (root or "val")
    write_devkit((base / devkit).resolve(), IDS, TRUTH)
    write_flat(flat)
    items, classes = load_imagefolder(base / root)
    assert classes == ["n01", "n02", "n03"]  # the internal node is no class
    assert [label for _, label in items] == [2, 0, 1, 0]
    assert [int(p.stem[-8:]) for p, _ in items] == [1, 2, 3, 50_000]
    assert len(items) == 4
    items, _ = load_imagefolder(base / root, ["n01", "x", "n02", "n03"])
    assert [label for _, label in items] == [3, 0, 2, 0]


def test_flat_validation_without_or_with_wrong_ground_truth_is_refused(tmp_path):
    write_flat(tmp_path / "val")
    with pytest.raises(InputError, match="0 ground-truth labels"):
        load_imagefolder(tmp_path)
    data = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    write_devkit(data, IDS, TRUTH[:-1])
    with pytest.raises(InputError, match="49999 ground-truth labels"):
        load_imagefolder(tmp_path)
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("4\n" * 50_000)  # id 4 is the internal node
    with pytest.raises(InputError, match="ground truth"):
        load_imagefolder(tmp_path)
    (data / "ILSVRC2012_validation_ground_truth.txt").unlink()
    with pytest.raises(InputError, match="ILSVRC2012_validation_ground_truth.txt"):
        load_imagefolder(tmp_path)


def test_flat_image_number_beyond_50000_is_named(tmp_path):
    write_devkit(tmp_path / "ILSVRC2012_devkit_t12" / "data", IDS, TRUTH)
    write_jpeg(tmp_path / "val" / "ILSVRC2012_val_00050001.JPEG")
    with pytest.raises(InputError, match="00050001"):
        load_imagefolder(tmp_path)


def write_meta_bin(folder: Path, truth=("n02", "n01")) -> None:
    wnid_to_classes = {"n02": ("fox",), "n01": ("tench", "Tinca"), "n03": ("cat",)}
    torch.save((wnid_to_classes, list(truth)), folder / "meta.bin")


def test_torchvision_layout_takes_its_classes_from_meta_bin(tmp_path, monkeypatch):
    for folder in ("val", "train", "objects"):
        write_jpeg(tmp_path / folder / "n03" / "a.JPEG")
    write_meta_bin(tmp_path)
    monkeypatch.chdir(tmp_path / "val")
    for root in (tmp_path, tmp_path / "val", tmp_path / "train", "."):
        items, classes = load_imagefolder(root)
        assert classes == ["n01", "n02", "n03"] and items[0][1] == 2
    assert load_imagefolder(tmp_path / "objects")[1] == ["n03"]  # another data set beside ImageNet's


def test_class_folders_beside_only_a_devkit_take_their_classes_from_meta_mat(tmp_path):
    write_jpeg(tmp_path / "val" / "n03" / "a.JPEG")
    write_devkit(tmp_path / "ILSVRC2012_devkit_t12" / "data", IDS, TRUTH)
    assert load_imagefolder(tmp_path)[0][0][1] == 2


def test_a_broken_meta_bin_does_not_matter_when_the_classes_are_given(tmp_path):
    write_jpeg(tmp_path / "val" / "n03" / "a.JPEG")
    (tmp_path / "meta.bin").write_bytes(b"cut")
    assert load_imagefolder(tmp_path, ["n01", "n03"])[0][0][1] == 1
    with pytest.raises(InputError, match="meta.bin"):
        load_imagefolder(tmp_path)


def test_flat_images_with_torchvision_meta_bin_are_labelled_from_it(tmp_path):
    write_flat(tmp_path / "val")
    write_meta_bin(tmp_path / "val", ["n02"] + ["n01"] * 49_999)
    write_meta_bin(tmp_path, ["n03"] * 50_000)  # of what is farther away
    assert [label for _, label in load_imagefolder(tmp_path)[0]] == [1, 0, 0, 0]


def test_wrong_layouts_are_explained(tmp_path):
    with pytest.raises(InputError, match="absent"):
        load_imagefolder(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="'empty' holds nothing"):
        load_imagefolder(tmp_path / "empty")
    write_jpeg(tmp_path / "deep" / "imagenet" / "n01" / "a.JPEG")  # one level too high
    with pytest.raises(InputError, match="'imagenet' holds .*n01"):
        load_imagefolder(tmp_path / "deep")
    write_jpeg(tmp_path / "loose" / "photo1.jpg")  # images without class folders or ground truth
    with pytest.raises(InputError, match="photo1.jpg.*class folders"):
        load_imagefolder(tmp_path / "loose")
    (tmp_path / "npy" / "n01").mkdir(parents=True)
    (tmp_path / "npy" / "n01" / "a.npy").write_bytes(b"x")  # another extension
    with pytest.raises(InputError, match="'n01' holds .*a.npy"):
        load_imagefolder(tmp_path / "npy")
    write_jpeg(tmp_path / "file.jpg")
    with pytest.raises(InputError, match="file.jpg"):
        load_imagefolder(tmp_path / "file.jpg")


@pytest.mark.real
def test_real_imagenet_subset_maps_to_three_of_every_five_indices():
    items, _ = load_imagefolder(real("imagenet"), imagenet_wnids())
    wanted = [k for k in range(1000) if k % 5 < 3]
    assert [label for _, label in items] == wanted
    assert all(read_image(path).mode == "RGB" for path, _ in items[::10])


# --- images ---------------------------------------------------------------------------------------------

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


@pytest.mark.parametrize("mode, name", [
    ("L", "a.png"), ("L", "a.jpg"), ("P", "a.png"), ("CMYK", "a.jpg"), ("1", "a.png"), ("RGBA", "a.png"),
    ("LA", "a.png"), ("CMYK", "a.tif"), ("P", "a.gif")])
def test_every_pil_mode_becomes_rgb_like_pil_converts_it(tmp_path, mode, name):
    Image.fromarray(GREY).convert("RGB").convert(mode).save(tmp_path / name)
    image = read_image(tmp_path / name)
    assert image.mode == "RGB" and image.size == (8, 6)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(Image.open(tmp_path / name).convert("RGB")))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_grey_keeps_the_high_byte(tmp_path, name):
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / name)
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / name))[:, :, 1], GREY)


TURNED = {"a.jpg": {}, "a.png": {}, "a.webp": {"lossless": True}}  # of the same pixels


def write_turned(path: Path, pixels: np.ndarray, orientation: int, **options) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("name", TURNED)
def test_orientation_counts_where_the_displayed_picture_is_asked_for_and_nowhere_else(tmp_path, name):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :8] = 255  # top left as stored; turned by a quarter to the right: top right
    path = write_turned(tmp_path / name, pixels, 6, **TURNED[name])
    stored = np.asarray(read_image(path))[..., 0]
    seen = np.asarray(read_image(path, as_displayed=True))[..., 0]
    assert stored.shape == (16, 32) and stored[:7, :7].min() > 200
    assert seen.shape == picture_size(path) == (32, 16) and seen[:7, 9:].min() > 200 and seen[:, :7].max() < 50


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_shows_the_same_picture(tmp_path, orientation):
    """The second example: mirrored pictures of front cameras, and TIFF, which Pillow turns by itself."""
    seen = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    stored = {1: seen, 2: seen[:, ::-1], 3: seen[::-1, ::-1], 4: seen[::-1], 5: seen.T, 6: np.rot90(seen),
              7: seen[::-1, ::-1].T, 8: np.rot90(seen, 3)}[orientation]
    for name in ("a.png", "a.tif"):
        path = write_turned(tmp_path / name, np.ascontiguousarray(stored), orientation)
        np.testing.assert_array_equal(np.asarray(read_image(path, as_displayed=True))[..., 0], seen)
        np.testing.assert_array_equal(read_map(path), seen)  # maps and masks are of what was displayed


def test_images_are_turned_when_they_are_asked_to(tmp_path):
    pixels = np.zeros((16, 32, 3), np.uint8)
    paths = [write_turned(tmp_path / "a.png", pixels, 6)]
    assert Images(paths, lambda image: image.size)[0]["image"] == (32, 16)
    assert Images(paths, lambda image: image.size, as_displayed=True)[0]["image"] == (16, 32)


def test_a_map_of_floats_is_no_photograph(tmp_path):
    Image.fromarray(np.random.default_rng(0).random((6, 8), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="a.tif: floating-point values, no photograph"):
        read_image(tmp_path / "a.tif")


def entropy(values: np.ndarray) -> float:
    """Bits of a map >= 0 scaled to sum 1, by a plain loop."""
    p = values.astype(np.float64) / values.astype(np.float64).sum()
    return -sum(v * np.log2(v) for v in p.ravel() if v > 0)


def write_values(path: Path, values: np.ndarray) -> Path:
    np.save(path, values) if path.suffix == ".npy" else Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize("values, names", [
    (np.arange(48, dtype=np.uint8).reshape(6, 8) * 5, ("a.npy", "a.png", "a.tif")),
    (np.arange(48).reshape(6, 8) % 3 > 0, ("a.npy", "a.png", "a.tif")),
    (np.arange(48, dtype=np.uint16).reshape(6, 8) * 900, ("a.npy", "a.png", "a.tif")),
    (np.arange(48, dtype=np.float32).reshape(6, 8) / 3e4, ("a.npy", "a.tif")),
    (np.arange(48, dtype=np.int32).reshape(6, 8) * 70_000, ("a.npy", "a.tif")),
    (np.arange(48, dtype=np.float64).reshape(6, 8) * 1e6, ("a.npy",))],
    ids=lambda v: str(getattr(v, "dtype", "")))
def test_the_same_map_has_the_same_values_and_entropy_in_every_file(tmp_path, values, names):
    for name in names:
        found = read_map(write_values(tmp_path / name, values))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, values.astype(np.float32))
        assert entropy(found) == pytest.approx(entropy(values), abs=1e-6)


@pytest.mark.parametrize("lowest, highest, said", [
    (0, 4095, "all below 4096"), (0, 4096, ""), (9, 65535, ""), (0, 65536, "more than 16 bits"),
    (-1, 9000, "more than 16 bits")])
def test_a_photograph_of_16_bits_needs_more_than_12_of_them_and_no_more_than_16(tmp_path, lowest, highest, said):
    """The second example: a blue one, whose red and green are 0."""
    Image.fromarray(np.int32([[lowest, highest]])).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=f"a.tif: .*{said}") if said else contextlib.nullcontext():
        assert read_image(tmp_path / "a.tif").getpixel((1, 0)) == (highest >> 8,) * 3
    if highest in (4095, 4096):
        write_png_of_16_bits(tmp_path / "a.png", np.array([[[0, 0, highest]]]), 2)
        with pytest.raises(InputError, match="a.png: .*below 4096") if said else contextlib.nullcontext():
            assert read_image(tmp_path / "a.png").getpixel((0, 0)) == (0, 0, 16)


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_a_photograph_that_leaves_the_high_bits_empty_is_refused_instead_of_nearly_black(tmp_path, bits):
    grey = (GREY.astype(np.int64) * (2**bits - 1) // 255)
    Image.fromarray(grey.astype(np.uint16)).save(tmp_path / "a.png")
    Image.fromarray(grey.astype(np.int32)).save(tmp_path / "a.tif")  # the same, 32 bits a value
    Image.fromarray((grey << (16 - bits)).astype(np.uint16)).save(tmp_path / "right.png")
    for name in ("a.png", "a.tif"):
        with pytest.raises(InputError, match=f"{name}: 16 bits a value, all below 4096.*save it with 8 bits"):
            read_image(tmp_path / name)
    found = np.asarray(read_image(tmp_path / "right.png"))[..., 0]
    np.testing.assert_allclose(found, GREY, atol=1)


def test_a_grey_map_saved_as_colours_is_read_and_a_colour_map_is_refused(tmp_path):
    for mode, name in (("RGB", "a.png"), ("RGBA", "b.png"), ("RGB", "c.jpg"), ("LA", "d.png")):
        Image.fromarray(GREY).convert(mode).save(tmp_path / name, quality=95)
        np.testing.assert_allclose(read_map(tmp_path / name), GREY, atol=6 if name == "c.jpg" else 0)
    noisy().save(tmp_path / "jet.png")
    with pytest.raises(InputError, match="jet.png: shape"):
        read_map(tmp_path / "jet.png")


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("values", [
    np.full((3, 3), np.nan), np.zeros((0, 3)), np.zeros((2, 3, 3)), np.zeros(3), np.full((2, 2), 1e300),
    np.array([[1, np.inf]])])
def test_what_is_no_map_is_refused(tmp_path, values):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(InputError, match="a.npy: shape"):
        read_map(tmp_path / "a.npy")


OBJECT = np.zeros((6, 8), bool)
OBJECT[1:3, 2:7] = True


@pytest.mark.parametrize("mode, on", [
    ("1", 1), ("L", 1), ("L", 255), ("P", 1), ("P", 200), ("I;16", 1), ("I;16", 255), ("I", 3), ("I", -2),
    ("F", .01), ("F", -1.), ("RGB", (1, 0, 0)), ("RGB", (0, 0, 1)), ("RGBA", (0, 1, 0, 255)),
    ("RGBA", (9, 9, 9, 1)), ("LA", (1, 255))])
def test_whatever_is_not_0_is_object_in_every_mode(tmp_path, mode, on):
    kind = {"1": bool, "I;16": np.uint16, "I": np.int32, "F": np.float32}.get(mode, np.uint8)
    values = (OBJECT[..., None] * np.array(on).reshape(1, 1, -1)).astype(kind)
    image = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)
    if mode == "P":
        image.putpalette([0] * 3 + [0, 0, 9] * 255)
    path = tmp_path / ("a.tif" if mode in ("I", "F") else "a.png")
    image.save(path)
    with Image.open(path) as saved:
        assert saved.mode == mode
    np.testing.assert_array_equal(read_mask(path), OBJECT)


PALETTES = {  # colours of indices 0, 1, 2: where of a picture of the three is the object, and its values as a map
    "white first": ([255] * 3 + [0] * 3 + [9] * 3, [1, 0, 1], [255, 0, 9]),
    "black first": ([0] * 3 + [255] * 6, [0, 1, 1], [0, 255, 255]),
    "green, black, red": ([0, 200, 0] + [0] * 3 + [9, 0, 0], [1, 0, 1], None),
    "labels": ([0] * 3 + [0, 0, 128] + [0] * 3, [0, 1, 1], None),
    "all black": ([0] * 9, [0, 1, 1], [0, 1, 2])}


@pytest.mark.parametrize("palette", PALETTES)
def test_palettes_count_as_what_they_show_but_labels_by_their_index(tmp_path, palette):
    colours, on, values = PALETTES[palette]
    image = Image.fromarray(np.arange(3, dtype=np.uint8)[None])
    image.putpalette(colours)
    image.save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png")[0].tolist() == [bool(v) for v in on]
    with pytest.raises(InputError, match="colours") if values is None else contextlib.nullcontext():
        assert read_map(tmp_path / "a.png")[0].tolist() == values


def test_a_reduced_palette_keeps_the_area_of_an_object_and_the_order_of_a_map(tmp_path):
    white = Image.fromarray(np.where(OBJECT, 255, 0).astype(np.uint8)).convert("RGB")
    adaptive = white.convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    for image, name in ((white.quantize(2), "a.png"), (white.convert("L").quantize(2), "b.png"),
                        (adaptive, "c.png"), (white, "d.gif")):
        image.save(tmp_path / name)
        assert np.array_equal(read_mask(tmp_path / name), OBJECT), name
    hill = np.outer(np.hanning(60), np.hanning(80)) * 255
    grey = Image.fromarray(hill.astype(np.uint8))
    for image, name in ((grey.quantize(128), "a.png"), (grey.convert("RGB").quantize(128), "b.png"),
                        (grey, "c.gif"), (grey.convert("RGB"), "d.gif")):
        image.save(tmp_path / name)
        assert np.corrcoef(read_map(tmp_path / name).ravel(), hill.ravel())[0, 1] > .99, name


def write_png_of_16_bits(path: Path, values: np.ndarray, kind: int) -> None:
    """values (img_h, img_w, channels); kind: PNG's number of grey (0), colours (2), either with alpha (4, 6)."""
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(rows), b"IEND": b""}
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(v)) + k + v + struct.pack(">I", zlib.crc32(k + v)) for k, v in chunks.items()))


@pytest.mark.parametrize("channels, kind", [(3, 2), (2, 4), (4, 6), (1, 0)])
def test_16_bits_that_cannot_be_read_are_no_map_and_no_mask(tmp_path, channels, kind):
    values = np.repeat(OBJECT[..., None] * 100, channels, 2)  # below 256: its high byte is 0
    write_png_of_16_bits(tmp_path / "a.png", values, kind)
    for read in (read_map, read_mask):
        if kind == 0:  # 16-bit grey
            assert np.array_equal(read(tmp_path / "a.png") > 0, OBJECT)
        else:
            with pytest.raises(InputError, match="a.png: 16-bit .* save it as 16-bit grey"):
                read(tmp_path / "a.png")


def test_what_is_transparent_is_white_to_people_and_as_stored_to_a_classifier(tmp_path):
    pixels = np.uint8([[[200, 0, 0, 255], [200, 0, 0, 0], [200, 0, 0, 51]]])  # opaque, unseen, a fifth
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.asarray(read_image(tmp_path / "a.png")).tolist() == [[[200, 0, 0]] * 3]
    seen = np.asarray(read_image(tmp_path / "a.png", as_displayed=True), int)
    assert seen[0, :2].tolist() == [[200, 0, 0], [255] * 3] and abs(seen[0, 2] - [244, 204, 204]).max() <= 1
    Image.fromarray(np.uint8([[50, 90]])).save(tmp_path / "grey.png", transparency=90)
    assert np.asarray(read_image(tmp_path / "grey.png", as_displayed=True))[0, :, 0].tolist() == [50, 255]


@pytest.mark.parametrize("mode", ["LA", "RGBA", "CMYK"])
def test_black_and_transparent_are_off_the_object(tmp_path, mode):
    """The second example: white off the object, but transparent; and CMYK, in which 0 is white."""
    image = Image.fromarray(np.where(OBJECT, 255, 0).astype(np.uint8)).convert("RGB").convert(mode)
    if mode != "CMYK":
        image = Image.new(mode, (8, 6), "white")
        image.putalpha(Image.fromarray(np.where(OBJECT, 255, 0).astype(np.uint8)))
    image.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), OBJECT)


@pytest.mark.parametrize("values, said", [(OBJECT & False, "empty mask"), (OBJECT | True, "full mask"),
                                          (OBJECT * np.nan, "not finite"),
                                          (np.where(OBJECT, np.inf, 0), "not finite"), (np.zeros((2, 3, 3)), "shape")])
def test_masks_that_tell_nothing_are_refused_by_name(tmp_path, values, said):
    np.save(tmp_path / "bag01.npy", values)
    with pytest.raises(InputError, match=f"bag01.npy: .*{said}"):
        read_mask(tmp_path / "bag01.npy")


def test_two_masks_of_one_image_are_refused(tmp_path):
    (tmp_path / "masks").mkdir()
    for name in ("a.npy", "b.png", "b.txt"):
        (tmp_path / "masks" / name).touch()
    assert data.mask_files(tmp_path) == {name[0]: tmp_path / "masks" / name for name in ("a.npy", "b.png")}
    (tmp_path / "masks" / "a.tif").touch()
    with pytest.raises(InputError, match="masks: a.npy and a.tif are of one image"):
        data.mask_files(tmp_path)


def noisy(size=(80, 60)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("kind, options", [
    ("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("TIFF", {}), ("BMP", {})])
@pytest.mark.parametrize("kept", [0, 3, 20, 0.5, 0.9])
def test_truncated_image_raises_input_error_naming_the_file(tmp_path, kind, options, kept):
    buffer = io.BytesIO()
    noisy().save(buffer, kind, **options)
    whole = buffer.getvalue()
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(whole[:int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(InputError, match="cut"):
        read_image(path)


def test_text_folder_and_missing_file_raise_input_error(tmp_path):
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("text.jpg", "folder.jpg", "absent.jpg"):
        with pytest.raises(InputError, match=name):
            read_image(tmp_path / name)


def test_whatever_a_parser_raises_names_the_file_and_keeps_its_cause():
    for error in (zipfile.BadZipFile("cut"), csv.Error("line"), MemoryError(), AttributeError("x")):
        with pytest.raises(InputError, match="a.npz: .*; expected arrays") as e, \
                input_errors("a.npz", "arrays"):
            raise error
        assert e.value.__cause__ is error
    with pytest.raises(KeyboardInterrupt), input_errors("a.npz", "arrays"):
        raise KeyboardInterrupt


def test_an_error_is_one_line_whatever_the_names_in_it():
    assert str(InputError("a\n b.png: é\r\nnot there")) == "a b.png: é not there"
    assert str(pickle.loads(pickle.dumps(InputError("a\nb")))) == "a b"  # from a loader's process


# --- preprocessing --------------------------------------------------------------------------------------

# width, height
SIZES = [(500, 375), (375, 500), (333, 500), (256, 256), (257, 411), (60, 40), (31, 517), (1, 9)]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", SIZES)
def test_preprocess_equals_torchvision_on_pil_images_bit_for_bit(size, interpolation):
    mode = transforms.InterpolationMode(interpolation)
    theirs = transforms.Compose([transforms.Resize(256, mode), transforms.CenterCrop(224),
                                 transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    image = noisy(size)
    ours = Preprocess(256, 224, MEAN, STD, interpolation)(image)
    assert ours.shape == (3, 224, 224) and torch.equal(ours, theirs(image))


@pytest.mark.parametrize("size", SIZES)
def test_preprocess_equals_pil_by_hand(size):
    image = noisy(size)
    width, height = (max(256, int(256 * side / min(size))) for side in size)
    left, top = round((width - 224) / 2), round((height - 224) / 2)
    resized = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224))
    x = np.asarray(resized, dtype=np.float64).transpose(2, 0, 1) / 255
    x = (x - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
    np.testing.assert_allclose(Preprocess(256, 224, MEAN, STD)(image).numpy(), x, atol=2e-6)


@pytest.mark.parametrize("crop, width, height", [(224, 224, 224), ((288, 384), 384, 288)])
def test_squash_resizes_straight_to_the_crop_rows_first(crop, width, height):
    ours = Preprocess(None, crop, (0.5,) * 3, (0.5,) * 3, "bilinear", squash=True)(noisy((500, 375)))
    expected = np.asarray(noisy((500, 375)).resize((width, height), Image.Resampling.BILINEAR)) / 127.5 - 1
    assert ours.shape == (3, height, width) and ours.dtype == torch.float32
    np.testing.assert_allclose(ours.permute(1, 2, 0).numpy(), expected, atol=1e-6)


def test_preprocess_survives_pickle_and_json():
    preprocess = Preprocess(256, 224, MEAN, STD, "bicubic")
    assert pickle.loads(pickle.dumps(preprocess)) == preprocess
    assert json.loads(json.dumps(dataclasses.asdict(preprocess)))["interpolation"] == "bicubic"


# --- batches --------------------------------------------------------------------------------------------

def image_list(folder: Path, extra=None) -> Images:
    """Five images; 1 is truncated, 3 is missing."""
    paths = [write_jpeg(folder / "ünï" / f"{i}.JPEG", colour=(40 * i, 0, 0)) for i in range(5)]
    paths[1].write_bytes(paths[1].read_bytes()[:-300])
    paths[3].unlink()
    return Images(paths, Preprocess(16, 16, (0.0,) * 3, (1.0,) * 3), extra)


def square(i: int) -> dict:
    return {"square": i * i}


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_images_are_black_and_marked_also_with_a_spawned_worker(tmp_path, workers):
    loader = torch.utils.data.DataLoader(image_list(tmp_path, square), batch_size=3, num_workers=workers,
                                         multiprocessing_context="spawn" if workers else None)
    a, b = loader
    assert a["image"].shape == (3, 3, 16, 16) and a["readable"].tolist() == [True, False, True]
    assert b["index"].tolist() == [3, 4] and b["readable"].tolist() == [False, True]
    assert a["image"][1].eq(0).all() and abs(b["image"][1, 0].mean().item() - 160 / 255) < 0.02  # red 160
    assert a["square"].tolist() == [0, 1, 4]


def test_readable_only_drops_the_unreadable_rows_and_names_them():
    arrays = dict(readable=np.array([True, False, True]), x=np.array([1., 0., 3.]), m=np.zeros((3, 2)))
    kept, good, bad = readable_only(arrays, ["a", "b", "c"])
    assert kept["x"].tolist() == [1, 3] and kept["m"].shape == (2, 2) and set(kept) == {"x", "m"}
    assert (good, bad) == (["a", "c"], ["b"])
    assert readable_only(arrays, ["a", "b", "c"], 2)[1] == good  # as many as are needed
    with pytest.raises(InputError, match="2 of the 3 images can be read .* at least 3 needed"):
        readable_only(arrays, ["a", "b", "c"], 3)


def test_no_readable_image_at_all_is_an_error():
    with pytest.raises(InputError, match="none of the 2 images can be read .first: a"):
        readable_only(dict(readable=np.zeros(2, bool), x=np.zeros(2)), ["a", "b"])


# --- tables and orders ----------------------------------------------------------------------------------

def test_numbers_of_a_csv_become_floats_and_names_stay_text(tmp_path):
    names = ["image", "condition", "viewer", "group", "clip", "part", "participant"]
    (tmp_path / "a.csv").write_text(f"{','.join(names)},code,s,x\n" + "01," * 8 + "0,3\n" + "02," * 8 + ".2,\n")
    a, b = read_csv(tmp_path / "a.csv", text=["code"], durations=["s", "absent"])
    assert a == dict.fromkeys([*names, "code"], "01") | dict(s=0., x=3.)
    assert b == dict.fromkeys([*names, "code"], "02") | dict(s=.2, x="")
    assert read_csv(tmp_path / "a.csv")[0]["code"] == 1
    (tmp_path / "b.csv").write_text("x,s\n1,2\n2,\n")
    assert [row["s"] for row in read_csv(tmp_path / "b.csv", durations=["s"])] == [2, ""]


def test_a_data_sets_own_folder_goes_before_that_of_all_data(tmp_path):
    for name in ("all/coco", "all/imagenet", "mine", "looks"):
        (tmp_path / name).mkdir(parents=True)
    own = argparse.Namespace(data=str(tmp_path / "all"), workers=0, coco=tmp_path / "mine", imagenet=None)
    names = ["coco", "imagenet", "salicon"]
    expected = dict(coco=tmp_path / "mine", imagenet=tmp_path / "all" / "imagenet", salicon=None)
    assert data_places(own, names, []) == expected
    (tmp_path / "all" / "fixations.mat").touch()  # the folder of all data is one of fixations
    assert data_places(own, names, []) == expected | dict(salicon=tmp_path / "all")
    own.salicon = tmp_path / "looks"
    assert data_places(own, names, []) == expected | dict(salicon=tmp_path / "looks")
    own.coco = tmp_path / "all" / "fixations.mat"
    with pytest.raises(InputError, match=f"--coco {own.coco}: no such folder"):
        data_places(own, names, [])


def test_files_of_fixations_are_known_by_their_names(tmp_path):
    (tmp_path / "fixations" / "val").mkdir(parents=True)
    (tmp_path / "fixations" / "train").mkdir()
    found = ["COCOFreeView_fixations_trainval.json", "fixations.mat", "fixations/train/b.mat", "fixations/val/a.mat"]
    for name in [*found, "instances.json", "meta.mat", "fixations.txt", "fixations/val/c.json"]:
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in gaze_files(tmp_path)] == found
    assert gaze_files(None) == gaze_files(tmp_path / "absent") == gaze_files(tmp_path / "fixations.mat") == []


def refused(path: Path, content: str | bytes, said: str, numbers=("t_s", "x_px")) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    with pytest.raises(InputError, match=f"{path.name}: .*{said}"):
        read_csv(path, text=["viewer"], numbers=numbers, durations=["fix_s"])


GAZE = "viewer,t_s,x_px\n01,0.1,5\n02,0.2,\n"


@pytest.mark.parametrize("content", [
    GAZE, "\ufeff" + GAZE, GAZE.replace("\n", "\r\n"), GAZE.replace(",", ", "),
    " viewer , t_s,x_px \n\n01,.1,5\n02,.2,\n",
    GAZE.replace("x_px", "x_px,note; free").replace("5\n", "5,_\n").replace(",\n", ",,b\n")],
    ids=["plain", "BOM", "CRLF", "spaces", "spaces in the header", "more columns"])
def test_a_table_is_read_however_a_spreadsheet_writes_it(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content.encode("utf-8"))
    rows = read_csv(tmp_path / "a.csv", text=["viewer"], numbers=["t_s", "x_px"])
    assert [(r["viewer"], r["t_s"], r["x_px"]) for r in rows] == [("01", .1, 5.), ("02", .2, "")]
    (tmp_path / "a.csv").write_text(GAZE.replace("5", "nan"))  # not seen, as an empty one
    assert np.isnan(read_csv(tmp_path / "a.csv", numbers=["t_s", "x_px"])[0]["x_px"])


def test_wrong_tables_are_told_with_the_line(tmp_path):
    path = tmp_path / "gaze.csv"
    refused(path, GAZE.replace(",", ";"), "semicolons; save it in UTF-8, with commas")
    refused(path, GAZE.replace(",", "\t"), "tabs; save")
    refused(path, GAZE.encode("utf-16"), "UTF-16; save")
    refused(path, GAZE.replace("x_px", "x"), r"no column x_px in the header \(viewer, t_s, x\)")
    refused(path, "viewer,t_s,t_s,x_px\n01,.1,.1,5\n", "two columns of one name")
    refused(path, GAZE.split("\n", 1)[1], "no column viewer")  # no header
    refused(path, "", "no column viewer")
    refused(path, GAZE.replace("5\n", "5,6\n"), "line 2 is not as long")
    refused(path, GAZE.replace("0.2,", "0.2"), "line 3 is not as long")
    refused(path, 'viewer,t_s,x_px\n"a\nb",1,2\nc,1,two\n', "line 4: x_px is 'two', no finite number")
    refused(path, GAZE.replace("0.2", "inf"), "line 3: t_s is 'inf'")
    refused(path, GAZE.replace("0.2", ""), "line 3: t_s is '', no finite number")
    refused(path, GAZE.replace("0.2", "nan"), "line 3: t_s is .nan., no finite number")
    refused(path, GAZE.replace("0.1", "0:01"), "line 2: t_s is '0:01'")
    for frame in ("", "nan"):
        refused(path, f"viewer,frame\n01,7\n02,{frame}\n", f"line 3: frame is '{frame}', no finite number", ["frame"])
    for seconds in (-.1, "inf", "nan", "long"):
        refused(path, f"viewer,fix_s\n01,1\n02,{seconds}\n", f"line 3: fix_s is '{seconds}', no number from 0", [])
    path.write_text("x;y\n1;2\n")
    with pytest.raises(InputError, match="gaze.csv: semicolons; save"):  # even where no column is asked for
        read_csv(path)


def test_a_name_that_is_no_utf_8_is_kept(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"image,x\ncaf\xe9.jpg,1\n")
    assert os.fsencode(read_csv(tmp_path / "a.csv")[0]["image"]) == b"caf\xe9.jpg"


def test_files_that_begin_with_a_dot_are_never_listed(tmp_path):
    for name in ("b.mat", "a.MAT", "._b.mat", ".DS_Store", "c.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in entries(tmp_path)] == ["a.MAT", "b.mat", "c.txt"]
    assert [p.name for p in entries(tmp_path, ".mat")] == ["a.MAT", "b.mat"]


def test_companions_that_macos_leaves_cost_no_gaze_and_no_image(tmp_path):
    mats = tmp_path / "fixations" / "val"
    mats.mkdir(parents=True)
    write_salicon_mat(mats / "COCO_val2014_000000000042.mat", [[5, 6]])
    (mats / "._COCO_val2014_000000000042.mat").write_bytes(b"\0\5\x16\7")
    write_jpeg(tmp_path / "images" / "COCO_val2014_000000000042.jpg")
    (tmp_path / "images" / "._COCO_val2014_000000000042.jpg").write_bytes(b"\0\5\x16\7")
    images, other = load_gaze(tmp_path, "val")
    assert [image.path.name for image in images] == ["COCO_val2014_000000000042.jpg"]
    assert not any(other.values())
    assert gaze_files(tmp_path) == [mats / "COCO_val2014_000000000042.mat"]


def test_files_of_an_ending_that_nothing_reads_are_named_and_what_pillow_reads_is_read(tmp_path):
    for name in ("a.jpg", "b.jfif", "c.JPE"):
        write_jpeg(tmp_path / "val" / "n01" / name)
    for name in ("d.heic", "e.npy", "._f.heic"):
        (tmp_path / "val" / "n01" / name).write_bytes(b"x")
    items, _ = load_imagefolder(tmp_path)
    assert [path.name for path, _ in items] == ["a.jpg", "b.jfif", "c.JPE"]
    (tmp_path / "val" / "n01" / "folder").mkdir()
    (tmp_path / "val" / "words.txt").touch()
    write_jpeg(tmp_path / "train" / "n02" / "g.heif")
    assert [*passed_over(tmp_path).values()] == [["n01/d.heic", "n01/e.npy"]]
    assert [*passed_over(tmp_path, train=True).values()] == [["n02/g.heif", "n01/d.heic", "n01/e.npy"]]
    assert passed_over(tmp_path) == passed_over(tmp_path / "val") and passed_over("demo") == {}


def test_training_order_covers_every_epoch_once_and_is_shared_by_processes(monkeypatch):
    whole = list(training_order(10, 4, seed=1, start=0, stop=4))
    assert [len(b) for b in whole] == [4] * 4 and [e for b in whole for e, _ in b] == [0] * 8 + [1] * 8
    first = torch.randperm(10, generator=generator(1, 0, 0)).tolist()
    assert [i for b in whole[:2] for _, i in b] == first[:8]  # the last two are dropped
    second = torch.randperm(10, generator=generator(1, 0, 1)).tolist()
    assert [i for b in whole[2:] for _, i in b] == second[:8] != first[:8]
    assert list(training_order(10, 4, 1, 3, 4)) == whole[3:]  # a resumed run goes on in the same order
    parts = []
    for rank in range(2):
        monkeypatch.setattr(common, "rank_world", lambda rank=rank: (rank, 2))
        parts.append(list(training_order(10, 4, 1, 0, 4)))
    assert [a + b for a, b in zip(*parts)] == whole


# --- gaze of images -------------------------------------------------------------------------------------

def test_gaze_is_scaled_to_the_map_and_images_without_file_or_fixations_are_listed(tmp_path):
    write_salicon(tmp_path / "fixations_val2014.json", [[1, 1], [480, 640]])
    write_jpeg(tmp_path / "images" / "COCO_val2014_000000000042.jpg")
    write_jpeg(tmp_path / "images" / "COCO_val2014_000000000007.jpg")
    images, other = load_gaze(tmp_path, "val")
    assert [image.name for image in images] == ["COCO_val2014_000000000042.jpg"]
    rows, cols = images[0].observers[0]
    assert rows.tolist() == [0, 223] and cols.tolist() == [0, 223]
    assert other == {"val, missing": [], "val, no fixations": ["COCO_val2014_000000000007.jpg"]}
    (tmp_path / "images" / "COCO_val2014_000000000042.jpg").unlink()
    with pytest.raises(InputError, match="1 images without a file .* 1 without fixations, no image left"):
        load_gaze(tmp_path, "val")
    with pytest.raises(InputError, match="fixations_train2014.json"):
        load_gaze(tmp_path, "train")


def test_a_random_two_sevenths_of_osie_are_held_out_whatever_their_order(tmp_path):
    names = [f"{1001 + k}.jpg" for k in range(23)]
    write_osie(tmp_path / "fixations.mat", {name: [([799.], [599.], [9])] for name in names})
    for name in names:
        write_jpeg(tmp_path / "stimuli" / name, (800, 600))
    part = {split: [image.name for image in load_gaze(tmp_path, split)[0]] for split in ("train", "val")}
    order = torch.randperm(23, generator=generator(0)).tolist()
    assert part["val"] == [names[k] for k in sorted(order[:7])] != names[:7]
    assert sorted(part["train"] + part["val"]) == names and len(part["train"]) == 16
    assert [image.name for image in load_gaze(tmp_path, "val", limit=2)[0]] == part["val"][:2]
    (rows, cols), = load_gaze(tmp_path, "val")[0][0].observers
    assert (rows.tolist(), cols.tolist()) == ([223], [223])  # of the picture's 600 x 800 px


def test_images_of_cocos_2017_release_are_those_of_2014(tmp_path):
    write_jpeg(tmp_path / "coco" / "train2017" / "000000000042.jpg")
    for split in ("val", "train"):
        file = write_salicon(tmp_path / "salicon.json", [[1, 1]]).rename(tmp_path / f"fixations_{split}2014.json")
        file.write_text(file.read_text().replace("COCO_val2014", f"COCO_{split}2014"))
        images, _ = load_gaze(tmp_path, split, tmp_path / "coco")
        assert images[0].name == f"COCO_{split}2014_000000000042.jpg"
        assert images[0].path.name == "000000000042.jpg" and images[0].size == (480, 640)


# --- COCO-FreeView and COCO-Search18 --------------------------------------------------------------------

def record(name: str, subject: int, x: list, y: list, split: str = "valid", **more) -> dict:
    """As in COCOFreeView_fixations_trainval.json; the first fixation is the one in the centre."""
    return dict(name=name, subject=subject, X=[840., *x], Y=[525., *y], T=[200] * (1 + len(x)), split=split,
                condition="freeview", length=1 + len(x), **more)


def write_freeview(folder: Path, records: list, name: str = "COCOFreeView_fixations_trainval.json") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(records))
    return folder


def test_freeview_is_recognised_and_its_displayed_pictures_are_taken_as_a_whole(tmp_path):
    some = [record("000000000042.jpg", 1, [0, 1679.9], [0, 1049.9]),
            record("000000000042.jpg", 2, [839], [524]), record("000000000042.jpg", 3, [], []),
            record("000000000007.jpg", 1, [5], [5], split="train")]
    folder = write_freeview(tmp_path / "fv", some)
    write_jpeg(folder / "COCOSearch18-images-TP" / "images" / "bottle" / "000000000042.jpg", (1680, 1050))
    images, other = load_gaze(folder, "val")
    (image,) = images
    assert image.size == (1050, 1680) and not any(other.values())
    points = [list(zip(rows.tolist(), cols.tolist())) for rows, cols in image.observers]
    assert points == [[(0, 0), (223, 223)], [(111, 111)], []]  # floor(524 224 / 1050), floor(839 224 / 1680)
    assert gaze_files(folder) == [folder / "COCOFreeView_fixations_trainval.json"]
    with pytest.raises(InputError, match="1 images without a file .*000000000007.jpg.* left for train"):
        load_gaze(folder, "train")


@pytest.mark.parametrize("size, bars, scale", [((640, 480), (140, 0), 2.1875), ((640, 320), (0, 105), 2.625)])
def test_gaze_on_cocos_own_pictures_loses_the_bars_of_the_display(tmp_path, size, bars, scale):
    """640x480 was shown 1400x1050 px between bars of 140 px, 640x320 1680x840 px between bars of 105 px."""
    left, top = bars
    inside = [left + scale * 320, left + scale * 639.5], [top + scale * 160, top + scale * 0.5]
    outside = [left - 1 if left else 600, 1680 - left + 1 if left else 600], [top - 1, 1050 - top + 1]
    x, y = inside[0] + outside[0], inside[1] + outside[1]
    most = record("000000000042.jpg", 2, [840.] * 8, [525.] * 8)
    folder = write_freeview(tmp_path / "fv", [record("000000000042.jpg", 1, x, y), most])
    write_jpeg(tmp_path / "coco" / "val2014" / "COCO_val2014_000000000042.jpg", size)
    (image,), _ = load_gaze(folder, "val", tmp_path / "coco")
    rows, cols = image.observers[0]
    assert image.size == size[::-1]
    assert cols.tolist() == [112, 223] and rows.tolist() == [160 * 224 // size[1], 0]


def test_a_picture_of_another_scale_or_upright_is_mapped_too():
    rows, cols = off_the_bars(np.array([525.]), np.array([840.]), (320, 512))  # the display's shape, smaller
    assert (rows[0], cols[0]) == (160, 256)
    rows, cols = off_the_bars(np.array([525., 525.]), np.array([840., 300.]), (640, 480))  # 787.5 px wide
    assert rows.tolist() == [320] and cols.tolist() == [240]
    for size, y, x in (((640, 480), [525, 525], [446.25, 1233.75]), ((320, 640), [105, 945], [840, 840])):
        rows, cols = off_the_bars(np.array(y), np.array(x), size)  # at its first row or column; just after its last
        assert (rows.tolist(), cols.tolist()) == (([320], [0]) if size[0] > size[1] else ([0], [320]))


def test_search18_of_two_files_is_read_together(tmp_path):
    """The second example: a trial a task, target present and absent in files of their own."""
    present = [record("1.jpg", 4, [10], [20], task="bottle", bbox=[1, 2, 3, 4])]
    folder = write_freeview(tmp_path / "s18", present, "coco_search18_fixations_TP_validation_split1.json")
    write_freeview(folder, [record("2.jpg", 4, [10, 30], [20, 40], task="bowl")],
                   "coco_search18_fixations_TA_trainval.json")
    for k in (1, 2):
        write_jpeg(folder / "images" / "bowl" / f"{k}.jpg", (1680, 1050))
    images, _ = load_gaze(folder, "val")
    assert [(image.name, len(image.observers[0][0])) for image in images] == [("2.jpg", 2), ("1.jpg", 1)]


@pytest.mark.parametrize("wrong", [{"X": [1, 2, None]}, {"Y": [1, 2]}, {"X": [1, float("nan"), 3]},
                                   {"name": 5}, {"X": "abc"}, {"split": None}])
def test_broken_records_are_refused_with_their_file(tmp_path, wrong):
    folder = write_freeview(tmp_path / "fv", [record("1.jpg", 1, [1, 2], [3, 4]) | wrong])
    with pytest.raises(InputError, match="COCOFreeView_fixations_trainval.json: "):
        load_gaze(folder, "val")


@pytest.mark.parametrize("width, height, says", [
    (1, 1, "shares of the picture: multiply them by 1680 and 1050"), (512, 320, "smaller picture. multiply by 1680 /"),
    (840, 525, "smaller picture. multiply by 1680 /")])
def test_gaze_in_another_unit_than_the_displays_pixels_is_refused(tmp_path, width, height, says):
    one = record("1.jpg", 1, list(range(0, 1680, 73)), list(range(1049, 0, -45)))
    one |= {"X": [x * width / 1680 for x in one["X"]], "Y": [y * height / 1050 for y in one["Y"]]}
    folder = write_freeview(tmp_path / "fv", [one])
    with pytest.raises(InputError, match=rf"viewers, x 0 to {width * 1679 / 1680:g}, .* of 1680x1050. X and Y .*{says}"):
        load_gaze(folder, "val")


def test_one_subject_of_freeview_in_percent_is_named(tmp_path):
    x, y = np.linspace(1, 1679, 40), np.linspace(1049, 1, 40)
    right = [record(f"{k}.jpg", k, x.tolist(), y.tolist()) for k in range(9)]
    one = record("9.jpg", 9, (x / 16.8).tolist(), (y / 10.5).tolist())
    one |= {"X": [50., *one["X"][1:]], "Y": [50., *one["Y"][1:]]}
    folder = write_freeview(tmp_path / "fv", [*right, one])
    with pytest.raises(InputError, match="trainval.json, subject 9, .*X and Y look like %: multiply them by 16.8 and 10.5"):
        load_gaze(folder, "val")


def test_one_picture_of_freeview_in_percent_is_named(tmp_path):
    """Its 5 subjects looked at many others in px, so that none of them is strange."""
    x, y = np.linspace(1, 1679, 40), np.linspace(1049, 1, 40)
    right = [record(f"{k}.jpg", i, x.tolist(), y.tolist()) for k in range(9) for i in range(5)]
    odd = [record("odd.jpg", i, x.tolist(), y.tolist()) | {"X": [50., *x / 16.8], "Y": [50., *y / 10.5]}
           for i in range(5)]
    folder = write_freeview(tmp_path / "fv", [*right, *odd])
    with pytest.raises(InputError, match="all viewers on odd.jpg, .*X and Y look like %: multiply them by 16.8 and 10.5"):
        load_gaze(folder, "val")


def line_of(x: tuple, y: tuple, n: int = 41) -> np.ndarray:
    """n points (n, 2) from corner to corner of the ranges of x and y."""
    return np.stack([np.linspace(*x, n), np.linspace(*y, n)], 1)


@pytest.mark.parametrize("x, y, fault", [  # ranges of 40 points on 640x480 px
    ((5, 630), (5, 230), ""), ((5, 310), (5, 470), ""), ((5, 310), (5, 230), "all in their top left quarter"),
    ((300, 325), (5, 470), ""), ((5, 630), (200, 220), ""), ((300, 325), (200, 220), "within a twentieth of"),
    ((300, 338), (200, 220), ""), ((0, 0), (0, 470), "")])
def test_half_a_picture_or_a_narrow_band_is_looked_at_but_no_quarter_and_no_spot(x, y, fault):
    def check(n: int) -> None:
        xy = np.concatenate([line_of(x, y, n), [[900, 700]] * (n // 10)])  # some look away, which counts for nothing
        check_units("gaze.csv", [("v", "a.png", with_size(xy, (480, 640)))])
    check(19)  # too few to tell
    with pytest.raises(InputError, match=fault) if fault else contextlib.nullcontext():
        check(40)


def test_the_message_tells_of_all_gaze_and_counts_for_pictures_as_large_as_the_first():
    lost = [[np.nan, 3e4]]
    looks = [("v", "c.png", with_size([[10, 20]], (480, 640))),
             ("v", "a.png", with_size(line_of((7, 1200), (-9, 1700)), (1700, 640))),  # 20 of 41 are off
             ("w", "b.png", with_size(np.concatenate([line_of((10, 910), (20, 620)), lost]), (480, 640)))]  # 13
    with pytest.raises(InputError) as e:
        check_units("gaze.csv", looks, names="X and Y")
    assert str(e.value) == (
        "gaze.csv: the gaze of all viewers, x 7 to 1200, y -9 to 1700, lies for 40% outside of the pictures; expected "
        "X and Y in px of the pictures, the first of 640x480. X and Y go to 864 and 589, as px of a larger display: take "
        "off the margin left of and above the picture there, multiply by 640 / its width there.")
    check_units("gaze.csv", looks, most_outside=.4)  # 33 of 83
    with pytest.raises(InputError, match="all viewers, x 0 to 1, .* lies within 1 px of the corner"):
        check_units("gaze.csv", [("v", "a.png", with_size(line_of((0, 1), (0, .7), 5), (480, 640)))])


@pytest.mark.parametrize("x, y, n, fault", [  # ranges of n points on one of two pictures
    ((5, 700), (5, 460), 20, None), ((5, 1250), (5, 460), 20, None), ((5, 1350), (5, 460), 20, "for 55% outside"),
    ((5, 1350), (5, 460), 19, None), ((5, 638), (.1, 1), 20, "within 1 px"), ((5, 638), (.1, 1), 19, None),
    ((0, .9), (0, .8), 2, "within 1 px"), ((1, 1), (0, 1), 2, "within 1 px"), ((5, 638), (1, 1), 20, "within 1 px"),
    ((5, 638), (.1, 1.9), 20, None), ((0, 1.9), (0, 1.9), 2, None), ((0, 0), (0, 0), 5, None),
    ((5, 95), (5, 98), 20, "all in their top left"), ((5, 95), (5, 98), 19, None),
    ((5, 98), (5, 49), 20, None), ((5, 300), (5, 98), 20, None), ((5, 95), (0, 101.5), 20, None),
    ((0, 51), (5, 98), 20, "all in their top left")])
def test_one_picture_is_judged_by_enough_points(x, y, n, fault):
    px = with_size(line_of((3, 630), (4, 470), 400), (480, 640))
    looks = [("v", "a.png", px), ("v", "b.png", with_size(line_of(x, y, n), (480, 640)))]
    says = f"all viewers on b.png, .* lies {fault}"
    with pytest.raises(InputError, match=says) if fault else contextlib.nullcontext():
        check_units("gaze.csv", looks)
    if fault is None:  # and px of a low picture are no percent
        check_units("gaze.csv", [*looks, ("v", "low.png", with_size(line_of((5, 95), (5, 98)), (120, 640)))])


@pytest.mark.parametrize("x, y, hint", [  # ranges on 720x480 px; from the 5 % quantile to that of 95 %
    ((0, 0), (0, 0), "All are 0, as where a tracker lost the eye"),
    ((0, 1), (0, 1), "a and b look like shares of the picture: multiply them by 720 and 480."),
    ((0, 0), (0, 1), "a and b look like shares of the picture: multiply them by 720 and 480."),
    ((0, 1), (5, 470), "a looks like shares of the picture: multiply it by 720."),
    ((5, 700), (0, 1), "b looks like shares of the picture: multiply it by 480."),
    ((-.9, .9), (-.9, .9), "in degrees or another unit: convert them to px, then add 360 and 240."),
    ((-79, 79), (-8, 8), "in degrees or another unit: convert them to px, then add 360 and 240."),
    ((-19, 62), (-19, 62), "in degrees or another unit"),
    ((-82, 82), (-8, 8), "a and b look counted from the centre: add 360 and 240."),
    ((-60, 200), (-60, 200), "a and b look counted from the centre: add 360 and 240."),
    ((-45, 200), (-45, 200), "a and b go to 188 and 188: of a smaller picture?"),  # a little off, not centred
    ((-4, 60), (-4, 60), "a and b go to 57 and 57: of a smaller picture?"),
    ((-300, 300), (5, 470), None), ((0, 700), (0, 470), None), ((0, 340), (0, 470), None), ((0, 0), (5, 470), None),
    ((5, 700), (0, 1.9), None), ((0, 2), (0, 2), "a and b look like %"),
    ((-79, 79), (5, 8), "a and b go to 71 and 8: of a smaller picture?"),
    ((0, 100), (0, 105), "a and b look like %: multiply them by 7.2 and 4.8."),
    ((-12, 100), (0, 100), "a and b go to 94 and 95: of a smaller picture?"),
    ((0, 1440), (0, 480), "a and b go to 1368 and 456, as px of a larger display"),
    ((0, 480), (0, 640), "left of and above the picture there, multiply by 720 / its width there."),
    ((0, 360), (0, 240), "a and b go to 342 and 228: of a smaller picture? multiply by 720 / its width.")])
def test_a_unit_is_told_by_where_most_of_the_gaze_lies(x, y, hint):
    xy = np.concatenate([line_of(x, y), [[np.nan, 5]] * 50])
    found = place_hints(xy, (480, 720), "a and b")
    assert hint in found[0] if hint else found == []


def test_on_a_small_picture_px_are_no_percent():
    assert place_hints(line_of((0, 98), (0, 98)), (100, 120)) == []
    assert "look like %" in place_hints(line_of((0, 100), (0, 100)), (101, 120))[0]
    assert place_hints(np.full((3, 2), np.nan), (480, 720)) == []


def test_the_first_kind_of_gaze_that_is_there_is_read(tmp_path):
    """OSIE's, SALICON's as .json, as .mat, COCO-FreeView's; a file of another split is none of it."""
    write_osie(tmp_path / "fixations.mat", {"1001.jpg": [([5.], [6.], [9])]})
    write_salicon(tmp_path / "fixations_val2014.json", [[3, 4]])
    write_salicon(tmp_path / "fixations_train2014.json", [[3, 4]])
    (tmp_path / "fixations" / "val").mkdir(parents=True)
    write_salicon_mat(tmp_path / "fixations" / "val" / "COCO_val2014_000000000005.mat", [[5, 6]])
    write_freeview(tmp_path, [record("9.jpg", 1, [100, 1500], [900, 20])])
    found = []
    for kind in ("fixations.mat", "fixations_val2014.json", "fixations/val/COCO_val2014_000000000005.mat"):
        found.append([(name, size) for name, _, size in read_gaze(tmp_path, "val")])
        (tmp_path / kind).unlink()
    (tmp_path / "fixations" / "val").rmdir()
    found.append([(name, size) for name, _, size in read_gaze(tmp_path, "val")])
    coco = [(f"COCO_val2014_{i:012d}.jpg", (480, 640)) for i in (42, 7, 5)]
    assert found == [[("1001.jpg", (600, 800))], coco[:2], coco[2:], [("9.jpg", None)]]


def test_pictures_are_looked_for_in_the_data_sets_own_folder_first(tmp_path):
    places = [tmp_path / root / sub for root in ("own", "coco") for sub in (
        "stimuli", "images", "images/val", "val2014", "val", "train2017", "val2017", "")]
    places += [tmp_path / "own" / "task" / "bowl_images" / sub for sub in ("a", "b")]
    for place in reversed(places):
        write_jpeg(place / "7.jpg")
    for place in places:
        (found,) = gaze_pictures(tmp_path / "own", tmp_path / "coco", "val").values()
        assert found == place / "7.jpg"
        found.unlink()
    assert gaze_pictures(tmp_path / "own", None, "val") == {}


def test_a_fixation_without_coordinates_is_missing_and_without_a_duration_counts_1(tmp_path):
    file = tmp_path / "fixations.csv"
    file.write_text("participant,image,x_px,y_px,duration_s\np,a.png,5,6,\nq,a.png,,,.25\n")
    (first, second), = load_fixations(file).values()
    assert first == ("p", 6, 5, 1) and second[::3] == ("q", .25) and np.isnan(second[1:3]).all()
    file.write_text("participant,image,x_px,y_px\np,b.png,5,6\n")
    assert load_fixations(file) == {"b.png": [("p", 6, 5, 1)]}


def test_a_look_is_a_point_on_a_picture_of_its_size(tmp_path):
    path, fixations = write_jpeg(tmp_path / "a.jpg", (60, 40)), [("p", 3., 50., 1.), ("q", 4., 5., 1.)]
    looks = looks_of([(path, fixations), (tmp_path / "gone.jpg", fixations)])
    assert [(who, name, xy.tolist()) for who, name, xy in looks] == [
        ("p", "a.jpg", [[50, 3, 60, 40]]), ("q", "a.jpg", [[5, 4, 60, 40]])]


# --- COCO -----------------------------------------------------------------------------------------------

def write_coco(path: Path, images: list, annotations: list, categories: list | None = None) -> Path:
    annotations = [{"id": k, **a} for k, a in enumerate(annotations)]
    categories = categories or [{"id": 1, "name": "person"}]
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return path


def test_ids_that_mean_something_else_in_two_files_are_refused(tmp_path):
    """Exports whose ids both begin at 1; the second example: only the image of an annotation differs."""
    a = write_coco(tmp_path / "a.json", [{"id": 1, "file_name": "a.jpg"}], [{"image_id": 1, "category_id": 1}])
    b = write_coco(tmp_path / "b.json", [{"id": 1, "file_name": "b.jpg"}], [])
    c = write_coco(tmp_path / "c.json", [{"id": 2, "file_name": "c.jpg"}], [{"image_id": 2, "category_id": 1}])
    with pytest.raises(InputError, match="b.json: images, id 1: file_name b, but a in a.json"):
        coco_categories([a, b], ["a.jpg", "b.jpg"])
    with pytest.raises(InputError, match="c.json: annotations, id 0: image_id 2, but 1 in a.json"):
        coco_categories([a, c], ["a.jpg", "c.jpg"])
    d = write_coco(tmp_path / "d.json", [], [], [{"id": 18, "name": "dog"}])
    e = write_coco(tmp_path / "e.json", [], [], [{"id": 18, "name": "cat"}])
    with pytest.raises(InputError, match="e.json: categories, id 18: name cat, but dog in a.json, d.json;"):
        coco_categories([a, d, e], ["a.jpg"])


def test_annotations_without_their_image_are_told_of(tmp_path, capsys, monkeypatch):
    file = write_coco(tmp_path / "instances.json", [{"id": k, "file_name": f"{k}.jpg"} for k in range(10)],
                      [{"image_id": 0, "category_id": 1}] + [{"image_id": 1000 + k, "category_id": 1} for k in range(9)])
    monkeypatch.setattr(data, "rank_world", lambda: (1, 2))  # the first process says it for all
    assert coco_categories([file], ["0.jpg"]) == {"person": ["0.jpg"]} and not capsys.readouterr().err
    monkeypatch.undo()
    assert coco_categories([file], ["0.jpg"]) == {"person": ["0.jpg"]}
    said = capsys.readouterr().err
    assert said.startswith("warning: 9 of COCO's 10 annotations are left out, their image_id (1000 ...)")


def test_coco_files_that_match_nothing_say_how_many_and_give_an_example(tmp_path):
    name = "COCO_val2014_000000000042.jpg"
    images = [{"id": 42, "file_name": "000000000042.jpg"}, {"id": 7, "file_name": "000000000007.jpg"}]
    good = [{"image_id": 42, "category_id": 1}, {"image_id": 8, "category_id": 1}]  # no image 8 in the file
    file = write_coco(tmp_path / "instances_val2014.json", images, good)
    assert coco_categories([file], [name]) == {"person": [name]}
    write_coco(file, images, [a | {"image_id": str(a["image_id"])} for a in good])
    with pytest.raises(InputError, match=r"instances_val2014.json: of 2 .* 2 have an image_id \['42'\]"):
        coco_categories([file], [name])
    write_coco(file, images, [a | {"category_id": 9} for a in good])
    with pytest.raises(InputError, match=r"of 2 .* 1 have an image_id \[8\] and 2 a category_id \[9\]"):
        coco_categories([file], [name])
    write_coco(file, images, [])
    with pytest.raises(InputError, match="instances_val2014.json: of 0 annotations 0 have"):
        coco_categories([file], [name])
    write_coco(file, images, good)
    with pytest.raises(InputError, match=r"2 images \(000000000042.jpg .*none with fixations \(1001.jpg"):
        coco_categories([file], ["1001.jpg"])


def test_an_image_without_objects_has_no_category_and_is_no_error(tmp_path):
    images = [{"id": 42, "file_name": "000000000042.jpg"}, {"id": 7, "file_name": "000000000007.jpg"}]
    seen = [{"image_id": 7, "category_id": 3}, {"image_id": 7, "category_id": 18}]
    categories = [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}]
    file = write_coco(tmp_path / "instances.json", images, seen, categories)
    assert coco_categories([file], ["000000000042.jpg"]) == {} == coco_categories([], ["a.jpg"])
    assert list(coco_categories([file], ["000000000007.jpg"])) == ["car", "dog"]
