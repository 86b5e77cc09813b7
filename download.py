"""Data sets that anyone may download: --data imagenette (exp04), --data osie (exp01, exp02, exp06).

A data set is downloaded once, to runs/data/<name>. It is unpacked under another name and renamed when it is
whole, so a folder of that name is a whole data set; an interrupted download starts again.
"""
from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch

from common import ROOT, InputError, first_process_first


class Archive(NamedTuple):
    url: str
    megabytes: int
    parts: dict[str, str]  # name in the data set's folder: place in the archive
    checked: tuple[str, str, str]  # one of the parts, or "" for the archive; kind of hash; its hex digits


OSIE_COMMIT = "4a467890fcb40a2fec04cdded552760942bac7a4"
OSIE = f"predicting-human-gaze-beyond-pixels-{OSIE_COMMIT}/data"
ARCHIVES = {
    "imagenette": Archive(  # the hash is torchvision's
        "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz", 326,
        {"train": "imagenette2-320/train", "val": "imagenette2-320/val"},
        ("", "md5", "3df6f0d01a2c9592104656642f5e78a3")),
    "osie": Archive(
        f"https://github.com/NUS-VIP/predicting-human-gaze-beyond-pixels/archive/{OSIE_COMMIT}.zip", 80,
        {"stimuli": f"{OSIE}/stimuli", "fixations.mat": f"{OSIE}/eye/fixations.mat"},
        ("fixations.mat", "sha256", "2aab9133a407e4eff3f57ab5799872b162dbc77ca462c0391762eb5e67deadb9"))}

WEIGHT_SIZES = {  # MB, of weights.py; also downloaded on first use
    "vit_base_patch16_224": 346, "dino_vits16": 87, "dino_vits16_linear": 6, "dinov2_vits14": 88,
    "resnet50": 103, "unisal": 15, "deit_small_patch16_224": 88}


def is_name(place: str | Path | None) -> bool:
    """Whether --data names one of ARCHIVES, and no folder of the user's."""
    return str(place) in ARCHIVES and not Path(place).is_dir()


def data_folder(place: str | Path, root: Path = ROOT / "runs" / "data") -> Path:
    """The folder `place`; if there is none, and it is the name of an archive, that data set, downloaded on
    first use by the first process. InputError: no connection, no room, another file than expected."""
    name = str(place)
    if not is_name(place):
        return Path(place)
    folder = root / name
    with first_process_first():
        if not folder.is_dir():
            fetch(name, folder)
    return folder


def fetch(name: str, folder: Path) -> None:
    """Download and unpack an archive to a folder that is not there yet."""
    archive = ARCHIVES[name]
    print(f"downloading {name} ({archive.megabytes} MB, once) from {archive.url}", flush=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            file, whole = Path(scratch, Path(archive.url).name), Path(scratch, "whole")
            torch.hub.download_url_to_file(archive.url, str(file), progress=sys.stderr.isatty())
            shutil.unpack_archive(file, Path(scratch, "unpacked"))
            whole.mkdir()
            for part, inside in archive.parts.items():
                Path(scratch, "unpacked", inside).rename(whole / part)
            part, kind, expected = archive.checked
            found = hashlib.new(kind, (whole / part if part else file).read_bytes()).hexdigest()
            if found != expected:
                raise ValueError(f"{kind} of {part or file.name} is {found}, expected {expected}")
            whole.rename(folder)
    except Exception as e:  # network, proxy, disk and archive faults have no common type
        raise InputError(f"{name} cannot be downloaded ({e}); get {archive.url} elsewhere, unpack it, and "
                         "give the folder with --data.") from e
