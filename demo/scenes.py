"""Pictures of the demo world: backgrounds, light, occlusion, sensor; what stands in them is in shapes.py.

    scene = render_scene(seed=0, index=5)  # .image (224, 224, 3) uint8, .ids (224, 224), .objects

A scene is a pure function of (seed, index). One object in most pictures, more saturated, crisper and better
shaded than a background that is drawn from one distribution for all classes and differs from one region to
the next: what two crops of a picture share is the object. About 8 ms for 224x224 on one core.
x right, y down; key points and masks as (row, col) in pixels.
"""
from collections import namedtuple
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from demo.shapes import CLASSES, Shape, box, build, hsv

CLUTTER = ("bush", "stone", "pole", "crate")  # things of no class
N = 704  # px, side of the textures, from which windows are cut
# flat: images (mode L, N x N); ground: the same on a plane seen at a grazing angle; values: the flat ones as
# arrays; grain: sensor noise, int8 (3, N, N)
Textures = namedtuple("Textures", "flat ground values grain")


def noise(rng: np.random.Generator, power, stretch_y=1., stretch_x=1., low=4.) -> np.ndarray:
    """Noise (N, N) whose amplitude falls with frequency, SD 1."""
    fy, fx = np.meshgrid(np.fft.fftfreq(N) * N, np.fft.rfftfreq(N) * N, indexing="ij")
    f = np.hypot(fy * stretch_y, fx * stretch_x)
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((N, N))) / (low + f) ** power, (N, N))
    return field / field.std()


def grey(field: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(128 + 26 * (field - field.mean()) / field.std(), 0, 255).astype(np.uint8))


