"""Every head's gaze in a 720x480 frame (ViT-S/16: 1,350 patches, 12 blocks x 6 heads), beside Hugging Face's
eager attentions without and with the blur of every pixel; and a video streamed through exp05.

    python benchmarks/bench_gaze_video.py [--quick]

Weights and frames are random. N2010's video has 2,327 frames.
"""
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from bench import NO_PEER, Row, main, take_turns
from bench_saccades import LARGE, hugging_face, vit_small

import exp05_gaze_video as E
from common import cls_attention
from exp05_data import watch as watch_clip
from exp05_frames import Clip, Frames
from results import in_batches
from weights import IMAGENET


def blurred_gaze(attentions: list[torch.Tensor], img_h: int, img_w: int) -> torch.Tensor:
    """Arg-max of the box means at every pixel, as one would write it from the authors' description."""
    out = []
    for a in attentions:  # (B, H, N, N)
        up = a[:, :, 0, 1:].unflatten(-1, (img_h // 16, img_w // 16))
        up = up.repeat_interleave(16, -1).repeat_interleave(16, -2)
        best = F.avg_pool2d(F.pad(up, (15, 16, 15, 16), mode="reflect"), 32, 1).flatten(2).argmax(-1)
        out.append(torch.stack([best % img_w, best // img_w], -1))
    return torch.stack(out, 1)


def stream(n: int, img_h: int, img_w: int, folder: Path, net) -> Callable[[], None]:
    """Writes a clip of n frames; what is returned decodes it twice, resizes, runs one model, writes gaze."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in IMAGENET)
    model = E.Model("dino12", "dino12.0", net, mean, std)
    path = folder / "clip.mp4"
    with av.open(str(path), "w") as file:
        video = file.add_stream("mpeg4", rate=30)
        video.width, video.height, video.pix_fmt = img_w, img_h, "yuv420p"
        noise = np.random.default_rng(0).integers(0, 256, (img_h, 2 * img_w, 3), dtype=np.uint8)
        for i in range(n):
            picture = np.ascontiguousarray(noise[:, i % img_w:i % img_w + img_w])
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(video.encode())

    def gaze(batch: dict) -> dict:
        return {"gaze": E.head_gaze(E.attend(batch["image"].permute(0, 3, 1, 2), model, None), 16)}

    def watch() -> None:
        with tempfile.TemporaryDirectory() as out:
            clip = Clip("clip", path, dict)
            in_batches(Path(out), Frames(clip, len(watch_clip(clip, None, []).times)), 8, gaze)
    return watch


def rows(quick: bool) -> Iterator[Row]:
    rounds, size, frames = (1, (64, 96), 2) if quick else (5, LARGE, 8)
    net, x = vit_small(pos_rule="offset"), torch.rand(1, 3, *size)
    peer, note = hugging_face(net), ""
    calls = {"ours": lambda: E.head_gaze(cls_attention(net, x), 16), "plain": lambda: net(x)}
    if peer:
        def attend():
            return peer(x, output_attentions=True, interpolate_pos_encoding=True).attentions
        calls["peer"] = attend
    else:
        note = NO_PEER
    t, work, n = take_turns(calls, rounds), "gaze of every head in a 720x480 frame", f"{rounds} x 1"
    ours = t["ours"] * 1e3
    yield Row(work, "plain fused forward", "ms/frame", ours, t["plain"] * 1e3, n)
    yield Row(work, "Hugging Face, eager attentions alone", "ms/frame", ours,
              t["peer"] * 1e3 if peer else None, n, None, note)
    slow = None
    if peer:
        slow = take_turns({"blurred": lambda: blurred_gaze(attend(), *size)}, 1)["blurred"] * 1e3
    yield Row(work, "Hugging Face, every pixel blurred", "ms/frame", ours, slow, f"{rounds} and 1 x 1", None,
              note)
    with tempfile.TemporaryDirectory() as folder:
        t = take_turns({"ours": stream(frames, *size, Path(folder), net)}, 1)
    yield Row("a 720x480 video streamed through exp05 (decoding, gaze, files of batches)", "", "ms/frame",
              t["ours"] * 1e3 / frames, n=f"1 x {frames}")


if __name__ == "__main__":
    main(rows, __doc__)
