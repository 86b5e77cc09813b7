"""Procedural scenes of the demo world: backgrounds, light, occlusion, sensor; shapes are in demo_shapes.py.

    scene = render_scene(seed=0, index=5)  # .image (224, 224, 3) uint8, .ids, .objects: name, mask, box, ...

A scene is a pure function of (seed, index). One object in most pictures, more saturated, crisper and better
shaded than a background that is drawn from one distribution for all classes and differs from one region to
the next: what two crops of a picture share is the object. About 8 ms for 224x224 on one core.
x right, y down; key points and masks as (row, col) in pixels.
"""
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from demo_shapes import BUILDERS, CLASSES, Shape, box, hsv, thing

# ---------------------------------------------------------------- drawing
CLUTTER = ("bush", "stone", "pole", "crate")  # things of no class


@lru_cache(1)
def textures() -> tuple:
    """Noise, drawn once per process, 704x704: (flat L images, ground L images, sensor noise int8 (3, n, n),
    the flat ones again as arrays)."""
    rng, n = np.random.default_rng(7), 704
    fy, fx = np.meshgrid(np.fft.fftfreq(n) * n, np.fft.rfftfreq(n) * n, indexing="ij")

    def noise(power, stretch_y=1., stretch_x=1., low=4.):
        f = np.hypot(fy * stretch_y, fx * stretch_x)
        spectrum = np.fft.rfft2(rng.standard_normal((n, n))) / (low + f) ** power
        field_ = np.fft.irfft2(spectrum, (n, n))
        return field_ / field_.std()
    y, x = np.mgrid[:n, :n]
    warp = 6 * noise(2.2)
    flat = [noise(2.), noise(1.3), noise(.8), noise(1.5, .2, 2.), noise(1.5, 2., .2), noise(1.2, low=40),
            noise(3., low=60), np.sign(np.sin((x + warp) * np.pi / 16)) + .3 * noise(1.),
            np.sign(np.sin(y * np.pi / 11) * np.sin((x + 9 * (y // 11 % 2)) * np.pi / 22)) + .4 * noise(1.),
            np.sin((x + y + warp) * np.pi / 8), 2 * (noise(2.5, low=25) > .6) + .5 * noise(1.)]
    rows = 24 + np.arange(n)[:, None]  # ground: texture coordinates of a plane seen at a grazing angle
    deep, wide = (9000 / rows).astype(int), ((np.arange(n)[None] - n // 2) * 180 / rows).astype(int)
    ground = [f[deep % n, wide % n] for f in flat]

    def image(f):
        return Image.fromarray(np.clip(128 + 26 * (f - f.mean()) / f.std(), 0, 255).astype(np.uint8))
    grain = np.clip(rng.standard_normal((n, n, 3)) * 30, -127, 127).astype(np.int8).transpose(2, 0, 1)
    flat = [image(f) for f in flat]
    return flat, [image(f) for f in ground], grain, [np.asarray(f) for f in flat]


def background(rng: np.random.Generator, img_h: int, img_w: int, horizon: float = None) -> np.ndarray:
    """Panels of wall or sky, hills or a skyline, a ground in wedges; each region has its own hue and texture:
    one side of a picture tells nothing about the other. (3, img_h, img_w) float32, 0-255."""
    flat, ground, *_ = textures()
    horizon, regions = horizon or rng.uniform(.35, .7), []
    cuts = np.sort(rng.uniform(.1, .9, rng.integers(1, 4)))
    for a, b in zip([-.2, *cuts], [*cuts, 1.2]):
        regions.append((box(a, -.1, b + .05, 1.1), flat))
    for _ in range(rng.integers(1, 4)):
        x = np.sort(rng.uniform(-.3, 1.3, 2))
        t = np.linspace(*x, rng.integers(5, 12))
        peak, rough = rng.uniform(.02, .4), rng.uniform(.3, 1, len(t))
        top = horizon - peak * rough * np.sin(np.linspace(.2, 2.9, len(t)))
        if rng.random() < .5:  # a skyline: steps
            t, top = np.repeat(t, 2)[1:], np.repeat(top, 2)[:-1]
        regions.append((np.concatenate([np.stack([t, top], 1), [(x[1], 1.1), (x[0], 1.1)]]), flat))
    cuts = np.sort(rng.uniform(-.3, 1.3, rng.integers(1, 3)))
    eye = rng.uniform(.2, .8)
    for a, b in zip([-3, *cuts], [*cuts, 4]):
        top = eye + .35 * (np.array([a, b]) - eye)
        regions.append((np.array([(top[0], horizon), (top[1], horizon), (b, 1.1), (a, 1.1)]), ground))
    colour, relief = Image.new("RGB", (img_w, img_h)), Image.new("L", (img_w, img_h))
    pen = ImageDraw.Draw(colour)
    for polygon, kinds in regions:
        flat_xy = (polygon * (img_w, img_h)).ravel().tolist()
        pen.polygon(flat_xy, fill=tuple(int(c) for c in hsv(rng, (0, 1), (.03, .32), (.3, .8))))
        mask = Image.new("L", (img_w, img_h))
        ImageDraw.Draw(mask).polygon(flat_xy, fill=255)
        kind = kinds[rng.integers(len(kinds))]
        x, y = rng.integers(0, 705 - img_w), 0 if kinds is ground else rng.integers(0, 705 - img_h)
        down = int(horizon * img_h) if kinds is ground else 0
        tile = kind.crop((x, y - down, x + img_w, y - down + img_h))
        contrast = (128 + rng.uniform(.2, .85) * np.arange(-128, 128)).astype(int).tolist()
        relief.paste(tile.point(contrast), mask=mask)
    across = np.linspace(*rng.uniform(.85, 1.12, 2), img_w)
    light = across * np.linspace(*rng.uniform(.85, 1.12, 2), img_h)[:, None]
    gain = light.astype(np.float32) * (.5 + np.asarray(relief, np.float32) / 256)
    return np.stack([np.asarray(c) * gain for c in colour.split()])


def pattern(kind: str, u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Share of the second colour at object coordinates (u, v), 0-1."""
    if kind == "none":
        return np.zeros_like(u)
    scale, field_ = {"stripes": (60, 0), "tabby": (70, 0), "patches": (110, 0), "curls": (150, 5),
                     "skin": (150, 1), "feather": (140, 3), "gloss": (30, 0), "cloth": (60, 0)}[kind]
    i, j = ((rng.integers(704) + scale * c).astype(np.int32) % 704 for c in (v, u))
    noise = (textures()[3][field_][i, j].astype(np.float32) - 128) / 26
    if kind in ("stripes", "tabby"):
        f, soft = (rng.uniform(4.2, 6.), 2.5) if kind == "stripes" else (rng.uniform(3.5, 5.), .9)
        wave = np.sin(2 * np.pi * f * (u + .25 * v) + .9 * noise)
        return np.clip(.45 + soft * wave * (1 if kind == "stripes" else .6), 0, 1)
    if kind == "patches":
        return np.clip(4 * (noise - rng.uniform(-.4, .5)), 0, 1)
    if kind == "gloss":
        return .28 * np.clip(np.sin(5 * v + 2 * u + .5 * noise + rng.uniform(0, 6)) * 2 - 1, 0, 1)
    if kind == "cloth":
        return .45 * (np.sin(2 * np.pi * rng.uniform(2, 7) * v) > .3)
    level, contrast = {"curls": (.35, .3), "skin": (.25, .14), "feather": (.3, .3)}[kind]
    return np.clip(level + contrast * noise, 0, .85)


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
        flat_xy, share = polygon.ravel().tolist(), int(255 * share)
        pen_relief.polygon(flat_xy, fill=(160, share, 0))
        pen_relief.line(flat_xy + flat_xy[:2], fill=(70, share, 0), width=max(1, int(.03 * scale)))
    *colours, alpha = (np.asarray(c, np.float32) for c in cover.reduce(2).split())  # each (h, w)
    half = relief.getchannel(0).reduce(2).filter(ImageFilter.GaussianBlur(max(.4, .0225 * scale)))
    height = np.asarray(half.resize((w, h), Image.Resampling.BILINEAR), np.float32) / 160
    return colours, alpha / 255, height, np.asarray(relief.getchannel(1), np.float32) / 255


def paint(image, ids, number: int, shape: Shape, centre, scale: float, rng, turn=0., mirror=False,
          light=(-.6, -.8)):
    """Draws a shape into image (3, img_h, img_w) and its number into ids (img_h, img_w), both in place.

    centre: (x, y) pixels of the shape's origin; scale: pixels per unit; light: where it comes from, (x, y).
    Returns its own mask, as if nothing stood before it (img_h, img_w) bool, and key points -> (row, col).
    """
    img_h, img_w = ids.shape
    c, s = scale * np.cos(turn), scale * np.sin(turn)
    to_pixels = np.array([[-c if mirror else c, -s], [-s if mirror else s, c]])
    points = np.concatenate([p for p, _, _ in shape.parts]) @ to_pixels.T + centre
    low = np.clip(np.floor(points.min(0)) - 1, 0, (img_w, img_h)).astype(int)
    high = np.clip(np.ceil(points.max(0)) + 2, 0, (img_w, img_h)).astype(int)
    own, (w, h) = np.zeros((img_h, img_w), bool), high - low
    keys = {k: tuple((to_pixels @ np.array(p) + centre)[::-1]) for k, p in shape.points.items()}
    if min(w, h) < 1:
        return own, keys
    colours, alpha, height, share = rasterise(shape, points - low, w, h, scale)
    dx, dy = (int(round(.06 * scale * d)) for d in light)
    shade = .62 + .42 * height + .5 * (height - np.roll(height, (-dy, -dx), (0, 1)))  # lit from one side
    inverse = np.linalg.inv(to_pixels)
    x, y = np.arange(low[0], high[0]) - centre[0], np.arange(low[1], high[1]) - centre[1]
    u, v = ((inverse[k, 0] * x + inverse[k, 1] * y[:, None]).astype(np.float32) for k in (0, 1))
    second = pattern(shape.pattern, u, v, rng) * share
    shade *= 1.06 - .1 * v
    view = np.s_[low[1]:high[1], low[0]:high[0]]
    for plane, colour, other in zip(image, colours, shape.second):
        plane[view] += (colour + second * (alpha * other - colour)) * shade - plane[view] * alpha
    own[view] = alpha > .5
    ids[view][own[view]] = number
    return own, keys


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
    objects: list  # of dict(name, mask: its own, unoccluded, box: (x, y, w, h) visible or None, points)


def place(scene: Scene, name: str, area: float, rng, light, number: int, where=None, turn=.12):
    """Draws one object that covers `area` of the picture, anywhere or with its foot at where = (x, y)."""
    img_h, img_w = scene.ids.shape
    shape = BUILDERS.get(name, thing)(name, rng)
    points = np.concatenate([p for p, _, _ in shape.parts])
    low, high = points.min(0), points.max(0)
    size = high - low
    small = Image.new("L", (40, 40))  # how much of its box it fills
    pen = ImageDraw.Draw(small)
    for polygon, _, _ in shape.parts:
        pen.polygon(((polygon - low) * (40 / size)).ravel().tolist(), fill=1)
    scale = float(min(np.sqrt(area * img_h * img_w / size.prod() / np.asarray(small).mean()),
                      1.08 * img_w / size[0], 1.08 * img_h / size[1]))
    mirror = rng.random() < .5
    middle = (low + high) / 2 * (-1 if mirror else 1, 1)
    room = np.maximum(np.array([img_w, img_h]) - .85 * scale * size, 2) / 2
    target = np.array([img_w, img_h]) / 2 + rng.uniform(-1, 1, 2) * room * (1, .9)
    if where is not None:
        target = np.array([where[0], where[1] - scale * size[1] / 2])
    if turn < 1:
        shadow(scene.image, target[0] - light[0] * .1 * scale, target[1] + .49 * scale * size[1],
               .62 * scale * size[0], .1 * scale * size[1] + 2)
    mask, keys = paint(scene.image, scene.ids, number, shape, target - scale * middle, scale, rng,
                       rng.uniform(-turn, turn), mirror, light)
    return mask, keys, np.array([*(target - scale * size / 2), *(target + scale * size / 2)])


def finish(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exposure, slight blur, sensor noise: (3, img_h, img_w) float -> (img_h, img_w, 3) uint8."""
    img_h, img_w = image.shape[1:]
    image = image * np.float32(rng.uniform(.85, 1.12))
    i, j = rng.integers(705 - img_h), rng.integers(705 - img_w)
    image += textures()[2][:, i:i + img_h, j:j + img_w] * np.float32(rng.uniform(.06, .2))
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
    canvas = background(rng, *(size[::-1] if sideways else size))
    scene = Scene(canvas.transpose(0, 2, 1).copy() if sideways else canvas, np.zeros(size, np.int32), [])
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
        mask, keys, (x0, y0, x1, y1) = place(scene, name, area, rng, light, number, *foot, turn=turn)
        scene.objects.append(dict(name=name, mask=mask, points=keys))
    if labelled and rng.random() < .35:  # something in front
        foot = rng.uniform(x0, x1), y1 + rng.uniform(0, .1) * img_h
        place(scene, CLUTTER[rng.integers(4)], rng.uniform(.01, .05), rng, light, 0, foot)
    for number, thing_ in enumerate(scene.objects, 1):
        rows, cols = np.nonzero(scene.ids == number)
        thing_["box"] = (int(cols.min()), int(rows.min()), int(np.ptp(cols)) + 1, int(np.ptp(rows)) + 1) \
            if len(rows) else None
    scene.image = finish(scene.image, rng)
    return scene


# ---------------------------------------------------------------- pop-out displays
def popout_displays() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{name: (picture (256, 256, 3) uint8, where the odd item is (256, 256) bool)}, after the paper's: one of
    25 items differs in colour, size, shape (E among N) or orientation; a square is hatched another way."""
    out, letters = {}, {"N": [(-9, 12, -9, -12), (-9, -12, 9, 12), (9, 12, 9, -12)],
                        "E": [(-9, 12, -9, -12), (-9, -12, 9, -12), (-9, 0, 7, 0), (-9, 12, 9, 12)]}
    bars = [(0, -12, 0, 12)], [(-12, 0, 12, 0)]
    for name in ("colour", "size", "shape", "orientation"):
        image, where = Image.new("RGB", (256, 256), "white"), np.zeros((256, 256), bool)
        draw = ImageDraw.Draw(image)
        for row, col in np.ndindex(5, 5):
            y, x, odd = 32 + 48 * row, 32 + 48 * col, (row, col) == (3, 1)
            if odd:
                where[y - 24:y + 24, x - 24:x + 24] = True
            if name in ("colour", "size"):
                r = 18 if odd and name == "size" else 9
                red = odd and name == "colour"
                draw.ellipse((x - r, y - r, x + r, y + r), fill=(200, 30, 30) if red else (30, 110, 30))
                continue
            strokes = letters["E" if odd else "N"] if name == "shape" else bars[odd]
            for x0, y0, x1, y1 in strokes:
                draw.line((x + x0, y + y0, x + x1, y + y1), fill="black", width=5)
        out[name] = np.array(image), where
    y, x = np.mgrid[:256, :256]
    where = (y >= 144) & (y < 224) & (x >= 48) & (x < 128)
    lines = np.where(np.where(where, x + y, x - y) % 12 < 4, 0, 255).astype(np.uint8)
    return out | {"texture": (np.repeat(lines[..., None], 3, 2), where)}
