"""Images, maps, masks, tables; COCO and ImageNet as distributed (gaze: gaze.py). A file that cannot be used
raises InputError with one sentence: what was found, what was expected, what to do."""
from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import scipy.io
import torch
from PIL import Image, ImageOps
from torch import nn
from torchvision.models.resnet import ResNet50_Weights

import download
from common import InputError, first_process_first, input_errors, rank_world

MAP_SIZE = (224, 224)  # px, of model maps and fixation maps in exp01 to exp03
IMAGE_SUFFIXES = tuple(end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN)
UNREAD = "of an ending that nothing reads"  # why a file is in no result
TEXT_COLUMNS = ("image", "condition", "viewer", "group", "clip", "part", "participant",
                "genre")  # 01 is not 1
NEVER_EMPTY = ("t_s", "frame")  # columns of numbers without which a row says nothing

# -------------------------------------------------------------------------------- images

def read_image(path: str | Path, as_displayed: bool = False) -> Image.Image:
    """An image file as 8-bit RGB: grey, palette, CMYK converted; alpha dropped; of 16 bits the high byte.

    as_displayed: turned as its EXIF orientation says, transparent pixels on white (our choice), as people saw
    it: for pictures to which gaze or masks belong. Not for classification: torchvision's and timm's ImageNet
    pipelines, whose accuracies are quoted, take the pixels as stored. InputError: a missing, truncated (never
    filled in) or corrupt file; floats, a map; 16 bits of which only 12 or fewer are used.
    """
    with input_errors(path, "a complete image file; replace or remove it"), \
            open(path, "rb") as file, Image.open(file) as image:  # by its name a turned TIFF is garbled
        if image.mode == "F":
            raise ValueError("floating-point values, no photograph")
        is_deep = image.mode.startswith("I") or ";16" in str(image.tile)  # see read_values
        if as_displayed:
            ImageOps.exif_transpose(image, in_place=True)
        if as_displayed and image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip at 255
            high_byte = np.asarray(image) >> 8
            if high_byte.min() < 0 or high_byte.max() > 255:
                raise ValueError("values of more than 16 bits, no photograph")
            image = Image.fromarray(high_byte.astype(np.uint8))
        image = image.convert("RGB")
        if is_deep and max(high for _, high in image.getextrema()) < 16:
            raise ValueError("16 bits a value, all below 4096: of 12 bits or fewer, so nearly black; save it "
                             "with 8 bits, or scaled to 0 ... 65535")
        return image


def read_values(path: str | Path, labels: bool = False) -> np.ndarray:
    """The numbers that a file of data holds: an .npy array, or an image as displayed: (img_h, img_w) of its
    own type and range, colours (img_h, img_w, 4). labels: of a palette with colours its indices, if 0 is
    black. ValueError: 16 bits in a kind of image of which Pillow reads only 8."""
    if Path(path).suffix == ".npy":
        return np.load(path, allow_pickle=False)
    with open(path, "rb") as file, Image.open(file) as image:  # see read_image
        if image.mode in ("LA", "RGB", "RGBA") and ";16" in str(image.tile):  # as stored: RGB;16B, LA;16B ...
            raise ValueError("16-bit colours or grey with alpha, of which only the high byte can be read; "
                             "save it as 16-bit grey, .npy or .tif")
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode == "P":
            return palette_values(image, labels)
        one_number_a_pixel = image.mode in ("1", "L", "F") or image.mode.startswith("I")
        return np.asarray(image if one_number_a_pixel else image.convert("RGBA"))


def palette_values(image: Image.Image, labels: bool) -> np.ndarray:
    """`read_values` of a palette image: its colours, unless all are the same."""
    colours = np.asarray(image.convert("RGBA"))
    is_grey = (colours[..., :3] == colours[..., :1]).all()
    black_first = image.getpalette()[:3] == [0, 0, 0]
    if (colours == colours[0, 0]).all() or labels and black_first and not is_grey:
        return np.asarray(image)
    return colours


def read_map(path: str | Path) -> np.ndarray:
    """A model's map, (h, w) float32, of any size, in the values that the file holds: a 2-D .npy array, a grey
    image of 8 or 16 bits, a TIFF of floats. InputError: no such file, colours, empty, NaN or infinite."""
    with input_errors(path, "a model's map: a finite 2-D array in an .npy file, or a grey image"):
        values = read_values(path)
        if values.ndim == 3 and values.shape[2] == 4:
            if (values[..., :3] != values[..., :1]).any():
                raise ValueError(f"shape {values.shape}: colours, none of which is more than another")
            values = values[..., 0]  # grey, saved as colours
        if values.ndim != 2 or not values.size or not np.isfinite(values.astype(np.float32)).all():
            raise ValueError(f"shape {values.shape}, or not finite")
        return values.astype(np.float32)


