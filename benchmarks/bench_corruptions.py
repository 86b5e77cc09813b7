"""The 15 corruptions of ImageNet-C at severity 5, 224x224, one image at a time; on a GPU in batches of 256.

    python benchmarks/bench_corruptions.py [--quick]

Theirs: imagecorruptions-imaug 1.1.5, and imagecorruptions 1.1.2, the package of the paper, from
runs/peers/imagecorruptions-1.1.2 (requirements.txt says how). As the two have one module name, the second
runs in a process of its own, in turn with the others. It asks NumPy for float_ and scikit-image for
multichannel=, which no longer exist: fog and glass_blur run because that process puts both back.
"""
import multiprocessing
import statistics
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from bench import NO_GPU, NO_PEER, Row, main, optional, seconds, take_turns

from corruptions import CORRUPTIONS, corrupt

OLD_PEER = Path(__file__).resolve().parents[1] / "runs/peers/imagecorruptions-1.1.2"
IMAUG, OLD = "imagecorruptions-imaug 1.1.5", "imagecorruptions 1.1.2"


def picture(side: int) -> np.ndarray:
    """Smooth random colours with noise, (side, side, 3) uint8."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.integers(0, 256, (1, 3, 7, 7)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")[0].permute(1, 2, 0)
    return (smooth.numpy() + rng.normal(0, 8, (side, side, 3))).clip(0, 255).astype(np.uint8)


def installed():
    """corrupt of the installed imagecorruptions, on one thread; None without it."""
    found, cv2 = optional("imagecorruptions"), optional("cv2")
    if found is None or cv2 is None:
        return None
    cv2.setNumThreads(1)
    return found.corrupt


def old_package(image: np.ndarray, pipe) -> None:
    """A process: for each name that comes, the seconds of that corruption by imagecorruptions 1.1.2."""
    sys.path.insert(0, str(OLD_PEER))
    np.float_ = np.float64
    theirs = installed()
    module = sys.modules["imagecorruptions.corruptions"]
    blur = module.gaussian
    module.gaussian = lambda *args, multichannel=False, **named: blur(
        *args, channel_axis=-1 if multichannel else None, **named)
    while name := pipe.recv():
        pipe.send(seconds(lambda: theirs(image, severity=5, corruption_name=name)))


def one_image(rounds: int, side: int) -> Iterator[Row]:
    """Each corruption, and all 15."""
    image, imaug, seed = picture(side), installed(), torch.tensor([0])
    x, times = torch.from_numpy(image).permute(2, 0, 1)[None], {}
    work = {"ours": lambda name: seconds(lambda: corrupt(x, name, 5, seed))}
    if imaug:
        work[IMAUG] = lambda name: seconds(lambda: imaug(image, severity=5, corruption_name=name))
    if imaug and OLD_PEER.is_dir():
        pipe, end = multiprocessing.Pipe()
        spawn = multiprocessing.get_context("spawn")
        spawn.Process(target=old_package, args=(image, end), daemon=True).start()
        end.close()  # so that a child that ended is an EOFError here

        def old(name: str) -> float:
            pipe.send(name)
            return pipe.recv()
        work[OLD] = old
    for name in CORRUPTIONS:
        turns = [[f(name) for f in work.values()] for _ in range(rounds + 1)][1:]
        times[name] = dict(zip(work, [1e3 * statistics.median(t) for t in zip(*turns)]))
    if OLD in work:
        pipe.send(None)
    total = {who: sum(t[who] for t in times.values()) for who in work}
    for other, target in ((IMAUG, 2), (OLD, 8)):
        yield Row("15 corruptions, severity 5, 224x224", other, "ms/image", total["ours"], total.get(other),
                  f"{rounds} x 1", target, "" if other in total else NO_PEER)
    for name, t in times.items():
        yield Row(f"{name}, severity 5, 224x224", IMAUG, "ms/image", t["ours"], t.get(IMAUG), f"{rounds} x 1",
                  None, "" if imaug else NO_PEER)


def on_gpu(rounds: int, batch: int) -> Iterator[Row]:
    work, target = "15 corruptions, severity 5, 224x224, a corrupted image, GPU", "the target, 5,000 a second"
    if not torch.cuda.is_available():
        yield Row(work, target, "ms", None, .2, "", 1, NO_GPU)
        return
    x = torch.from_numpy(picture(224)).permute(2, 0, 1).repeat(batch, 1, 1, 1).cuda()
    calls = {name: partial(corrupt, x, name, 5, torch.arange(batch)) for name in CORRUPTIONS}
    t = take_turns(calls, rounds, gpu=CORRUPTIONS)
    yield Row(work, target, "ms", sum(t.values()) * 1e3 / batch / len(t), .2, f"{rounds} x {batch}", 1)


def rows(quick: bool) -> Iterator[Row]:
    yield from one_image(*(1, 64) if quick else (7, 224))
    yield from on_gpu(*(1, 2) if quick else (7, 256))


if __name__ == "__main__":
    main(rows, __doc__)
