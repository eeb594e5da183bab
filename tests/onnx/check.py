"""Runs ONNX files by ONNX Runtime, and compares the results with what was expected of them.

    python check.py FOLDER

FOLDER/cases.json is a list of {"name", "model", "data", "tolerance", "given_prior"}. A model is FOLDER/{model}.onnx; data is
FOLDER/{data}.safetensors with the model's inputs and `sharp`, which may be smaller than the result and then is its upper left
corner. With `given_prior` only the part of the model behind the prior is run, of `blur` and `prior`.
"""

import json
import pathlib
import struct
import sys

import numpy
import onnx
import onnxruntime


def tensors(path):
    """All tensors of a .safetensors, of single precision."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    found = {}
    for name, info in header.items():
        start, end = (8 + length + offset for offset in info["data_offsets"])
        found[name] = numpy.frombuffer(content[start:end], numpy.float32).reshape(info["shape"])
    return found


def session(path):
    """The model, after ONNX's own checks of it."""
    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # The models are small: threads would cost more than they gain, above all those that wait by spinning.
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def main(folder):
    folder = pathlib.Path(folder)
    sessions = {}
    bad = 0
    for case in json.loads((folder / "cases.json").read_text()):
        key = (case["model"], case["given_prior"])
        if key not in sessions:
            path = folder / f"{case['model']}.onnx"
            if case["given_prior"]:
                part = path.with_suffix(".part.onnx")
                onnx.utils.extract_model(str(path), str(part), ["blur", "prior"], ["sharp"])
                path = part
            sessions[key] = session(path)
        model = sessions[key]
        data = tensors(folder / f"{case['data']}.safetensors")
        expected = data["sharp"]
        inputs = {value.name: data[value.name] for value in model.get_inputs()}
        (found,) = model.run(["sharp"], inputs)
        assert found.dtype == numpy.float32 and found.shape == inputs["blur"].shape, found.shape
        found = found[..., : expected.shape[2], : expected.shape[3]]
        difference = numpy.abs(found - expected).max() / numpy.abs(expected).max()
        good = difference <= case["tolerance"]
        bad += not good
        print(f"{'good' if good else 'BAD '} {difference:8.1e} of {case['tolerance']:.0e}  {case['name']}")
    assert bad == 0, f"{bad} cases differ"


if __name__ == "__main__":
    main(*sys.argv[1:])
