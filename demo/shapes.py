"""What the things of the demo world look like: polygons with colours, patterns and key points, no pixels yet.

    shape = build("zebra", np.random.default_rng(0))  # .parts, .points (eyes, mouth, head)

x right, y down, the origin in the middle of the body, one unit about half a body length; colours 0-255.
A builder lists what is drawn, back to front. The order of its random draws is part of the demo's data: the
shipped checkpoints were trained on these pictures.
"""
import colorsys
import math
from collections import namedtuple
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

# folder of ImageNet, id in COCO, whether animate, number and name among ImageNet's 1000 classes
Kind = namedtuple("Kind", "wnid coco animate number title", defaults=(None, None))
CLASSES = {
    "zebra": Kind("n02391049", 24, True, 340, "zebra"), "sheep": Kind("n02412080", 20, True, 348, "ram, tup"),
    "cow": Kind("n02403003", 21, True, 345, "ox"),
    "cat": Kind("n02123045", 17, True, 281, "tabby, tabby cat"),
    "bird": Kind("n01531178", 16, True, 11, "goldfinch, Carduelis carduelis"),
    "elephant": Kind("n02504458", 22, True, 386, "African elephant, Loxodonta africana"),
    "car": Kind("n04285008", 3, False, 817, "sports car, sport car"),
    "bus": Kind("n04146614", 6, False, 779, "school bus"), "cup": Kind("n07930864", 47, False, 968, "cup"),
    "umbrella": Kind("n04507155", 28, False, 879, "umbrella"),
    "clock": Kind("n02708093", 85, False, 409, "analog clock"),
    "airplane": Kind("n02690373", 5, False, 404, "airliner")}
# drawn only in scenes of several objects (SALICON and COCO formats, videos)
EXTRA = {"person": Kind(None, 1, True), "bottle": Kind(None, 44, False), "chair": Kind(None, 62, False),
         "vase": Kind(None, 86, False), "ball": Kind(None, 37, False)}
# Four-legged animals. body: half axes; leg: length, half width; neck: length, rise (rad), half width; head:
# radius, muzzle length; front: how often the head faces us; coat: hue, saturation, value, each as a range.
ANIMALS = {
    "zebra": dict(body=(.60, .29), leg=(.60, .065), neck=(.42, .95, .13), head=(.15, .24), ear=.14, front=.2,
                  coat=((.06, .14), (.02, .16), (.86, 1.))),
    "sheep": dict(body=(.60, .42), leg=(.34, .055), neck=(.20, .45, .14), head=(.16, .17), ear=.15, front=.5,
                  coat=((.08, .15), (.05, .25), (.78, 1.))),
    "cow": dict(body=(.70, .36), leg=(.46, .085), neck=(.26, .50, .19), head=(.19, .25), ear=.16, front=.5,
                coat=((.03, .10), (.05, .70), (.45, .98))),
    "cat": dict(body=(.52, .25), leg=(.34, .065), neck=(.16, .70, .14), head=(.25, .08), ear=.20, front=.75,
                coat=((.05, .11), (.45, .85), (.62, .95))),
    "elephant": dict(body=(.66, .46), leg=(.52, .135), neck=(.14, .5, .24), head=(.3, .1), ear=.34, front=.2,
                     coat=((.55, .68), (.08, .26), (.42, .68)))}
PROFILES = {  # (y, half width), top down
    "bottle": [(-.9, .09), (-.45, .1), (-.2, .26), (.8, .26)],
    "vase": [(-.8, .3), (-.6, .16), (-.1, .5), (.4, .42), (.8, .22)]}


@dataclass
class Shape:
    """An object before it is drawn."""
    name: str
    pattern: str
    second: tuple  # colour of the pattern
    parts: list = field(default_factory=list)  # (polygon (k, 2), colour (3,), share of the pattern 0-1)
    points: dict = field(default_factory=dict)  # key point -> (x, y)

    def add(self, polygon, colour, pattern=0.):
        self.parts.append((np.asarray(polygon, float), np.asarray(colour, float), pattern))

    def vertices(self) -> np.ndarray:
        """All polygons' vertices in order, (n, 2)."""
        return np.concatenate([polygon for polygon, _, _ in self.parts])


