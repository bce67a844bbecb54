"""Classify photos with a TFLite file. Requires only ai-edge-litert, numpy and pillow.

    python examples/tflite_predict.py --model=models/r20_tflite/resnet20_int8.tflite PHOTO...

Labels and preprocessing are read from the ZIP archive that is appended to the file.
"""

import argparse
import json
import sys
import zipfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps


def load_photo(path: str, preprocessing: dict) -> np.ndarray:
    """Read and preprocess a photo, u8[1,H,W,3]: resize the shorter side and crop the center."""
    with Image.open(path) as file:
        turned = preprocessing["exif_orientation"] == "applied" and file.format == "JPEG"
        photo = (ImageOps.exif_transpose(file) if turned else file).convert("RGB")
    short, (height, width) = preprocessing["resize_shorter_side"], preprocessing["center_crop"]
    if short:
        scale = min(photo.size)
        photo = photo.resize([side * short // scale for side in photo.size], Image.Resampling.BILINEAR)
    if photo.width < width or photo.height < height:
        raise ValueError(f"{path} has {photo.width}x{photo.height} pixels; the network requires {width}x{height}.")
    left, top = round((photo.width - width) / 2), round((photo.height - height) / 2)
    return np.asarray(photo.crop((left, top, left + width, top + height)))[None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="TFLite file.")
    parser.add_argument("--top", type=int, default=5, help="Number of classes.")
    parser.add_argument("--threads", type=int, default=2, help="Threads of the interpreter.")
    parser.add_argument("photos", nargs="+", help="Image files.")
    arguments = parser.parse_args()
    try:
        with zipfile.ZipFile(arguments.model) as archive:
            labels = archive.read("labels.txt").decode().splitlines()
            preprocessing = json.loads(archive.read("preprocessing.json"))
        images = [load_photo(photo, preprocessing) for photo in arguments.photos]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        print(f"tflite_predict: {error}", file=sys.stderr)
        return 1

    interpreter = Interpreter(model_path=arguments.model, num_threads=arguments.threads)
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero = target["quantization"]
    for photo, image in zip(arguments.photos, images, strict=True):
        interpreter.set_tensor(source["index"], image)
        interpreter.invoke()
        values = interpreter.get_tensor(target["index"])[0]
        scores = (values.astype("float32") - zero) * scale if scale else values
        best = np.argsort(-scores, kind="stable")[: arguments.top]
        print(f"{photo}: " + ", ".join(f"{labels[at]} {scores[at]:.3f}" for at in best))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("tflite_predict: interrupted", file=sys.stderr)
        sys.exit(130)
