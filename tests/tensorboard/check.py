"""Reads event files as TensorBoard does, and compares them with what was meant to be in them.

    python check.py FOLDER EXPECTED.json

EXPECTED.json has, for each run in FOLDER, the scalars {tag: [[step, value], …]} and the pictures
{tag: [{"step": …, "width": …, "height": …, "rgb": [byte, …]}, …]}. A value that is null is NaN.
"""

import io
import json
import logging
import math
import sys

from PIL import Image
from tensorboard.backend.event_processing import event_accumulator, event_multiplexer

EVERYTHING = {event_accumulator.SCALARS: 0, event_accumulator.IMAGES: 0}


def same(found, expected):
    """Event files hold 32-bit numbers."""
    if expected is None:
        return math.isnan(found)
    return found == expected or math.isclose(found, expected, rel_tol=1e-6)


def check_scalars(run, found, expected):
    assert sorted(found.Tags()["scalars"]) == sorted(expected), (run, found.Tags()["scalars"])
    for tag, points in expected.items():
        events = found.Scalars(tag)
        assert [event.step for event in events] == [step for step, _ in points], (run, tag, events)
        for event, (_, value) in zip(events, points):
            assert same(event.value, value), (run, tag, event, value)
        assert all(event.wall_time > 1.6e9 for event in events), (run, tag, events)


def check_pictures(run, found, expected):
    assert sorted(found.Tags()["images"]) == sorted(expected), (run, found.Tags()["images"])
    for tag, pictures in expected.items():
        events = found.Images(tag)
        assert [event.step for event in events] == [picture["step"] for picture in pictures], (run, tag)
        for event, picture in zip(events, pictures):
            size = (picture["width"], picture["height"])
            decoded = Image.open(io.BytesIO(event.encoded_image_string))
            assert decoded.format == "PNG" and decoded.mode == "RGB", (run, tag, decoded)
            assert decoded.size == (event.width, event.height) == size, (run, tag, decoded.size, size)
            assert list(decoded.tobytes()) == picture["rgb"], (run, tag, event.step)


def main(folder, expected):
    logging.basicConfig(level=logging.INFO)
    with open(expected, encoding="utf-8") as file:
        expected = json.load(file)
    runs = event_multiplexer.EventMultiplexer(size_guidance=EVERYTHING)
    runs.AddRunsFromDirectory(folder)
    runs.Reload()
    assert sorted(runs.Runs()) == sorted(expected), runs.Runs()
    for run, content in expected.items():
        found = runs.GetAccumulator(run)
        assert found.file_version == 2.0, (run, found.file_version)
        check_scalars(run, found, content["scalars"])
        check_pictures(run, found, content["pictures"])
        scalars, pictures = len(content["scalars"]), len(content["pictures"])
        print(f"{run}: {scalars} scalars and {pictures} pictures as expected")


if __name__ == "__main__":
    main(*sys.argv[1:])