def hsv(rng: np.random.Generator, hue, saturation, value) -> np.ndarray:
    """A colour 0-255; each argument a number or a range to draw from."""
    h, s, v = (rng.uniform(*c) if isinstance(c, tuple) else c for c in (hue, saturation, value))
    return 255 * np.array(colorsys.hsv_to_rgb(h % 1, s, v))


@lru_cache(64)
def arc(start: float, stop: float, n: int) -> np.ndarray:
    t = np.linspace(start, stop, n)
    return np.stack([np.cos(t), np.sin(t)], 1)


def ellipse(x, y, rx, ry, turn=0., start=0., stop=2 * np.pi, n=20) -> np.ndarray:
    c, s = math.cos(turn), math.sin(turn)
    return arc(start, stop, n) @ np.array([[rx * c, rx * s], [-ry * s, ry * c]]) + (x, y)


def box(x0, y0, x1, y1, slant=0.) -> np.ndarray:
    return np.array([(x0 + slant, y0), (x1 - slant, y0), (x1, y1), (x0, y1)])


def tube(points, start, stop) -> np.ndarray:
    """A limb, tail or pole: polygon about a polyline, half width running from start to stop."""
    points = np.asarray(points, float)
    along = np.gradient(points, axis=0)
    normal = along[:, ::-1] * (-1, 1) / (np.hypot(*along.T)[:, None] + 1e-9)
    width = np.linspace(start, stop, len(points))[:, None]
    return np.concatenate([points + width * normal, (points - width * normal)[::-1]])


def bend(a, b, c, n=9) -> np.ndarray:
    """Quadratic Bezier curve from a to c, drawn towards b."""
    t = np.linspace(0, 1, n)[:, None]
    return (1 - t) ** 2 * np.array(a) + 2 * t * (1 - t) * np.array(b) + t ** 2 * np.array(c)


def scallop(polygon, depth, lobes) -> np.ndarray:
    """Waves on an outline (wool, leaves)."""
    centre = polygon.mean(0)
    t = np.linspace(0, 2 * np.pi * lobes, len(polygon))[:, None]
    return centre + (polygon - centre) * (1 + depth * np.abs(np.sin(t / 2)))


def add_eye(s: Shape, x, y, r, iris=(20, 14, 10), name="eye0", white=(245, 245, 235)):
    s.add(ellipse(x, y, r, r, n=10), white)
    s.add(ellipse(x, y, .62 * r, .72 * r, n=8), iris)
    s.points[name] = (x, y)


def quadruped(s: Shape, rng):
    """Zebra, sheep, cow, cat, elephant: side view facing left, head in profile or towards us."""
    name, a = s.name, ANIMALS[s.name]
    coat = hsv(rng, *a["coat"])
    if name == "cat" and rng.random() < .35:
        coat = coat.mean() + .15 * (coat - coat.mean())  # grey tabby
    rx, ry = a["body"] * rng.uniform(.93, 1.07, 2)
    swing = rng.uniform(-.35, .35)
    limb = np.array([60, 50, 46.]) if name == "sheep" else coat
    two_legs(s, rx, ry, *a["leg"], .08, swing, limb * .6, limb * .3)  # the far ones
    end = rng.uniform(-.7, -.2) if name == "cat" else rng.uniform(.25, .5)
    tail = bend((.92 * rx, -.3 * ry), (1.55 * rx, -.2 * ry), (1.25 * rx + rng.uniform(-.1, .2), end))
    if name == "cat":
        s.add(tube(tail, .05, .035), coat, .8)
    else:
        s.add(tube(tail, .05, .02), .62 * coat, .8)
    body = ellipse(0, 0, rx, ry, rng.uniform(-.06, .06), n=40)
    s.add(scallop(body, .12, 11) if name == "sheep" else body, coat, 1.)
    two_legs(s, rx, ry, *a["leg"], -.08, -swing, limb, limb * .3)
    if name == "cow":
        s.add(ellipse(.45 * rx, .95 * ry, .13, .09), (226, 160, 150))
    length, rise, neck_w = a["neck"]
    rise += rng.uniform(-.3, .3)
    if name in ("zebra", "sheep", "cow") and rng.random() < .2:
        rise -= 1.3  # grazing
    base = np.array([-.72 * rx, -.35 * ry])
    head = base + length * np.array([-np.cos(rise), -np.sin(rise)]) * rng.uniform(.9, 1.1) + (-.1, -.02)
    s.add(tube([base + (.12, .12), (base + head) / 2, head], 1.5 * neck_w, neck_w), coat, 1.)
    if name == "zebra":
        s.add(tube([base + (.05, -.2), head + (.05, -.17)], .05, .04), (30, 26, 30))
    animal_head(s, rng, head, coat, rng.random() < a["front"])


