"""exp05: the frames of a clip, which are a video's, a folder's, or the pictures of Animal Parts.

Animal Parts (VGG: Novotny, Larlus & Vedaldi 2016) marks eyes in ImageNet's images; the paper's authors marked
the mouths in 875 validation images (dataset/animal_parts_dataset/preprocessed_data of their repository) after
cutting a square and resizing it to 256x256. Shapes: T frames; x before y in px at the border of data files.
"""
from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import scipy.io
import torch
from torch import Tensor

from common import InputError, input_errors
from data import IMAGE_SUFFIXES, entries, read_image
from gaze import picture_size

SAMPLES = 5  # gaze samples a frame (our choice)
ANIMAL_SIDE = 256  # px, to which squares of Animal Parts' images are resized (authors' code)


class Animal(NamedTuple):
    """An image of Animal Parts: a square of it, and points in px of the square at ANIMAL_SIDE."""
    file: Path
    corner: tuple[int, int]  # x, y of the square, px of the image
    side: int  # of the square, px of the image
    eyes: np.ndarray  # (n, 2) x, y
    mouth: np.ndarray  # (2,)


@dataclass
class Clip:
    """A video. records() gives its viewers' gaze, {viewer: (n, 3) t_s, x_px, y_px}, read when needed."""
    name: str
    source: Path  # a video file or a folder of frames
    records: Callable[[], dict[str, np.ndarray]]
    genre: str = ""
    fps: float | None = None  # of a folder of frames
    samples: int = SAMPLES
    relative: int = 0  # frames of the whole video, if t is the share of it that has passed (N2010)
    blank: tuple = ()  # frames that count in no distance and no cluster: without a picture, or of animals
    points: Path | None = None  # key points: a table, or N2010's allclip1.mat
    annotation: Path | None = None  # of N2010's key points
    masks: Path | None = None
    stored: bool = False  # its gaze is in px of the frames as stored, not as displayed (N2010)
    lost_at_zero: bool = False  # gaze at exactly (0, 0) is missing
    animals: tuple[Animal, ...] = ()  # the pictures of Animal Parts, in place of frames

    def files(self) -> list[Path]:
        if self.animals:
            return [animal.file for animal in self.animals]
        return entries(self.source) if self.source.is_dir() else [self.source]


# -------------------------------------------------------------------------------- frames

def image_files(folder: Path) -> list[Path]:
    """The images of a folder by the number in their names: 10.png comes after 9.png."""
    paths = entries(folder, *IMAGE_SUFFIXES)
    return sorted(paths, key=lambda p: int(re.sub(r"\D", "", p.stem) or 0))


def frames(clip: Clip) -> Iterator[tuple]:
    """(seconds since the first frame; img_h, img_w, or None where only the picture tells; function that gives
    the picture (img_h, img_w, 3) in RGB), in order: who needs no picture saves its conversion.

    Pictures are as a player shows them, to which gaze belongs: turned and mirrored as the file says, of
    square pixels, cut by its edit list. Times are the file's own, so a variable frame rate is kept. Damage
    raises whatever the decoder raises.
    """
    if clip.animals:
        for n, one in enumerate(clip.animals):
            yield float(n), None, partial(animal_picture, one)
    elif clip.source.is_dir():
        paths = image_files(clip.source)
        if not paths:
            raise ValueError("no images in it")
        for n, path in enumerate(paths):
            yield n / (clip.fps or 1), None, partial(displayed_image, path)
    else:
        yield from video_frames(clip)


def displayed_image(path: Path) -> np.ndarray:
    return np.array(read_image(path, as_displayed=True))


