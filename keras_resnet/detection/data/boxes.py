"""Images with boxes: folders in the layouts of PASCAL VOC and COCO, sets of tensorflow-datasets, and their batches.

A batch is a dictionary of images f32[B,H,W,3] normalised and padded, image_size f32[B,2] inside the padding, boxes
f32[B,G,4] in its pixels (top, left, bottom, right), labels i32[B,G] from 1 with 0 for padding, crowd i32[B,G] with 1
for groups, and seed i32[B,2]. It is a pure function of the run's seed and the step.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import logging
import os
import pathlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image
from tqdm import tqdm

from keras_resnet import files
from keras_resnet.data import sources
from keras_resnet.data.dataset import DatasetInfo, split_range
from keras_resnet.data.pipeline import stateless_seed
from keras_resnet.errors import InputError
from keras_resnet.ops import boxes as box_ops
from keras_resnet.ops import codecs, graph_errors, image

log = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp", ".webp")


@dataclasses.dataclass(frozen=True)
class Annotation:
    """One image and what is in it.

    Attributes:
        path: the image file.
        id: its name or number in the data set.
        size: height and width in pixels.
        boxes: f32[n,4], top, left, bottom, right in [0, 1].
        labels: i32[n], from 0.
        difficult: bool[n]: neither expected nor counted as wrong by PASCAL VOC's evaluation.
        crowd: bool[n]: boxes of groups, which COCO's evaluation treats likewise.
        areas: f32[n] in px^2: of the object where it is known, else of the box.
    """

    path: str
    id: object
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray


@dataclasses.dataclass(frozen=True)
class DetectionDataset:
    """A data set with boxes.

    Attributes:
        info: classes and splits.
        read: split -> list of `Annotation`.
        categories: the number of each class in COCO's results; by default from 1 on.
    """

    info: DatasetInfo
    read: Callable[[str], list[Annotation]]
    categories: tuple[int, ...] = ()

    def pictures(self, split: str) -> list[Annotation]:
        """Return the pictures of a split, a part of one such as "train[:90%]", or several joined by "+".

        Raises:
            ValueError: no such split, an empty part, or annotations that cannot be read.
        """
        pictures = []
        for part in split.split("+"):
            name, start, stop = split_range(part, self.dataset_info.splits)
            pictures += self.read(name)[start:stop]
        return pictures


def load(
    name: str, data_dir: str | None = None, download: bool = False, class_names: Sequence[str] = ()
) -> DetectionDataset:
    """Find a data set with boxes by name.

    Args:
        name: "folder:/path" for a folder in VOC's layout (`Annotations`, `JPEGImages`, `ImageSets/Main`) or in COCO's
            (`annotations/instances_SPLIT.json`, images in `SPLIT/`), or a set of tensorflow-datasets like "voc/2007".
        data_dir: folder of prepared tensorflow-datasets; by default theirs.
        download: download and prepare a set of tensorflow-datasets where it is missing.
        class_names: classes of a VOC folder in the order of their labels; by default all that it has, sorted.

    Raises:
        ValueError: no such data set, or a folder of neither layout.
    """
    kind, _, rest = name.partition(":")
    if kind != "folder":
        return _tensorflow_datasets(name, data_dir, download)
    root = pathlib.Path(rest).expanduser()
    if not rest or not root.is_dir():
        raise InputError(f"dataset must name an existing folder after 'folder:'; got {rest!r}.")
    if (root / "ImageSets/Main").is_dir():
        return _voc_folder(root, tuple(class_names))
    if list((root / "annotations").glob("instances_*.json")):
        return _coco_folder(root)
    raise InputError(
        f"dataset folder {str(root)!r} must have ImageSets/Main as PASCAL VOC has, or annotations/instances_*.json as "
        "COCO has; it has neither."
    )


def _voc_folder(root: pathlib.Path, class_names: tuple[str, ...]) -> DetectionDataset:
    """PASCAL VOC's layout; boxes there count pixels from 1, the last one included."""
    lists = {}
    for path in sorted((root / "ImageSets/Main").glob("*.txt")):
        # Lists of a single class, such as aeroplane_train.txt, are no splits.
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if lines and all(len(line) == 1 for line in lines):
            lists[path.stem] = [line[0] for line in lines]
    if not lists:
        raise InputError(
            f"{str(root / 'ImageSets/Main')!r} must hold lists of image names, one *.txt a split; none is."
        )
    if not class_names:
        names = sorted({name for ids in lists.values() for name in ids})
        found = {entry[0] for name in names for entry in _voc_objects(root, name)}
        class_names = tuple(sorted(found))
        if not class_names:
            raise InputError(f"no annotation under {str(root / 'Annotations')!r} has a box.")

    @functools.cache
    def read(split):
        dropped = collections.Counter()
        pictures = [_voc_picture(root, name, class_names, dropped) for name in lists[split]]
        return _checked(pictures, f"{root}, split {split}", dropped)

    splits = {split: len(ids) for split, ids in lists.items()}
    return DetectionDataset(DatasetInfo(f"folder:{root}", class_names, None, splits), read)