def two_legs(s: Shape, rx, ry, length, half_w, aside, swing, colour, hoof):
    """A fore and a hind leg of one side of an animal whose body has the half axes rx, ry."""
    for x, stride in ((-.72 * rx, swing * length), (.70 * rx, -swing * length)):
        foot = x + aside + stride
        line = bend((x, .3 * ry), (x + .6 * (foot - x), ry), (foot, .75 * ry + length), 5)
        s.add(tube(line, 1.25 * half_w, half_w), colour, .9)
        s.add(box(foot - 1.15 * half_w, .72 * ry + length, foot + half_w, .83 * ry + length), hoof)


def animal_head(s: Shape, rng, head, coat, front: bool):
    """Head in profile (one eye) or facing us (two), muzzle, mouth and what the kind has besides."""
    name, (x, y) = s.name, head
    r, muzzle_length = ANIMALS[name]["head"]
    skin = coat * .96
    if name == "sheep" and rng.random() < .5:
        skin = np.array([70, 60, 56.])
    add_ears(s, x, y, r, coat, skin, (-1, 1) if front else (1,))
    s.add(ellipse(x, y, r, r * 1.08, n=24), skin, .75)
    if front:
        mx, my = x, y + .75 * r + .25 * muzzle_length
    else:
        mx, my = x - .55 * r - .45 * muzzle_length, y + .45 * r + .2 * muzzle_length
    if name == "elephant":
        trunk = bend((x - .25, y + .05), (x - .42, y + .5), (x - .35 + rng.uniform(-.45, .25), y + .85), 12)
        s.add(tube(trunk, .14, .05), coat * .97, .9)
        tusk = bend((x - .18, y + .24), (x - .35, y + .42), (x - .52, y + .34))
        s.add(tube(tusk, .04, .01), (250, 245, 225))
    else:
        colours = {"zebra": (60, 50, 52), "sheep": skin * .85, "cow": (222, 160, 148), "cat": (250, 236, 220)}
        wide = max(muzzle_length, .1)
        turn = np.pi / 2 if front and name != "cat" else -.55
        s.add(ellipse((x + mx) / 2, (y + my) / 2, .8 * wide, .68 * r, turn), skin, .75)
        s.add(ellipse(mx, my, .55 * wide + .02, .5 * r, turn), colours[name])
        s.add(ellipse(mx - .02, my - .02, .03, .022, n=8), (40, 24, 24))
    s.add(tube([(mx - .08, my + .09), (mx, my + .11), (mx + .08, my + .08)], .012, .012), (70, 30, 30))
    look = dict(r=.045, iris=(18, 12, 10), white=(150, 125, 100))
    if name == "cat":
        look = dict(r=.07, iris=hsv(rng, (.15, .4), .8, .7))
    for number, offset in enumerate((-.48 * r, .48 * r) if front else (-.35 * r,)):
        add_eye(s, x + offset, y - .15 * r, name=f"eye{number}", **look)
    if name == "cat":
        for k, d in ((-1, -.04), (-1, .03), (1, -.04), (1, .03)):
            whisker = [(mx + .05 * k, my + .02), (mx + .34 * k, my + d)]
            s.add(tube(whisker, .007, .004), (250, 250, 250))
    s.points |= {"mouth": (mx, my + .06), "head": (x, y)}