def video_frames(clip: Clip) -> Iterator[tuple]:
    """`frames` of a video file."""
    n, start = 0, 0.
    with av.open(str(clip.source)) as file:
        stream = file.streams.video[0]
        stream.codec_context.options = {"err_detect": "explode"}  # damage must not be painted over
        stream.thread_type, announced = "AUTO", stream.frames
        rate, aspect = float(stream.average_rate or 1), float(stream.sample_aspect_ratio or 1)
        for frame in file.decode(stream):
            if frame.is_corrupt:
                raise ValueError("a damaged frame")
            now = n / rate if frame.time is None else frame.time
            start = now if n == 0 else start
            how = ((1, 0, 0, 1), 1.) if clip.stored else (turn(frame), aspect)
            size = frame.height, round(frame.width * how[1])  # before a turn
            yield now - start, size[::-1] if how[0][1] else size, partial(displayed, frame, *how)
            n += 1
        length = float(stream.duration * stream.time_base) if stream.duration else np.inf  # after the cuts
    if n == 0 or n < announced and now - start + 1.5 / rate < length:
        raise ValueError(f"the file ends early, it announces {announced}")


def turn(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """(a, b, c, d) of the display matrix: a stored pixel (x, y) is shown at (a x + c y, b x + d y).
    ValueError: neither quarter turns nor mirrors."""
    stored = frame.side_data.get("DISPLAYMATRIX")
    if stored is None:
        return 1, 0, 0, 1
    matrix = np.frombuffer(bytes(stored), np.int32)[[0, 1, 3, 4]] / 65536
    signs = matrix.round().astype(int)
    if np.abs(matrix - signs).max() > .01 or np.abs(signs).tolist() not in ([1, 0, 0, 1], [0, 1, 1, 0]):
        raise ValueError(f"its display matrix {matrix.round(2).tolist()} is no quarter turn; export it anew")
    return tuple(signs.tolist())


def displayed(frame: av.VideoFrame, turn: tuple[int, int, int, int], aspect: float) -> np.ndarray:
    """A frame in RGB (img_h, img_w, 3), of square pixels (aspect: their width / height), turned."""
    image, (a, b, c, d) = frame.to_ndarray(format="rgb24"), turn
    if aspect != 1:
        columns = area_matrix(frame.width, round(frame.width * aspect))
        image = (columns @ torch.from_numpy(image).float()).round().byte().numpy()
    if b:  # rows become columns
        image, a, d = image.swapaxes(0, 1), c, b
    return np.ascontiguousarray(image[::d, ::a])


class Frames(torch.utils.data.Dataset):
    """Item i -> dict(image=frame i, previous=the one before it), each (img_h, img_w, 3) uint8, of the first n
    frames of a clip. The first and those after blanks are their own predecessors, so that nothing moves.
    Frames are decoded in order: who asks for an earlier one starts the clip again."""
    unit = "frames"  # of the progress bar

    def __init__(self, clip: Clip, n: int):
        self.clip, self.n = replace(clip, records=dict), n  # a worker needs no gaze
        self.starts = {0, *(t + 1 for t in clip.blank)}
        self.stream, self.next, self.image = None, n, None  # image: the one before frame `next`

    def __len__(self) -> int:
        return self.n

    def decode(self, i: int) -> Tensor:
        if i < self.next:
            self.stream, self.next = frames(self.clip), 0
        *_, picture = next(islice(self.stream, i - self.next, None))
        self.next, self.image = i + 1, torch.from_numpy(picture())
        return self.image

    def __getitem__(self, i: int) -> dict:
        if i not in self.starts and i != self.next:
            self.decode(i - 1)
        previous, image = self.image, self.decode(i)
        return dict(image=image, previous=image if i in self.starts else previous)


def area_matrix(n_in: int, n_out: int) -> Tensor:
    """(n_out, n_in): resampling by means over the area of each output pixel (OpenCV's INTER_AREA)."""
    edges, pixel = torch.arange(n_out + 1.) * n_in / n_out, torch.arange(float(n_in))
    overlap = torch.minimum(edges[1:, None], pixel + 1) - torch.maximum(edges[:-1, None], pixel)
    return overlap.clamp(min=0) * n_out / n_in


def resized(images: Tensor, patch: int, scale: float | None) -> Tensor:
    """(B, 3, img_h, img_w) uint8 -> RGB in [0, 1] with sides of whole patches: the nearest, or with a scale
    the next above scale x side. By area, rounded to 8 bits as in a file."""
    def side(n: int) -> int:
        patches = math.ceil(scale * n / patch) if scale else round(n / patch)
        return max(2, patches) * patch
    rows, cols = (area_matrix(n, side(n)).to(images.device) for n in images.shape[-2:])
    return (rows @ images.float() @ cols.T).round() / 255


# -------------------------------------------------------------------------------- Animal Parts

def animal_clip(folder: Path, notes: list[str]) -> Clip:
    """The images of Animal Parts whose mouths the paper's authors marked, as a clip that nobody watched; how
    many are not there is added to notes. InputError: files missing or of another layout, no image there."""
    found = animal_eyes(folder / "imdb-animalParts-eye.mat")
    path = folder / "shifted_mouth_pos_val.npz"
    with input_errors(path, "the authors' mouth_pos (images, 2) and img_indices (images,)"), \
            np.load(path, allow_pickle=False) as arrays:
        indices = arrays["img_indices"].astype(int).tolist()
        mouths = dict(zip(indices, arrays["mouth_pos"].astype(float), strict=True))
    files = {file.name: file for file in (folder / "val").rglob("*")}
    wanted = [(found[i], mouth) for i, mouth in sorted(mouths.items()) if i < len(found)]
    animals = [animal(files[name], eyes, mouth) for (name, eyes), mouth in wanted if name in files]
    if not animals:
        raise InputError(f"{folder / 'val'}: none of {len(mouths)} images of animals (first: "
                         f"{wanted[0][0][0] if wanted else '-'}); put ImageNet's validation images there.")
    if len(animals) < len(mouths):
        notes.append(f"{folder.name}: {len(mouths) - len(animals)} of {len(mouths)} images are not there")
    return Clip(folder.name, folder / "val", dict, animals=tuple(animals), blank=tuple(range(len(animals))))


def animal_eyes(path: Path) -> list[tuple[str, np.ndarray]]:
    """[(file name, x, y of the eyes (n, 2) in px)] of the validation images with an eye in their first box:
    the order to which the authors' img_indices refer."""
    with input_errors(path, "Animal Parts' images.name and id, bbx.imageId and id, kp.boxId and pos"):
        mat = scipy.io.loadmat(path, variable_names=["images", "bbx", "kp"], simplify_cells=True)
        images, boxes, points, found = mat["images"], mat["bbx"], mat["kp"], []
        for name, image in zip(np.ravel(images["name"]), np.ravel(images["id"])):
            if name.startswith("val/"):
                first = np.ravel(boxes["id"])[np.ravel(boxes["imageId"]) == image][:1]
                eyes = points["pos"].T[np.isin(np.ravel(points["boxId"]), first)].astype(float)  # (n, 2)
                found += [(Path(name).name, eyes)] if len(eyes) else []
    return found


def animal(file: Path, eyes: np.ndarray, mouth: np.ndarray) -> Animal:
    """The largest square, moved from the left or top edge until the image's half width (height) beyond its
    corner meets the eyes' mean, but not quite to the other edge: the authors' code."""
    img_h, img_w = picture_size(file)
    side = min(img_h, img_w)
    free = np.maximum([img_w - side - 1, img_h - side - 1], 0)
    corner = np.ceil(eyes.mean(0) - [img_w / 2, img_h / 2] - .5).clip(0, free).astype(int)
    return Animal(file, tuple(corner.tolist()), side, (eyes - corner) * ANIMAL_SIDE / side, mouth)


def animal_picture(animal: Animal) -> np.ndarray:
    """Its square, resized by area: (ANIMAL_SIDE, ANIMAL_SIDE, 3) uint8."""
    (x, y), side, rows = animal.corner, animal.side, area_matrix(animal.side, ANIMAL_SIDE)
    square = displayed_image(animal.file)[y:y + side, x:x + side]
    small = rows @ torch.from_numpy(square).float().permute(2, 0, 1) @ rows.T  # (3, ANIMAL_SIDE, ANIMAL_SIDE)
    return small.round().byte().permute(1, 2, 0).numpy()
