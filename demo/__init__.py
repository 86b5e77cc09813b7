"""The demo world: data with known truth, drawn in seconds and written once as real files in the real formats.

Commands
    python -m demo --show                         # all parts, and runs/demo_world/contact_sheet.png
    python -m demo --parts salicon --no-planted   # observers without preferences: effects must be absent

Every script runs on it when no --data is given. What each part holds:

    imagenet/{train,val}/<wnid>/*.JPEG       12 classes with ImageNet wnids, 224x224
    objectnet/images/<folder>/*.png          these and 4 other classes, turned, on odd backgrounds; red border
    objectnet/mappings/                      the official release's four files (1000 classes, most made up)
    salicon/images/, fixations_{train,val}2014.json   480x640, 3-7 objects, 20 workers, 1-based [row, col]
    coco/annotations/instances_{train,val}2014.json   of the same pictures; polygons, some RLE, crowds
    videos/{clips,gaze,keypoints,masks}/, viewers.csv, clips.csv   320x240, 24 frames/s, adults and children
    objects/images/*.png, fixations.csv      10 bags, 10 jars, 30 participants

Truth planted in the observers: the constants of world.py. planted=False: all look uniformly, no effects.
A part is complete or absent (written beside, then renamed). What is drawn is a pure function of the
arguments; encoders differ between installations, and H.264 of the same frames from one call to the next.
Time, one core: imagenet 9 ms a picture, objectnet 25 ms, salicon 60 ms, six clips 6 s, objects 3 s; all of
it 55 s.
"""
from demo.scenes import popout_displays, render_scene
from demo.shapes import CLASSES, EXTRA
from demo.world import (
    COCO_CATEGORIES, DONE, FPS, FRAMES, LARGE, OBJECT_SIZE, PARTS, SAMPLE_SD, SEED_OF, SMALL, VIDEO_SIZE,
    WORKER_SD, WORKERS, annotate, crowded_scene, demo_world, preference, segmentation, still_object,
    viewer_gaze, write_imagenet)