def add_ears(s: Shape, x, y, r, coat, skin, sides):
    name, ear = s.name, ANIMALS[s.name]["ear"]
    for k in sides:
        if name == "elephant":
            s.add(ellipse(x + k * .8 * r, y + .05, .75 * ear, ear, .25 * k, n=24), coat * .78, .7)
        elif name == "cat":
            for side in (-r, r):
                outer, inner = [(.95, .35), (.75, 1.6), (.1, .8)], [(.8, .6), (.7, 1.3), (.35, .8)]
                s.add([(x + side * u, y - v * r) for u, v in outer], coat * .9)
                s.add([(x + side * u, y - v * r) for u, v in inner], (225, 150, 140))
        elif name == "zebra":
            s.add(ellipse(x + k * .8 * r, y - r, ear * .8, ear * .38, -1.2 * k), skin * .75)
        else:
            s.add(ellipse(x + k * .8 * r, y - .45 * r, ear * .8, ear * .38, .35 * k), skin * .75)
    if name == "cow":
        for k in (-r, r):
            horn = bend((x + .45 * k, y - .7 * r), (x + .9 * k, y - .9 * r), (x + .8 * k, y - 1.6 * r))
            s.add(tube(horn, .045, .008), (232, 220, 190))


def bird(s: Shape, rng):
    hue = rng.choice([.14, .14, .14, .58, .01]) + rng.uniform(-.03, .03)  # most are yellow
    coat, wing = hsv(rng, hue, (.65, .95), (.8, 1.)), hsv(rng, (.05, .15), .3, (.12, .3))
    tilt = rng.uniform(-.5, .2)
    s.add(tube([(.4, .1), (1.0, .35 + tilt * .4)], .13, .10), wing, .5)
    for x in (-.05, .12):
        s.add(tube([(x, .3), (x - .03, .68), (x - .15, .7)], .022, .018), (200, 110, 50))
    s.add(ellipse(0, 0, .56, .38, .25 + .3 * tilt, n=30), coat, .35)
    lift = rng.uniform(-.75, .35)
    s.add(tube(bend((-.15, -.05), (.3, -.15 + .5 * lift), (.75, .1 + lift)), .2, .03), wing, .9)
    s.add(tube(bend((-.05, 0), (.3, -.05 + .5 * lift), (.6, .12 + lift)), .035, .02), (240, 235, 220))
    x, y = -.48, -.34 + rng.uniform(-.06, .06)  # of the head
    s.add(ellipse(x, y, .27, .26, n=24), coat, .2)
    s.add(ellipse(x - .04, y - .17, .2, .1, -.2), wing)
    s.add([(x - .22, y - .06), (x - .52, y + .05), (x - .22, y + .1)], (240, 140, 40))
    s.add(tube([(x - .22, y + .03), (x - .5, y + .05)], .01, .005), (120, 60, 20))
    add_eye(s, x - .08, y - .03, .05)
    s.points |= {"mouth": (x - .3, y + .04), "head": (x, y)}


