"""Loaders of gaze and images: tiny files in the real formats, and (marked `real`) the real data."""
import csv
import dataclasses
import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision import transforms

import data
from common import InputError, Preprocess, generator, input_errors
from data import (Images, imagenet_wnids, load_gaze, load_imagefolder, load_osie, load_salicon, read_csv,
                  read_image, readable_only, training_order)

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
    image_id, name, workers = images[0]
    assert (image_id, name, len(workers)) == (42, "COCO_val2014_000000000042.jpg", 2)
    rows, cols = workers[0]
    assert rows.dtype == cols.dtype == np.float64
    assert rows.tolist() == [0, 479] and cols.tolist() == [639, 0]


def test_salicon_worker_without_fixations_is_empty_and_image_without_workers_has_no_entry(tmp_path):
    images = load_salicon(write_salicon(tmp_path / "a.json", [], [[3, 4]]))
    assert [len(rows) for rows, _ in images[0][2]] == [0, 1]
    assert images[1] == (7, "COCO_val2014_000000000007.jpg", [])


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
    with pytest.raises(InputError, match="480, 640"):
        load_salicon(write_salicon(tmp_path / "small.json", [[3, 4]], height=224, width=224))


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
    assert [(i, name) for i, name, _ in images] == [(7, "COCO_val2014_000000000007.jpg"),
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
    workers = [w for _, _, ws in images for w in ws]
    rows, cols = (np.concatenate([w[k] for w in workers]) for k in (0, 1))
    assert (len(images), len(workers), len(rows)) == (10, 610, 73630)
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (0, 479, 0, 639)
    assert all(real("salicon", "images", name).is_file() for _, name, _ in images)


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


@pytest.mark.parametrize("observer", [([float("nan")], [2.0], [3]), ([1.0, 2.0], [2.0], [3])])
def test_osie_with_nan_or_unequal_lengths_is_refused(tmp_path, observer):
    with pytest.raises(InputError, match="f.mat"):
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

def write_jpeg(path: Path, size=(20, 16), colour=(200, 100, 50)) -> Path:
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
    (tmp_path / "val" / ".DS_Store").write_text("x")
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
    assert all(read_image(path).size == (20, 16) for path, _ in items)


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


def test_torchvision_layout_takes_its_classes_from_meta_bin(tmp_path):
    write_jpeg(tmp_path / "val" / "n03" / "a.JPEG")
    write_meta_bin(tmp_path)
    for root in (tmp_path, tmp_path / "val"):
        items, classes = load_imagefolder(root)
        assert classes == ["n01", "n02", "n03"] and items[0][1] == 2


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
    write_meta_bin(tmp_path, ["n02"] + ["n01"] * 49_999)
    assert [label for _, label in load_imagefolder(tmp_path)[0]] == [1, 0, 0, 0]


def test_meta_bin_holding_code_is_not_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))
    write_jpeg(tmp_path / "val" / "n03" / "a.JPEG")
    torch.save((Evil(), []), tmp_path / "meta.bin")
    with pytest.raises(InputError, match="meta.bin"):
        load_imagefolder(tmp_path)
    assert not (tmp_path / "touched").exists()


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


def test_exif_orientation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    Image.new("RGB", (20, 16)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").size == (20, 16)


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


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_black_and_marked_also_with_spawned_workers(tmp_path, workers):
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


def test_no_readable_image_at_all_is_an_error():
    with pytest.raises(InputError, match="none of the 2 images can be read"):
        readable_only(dict(readable=np.zeros(2, bool), x=np.zeros(2)), ["a", "b"])


# --- tables and orders ----------------------------------------------------------------------------------

def test_numbers_of_a_csv_become_floats_and_names_stay_text(tmp_path):
    (tmp_path / "a.csv").write_text("image,viewer,x\n01,02,3\n04,05,\n")
    found = read_csv(tmp_path / "a.csv")
    assert found == [dict(image="01", viewer="02", x=3.), dict(image="04", viewer="05", x="")]


@pytest.mark.parametrize("text", ["a,b\n1\n", "a,b\n1,2,3\n"])
def test_ragged_csv_is_refused(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match="row 2 is not as long"):
        read_csv(tmp_path / "a.csv")


def test_training_order_covers_every_epoch_once_and_is_shared_by_processes(monkeypatch):
    whole = list(training_order(10, 4, seed=1, start=0, stop=4))
    assert [len(b) for b in whole] == [4] * 4 and [e for b in whole for e, _ in b] == [0] * 8 + [1] * 8
    first = torch.randperm(10, generator=generator(1, 0, 0)).tolist()
    assert [i for b in whole[:2] for _, i in b] == first[:8]  # the last two are dropped
    assert list(training_order(10, 4, 1, 3, 4)) == whole[3:]  # a resumed run goes on in the same order
    parts = []
    for rank in range(2):
        monkeypatch.setattr(data, "rank_world", lambda rank=rank: (rank, 2))
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