@lru_cache(1)
def textures() -> Textures:
    """Drawn once per process."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:N, :N]
    warp = 6 * noise(rng, 2.2)
    fields = [
        noise(rng, 2.), noise(rng, 1.3), noise(rng, .8), noise(rng, 1.5, .2, 2.), noise(rng, 1.5, 2., .2),
        noise(rng, 1.2, low=40), noise(rng, 3., low=60),
        np.sign(np.sin((x + warp) * np.pi / 16)) + .3 * noise(rng, 1.),  # boards
        np.sign(np.sin(y * np.pi / 11) * np.sin((x + 9 * (y // 11 % 2)) * np.pi / 22)) + .4 * noise(rng, 1.),
        np.sin((x + y + warp) * np.pi / 8), 2 * (noise(rng, 2.5, low=25) > .6) + .5 * noise(rng, 1.)]
    rows = 24 + np.arange(N)[:, None]  # coordinates of the plane
    deep = (9000 / rows).astype(int)
    wide = ((np.arange(N)[None] - N // 2) * 180 / rows).astype(int)
    grain = np.clip(rng.standard_normal((N, N, 3)) * 30, -127, 127).astype(np.int8).transpose(2, 0, 1)
    flat = [grey(f) for f in fields]
    return Textures(flat, [grey(f[deep % N, wide % N]) for f in fields], [np.asarray(f) for f in flat], grain)


def regions(rng: np.random.Generator, horizon: float) -> list[tuple[np.ndarray, bool]]:
    """[(polygon in shares of the picture's sides, whether it is ground), ...], back to front."""
    found = []
    cuts = np.sort(rng.uniform(.1, .9, rng.integers(1, 4)))
    for a, b in zip([-.2, *cuts], [*cuts, 1.2]):  # wall or sky
        found.append((box(a, -.1, b + .05, 1.1), False))
    for _ in range(rng.integers(1, 4)):  # hills, or steps: a skyline
        left, right = np.sort(rng.uniform(-.3, 1.3, 2))
        x = np.linspace(left, right, rng.integers(5, 12))
        peak, rough = rng.uniform(.02, .4), rng.uniform(.3, 1, len(x))
        y = horizon - peak * rough * np.sin(np.linspace(.2, 2.9, len(x)))
        if rng.random() < .5:
            x, y = np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]
        found.append((np.concatenate([np.stack([x, y], 1), [(right, 1.1), (left, 1.1)]]), False))
    cuts = np.sort(rng.uniform(-.3, 1.3, rng.integers(1, 3)))
    eye = rng.uniform(.2, .8)
    for a, b in zip([-3, *cuts], [*cuts, 4]):  # wedges that run to a vanishing point
        top_a, top_b = eye + .35 * (np.array([a, b]) - eye)
        found.append((np.array([(top_a, horizon), (top_b, horizon), (b, 1.1), (a, 1.1)]), True))
    return found


def background(rng: np.random.Generator, img_h: int, img_w: int, horizon: float | None = None) -> np.ndarray:
    """Each region has its own hue and texture: one side of a picture tells nothing about the other.
    (3, img_h, img_w) float32, 0-255."""
    horizon = horizon or rng.uniform(.35, .7)
    colour, relief = Image.new("RGB", (img_w, img_h)), Image.new("L", (img_w, img_h))
    for polygon, is_ground in regions(rng, horizon):
        corners = (polygon * (img_w, img_h)).ravel().tolist()
        fill = tuple(int(c) for c in hsv(rng, (0, 1), (.03, .32), (.3, .8)))
        ImageDraw.Draw(colour).polygon(corners, fill=fill)
        mask = Image.new("L", (img_w, img_h))
        ImageDraw.Draw(mask).polygon(corners, fill=255)
        kinds = textures().ground if is_ground else textures().flat
        kind = kinds[rng.integers(len(kinds))]
        x = rng.integers(0, N + 1 - img_w)
        y = -int(horizon * img_h) if is_ground else rng.integers(0, N + 1 - img_h)
        contrast = (128 + rng.uniform(.2, .85) * np.arange(-128, 128)).astype(int).tolist()
        relief.paste(kind.crop((x, y, x + img_w, y + img_h)).point(contrast), mask=mask)
    light = np.linspace(*rng.uniform(.85, 1.12, 2), img_w)
    light = light * np.linspace(*rng.uniform(.85, 1.12, 2), img_h)[:, None]  # (img_h, img_w)
    gain = light.astype(np.float32) * (.5 + np.asarray(relief, np.float32) / 256)
    return np.stack([np.asarray(c) * gain for c in colour.split()])


def pattern(kind: str, u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Share of the second colour at object coordinates (u, v), 0-1."""
    if kind == "none":
        return np.zeros_like(u)
    scale, texture = {"stripes": (60, 0), "tabby": (70, 0), "patches": (110, 0), "curls": (150, 5),
                      "skin": (150, 1), "feather": (140, 3), "gloss": (30, 0), "cloth": (60, 0)}[kind]
    i, j = ((rng.integers(N) + scale * c).astype(np.int32) % N for c in (v, u))
    rough = (textures().values[texture][i, j].astype(np.float32) - 128) / 26
    if kind == "stripes":
        wave = np.sin(2 * np.pi * rng.uniform(4.2, 6.) * (u + .25 * v) + .9 * rough)
        return np.clip(.45 + 2.5 * wave, 0, 1)
    if kind == "tabby":
        wave = np.sin(2 * np.pi * rng.uniform(3.5, 5.) * (u + .25 * v) + .9 * rough)
        return np.clip(.45 + .9 * wave * .6, 0, 1)
    if kind == "patches":
        return np.clip(4 * (rough - rng.uniform(-.4, .5)), 0, 1)
    if kind == "gloss":
        return .28 * np.clip(np.sin(5 * v + 2 * u + .5 * rough + rng.uniform(0, 6)) * 2 - 1, 0, 1)
    if kind == "cloth":
        return .45 * (np.sin(2 * np.pi * rng.uniform(2, 7) * v) > .3)
    level, contrast = {"curls": (.35, .3), "skin": (.25, .14), "feather": (.3, .3)}[kind]
    return np.clip(level + contrast * rough, 0, .85)


def rasterise(shape: Shape, points: np.ndarray, w: int, h: int, scale: float):
    """Polygons whose vertices are points (in order), in pixels of a window (h, w) -> colour times coverage
    (3 of (h, w)), coverage 0-1, relief (bulges between dark outlines), share of the pattern 0-1."""
    cover = Image.new("CMYK", (2 * w, 2 * h))  # four plain channels: colour times coverage, and coverage
    relief = Image.new("RGB", (w, h))  # relief (dark outlines, to be blurred), share of the pattern
    pen, pen_relief = ImageDraw.Draw(cover), ImageDraw.Draw(relief)
    ends = np.cumsum([len(p) for p, _, _ in shape.parts])[:-1]
    for polygon, (_, colour, share) in zip(np.split(points, ends), shape.parts):
        r, g, b = np.clip(colour, 0, 255).astype(int).tolist()
        pen.polygon((2 * polygon).ravel().tolist(), fill=(r, g, b, 255))
        corners, share = polygon.ravel().tolist(), int(255 * share)
        pen_relief.polygon(corners, fill=(160, share, 0))
        pen_relief.line(corners + corners[:2], fill=(70, share, 0), width=max(1, int(.03 * scale)))
    *colours, alpha = (np.asarray(c, np.float32) for c in cover.reduce(2).split())  # each (h, w)
    half = relief.getchannel(0).reduce(2).filter(ImageFilter.GaussianBlur(max(.4, .0225 * scale)))
    height = np.asarray(half.resize((w, h), Image.Resampling.BILINEAR), np.float32) / 160
    return colours, alpha / 255, height, np.asarray(relief.getchannel(1), np.float32) / 255


def paint(image, ids, number: int, shape: Shape, centre, scale: float, rng, turn=0., mirror=False,
          light=(-.6, -.8)) -> dict:
    """Draws a shape into image (3, img_h, img_w) and its number into ids (img_h, img_w), both in place;
    returns its key points as {name: (row, col)}, px.

    centre: (x, y) pixels of the shape's origin; scale: pixels per unit; light: where it comes from, (x, y).
    """
    img_h, img_w = ids.shape
    c, s = scale * np.cos(turn), scale * np.sin(turn)
    to_pixels = np.array([[-c if mirror else c, -s], [-s if mirror else s, c]])
    keys = {k: tuple((to_pixels @ np.array(p) + centre)[::-1]) for k, p in shape.points.items()}
    points = shape.vertices() @ to_pixels.T + centre
    x0, y0 = np.clip(np.floor(points.min(0)) - 1, 0, (img_w, img_h)).astype(int)
    x1, y1 = np.clip(np.ceil(points.max(0)) + 2, 0, (img_w, img_h)).astype(int)
    if x0 == x1 or y0 == y1:
        return keys  # outside the picture
    colours, alpha, height, share = rasterise(shape, points - (x0, y0), x1 - x0, y1 - y0, scale)
    dx, dy = (int(round(.06 * scale * d)) for d in light)
    shade = .62 + .42 * height + .5 * (height - np.roll(height, (-dy, -dx), (0, 1)))  # lit from one side
    inverse = np.linalg.inv(to_pixels)
    x, y = np.arange(x0, x1) - centre[0], np.arange(y0, y1)[:, None] - centre[1]
    u, v = ((inverse[k, 0] * x + inverse[k, 1] * y).astype(np.float32) for k in (0, 1))
    second = pattern(shape.pattern, u, v, rng) * share
    shade *= 1.06 - .1 * v
    window = np.s_[y0:y1, x0:x1]
    for plane, colour, other in zip(image, colours, shape.second):
        plane[window] += (colour + second * (alpha * other - colour)) * shade - plane[window] * alpha
    ids[window][alpha > .5] = number
    return keys


def shadow(image, x, y, half_w, half_h):
    """Darkens a soft ellipse on the ground, in place."""
    x0, x1 = max(int(x - half_w), 0), min(int(x + half_w) + 1, image.shape[2])
    y0, y1 = max(int(y - half_h), 0), min(int(y + half_h) + 1, image.shape[1])
    if x1 > x0 and y1 > y0:
        rows, cols = np.ogrid[y0:y1, x0:x1]
        d = ((cols - x) / half_w) ** 2 + ((rows - y) / half_h) ** 2
        image[:, y0:y1, x0:x1] *= (1 - .55 * np.clip(1 - d, 0, 1)).astype(np.float32)


@dataclass
class Scene:
    """image (img_h, img_w, 3) uint8 RGB; ids (img_h, img_w): 0 background, k + 1 where object k is on top."""
    image: np.ndarray
    ids: np.ndarray
    objects: list  # of dict(name, points: {key point: (row, col)})


def scale_to_cover(shape: Shape, area: float, img_h: int, img_w: int) -> float:
    """Pixels per unit at which a shape covers that share of the picture, or nearly fills it."""
    points = shape.vertices()
    size = np.ptp(points, axis=0)
    small = Image.new("L", (40, 40))  # how much of its box the shape fills
    pen = ImageDraw.Draw(small)
    for polygon, _, _ in shape.parts:
        pen.polygon(((polygon - points.min(0)) * (40 / size)).ravel().tolist(), fill=1)
    wanted = np.sqrt(area * img_h * img_w / size.prod() / np.asarray(small).mean())
    return float(min(wanted, 1.08 * img_w / size[0], 1.08 * img_h / size[1]))


def place(scene: Scene, name: str, area: float, rng, light, number: int, where=None, turn=.12):
    """Draws one object that covers `area` of the picture, anywhere or with its foot at where = (x, y).
    Returns its key points and its box before the turn, (x0, y0, x1, y1) px."""
    img_h, img_w = scene.ids.shape
    shape = build(name, rng)
    points = shape.vertices()
    size = np.ptp(points, axis=0)  # w, h in units
    middle = (points.min(0) + points.max(0)) / 2
    scale = scale_to_cover(shape, area, img_h, img_w)
    mirror = rng.random() < .5
    if mirror:
        middle[0] *= -1
    room = np.maximum(np.array([img_w, img_h]) - .85 * scale * size, 2) / 2
    centre = np.array([img_w, img_h]) / 2 + rng.uniform(-1, 1, 2) * room * (1, .9)
    if where is not None:
        centre = np.array([where[0], where[1] - scale * size[1] / 2])
    if turn < 1:
        shadow(scene.image, centre[0] - light[0] * .1 * scale, centre[1] + .49 * scale * size[1],
               .62 * scale * size[0], .1 * scale * size[1] + 2)
    keys = paint(scene.image, scene.ids, number, shape, centre - scale * middle, scale, rng,
                 rng.uniform(-turn, turn), mirror, light)
    return keys, np.array([*(centre - scale * size / 2), *(centre + scale * size / 2)])


def finish(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exposure, slight blur, sensor noise: (3, img_h, img_w) float -> (img_h, img_w, 3) uint8."""
    img_h, img_w = image.shape[1:]
    image = image * np.float32(rng.uniform(.85, 1.12))
    i, j = rng.integers(N + 1 - img_h), rng.integers(N + 1 - img_w)
    image += textures().grain[:, i:i + img_h, j:j + img_w] * np.float32(rng.uniform(.06, .2))
    picture = Image.fromarray(np.stack(list(np.clip(image, 0, 255).astype(np.uint8)), 2))
    if rng.random() < .3:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(.3, .7)))
    return np.asarray(picture)