def person(s: Shape, rng, walk: float | None = None, mouth: float | None = None):
    """A standing or walking person; walk is the phase of the gait (rad), mouth how far it is open (0-1)."""
    skin = hsv(rng, (.04, .08), (.3, .6), (.5, .95))
    shirt = hsv(rng, (0, 1), (.5, .9), (.4, .95))
    trousers = hsv(rng, (.5, .75), (.2, .6), (.15, .5))
    hair = hsv(rng, (.02, .1), (.3, .7), (.08, .5))
    woolly = rng.random() < .5
    walk = rng.uniform(0, 2 * np.pi) if walk is None else walk
    mouth = rng.uniform(0, 1) if mouth is None else mouth
    step = .22 * np.sin(walk)
    for k, shade in ((1, .7), (-1, 1.)):
        leg = [(.1 * k, .2), (.1 * k + .5 * k * step, .6), (.1 * k + k * step, 1.)]
        s.add(tube(leg, .12, .08), trousers * shade)
        s.add(ellipse(.1 * k + k * step - .05, 1.02, .13, .055, n=12), (40, 30, 30))
        hand = (.36 * k - .7 * k * step, .22 - .1 * abs(step))
        s.add(tube([(.24 * k, -.38), (.36 * k, -.05), hand], .085, .06), shirt * shade, .5)
        s.add(ellipse(*hand, .065, .07, n=10), skin)
    s.add([(-.3, -.42), (-.12, -.5), (.12, -.5), (.3, -.42), (.2, .26), (-.2, .26)], shirt, .5)
    s.add(box(-.08, -.62, .08, -.46), skin * .85)
    if woolly:
        s.add(ellipse(0, -.78, .27, .32, n=18), hair)
    s.add(ellipse(0, -.8, .21, .26, n=24), skin)
    s.add(ellipse(0, -.93, .23, .16, 0, np.pi, 2 * np.pi, n=12), hair)
    add_eye(s, -.085, -.82, .038, name="eye0")
    add_eye(s, .085, -.82, .038, name="eye1")
    s.add(ellipse(0, -.65, .075, .015 + .045 * mouth, n=12), (150, 40, 45))
    s.points |= {"mouth": (0, -.65), "head": (0, -.8)}


def car(s: Shape, rng):
    paint = hsv(rng, rng.choice([0, 0, .58, .33]) + rng.uniform(-.05, .05), (.7, 1.), (.6, .95))
    roof, back = rng.uniform(-.52, -.38), rng.uniform(.45, .7)
    s.add([(-1, .2), (-.98, -.02), (-.5, -.14), (-.2, roof), (.3, roof - .02), (back, -.16), (.95, -.12),
           (1, .22), (.9, .28), (-.95, .28)], paint, .8)
    glass = hsv(rng, .55, .35, (.25, .75))
    s.add([(-.4, -.14), (-.17, roof + .06), (.03, roof + .06), (.03, -.14)], glass)
    s.add([(.08, -.14), (.08, roof + .06), (.28, roof + .06), (back - .08, -.14)], glass)
    s.add(box(-1, .2, 1, .3), paint * .4)
    s.add(tube([(.05, -.14), (.06, .2)], .008, .008), paint * .5)
    s.add(ellipse(-.93, .06, .07, .05, n=10), (255, 240, 180))
    s.add(box(.92, 0, .99, .1), (250, 60, 40))
    for x in (-.6, .6):
        s.add(ellipse(x, .28, .2, .2), (24, 24, 28))
        s.add(ellipse(x, .28, .11, .11, n=12), (190, 190, 200))
        s.add(ellipse(x, .28, .04, .04, n=8), (60, 60, 66))


def bus(s: Shape, rng):
    hue = (.09, .15) if rng.random() < .75 else (.0, .6)  # most are yellow
    paint = hsv(rng, hue, (.75, 1.), (.8, 1.))
    h = rng.uniform(.48, .6)
    s.add([(-1.05, .4), (-1.02, -h + .1), (-.92, -h), (.98, -h), (1.04, -h + .08), (1.04, .4)], paint, .5)
    glass = hsv(rng, .55, .3, (.15, .6))
    n = rng.integers(4, 7)
    for i in range(n):
        x = -.62 + 1.62 * i / n
        s.add(box(x, -h + .14, x + 1.3 / n, -h + .44), glass)
        glint = [(x + .03, -h + .4), (x + .15, -h + .17), (x + .19, -h + .17), (x + .07, -h + .4)]
        s.add(glint, glass * .5 + 120)
    s.add(box(-1.02, -h + .12, -.72, -h + .5), glass * .8)
    s.add(box(-.7, -h + .14, -.66, .38), (30, 30, 30))
    for y in (.02, .16):
        s.add(box(-1.04, y, 1.04, y + .045), (26, 24, 24))
    s.add(ellipse(-1., .28, .06, .05, n=10), (255, 250, 210))
    for x in (-.62, .62):
        s.add(ellipse(x, .42, .19, .19), (22, 22, 24))
        s.add(ellipse(x, .42, .09, .09, n=12), (170, 170, 175))


