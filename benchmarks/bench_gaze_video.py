"""Every head's gaze in a 720x480 frame (ViT-S/16: 1,350 patches, 12 blocks x 6 heads): CPU seconds
and peak memory on one thread; against Hugging Face's eager attentions, with and without blurring every pixel.

    python benchmarks/bench_gaze_video.py [--repeats 5] [--batch-size 1] [--video 48]

--video N also streams a video of N frames through exp05_gaze_video.watch: seconds a frame and peak memory.
Theirs needs transformers. Weights are random. Memory: what a fresh process gains at its peak.
"""
import argparse
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path[:0] = [str(folder) for folder in Path(__file__).resolve().parents[:2]]
import exp05_gaze_video as E  # noqa: E402
from common import IMAGENET, VisionTransformer, cls_attention

IMG_H, IMG_W, FRAMES = 480, 720, 2327  # N2010's video


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ours():
    net = VisionTransformer(pos_rule="offset").eval()
    return lambda x: E.head_gaze(cls_attention(net, x), 16)


def fused():
    """The plain forward pass, without any map: what a frame costs at least."""
    return VisionTransformer(pos_rule="offset").eval()


def theirs():
    """All attention matrices of transformers' ViT."""
    from transformers import ViTConfig, ViTModel
    config = ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536, image_size=224)
    net = ViTModel(config, add_pooling_layer=False).eval()
    net.set_attn_implementation("eager")

    return lambda x: net(x, output_attentions=True, interpolate_pos_encoding=True).attentions


def theirs_gaze():
    """The same, then box means at every pixel."""
    attentions = theirs()

    def gaze(x: torch.Tensor) -> torch.Tensor:
        out, found = [], attentions(x)
        for a in found:  # (B, H, N, N)
            up = a[:, :, 0, 1:].unflatten(-1, (IMG_H // 16, IMG_W // 16))
            up = up.repeat_interleave(16, -1).repeat_interleave(16, -2)
            best = F.avg_pool2d(F.pad(up, (15, 16, 15, 16), mode="reflect"), 32, 1).flatten(2).argmax(-1)
            out.append(torch.stack([best % IMG_W, best // IMG_W], -1))
        return torch.stack(out, 1)
    return gaze


def measure(make, batch: int, repeats: int, queue) -> None:
    torch.set_num_threads(1)
    gaze, x = make(), torch.rand(batch, 3, IMG_H, IMG_W, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, times = peak_mb(), []
        for _ in range(repeats + 1):
            start = time.process_time()
            gaze(x)
            times.append((time.process_time() - start) / batch)
    queue.put((statistics.median(times[1:]), peak_mb() - before))  # the first call warms up


def stream(n: int, batch: int, queue) -> None:
    """A whole clip: decoding, resizing, one model, gaze, part files."""
    import av
    import numpy as np
    torch.set_num_threads(1)
    net = VisionTransformer(pos_rule="offset").eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in IMAGENET)
    see = partial(E.look, models=[E.Model("dino12", "dino12.0", net, mean, std)], late={"dino12": (8, 9)},
                  scale=None,
                  with_gbvs=False, dtype="float32")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w") as file:
            video = file.add_stream("mpeg4", rate=30)
            video.width, video.height, video.pix_fmt = IMG_W, IMG_H, "yuv420p"
            noise = np.random.default_rng(0).integers(0, 256, (IMG_H, 2 * IMG_W, 3), dtype=np.uint8)
            for i in range(n):
                picture = np.ascontiguousarray(noise[:, i % IMG_W:i % IMG_W + IMG_W])
                file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            file.mux(video.encode())
        before, start = peak_mb(), time.process_time()
        E.watch(E.Clip("clip", path, dict), 0, Path(folder), see, batch, None, torch.device("cpu"))
        queue.put(((time.process_time() - start) / n, peak_mb() - before))


def fresh(function, *args) -> tuple[float, float]:
    """function(*args, queue) in a new process, so that its peak memory is its own."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=function, args=(*args, queue))
    process.start()
    while process.is_alive() and queue.empty():
        time.sleep(.1)
    if queue.empty():
        raise SystemExit(f"the process of {args[0]} ended with status {process.exitcode}")
    found = queue.get()
    process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="calls timed, default 5")
    parser.add_argument("--batch-size", type=int, default=1, help="frames a call, default 1")
    parser.add_argument("--video", type=int, default=0,
                        help="frames of a video to stream as well, default none")
    args = parser.parse_args()
    print(f"{'s/frame':>9}  {'ratio':>6}  {'peak MB':>8}  {'ratio':>6}  {'n':>3}  what "
          f"(one thread; {os.cpu_count()} cores)")
    base = fresh(measure, ours, args.batch_size, args.repeats)
    for what, make, n in (("ours: CLS rows, exact peaks", ours, args.repeats),
                          ("plain forward, no maps", fused, args.repeats),
                          ("transformers, eager attentions", theirs, args.repeats),
                          ("the same, every pixel blurred (slow)", theirs_gaze, min(args.repeats, 2))):
        s, mb = base if make is ours else fresh(measure, make, args.batch_size, n)
        print(f"{s:9.3f}  {s / base[0]:6.2f}  {mb:8.0f}  {mb / base[1]:6.1f}  {n:3d}  {what}", flush=True)
        if make is ours and args.video:
            s, mb = fresh(stream, args.video, max(args.batch_size, 8))
            print(f"{s:9.3f}  {s / base[0]:6.2f}  {mb:8.0f}  {mb / base[1]:6.1f}  {args.video:3d}  streamed; "
                  f"{FRAMES} frames: {s * FRAMES / 60:.0f} min", flush=True)


if __name__ == "__main__":
    main()