def render_scene(seed: int, index: int, size=(224, 224), wanted=None, turn=.12, sideways=False) -> Scene:
    """A scene as a pure function of (seed, index).

    wanted: None draws one object of class index % 12 (the label), in a quarter of the pictures with a small
    thing of no class; or a list, far to near, of (name, share of the picture it covers[, (x, y) of foot]).
    turn: largest rotation, rad; sideways: a background turned by 90 degrees.
    """
    rng = np.random.default_rng([seed, index])
    img_h, img_w = size
    light = np.array([rng.choice([-1, 1]) * rng.uniform(.4, .9), -.8])
    if sideways:
        canvas = background(rng, img_w, img_h).transpose(0, 2, 1).copy()
    else:
        canvas = background(rng, img_h, img_w)
    scene = Scene(canvas, np.zeros(size, np.int32), [])
    for foot_y in np.sort(rng.uniform(.5, 1., rng.integers(2, 6))):  # far to near
        foot = rng.uniform(0, 1) * img_w, foot_y * img_h
        place(scene, CLUTTER[rng.integers(4)], rng.uniform(.003, .03) * foot_y, rng, light, 0, foot)
    labelled = wanted is None
    if labelled:
        if rng.random() < .25:
            place(scene, CLUTTER[rng.integers(4)], rng.uniform(.02, .06), rng, light, 0)
        share = rng.uniform(.15, .42) if rng.random() < .85 else rng.uniform(.05, .15)
        wanted = [(list(CLASSES)[index % len(CLASSES)], share)]
    for number, (name, area, *foot) in enumerate(wanted, 1):
        keys, (x0, _, x1, y1) = place(scene, name, area, rng, light, number, *foot, turn=turn)
        scene.objects.append(dict(name=name, points=keys))
    if labelled and rng.random() < .35:  # something in front
        foot = rng.uniform(x0, x1), y1 + rng.uniform(0, .1) * img_h
        place(scene, CLUTTER[rng.integers(4)], rng.uniform(.01, .05), rng, light, 0, foot)
    scene.image = finish(scene.image, rng)
    return scene


