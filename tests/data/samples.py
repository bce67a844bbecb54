"""What the tests of data share: a prepared data set of tensorflow-datasets."""

import tensorflow_datasets as tfds


def store(folder, name, images, labels, classes, shape, file_format="tfrecord"):
    """Prepare a data set of tensorflow-datasets from images in memory, as its users do."""
    features = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(shape=shape), "label": tfds.features.ClassLabel(num_classes=classes)}
    )

    def generate(self=None):
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield number, {"image": image, "label": label}

    methods = {
        "VERSION": tfds.core.Version("1.0.0"),
        "name": name,
        "pkg_dir_path": folder,
        "_info": lambda self: tfds.core.DatasetInfo(builder=self, features=features),
        "_split_generators": lambda self, manager: {"train": self._generate_examples()},
        "_generate_examples": generate,
    }
    builder = type(name, (tfds.core.GeneratorBasedBuilder,), methods, skip_registration=True)
    builder(data_dir=str(folder), file_format=file_format).download_and_prepare()