def read_mask(path: str | Path) -> np.ndarray:
    """Where an object is, (img_h, img_w) bool: whatever is not 0 (of colours: neither black nor transparent).
    A palette counts as what it shows, but by its index if it has colours and 0 is black. InputError, naming
    the file: no such file, not finite, not 2-D, an empty mask, a full one."""
    with input_errors(path, "a mask: 0 off the object, another value on it; an .npy array or an image"):
        values = read_values(path, labels=True)
        mask = values != 0
        if mask.ndim == 3 and mask.shape[2] == 4:
            mask = mask[..., :3].any(-1) & mask[..., 3]
        if mask.ndim != 2 or not np.isfinite(values).all():
            raise ValueError(f"shape {values.shape}, or not finite")
        if not mask.any():
            raise ValueError("an empty mask, 0 everywhere")
        if mask.all():
            raise ValueError("a full mask, 0 nowhere")
        return mask


def mask_files(folder: Path) -> dict[str, Path]:
    """{stem of an image: its object's mask} of <folder>/masks/<stem>, with any ending that `read_mask` reads.
    InputError: two of one image."""
    folder, found = folder / "masks", {}
    for mask in entries(folder, ".npy", *IMAGE_SUFFIXES) if folder.is_dir() else []:
        if mask.stem in found:
            raise InputError(f"{folder}: {found[mask.stem].name} and {mask.name} are of one image; keep one.")
        found[mask.stem] = mask
    return found


class Images(torch.utils.data.Dataset):
    """Item i -> dict(image=transform(image i), readable, index=i, **extra(i)).

    A file that cannot be read becomes a black image with readable False: it is measured like the others, so
    that every batch has its shape, and left out of every result (`readable_only`). as_displayed: of pictures
    to which gaze, fixations or masks belong, see `read_image`.
    """

    def __init__(self, paths: Sequence[Path], transform: Callable, extra: Callable | None = None,
                 as_displayed: bool = False):
        self.paths, self.transform, self.extra = list(paths), transform, extra
        self.as_displayed = as_displayed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> dict:
        try:
            image, readable = read_image(self.paths[i], self.as_displayed), True
        except InputError:
            image, readable = Image.new("RGB", (256, 256)), False
        item = dict(image=self.transform(image), readable=readable, index=i)
        return item | self.extra(i) if self.extra else item


def readable_only(arrays: dict[str, np.ndarray], names: Sequence[str], least: int = 1
                  ) -> tuple[dict[str, np.ndarray], list[str], list[str]]:
    """(arrays, names) of the readable items of `in_batches`, and the names of the others.
    InputError if fewer than `least` are readable."""
    good = arrays["readable"].astype(bool)
    if good.sum() < least:
        raise InputError(f"{good.sum() or 'none'} of the {len(good)} images can be read (first: {names[0]}), "
                         f"at least {least} needed; check the files.")
    kept = {key: values[good] for key, values in arrays.items() if key != "readable"}
    return kept, [n for n, g in zip(names, good) if g], [n for n, g in zip(names, good) if not g]


def image_name(path: Path | str) -> str:
    """<class>/<file>: the image's name in all results. File names alone repeat in many data sets."""
    return "/".join(Path(path).parts[-2:])


def read_csv(path: Path | str, text: Sequence[str] = (), numbers: Sequence[str] = (),
             durations: Sequence[str] = ()) -> list[dict]:
    """Rows of a CSV file with a header. The columns `text` and `numbers` must be there: the former stay text,
    as TEXT_COLUMNS do (01 is not 1); the latter hold numbers, or "" where empty, but for NEVER_EMPTY;
    `durations`, which may be absent, numbers from 0, or "". Elsewhere what looks like a number becomes one.
    InputError, with the line, for anything else."""
    with input_errors(path, f"a CSV file in UTF-8 with a header {', '.join([*text, *numbers])}"), \
            open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as f:
        lines, rows = csv.reader(f, skipinitialspace=True), []
        header = check_header(next(lines, []), [*text, *numbers])
        for cells in lines:
            if not cells:  # an empty line
                continue
            if len(cells) != len(header):
                raise ValueError(f"line {lines.line_num} is not as long as the header")
            row = dict(zip(header, cells))
            for name in set(header).difference(TEXT_COLUMNS, text):
                with suppress(ValueError):
                    row[name] = float(row[name])
            for name in numbers:
                if row[name] == "" and name not in NEVER_EMPTY:
                    continue
                no_time = name in NEVER_EMPTY and row[name] != row[name]  # NaN
                if no_time or isinstance(row[name], str) or np.isinf(row[name]):
                    raise ValueError(f"line {lines.line_num}: {name} is '{row[name]}', no finite number")
            for name in set(durations) & set(header):
                if row[name] != "" and (isinstance(row[name], str) or not 0 <= row[name] < np.inf):
                    raise ValueError(f"line {lines.line_num}: {name} is '{row[name]}', no number from 0")
            rows.append(row)
        return rows


