"""The 15 corruptions of ImageNet-C at severity 5, one image at a time on one CPU thread: seconds an image.

    python benchmarks/bench_corruptions.py [--side 224] [--rounds 5] [--device cuda --batch-size 256]

Theirs: imagecorruptions (imagecorruptions-imaug 1.1.5) in this process if it is installed, else quoted:
measured by this command on a 2-core machine, one thread, the two in turns. Medians of the process's CPU time.
With --device ours alone, in batches, in images a second.
"""
import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]
from exp01_finetune_vit import CORRUPTIONS, corrupt  # noqa: E402

try:
    import cv2
    from imagecorruptions import corrupt as peer
    cv2.setNumThreads(1)
except ImportError:
    peer = None

QUOTED = dict(  # ms at 224x224
    gaussian_noise=3.2, shot_noise=6.7, impulse_noise=2.4, defocus_blur=3.0, glass_blur=8.0, motion_blur=7.0,
    zoom_blur=61.8, snow=7.3, frost=5.8, fog=2.6, brightness=13.4, contrast=1.8, elastic_transform=15.6,
    pixelate=.6, jpeg_compression=.8)


def seconds(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def picture(img_h: int, img_w: int) -> np.ndarray:
    """Smooth random colours with noise, (img_h, img_w, 3) uint8."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.integers(0, 256, (1, 3, 7, 7)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, (img_h, img_w), mode="bicubic")[0].permute(1, 2, 0)
    return (smooth.numpy() + rng.normal(0, 8, (img_h, img_w, 3))).clip(0, 255).astype(np.uint8)


def on_accelerator(device: torch.device, batch: int, side: int, rounds: int) -> None:
    x = torch.from_numpy(picture(side, side)).permute(2, 0, 1).repeat(batch, 1, 1, 1).to(device)
    total = 0.

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    for name in CORRUPTIONS:
        times = []
        for _ in range(rounds + 1):
            wait()
            start = time.perf_counter()
            corrupt(x, name, 5, torch.arange(batch))
            wait()
            times.append(time.perf_counter() - start)
        total += statistics.median(times[1:])
        print(f"{name:20s}{batch / statistics.median(times[1:]):10.0f} images/s")
    print(f"{'all':20s}{15 * batch / total:10.0f} corrupted images/s, batch {batch}, {device}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=224, help="px (default 224)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds after a warm-up (default 5)")
    parser.add_argument("--device", type=torch.device, help="such as cuda: ours alone, in batches")
    parser.add_argument("--batch-size", type=int, default=256, help="images on the accelerator (default 256)")
    args = parser.parse_args()
    if args.device:
        return on_accelerator(args.device, args.batch_size, args.side, args.rounds)
    torch.set_num_threads(1)
    image = picture(args.side, args.side)
    x, seed, sums = torch.from_numpy(image).permute(2, 0, 1)[None], torch.tensor([0]), [0., 0.]
    print(f"{'corruption':20s}{'ours':>9s}{'theirs':>9s}{'ratio':>7s}   ms/image, n = {args.rounds} rounds")
    for name in CORRUPTIONS:
        times = [(seconds(lambda: corrupt(x, name, 5, seed)),
                  seconds(lambda: peer(image, severity=5, corruption_name=name)) if peer else
                  QUOTED.get(name, float("nan")) / 1e3) for _ in range(args.rounds + 1)][1:]
        pair = [1e3 * statistics.median(t) for t in zip(*times)]
        sums = [s + t for s, t in zip(sums, pair)]
        print(f"{name:20s}{pair[0]:9.2f}{pair[1]:9.2f}{pair[1] / pair[0]:7.1f}")
    print(f"{'all 15':20s}{sums[0]:9.1f}{sums[1]:9.1f}{sums[1] / sums[0]:7.1f}  "
          f"({'imagecorruptions installed' if peer else 'theirs quoted, 224x224'})")


if __name__ == "__main__":
    main()