def _voc_objects(root: pathlib.Path, name: str) -> list[tuple[str, list[float], bool]]:
    """Class, (left, top, right, bottom) and difficulty of each object in an annotation."""
    path = root / "Annotations" / f"{name}.xml"
    if not path.is_file():
        raise InputError(f"an image list names {name!r}, but there is no file {str(path)!r}.")
    try:
        tree = ElementTree.parse(path)
    except ElementTree.ParseError as error:
        raise InputError(f"annotation {str(path)!r} is not XML: {error}.") from error
    objects = []
    for entry in tree.getroot().iter("object"):
        try:
            sides = [float(entry.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
            difficult = bool(int(entry.findtext("difficult") or 0))
        except (TypeError, ValueError):
            raise InputError(f"annotation {str(path)!r} has an object without four numbers in its bndbox.") from None
        objects.append(((entry.findtext("name") or "").strip(), sides, difficult))
    return objects


def _voc_picture(root: pathlib.Path, name: str, class_names: tuple[str, ...], dropped) -> Annotation:
    objects = _voc_objects(root, name)
    path = next((p for suffix in SUFFIXES if (p := root / "JPEGImages" / f"{name}{suffix}").is_file()), None)
    if path is None:
        raise InputError(f"an image list names {name!r}, but {str(root / 'JPEGImages')!r} has no such image.")
    for label, _, _ in objects:
        if label not in class_names:
            file = root / "Annotations" / f"{name}.xml"
            raise InputError(f"annotation {str(file)!r} has class {label!r}; allowed are {', '.join(class_names)}.")
    sides = np.array([sides for _, sides, _ in objects], "float32").reshape(-1, 4)
    left, top, right, bottom = sides.T
    kept = (right > left) & (bottom > top)
    corners = np.stack([top - 1, left - 1, bottom, right], -1)
    labels = np.array([class_names.index(label) for label, _, _ in objects], "int32")
    difficult = np.array([flag for _, _, flag in objects], bool)
    return _picture(path, name, corners, labels, difficult, np.zeros_like(difficult), None, kept, dropped)


def _picture(path, id, corners, labels, difficult, crowd, areas, kept, dropped, size=None) -> Annotation:
    """A picture whose boxes are clipped to it; those that are then empty, or not `kept`, are dropped and counted."""
    if size is None:
        try:
            with Image.open(path) as file:
                size = file.height, file.width
        except OSError as error:
            raise InputError(f"image {str(path)!r} cannot be read: {error}.") from error
    scale = np.array([*size, *size], "float32")
    clipped = np.clip(corners, 0, scale)
    kept = kept & (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    dropped["degenerate or outside their image"] += int(np.sum(~kept))
    if areas is None:
        areas = np.prod(clipped[:, 2:] - clipped[:, :2], -1)
    parts = (clipped / scale, labels, difficult, crowd, areas.astype("float32"))
    return Annotation(str(path), id, tuple(size), *(part[kept] for part in parts))


def _checked(pictures: list[Annotation], where: str, dropped: collections.Counter) -> list[Annotation]:
    """The pictures, with a warning of what was dropped."""
    if not any(len(picture.labels) for picture in pictures):
        raise InputError(f"{where} has no box at all in its {len(pictures)} pictures.")
    for reason, count in dropped.items():
        if count:
            log.warning("%s: dropped %d boxes that are %s", where, count, reason)
    return pictures


COCO_KEYS = {
    "images": {"id", "file_name"},
    "annotations": {"image_id", "category_id", "bbox"},
    "categories": {"id", "name"},
}
"""What is read of COCO's files: list -> keys that each of its entries must have."""


def _coco_folder(root: pathlib.Path) -> DetectionDataset:
    """COCO's layout; boxes there are left, top, width and height."""
    files = {path.stem.removeprefix("instances_"): path for path in (root / "annotations").glob("instances_*.json")}

    @functools.cache
    def content(split):
        try:
            values = json.loads(files[split].read_text(encoding="utf-8"))
            values = {kind: values[kind] for kind in COCO_KEYS}
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else error
            raise InputError(f"annotation file {str(files[split])!r} is not in COCO's format: {reason}.") from error
        for kind, keys in COCO_KEYS.items():
            for entry in values[kind]:
                if not isinstance(entry, dict) or not keys <= entry.keys():
                    raise InputError(
                        f"annotation file {str(files[split])!r} must have {', '.join(sorted(keys))} in each entry of "
                        f"{kind}; got {str(entry)[:100]}."
                    )
        for entry in values["annotations"]:
            if not isinstance(entry["bbox"], list) or len(entry["bbox"]) != 4:
                raise InputError(
                    f"annotation file {str(files[split])!r} must have four numbers in each bbox; got {entry['bbox']}."
                )
        return values

    categories = {}
    for split in sorted(files):
        categories |= {entry["id"]: entry["name"] for entry in content(split)["categories"]}
    numbers = tuple(sorted(categories))

    @functools.cache
    def read(split):
        dropped, values = collections.Counter(), content(split)
        of_image = collections.defaultdict(list)
        for entry in values["annotations"]:
            if entry["category_id"] not in categories:
                raise InputError(
                    f"annotation file {str(files[split])!r} has the unknown category {entry['category_id']!r}."
                )
            of_image[entry["image_id"]].append(entry)
        folder = root / split if (root / split).is_dir() else root / "images" / split
        pictures = []
        for entry in values["images"]:
            path, objects = folder / entry["file_name"], of_image[entry["id"]]
            if not path.is_file():
                raise InputError(f"annotation file {str(files[split])!r} names the missing image {str(path)!r}.")
            left, top, width, height = np.array([o["bbox"] for o in objects], "float32").reshape(-1, 4).T
            crowd = np.array([bool(o.get("iscrowd", 0)) for o in objects], bool)
            pictures.append(
                _picture(
                    path,
                    entry["id"],
                    np.stack([top, left, top + height, left + width], -1),
                    np.array([numbers.index(o["category_id"]) for o in objects], "int32"),
                    np.zeros_like(crowd),
                    crowd,
                    np.array([o.get("area", o["bbox"][2] * o["bbox"][3]) for o in objects], "float32"),
                    (width > 0) & (height > 0),
                    dropped,
                    (entry["height"], entry["width"]) if {"height", "width"} <= set(entry) else None,
                )
            )
        return _checked(pictures, str(files[split]), dropped)

    splits = {split: len(content(split)["images"]) for split in sorted(files)}
    names = tuple(categories[number] for number in numbers)
    return DetectionDataset(DatasetInfo(f"folder:{root}", names, None, splits), read, numbers)


# The numbers of COCO's 80 classes in its own files leave out those of eleven classes that were never published.
COCO_NUMBERS = tuple(n for n in range(1, 91) if n not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))


def _tensorflow_datasets(name: str, data_dir: str | None, download: bool) -> DetectionDataset:
    """A set of tensorflow-datasets with `objects`; its encoded images are written out once, beside the set."""
    import tensorflow_datasets as tfds

    allowed = "'folder:PATH' or a set of tensorflow-datasets with boxes like 'voc/2007'"
    builder = sources.open_builder(name, data_dir, download, allowed, "objects")

    @functools.cache
    def read(split):
        folder = pathlib.Path(builder.data_dir) / "keras_resnet_images" / split
        folder.mkdir(parents=True, exist_ok=True)
        records = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()})
        count, dropped, pictures = builder.info.splits[split].num_examples, collections.Counter(), []
        for number, record in enumerate(tqdm(tfds.as_numpy(records), name, count, unit="image", disable=None)):
            path = folder / f"{number:07d}.jpg"
            if not path.exists():
                files.write(path, record["image"])
            pictures.append(_tfds_picture(path, record, dropped))
        return _checked(pictures, f"{name}, split {split}", dropped)

    counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    names = tuple(builder.info.features["objects"]["label"].names)
    return DetectionDataset(
        DatasetInfo(name, names, None, counts), read, COCO_NUMBERS if len(names) == len(COCO_NUMBERS) else ()
    )