def check_header(cells: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The names of a table's columns, stripped; ValueError saying why they cannot be used."""
    header = [cell.strip() for cell in cells]
    missing = [name for name in wanted if name not in header]
    for sign, word in ((";", "semicolons"), ("\t", "tabs"), ("\0", "UTF-16")):
        if (missing or len(header) == 1) and sign in "".join(header):
            raise ValueError(f"{word}; save it in UTF-8, with commas between columns and points in numbers")
    if missing or len(set(header)) < len(header):
        found = f"no column {missing[0]}" if missing else "two columns of one name"
        raise ValueError(f"{found} in the header ({', '.join(header)})")
    return header


def entries(folder: Path, *ends: str) -> list[Path]:
    """What is in a folder, by name, without what begins with a dot (macOS leaves ._* files beside others); of
    these endings only, if any are given."""
    found = [p for p in folder.iterdir() if not p.name.startswith(".")]
    return sorted((p for p in found if not ends or p.suffix.lower() in ends), key=lambda p: p.name)


def passed_over(place: str | Path | None, train: bool = False) -> dict[str, list[str]]:
    """{reason: [<class>/<file>]} of what `load_imagefolder` passes over, because nothing reads its ending
    (.heic ...), in val/ or, without one, in place itself; train: in train/ too. None, the demo: nothing."""
    if place in (None, "demo"):
        return {}
    root = download.data_folder(place)
    splits = ["train", "val"] if train else ["val"]
    folders = [root / split for split in splits if (root / split).is_dir()] or [root]
    files = [p for folder in folders for sub in entries(folder) if sub.is_dir() for p in entries(sub)]
    unread = [p for p in files if p.suffix.lower() not in IMAGE_SUFFIXES and p.is_file()]
    return {UNREAD: [image_name(p) for p in unread]}


# -------------------------------------------------------------------------------- the demo world and folders

def demo_folder(*parts: str, **how) -> Path:
    """The demo world's folder; the first process draws the parts (demo.PARTS) that are not there."""
    import demo  # only here: real data need no demo world
    with first_process_first():
        return demo.demo_world(parts=parts, **how)


def data_places(args: argparse.Namespace, names: Sequence[str], parts: Sequence[str]
                ) -> dict[str, Path | None]:
    """Folder of each data set: its own argument, else that subfolder of --data, else --data itself if it is
    one of fixations, else None. In the demo the `parts` of the demo world are drawn first."""
    root = download.data_folder(args.data) if args.data else None
    if args.data == "demo":
        root = demo_folder(*parts, workers=max(args.workers, 1))
    places = {}
    for name in names:
        folder = getattr(args, name, None)
        if folder and not folder.is_dir():
            raise InputError(f"--{name} {folder}: no such folder; --help says what it should hold.")
        if not folder and root and (root / name).is_dir():
            folder = root / name
        if not folder and name == "salicon" and gaze_files(root):
            folder = root
        places[name] = folder
    return places


def gaze_files(folder: str | Path | None) -> list[Path]:
    """The files of fixations in a folder: OSIE's fixations.mat, SALICON's fixations_*2014.json or
    fixations/<split>/*.mat, COCO-FreeView's or COCO-Search18's *fixations*.json."""
    if folder is None or not Path(folder).is_dir():
        return []
    found = [p for p in entries(Path(folder), ".json", ".mat") if "fixations" in p.name]
    for place in sorted(Path(folder).glob("fixations/*/")):
        found += entries(place, ".mat")
    return found


# -------------------------------------------------------------------------------- COCO

def plain_name(file_name: str) -> str:
    """COCO_val2014_000000000042.jpg (2014, SALICON) and 000000000042.jpg (2017) are one image: its digits."""
    return re.sub(r"^COCO_\w+_(?=\d{12})", "", Path(file_name).stem)


def coco_files(folder: str | Path | None, split: str) -> list[Path]:
    """annotations/instances_<split>2014.json, else all instances_*.json there. InputError: none there."""
    if folder is None:
        return []
    file = Path(folder) / "annotations" / f"instances_{split}2014.json"
    files = [file] if file.is_file() else sorted(file.parent.glob("instances_*.json"))
    if not files:
        raise InputError(f"{file.parent}: no instances_*.json; --coco expects COCO's folder.")
    return files


def read_coco(files: Sequence[Path]) -> dict[str, list[dict]]:
    """COCO's images, annotations, categories of several files, each id once: the files may overlap.
    InputError: not COCO's, or an id that means something else in two files."""
    meaning = {"images": "file_name", "annotations": "image_id", "categories": "name"}
    parts: dict[str, dict] = {key: {} for key in meaning}
    for k, file in enumerate(files):
        with input_errors(file, "instances_*.json: COCO's images, annotations, categories"):
            data = json.loads(file.read_text(encoding="utf-8"))
            for key, part in parts.items():
                new = {v["id"]: v for v in data[key]}
                for i in part.keys() & new.keys():
                    here, there = (plain_name(str(v[meaning[key]])) for v in (new[i], part[i]))
                    if here != there:
                        others = ", ".join(other.name for other in files[:k])
                        raise InputError(f"{file}: {key}, id {i}: {meaning[key]} {here}, but {there} in "
                                         f"{others}; each counts for itself, so keep one of the files there.")
                part |= new
    return {key: list(part.values()) for key, part in parts.items()}


def check_coco(tree: dict[str, list[dict]], names: Sequence[str]) -> None:
    """ValueError, with counts and an example, where the annotations of `read_coco` have no image or category
    there, or none of the images `names` is there: objects would be missing without a reason. Some without an
    image are a warning."""
    images, annotations = {image["id"] for image in tree["images"]}, tree["annotations"]
    categories = {category["id"] for category in tree["categories"]}
    lost = [a["image_id"] for a in annotations if a["image_id"] not in images]
    nameless = [a["category_id"] for a in annotations if a["category_id"] not in categories]
    if nameless or len(lost) == len(annotations):
        raise ValueError(f"of {len(annotations)} annotations {len(lost)} have an image_id {lost[:1]} and "
                         f"{len(nameless)} a category_id {nameless[:1]} that is not in the file")
    if lost and rank_world()[0] == 0:
        print(f"warning: {len(lost)} of COCO's {len(annotations)} annotations are left out, their image_id "
              f"({lost[0]} ...) is none of its images", file=sys.stderr)
    there = [image["file_name"] for image in tree["images"]]
    if not set(map(plain_name, there)) & set(map(plain_name, names)):
        raise ValueError(f"{len(there)} images ({there[0]} ...), none with fixations ({names[0]} ...)")


def coco_categories(files: Sequence[Path], names: Sequence[str]) -> dict[str, list[str]]:
    """{category: those of the images `names` that show it}, of coco_files."""
    if not files:
        return {}
    plain, tree, shown = {plain_name(name): name for name in names}, read_coco(files), {}
    with input_errors(files[0], "COCO's instances_*.json of these images, its ids in agreement"):
        check_coco(tree, names)
        label = {c["id"]: c["name"] for c in tree["categories"]}
        image = {i["id"]: plain.get(plain_name(i["file_name"])) for i in tree["images"]}
        for a in tree["annotations"]:
            if image.get(a["image_id"]):
                shown.setdefault(label[a["category_id"]], set()).add(image[a["image_id"]])
        return {category: sorted(some) for category, some in sorted(shown.items())}


# -------------------------------------------------------------------------------- ImageNet

def imagenet_wnids() -> list[str]:
    """The 1000 WordNet ids of ImageNet-1k; position = class index (sorted order, not the devkit's ids)."""
    return Path(__file__).with_name("imagenet_wnids.txt").read_text(encoding="ascii").split()


def imagenet_meta(*folders: Path) -> tuple[list[str], list[str]]:
    """Sorted wnids and every validation image's, from the first meta.bin or devkit; else empty lists."""
    for folder in (f / sub for f in folders for sub in ("", "ILSVRC2012_devkit_t12/data")):
        with input_errors(folder, "torchvision's meta.bin, or the devkit's meta.mat and ground truth"):
            if (folder / "meta.bin").is_file():
                wnid_to_classes, truth = torch.load(folder / "meta.bin", weights_only=True)
                return sorted(wnid_to_classes), truth
            if (folder / "meta.mat").is_file():
                synsets = scipy.io.loadmat(folder / "meta.mat", simplify_cells=True)["synsets"]
                wnids = {s["ILSVRC2012_ID"]: s["WNID"] for s in synsets if s["num_children"] == 0}
                truth = (folder / "ILSVRC2012_validation_ground_truth.txt").read_text().split()
                return sorted(wnids.values()), [wnids[int(i)] for i in truth]
    return [], []


def class_folders(folder: Path) -> list[tuple[Path, str]]:
    """(image, name of its class folder); ValueError where a class folder has no image."""
    named = []
    for p in [p for p in entries(folder) if p.is_dir()] or [folder]:
        images = entries(p, *IMAGE_SUFFIXES) if p != folder else []
        if not images:
            found = [q.name for q in entries(p)[:3]] or "nothing"
            raise ValueError(f"no class folder of images: '{p.name}' holds {found}")
        named += [(q, p.name) for q in images]
    return named


def load_imagefolder(root: str | Path, class_list: list[str] | None = None
                     ) -> tuple[list[tuple[Path, int]], list[str]]:
    """An image classification folder as [(path, label)] in sorted order, and the class names.

    `root` or `root/val` holds class folders, or the flat ILSVRC2012_val_00000001.JPEG ... with torchvision's
    meta.bin, or the devkit's meta.mat (its ids are not class indices) and ground truth: there, in the parent,
    or in ILSVRC2012_devkit_t12/data beside. Labels are positions in `class_list` (imagenet_wnids() for models
    of 1000 classes; folders may be absent), else in the wnids of a meta.bin or devkit beside val/ or train/,
    else in the sorted folder names.
    """
    folder = Path(root).absolute() / "val"
    folder = folder if folder.is_dir() else folder.parent
    with input_errors(folder, "class folders with images (.JPEG, .png ...) inside or ILSVRC2012_val_*.JPEG"):
        flat = [p for p in entries(folder)
                if re.fullmatch(r"ILSVRC2012_val_\d{8}\.jpe?g", p.name, re.IGNORECASE)]
        names = []
        if flat:
            names, truth = imagenet_meta(folder, *folder.parents[:2])
            if len(truth) != 50_000:
                raise ValueError(f"{len(truth)} ground-truth labels, not 50000 (unpack the devkit beside)")
            wnid_of = dict(enumerate(truth, 1))
            named = [(p, wnid_of.get(int(p.stem[-8:]), p.name)) for p in flat]
        else:
            named = class_folders(folder)
            if not class_list and folder.name in ("val", "train"):
                names, _ = imagenet_meta(folder.parent)
        classes = list(class_list or names or dict.fromkeys(name for _, name in named))
        index = {name: label for label, name in enumerate(classes)}
        unknown = [name for _, name in named if name not in index]
        if unknown:
            raise ValueError(f"'{unknown[0]}' is none of the {len(classes)} classes ({classes[0]} ...)")
    return [(path, index[name]) for path, name in named], classes


def labels_of(head: nn.Linear | None, items: list, classes: list[str]) -> tuple[list, list[str]]:
    """(images, names of the classes) with the labels as the head counts them: a head of 1000 classes is
    ImageNet's, of which the data may show a part. None: a head is to be fitted."""
    wnids = imagenet_wnids()
    words = dict(zip(wnids, ResNet50_Weights.IMAGENET1K_V2.meta["categories"]))
    if head and head.out_features == len(wnids):
        unknown = sorted(set(classes) - set(wnids))
        if unknown:
            raise InputError(f"the head has ImageNet's 1000 classes, and '{unknown[0]}' is no id of theirs "
                             f"({wnids[0]} ...); name the class folders by them, or use --train-head.")
        position = {wnid: i for i, wnid in enumerate(wnids)}
        items, classes = [(path, position[classes[label]]) for path, label in items], wnids
    if head and head.out_features != len(classes):
        raise InputError(f"the head has {head.out_features} classes, the data {len(classes)} "
                         f"({', '.join(classes[:3])} ...); give the head of these, or use --train-head.")
    # a folder's name that is no UTF-8 cannot be drawn: its odd bytes become question marks
    return items, [words.get(name, name).encode(errors="replace").decode() for name in classes]