def popout_displays() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{name: (picture (256, 256, 3) uint8, where the odd item is (256, 256) bool)}, after the paper's: one of
    25 items differs in colour, size, shape (E among N) or orientation; a square is hatched another way."""
    y, x = np.mgrid[:256, :256]
    where = (y >= 144) & (y < 224) & (x >= 48) & (x < 128)
    hatching = np.where(np.where(where, x + y, x - y) % 12 < 4, 0, 255).astype(np.uint8)
    displays = {"texture": (np.repeat(hatching[..., None], 3, 2), where)}
    red, green = (200, 30, 30), (30, 110, 30)
    discs = {"colour": ((9, green), (9, red)), "size": ((9, green), (18, green))}  # usual, odd: radius, fill
    strokes = {  # x0, y0, x1, y1
        "shape": ([(-9, 12, -9, -12), (-9, -12, 9, 12), (9, 12, 9, -12)],
                  [(-9, 12, -9, -12), (-9, -12, 9, -12), (-9, 0, 7, 0), (-9, 12, 9, 12)]),
        "orientation": ([(0, -12, 0, 12)], [(-12, 0, 12, 0)])}
    for name, (usual, odd) in {**discs, **strokes}.items():
        image = Image.new("RGB", (256, 256), "white")
        pen = ImageDraw.Draw(image)
        for row, col in np.ndindex(5, 5):
            y, x = 32 + 48 * row, 32 + 48 * col
            item = odd if (row, col) == (3, 1) else usual
            if name in discs:
                r, fill = item
                pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)
            else:
                for x0, y0, x1, y1 in item:
                    pen.line((x + x0, y + y0, x + x1, y + y1), fill="black", width=5)
        where = np.zeros((256, 256), bool)
        where[152:200, 56:104] = True  # the cell of row 3, column 1
        displays[name] = np.array(image), where
    return displays