def cup(s: Shape, rng):
    hue = (.45, .65) if rng.random() < .6 else (.85, 1.05)
    glaze = hsv(rng, hue, (.45, .9), (.55, 1.))
    w, h, taper = rng.uniform(.46, .6), rng.uniform(.5, .66), rng.uniform(.0, .2)
    handle = bend((w - .04, -.6 * h), (w + .6, -.2 * h), (w - .1 - taper, .62 * h), 14)
    s.add(tube(handle, .07, .06), glaze * .85)
    body = np.concatenate([[(-w, -h), (w, -h)], ellipse(0, h - .06, w - taper, .14, 0, 0, np.pi, n=12)])
    s.add(body, glaze, .6)
    for y in rng.uniform(-.3, .5, rng.integers(1, 4)) * h:  # bands
        half = w - taper * (y + h) / (2 * h)
        edges = ellipse(0, y, half, .12, 0, 0, np.pi), ellipse(0, y + .12, half, .12, 0, np.pi, 0)
        s.add(np.concatenate(edges), hsv(rng, (.08, .16), .3, 1.), .3)
    s.add(ellipse(0, -h, w, .15, n=26), glaze * .8 + 45)
    s.add(ellipse(0, -h + .015, w - .06, .115, n=24), hsv(rng, (.03, .09), .75, (.2, .45)))


def umbrella(s: Shape, rng):
    hue = rng.choice([.78, .93, .35]) + rng.uniform(-.06, .06)
    n, height = rng.integers(5, 8), rng.uniform(.6, .85)
    colours = hsv(rng, hue, (.6, .95), (.6, 1.)), hsv(rng, hue + rng.uniform(.1, .6), (.2, .8), (.75, 1.))
    s.add(tube([(0, -.2), (0, .8)], .03, .03), (90, 60, 40))
    s.add(tube(bend((0, .78), (.02, 1.12), (.22, .84)), .035, .04), (120, 70, 40))
    edge = -np.cos(np.linspace(0, np.pi, n + 1))  # where the ribs end
    for i in range(n):
        a, b = edge[i], edge[i + 1]
        rib_a = bend((a, .06), (.92 * a, -.75 * height), (0, -height))
        rib_b = bend((0, -height), (.92 * b, -.75 * height), (b, .06))
        hem = bend((b, .06), ((a + b) / 2, -.1), (a, .06))
        s.add(np.concatenate([rib_a, rib_b, hem]), colours[i % 2] * (.8 + .3 * i / n), .15)
    s.add(tube([(0, -height - .12), (0, -height + .02)], .015, .03), (60, 40, 30))


def clock(s: Shape, rng):
    rim, face = hsv(rng, (.04, .12), (.6, .9), (.35, .8)), hsv(rng, (.1, .18), (.02, .2), (.88, 1.))
    if rng.random() < .5:  # an alarm clock: feet and bells
        for k in (-1, 1):
            s.add(tube([(.4 * k, .6), (.62 * k, .98)], .07, .05), rim * .7)
            s.add(ellipse(.5 * k, -.8, .3, .2, .7 * k), rim * 1.1)
    s.add(ellipse(0, 0, .9, .9, n=40), rim)
    s.add(ellipse(0, 0, .74, .74, n=40), face)
    for i in range(12):
        t = i * np.pi / 6
        d = np.array([np.sin(t), -np.cos(t)])
        start, wide = (.58, .02) if i % 3 else (.52, .035)
        s.add(tube([d * start, d * .68], wide, .02), (30, 26, 30))
    for t, length, w in ((rng.uniform(0, 6.3), .36, .05), (rng.uniform(0, 6.3), .56, .035)):
        d = np.array([np.sin(t), -np.cos(t)])
        s.add(tube([-.1 * d, length * d], w, .5 * w), (20, 18, 24))
    s.add(ellipse(0, 0, .06, .06, n=10), (200, 30, 30))