def _tfds_picture(path: pathlib.Path, record: dict, dropped: collections.Counter) -> Annotation:
    objects = record["objects"]
    try:
        with Image.open(path) as file:
            size = file.height, file.width
    except OSError as error:
        raise InputError(f"image {str(path)!r} cannot be read: {error}.") from error
    corners = np.asarray(objects["bbox"], "float32").reshape(-1, 4) * np.array([*size, *size], "float32")
    nothing = np.zeros(len(corners), bool)
    areas = objects.get("area")
    id = record.get("image/id", record.get("image/filename", path.name))
    return _picture(
        path,
        id.decode() if isinstance(id, bytes) else id if isinstance(id, str) else int(id),
        corners,
        np.asarray(objects["label"], "int32"),
        np.asarray(objects.get("is_difficult", nothing), bool),
        np.asarray(objects.get("is_crowd", nothing), bool),
        None if areas is None else np.asarray(areas, "float32"),
        (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1]),
        dropped,
        size,
    )


@dataclasses.dataclass(frozen=True)
class DetectionTransform:
    """How images are shown to a detector.

    Attributes:
        min_size: pixels of the shorter side; 600 in Faster R-CNN.
        max_size: the longer side has at most so many; 1000 in Faster R-CNN.
        mean: mean of each channel, in [0, 255].
        std: standard deviation of each channel.
        multiple: the sides of padded images are multiples of this.
    """

    min_size: int
    max_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    multiple: int = 16

    def canvas(self, pictures: Sequence[Annotation]) -> dict[bool, tuple[int, int]]:
        """The smallest padded size, (height, width), of the upright (True) and of the other pictures."""
        sizes = collections.defaultdict(lambda: (0, 0))
        for picture in pictures:
            height, width = self.size(picture.size)
            key = _upright(picture)
            sizes[key] = max(sizes[key][0], height), max(sizes[key][1], width)
        return {key: tuple(-(-side // self.multiple) * self.multiple for side in size) for key, size in sizes.items()}

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width after resizing."""
        height, width = image.fitted_size(np.array(size, "int32"), self.min_size, self.max_size).numpy()
        return int(height), int(width)

    def batch(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        """One image of any size, u8[H,W,3], as a padded batch of one: images and image_size."""
        shown = self.show(pixels[None])
        size = tf.shape(shown)[1:3]
        return {
            "images": image.pad_to(shown, -(-size // self.multiple) * self.multiple),
            "image_size": tf.cast(size, tf.float32)[None],
        }

    def show(self, pixels: tf.Tensor) -> tf.Tensor:
        """Images of one size, u8[B,H,W,3], resized and normalised: f32[B,h,w,3]."""
        return image.normalize(image.fit(pixels, self.min_size, self.max_size), self.mean, self.std)


def _upright(picture: Annotation) -> bool:
    return picture.size[0] > picture.size[1]


def train(
    pictures: Sequence[Annotation],
    batch_size: int,
    view: DetectionTransform,
    *,
    seed: int = 0,
    start_step: int = 0,
    mirror: bool = True,
    flip: bool = False,
    max_boxes: int = 100,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Return endless training batches; each holds upright pictures only, or others only, to save padding.

    Args:
        pictures: the training pictures.
        batch_size: images in a batch, over all workers.
        view: how to show them.
        seed: of order, mirroring and the detector's sampling.
        start_step: the first batch is that of this step.
        mirror: mirror half of the pictures left to right.
        flip: turn half of the pictures upside down, for images that have no up, such as a microscope's.
        max_boxes: pictures with more boxes show a random choice of them.
        context: input context of `tf.distribute`: each worker gets its part of every batch.

    Returns:
        `tf.data.Dataset` of dictionaries; see the top of this file.

    Raises:
        ValueError: a batch size that no orientation has pictures for, or that does not fit the workers.
        tf.errors.InvalidArgumentError: from a batch, an image cannot be decoded; the error names the file.
    """
    workers, worker = (context.num_input_pipelines, context.input_pipeline_id) if context else (1, 0)
    if batch_size % workers:
        raise InputError(f"batch_size must be a multiple of the {workers} workers; got {batch_size}.")
    part = batch_size // workers
    canvas = view.canvas(pictures)
    groups = [[i for i, p in enumerate(pictures) if _upright(p) == key] for key in sorted(canvas)]
    if batch_size < 1 or batch_size > max(map(len, groups)):
        raise InputError(
            f"batch_size must be from 1 to the {max(map(len, groups))} pictures of one orientation; got {batch_size}."
        )
    paths = tf.constant([picture.path for picture in pictures])
    ground_truth = _padded(pictures, max(1, min(max_boxes, max(len(p.labels) for p in pictures))), seed)
    table = [tf.constant(array) for array in ground_truth]
    canvases = tf.constant([canvas[_upright(picture)] for picture in pictures])
    static = next(iter(canvas.values())) if len(canvas) == 1 else (None, None)

    def order():
        for step, batch in _plan(groups, batch_size, seed, start_step):
            for place in range(worker * part, (worker + 1) * part):
                yield step * batch_size + place, batch[place]

    def example(pixels, place, index):
        seeds = tf.random.split(stateless_seed(seed, place), 3)
        boxes, labels, crowd = (tf.gather(values, index) for values in table)
        pixels = view.show(pixels[None])[0]
        size = tf.cast(tf.shape(pixels)[:2], tf.float32)
        boxes = boxes * tf.concat([size, size], 0)
        draws = tf.random.stateless_uniform([2], seeds[0])
        for wanted, draw, axis in ((mirror, draws[0], 1), (flip, draws[1], 0)):
            if wanted:
                turned = draw < 0.5
                pixels = tf.cond(turned, lambda p=pixels, a=axis: tf.reverse(p, [a]), lambda p=pixels: p)
                boxes = tf.where(turned, box_ops.mirror(boxes, size, vertical=axis == 0), boxes)
        return {
            "images": tf.ensure_shape(image.pad_to(pixels[None], canvases[index])[0], [*static, 3]),
            "image_size": size,
            "boxes": tf.where(labels[:, None] > 0, boxes, 0.0),
            "labels": labels,
            "crowd": crowd,
            "seed": seeds[1],
        }

    signature = (tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.int64))
    stream = tf.data.Dataset.from_generator(order, output_signature=signature)
    stream = _with_pixels(stream.map(lambda place, index: (paths[index], place, index)))
    stream = stream.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return _unsharded(stream.batch(part, drop_remainder=True)).prefetch(2)


def _with_pixels(stream: tf.data.Dataset) -> tf.data.Dataset:
    """Read the images of (path string[], ...) or of paths: (pixels u8[H,W,3], ...), in their order.

    An image that cannot be read is an error that names the file.
    """

    def read(path, *rest):
        # An error inside a graph can only be caught by a data set that drops its element; what is missing is then seen.
        pixels = tf.data.Dataset.from_tensors(path).map(lambda path: codecs.decode(tf.io.read_file(path)))
        nothing = tf.data.Dataset.from_tensors(tf.zeros([0, 0, 3], tf.uint8))
        return pixels.ignore_errors(log_warning=False).concatenate(nothing).take(1).map(lambda one: (one, path, *rest))

    def checked(pixels, path, *rest):
        readable = graph_errors.check(
            tf.size(pixels) > 0, "image ", path, f" is missing, damaged, too large or no {codecs.FORMATS} image."
        )
        with tf.control_dependencies([readable]):
            pixels = tf.identity(pixels)
        return (pixels, *rest) if rest else pixels

    threads = os.cpu_count() or 1
    stream = stream.interleave(read, cycle_length=threads, num_parallel_calls=threads, deterministic=True)
    return stream.map(checked)


def _plan(groups, batch_size: int, seed: int, start_step: int) -> Iterator[tuple[int, np.ndarray]]:
    """Steps and the pictures of their batches: in each epoch, each group is permuted and the batches are shuffled.

    Pictures that do not fill a batch are left out for an epoch; with one group, a permutation runs on over its end.
    """
    if len(groups) == 1:
        group, step = np.array(groups[0]), start_step

        @functools.lru_cache(maxsize=2)
        def permutation(epoch):
            return np.random.default_rng((seed, epoch)).permutation(group)

        while True:
            places = np.arange(step * batch_size, (step + 1) * batch_size)
            yield step, np.array([permutation(place // len(group))[place % len(group)] for place in places])
            step += 1
    steps = sum(len(group) // batch_size for group in groups)
    epoch, skipped = divmod(start_step, steps)
    while True:
        random = np.random.default_rng((seed, epoch))
        batches = []
        for group in groups:
            shuffled = random.permutation(group)
            whole = len(group) // batch_size * batch_size
            batches += list(shuffled[:whole].reshape(-1, batch_size))
        for number in random.permutation(len(batches))[skipped:]:
            yield start_step, batches[number]
            start_step += 1
        epoch, skipped = epoch + 1, 0


def _padded(pictures, most: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes f32[N,most,4] in [0, 1], labels i32[N,most] from 1, crowd i32[N,most]."""
    boxes = np.zeros((len(pictures), most, 4), "float32")
    labels = np.zeros((len(pictures), most), "int32")
    crowd = np.zeros((len(pictures), most), "int32")
    random = np.random.default_rng(seed)
    for number, picture in enumerate(pictures):
        count = len(picture.labels)
        chosen = np.sort(random.permutation(count)[:most]) if count > most else np.arange(count)
        boxes[number, : len(chosen)] = picture.boxes[chosen]
        labels[number, : len(chosen)] = picture.labels[chosen] + 1
        crowd[number, : len(chosen)] = picture.crowd[chosen]
    return boxes, labels, crowd


def evaluate(
    pictures: Sequence[Annotation],
    view: DetectionTransform,
    batch_size: int = 1,
    pyramid: Sequence[DetectionTransform] = (),
) -> Iterator[tuple[np.ndarray, tf.data.Dataset]]:
    """Yield each picture once, by orientation: the numbers of the pictures, and batches of images and image_size.

    Args:
        pictures: of a split.
        view: how to show them.
        batch_size: images in a batch.
        pyramid: further views, for testing at several scales; a batch then has what they show in `pyramid`, a tuple of
            dictionaries.

    Yields:
        (i64[n] places in `pictures`, `tf.data.Dataset` of dictionaries in this order).

    Raises:
        tf.errors.InvalidArgumentError: from a batch, an image cannot be decoded; the error names the file.
    """
    canvas = view.canvas(pictures)
    for key, size in canvas.items():
        index = np.array([number for number, picture in enumerate(pictures) if _upright(picture) == key])

        sizes = [size, *(level.canvas([pictures[n] for n in index])[key] for level in pyramid)]

        def example(read, sizes=sizes):
            shown = []
            for one, size in zip((view, *pyramid), sizes, strict=True):
                pixels = one.show(read[None])[0]
                whole = tf.ensure_shape(image.pad_to(pixels[None], size)[0], [*size, 3])
                shown.append({"images": whole, "image_size": tf.cast(tf.shape(pixels)[:2], tf.float32)})
            return shown[0] | ({"pyramid": tuple(shown[1:])} if pyramid else {})

        paths = tf.data.Dataset.from_tensor_slices([pictures[number].path for number in index])
        batches = (
            _with_pixels(paths).map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).batch(batch_size)
        )
        yield index, _unsharded(batches).prefetch(2)


def _unsharded(batches: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.with_options(options)