def airplane(s: Shape, rng):
    hull = hsv(rng, (.5, .65), (.02, .15), (.85, 1.))
    trim = hsv(rng, rng.choice([.6, .6, .0, .09]) + rng.uniform(-.04, .04), (.7, 1.), (.5, .95))
    sweep = rng.uniform(.35, .65)
    s.add([(-.15, -.08), (.1, -.08), (.5, -.55 * sweep - .3), (.38, -.55 * sweep - .3)], hull * .72)
    s.add([(.68, -.08), (.84, -.58), (1.02, -.58), (.98, -.02)], trim)
    s.add([(.72, -.02), (.98, -.2), (1.12, -.2), (.95, .02)], hull * .75)
    nose = ellipse(-.75, 0, .3, .16, 0, np.pi / 2, 3 * np.pi / 2, n=14)
    s.add(np.concatenate([nose, [(.6, -.16), (1.04, -.1), (1.04, -.04), (.6, .13)]]), hull, .5)
    s.add([(-1.02, .03), (.75, .02), (.95, -.03), (.6, .07), (-.98, .08)], trim)
    s.add([(-1., -.05), (-.9, -.11), (-.8, -.11), (-.82, -.03)], (40, 56, 80))
    for x in np.linspace(-.68, .62, 11):
        s.add(ellipse(x, -.055, .028, .036, n=8), (44, 60, 88))
    s.add([(-.25, .05), (.12, .05), (.62, .45 * sweep + .4), (.44, .45 * sweep + .4)], hull * .82, .3)
    s.add(ellipse(.06, .05 + .4 * sweep, .16, .075, n=14), trim * .8)
    s.add(ellipse(-.08, .05 + .4 * sweep, .03, .07, n=10), (40, 40, 46))


def thing(s: Shape, rng):
    """Bottle, vase, chair, ball, and clutter that has no class: bush, stone, pole, crate."""
    if s.name in PROFILES:
        half = np.array([(w, y) for y, w in PROFILES[s.name]])
        s.add(np.concatenate([half, half[::-1] * (-1, 1)]), hsv(rng, (.3, .9), (.5, .9), (.35, .9)), .7)
        s.add(box(-.25, .1, .25, .5), hsv(rng, (0, 1), .4, 1.), .3)
        s.add(ellipse(0, half[0, 1], half[0, 0], .06), (40, 30, 30))
    elif s.name == "chair":
        wood = hsv(rng, (.03, .1), (.5, .8), (.4, .8))
        for x, y in ((-.2, .75), (.5, .75), (-.42, 1.), (.3, 1.)):
            s.add(tube([(x, 0), (x, y)], .05, .04), wood * .8)
        s.add(box(-.22, -1, .52, .0), wood, .4)
        s.add(box(-.1, -.85, .4, -.2), wood * .6)
        s.add([(-.25, 0), (.55, 0), (.38, .28), (-.5, .28)], wood * 1.1, .4)
    elif s.name == "ball":
        s.add(ellipse(0, 0, .8, .8, n=36), hsv(rng, (0, 1), (.7, 1.), (.8, 1.)), .3)
        s.add(ellipse(0, 0, .3, .78, .4, n=24), hsv(rng, (0, 1), .2, 1.))
    else:
        tint = hsv(rng, (.0, 1.), (.05, .32), (.25, .7))
        if s.name == "bush":
            s.add(scallop(ellipse(0, 0, .9, rng.uniform(.5, .9), n=44), .2, rng.integers(5, 10)), tint, .6)
        elif s.name == "stone":
            s.add(ellipse(0, 0, .9, .55, n=11) * rng.uniform(.8, 1.1, (11, 1)), tint, .6)
        elif s.name == "pole":
            s.add(box(-.06, -1.3, .06, 1.3), tint, .4)
        else:
            s.add(box(-.7, -.6, .7, .6, rng.uniform(0, .2)), tint, .5)
            s.add(box(-.7, -.12, .7, .02), tint * .7, .5)


def bag(s: Shape, rng):
    leather = hsv(rng, (0, 1), (.4, .8), (.4, .85))
    w, h = rng.uniform(.6, .85), rng.uniform(.45, .65)
    top, flap = rng.uniform(.7, .95), rng.uniform(.1, .35)
    handle = bend((-.45 * w, -h), (0, -h - rng.uniform(.8, 1.3)), (.45 * w, -h), 16)
    s.add(tube(handle, .05, .05), leather * .7)
    s.add(box(-w, -h, w, h, (1 - top) * w), leather, .8)
    lid = [(-w * top, -h), (w * top, -h), (.8 * w, flap - .1), (0, flap), (-.8 * w, flap - .1)]
    s.add(lid, leather * .85, .6)
    s.add(box(-.13, flap - .16, .13, flap + .1), (224, 186, 70))
    s.add(box(-.06, flap - .09, .06, flap + .03), (120, 90, 30))
    s.points = {"buckle": (0, flap - .03), "handle": tuple(handle[8])}


def jar(s: Shape, rng):
    clay = hsv(rng, (.02, .12), (.35, .8), (.45, .85))
    w, neck = rng.uniform(.5, .75), rng.uniform(.16, .3)
    y, rim = rng.uniform(-.62, -.5), neck + rng.uniform(.06, .16)
    if rng.random() < .6:
        for k in (-1, 1):
            handle = bend((neck * k, y - .1), ((w + .45) * k, y - .15), (.9 * w * k, -.1), 14)
            s.add(tube(handle, .045, .045), clay * .8)
    shoulder = bend((-neck, -.85), (-neck, y), (-.5 * w, y + .12))
    belly = bend((-.5 * w, y + .12), (-1.3 * w, .2), (-.35 * w, .85), 14)
    left = np.concatenate([shoulder, belly])
    s.add(np.concatenate([left, left[::-1] * (-1, 1)]), clay, .7)
    for band in rng.uniform(-.15, .35, rng.integers(1, 4)):
        s.add(box(-.76 * w, band, .76 * w, band + .05), clay * .45)
    s.add(ellipse(0, -.87, rim, .07), clay * 1.1)
    s.add(ellipse(0, -.88, .75 * rim, .04), clay * .3)
    s.points = {"neck": (0, y - .1), "rim": (0, -.87)}


WHITE, BLACK = (255, 255, 255), (30, 34, 30)
BUILDERS = {  # name -> (what draws it, pattern on it, colour of the pattern)
    "zebra": (quadruped, "stripes", (24, 20, 26)), "sheep": (quadruped, "curls", (128, 112, 92)),
    "cow": (quadruped, "patches", (44, 28, 22)), "cat": (quadruped, "tabby", (70, 40, 24)),
    "elephant": (quadruped, "skin", (58, 60, 74)), "bird": (bird, "feather", (40, 34, 20)),
    "person": (person, "cloth", (250, 250, 250)), "airplane": (airplane, "gloss", (120, 140, 170)),
    "car": (car, "gloss", WHITE), "bus": (bus, "gloss", WHITE), "cup": (cup, "gloss", WHITE),
    "umbrella": (umbrella, "cloth", WHITE), "clock": (clock, "none", WHITE),
    "bottle": (thing, "gloss", WHITE), "vase": (thing, "gloss", WHITE), "chair": (thing, "gloss", WHITE),
    "ball": (thing, "gloss", WHITE), "bush": (thing, "curls", BLACK), "stone": (thing, "skin", BLACK),
    "pole": (thing, "skin", BLACK), "crate": (thing, "skin", BLACK),
    "bag": (bag, "skin", (60, 40, 30)), "jar": (jar, "skin", (50, 40, 36))}


def build(name: str, rng: np.random.Generator, **pose: float) -> Shape:
    """One of BUILDERS; rng draws its colours and proportions. pose: a person's walk and mouth."""
    draw, pattern, second = BUILDERS[name]
    shape = Shape(name, pattern, second)
    draw(shape, rng, **pose)
    return shape
