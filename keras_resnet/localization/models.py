"""The two networks of appendix C: a region proposal network for each class, and an R-CNN on warped crops.

model = PerClassRPN("resnet101", classes=1000)
model.fit(batches)                                          # of dicts: images, labels, boxes, seed
logits, boxes = model.localize(images, classes)             # f32[B,H,W,3], i32[B,T] -> f32[B,T,N], f32[B,T,N,4]

Both compute the outputs of the classes that are asked for and of no others: the true class in training, the predicted
classes in testing. The other filters are only stored.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_resnet import compat
from keras_resnet.detection import anchors, rpn
from keras_resnet.detection.config import BACKBONES
from keras_resnet.detection.faster_rcnn import DELTA_WEIGHTS
from keras_resnet.errors import InputError, check_choice, integer
from keras_resnet.localization import losses
from keras_resnet.models import resnet
from keras_resnet.models.architectures import Architecture
from keras_resnet.models.features import feature_info
from keras_resnet.ops import boxes as box_ops
from keras_resnet.training import finetuning

LOSSES = ("class_loss", "box_loss")


@keras.saving.register_keras_serializable(package="keras_resnet")
class PerClassDense(keras.layers.Layer):
    """A dense layer, or 1x1 convolution, with units of its own for each class, of which only those asked for compute.

    Args:
        classes: number of classes K.
        units: outputs of each class, F.
        stddev: standard deviation of the initial kernel.
        **kwargs: options of the layer.
    """

    def __init__(self, classes: int, units: int, stddev: float = 0.01, **kwargs: Any):
        super().__init__(**kwargs)
        self.classes = classes
        self.units = units
        self.stddev = stddev

    def build(self, input_shape: Sequence[int | None]) -> None:
        normal = keras.initializers.RandomNormal(stddev=self.stddev)
        self.kernel = self.add_weight(
            shape=(self.classes, input_shape[-1], self.units), initializer=normal, name="kernel"
        )
        self.bias = self.add_weight(shape=(self.classes, self.units), initializer="zeros", name="bias")
        self.built = True

    def call(self, features: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        """Apply the layer at each position: f32[B,P,C], i32[B,T] -> f32[B,T,P,F]."""
        kernel = _rows(tf.convert_to_tensor(self.kernel), classes)
        bias = _rows(tf.convert_to_tensor(self.bias), classes)
        return tf.einsum("bpc,btcf->btpf", features, kernel) + bias[:, :, None]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"classes": self.classes, "units": self.units, "stddev": self.stddev}


@tf.custom_gradient
def _rows(table: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Gather rows, with a dense gradient, which every optimizer takes: [K,...], i32[B,T] -> [B,T,...]."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        flat = tf.reshape(upstream, tf.concat([[-1], tf.shape(table)[1:]], 0))
        return tf.math.unsorted_segment_sum(flat, tf.reshape(index, [-1]), table.shape[0]), None

    return tf.gather(table, index), gradient


class Localizer(keras.Model):
    """What the networks of both stages share: the backbone, its weights, and the means of the losses.

    Args:
        backbone: name of an ImageNet network such as "resnet50", or an `Architecture`.
        classes: number of classes K.
        box_loss_weight: weight of the box loss.
        freeze_stages: stages of the backbone to freeze, from conv1 on.
        freeze_norm: whether to freeze the backbone's batch norm.
        policy: dtype policy of the backbone, e.g. "mixed_bfloat16"; by default Keras' global policy. Everything else is
            float32.
        name: name of the model.
        **options: further options of the backbone: `output_stride`, `stride_in_1x1`, `synchronized`.

    Raises:
        ValueError: an argument is invalid.
    """

    def __init__(
        self,
        backbone: str | Architecture,
        classes: int,
        *,
        box_loss_weight: float = 1.0,
        freeze_stages: int = 0,
        freeze_norm: bool = False,
        policy: Any = None,
        name: str = "localizer",
        **options: Any,
    ):
        # Boxes must not be cast to half precision, so the model itself is float32.
        super().__init__(name=name, dtype="float32")
        self.classes = integer("classes", classes, minimum=1)
        self.box_loss_weight = box_loss_weight
        if isinstance(backbone, str):
            check_choice("backbone", backbone.lower(), BACKBONES)
            backbone = BACKBONES[backbone.lower()]
        self.policy = compat.policy_of(policy) if policy is not None else compat.dtype_policy()
        self.trunk = resnet.ResNet(
            backbone.stages,
            block=backbone.block,
            stem=backbone.stem,
            shortcut=backbone.shortcut,
            include_top=False,
            input_shape=(None, None, 3),
            name="trunk",
            dtype=self.policy,
            **options,
        )
        self.stride = feature_info(self.trunk)[-1].stride
        self.channels = self.trunk.output_shape[-1]
        finetuning.freeze(self.trunk, freeze_stages, freeze_norm)
        self.replica = threading.local()
        self.loss_means = {loss: keras.metrics.Mean(name=loss) for loss in LOSSES}

    @property
    def losses(self) -> list[Any]:
        """The losses of the last training step on this replica.

        `add_loss` has one list for all replicas, whose losses mix where synchronized batch norm makes them wait for
        each other.
        """
        return getattr(self.replica, "losses", [])

    def load_backbone(self, classifier: keras.Model) -> None:
        """Copy the weights of a classification network into the backbone, by the names of its layers.

        Raises:
            ValueError: the classifier lacks a layer, or has it in another shape.
        """
        source = {layer.name: layer for layer in classifier.layers if layer.weights}
        for layer in self.trunk.layers:
            if not layer.weights:
                continue
            values = source[layer.name].get_weights() if layer.name in source else []
            if [value.shape for value in values] != [tuple(weight.shape) for weight in layer.weights]:
                raise InputError(
                    f"classifier must be the backbone's own network; {classifier.name!r} has no layer {layer.name!r} "
                    "of the same shape."
                )
            layer.set_weights(values)

    def _add_losses(self, class_loss: tf.Tensor, box_loss: tf.Tensor) -> dict[str, tf.Tensor]:
        values = {"class_loss": class_loss, "box_loss": self.box_loss_weight * box_loss}
        self.replica.losses = list(values.values())
        for name, value in values.items():
            self.loss_means[name].update_state(value)
        return values


class PerClassRPN(Localizer):
    """Stage 1: at each position and for each class, a logistic score and a box for each of several anchors.

    A 3x3 convolution with ReLU follows the backbone, then the siblings `cls` and `reg`, 1x1 convolutions with filters
    for each class. In training the model takes images f32[B,S,S,3], labels i32[B], boxes f32[B,G,4] in pixels with zero
    rows for padding, and seed i32[B,2], and returns its losses. Otherwise it takes images f32[B,H,W,3] and
    classes i32[B,T], and returns the result of `localize` as a dictionary.

    Args:
        backbone: as for `Localizer`.
        classes: as for `Localizer`.
        filters: filters of the 3x3 convolution.
        anchor_scales: sides of the anchors in pixels.
        anchor_ratios: heights of the anchors over their widths.
        batch_size_per_image: anchors sampled per image in training, half of them positive.
        iou_thresholds: an anchor is negative if its highest IoU is below the first, and positive from the second on.
        name: name of the model.
        **options: further options of `Localizer`.
    """

    def __init__(
        self,
        backbone: str | Architecture = "resnet101",
        classes: int = 1000,
        *,
        filters: int = 512,
        anchor_scales: Sequence[float] = (64.0, 128.0, 224.0),
        anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        batch_size_per_image: int = 8,
        iou_thresholds: tuple[float, float] = (0.3, 0.7),
        name: str = "per_class_rpn",
        **options: Any,
    ):
        super().__init__(backbone, classes, name=name, **options)
        self.cell_anchors = anchors.cell_anchors(anchor_scales, anchor_ratios)
        self.batch_size_per_image = batch_size_per_image
        self.iou_thresholds = iou_thresholds
        self.conv = keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            activation="relu",
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            name="rpn_conv",
            dtype=self.policy,
        )
        self.conv.build((None, None, None, self.channels))
        count = len(self.cell_anchors)
        self.cls = PerClassDense(classes, count, name="cls", dtype="float32")
        self.reg = PerClassDense(classes, 4 * count, name="reg", dtype="float32")
        for layer in (self.cls, self.reg):
            layer.build((None, None, filters))
        self.built = True

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> dict[str, tf.Tensor]:
        images = inputs["images"]
        if not training:
            logits, boxes = self.localize(images, inputs["classes"])
            return {"logits": logits, "boxes": boxes}
        logits, deltas, all_anchors = self._outputs(images, inputs["labels"][:, None], training=True)
        boxes = inputs["boxes"]
        valid = box_ops.area(boxes) > 0
        size = tf.cast(tf.shape(images)[1:3], tf.float32)
        targets = rpn.targets(
            all_anchors,
            tf.tile(size[None], [tf.shape(images)[0], 1]),
            boxes,
            valid,
            tf.zeros_like(valid),
            inputs["seed"],
            batch_size_per_image=self.batch_size_per_image,
            iou_thresholds=self.iou_thresholds,
            straddle_thresh=-1.0,
        )
        return self._add_losses(*losses.anchors(logits[:, 0], deltas[:, 0], *targets))

    def localize(self, images: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the scores and boxes of all anchors for some classes of each image.

        Args:
            images: f32[B,H,W,3], normalized.
            classes: i32[B,T].

        Returns:
            (logits f32[B,T,N], boxes f32[B,T,N,4] in pixels of the images, which may extend beyond them).
        """
        logits, deltas, all_anchors = self._outputs(images, classes, training=False)
        return logits, box_ops.decode(deltas, all_anchors)

    def _outputs(self, images: tf.Tensor, classes: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Logits f32[B,T,N], deltas f32[B,T,N,4] and anchors f32[N,4]."""
        maps = tf.cast(self.conv(self.trunk(images, training=training)), tf.float32)
        shape = tf.shape(maps)
        height, width = maps.shape[1] or shape[1], maps.shape[2] or shape[2]
        features = tf.reshape(maps, [shape[0], height * width, maps.shape[-1]])
        logits, deltas = self.cls(features, classes), self.reg(features, classes)
        count = tf.shape(classes)[1]
        grid = anchors.grid_anchors(height, width, self.stride, self.cell_anchors)
        return (
            tf.reshape(logits, [shape[0], count, -1]),
            tf.reshape(deltas, [shape[0], count, -1, 4]),
            grid,
        )


class RCNN(Localizer):
    """Stage 2: a score and a box for each class from the warped crop of a proposal.

    Global average pooling follows the backbone, then the siblings `cls` and `reg`, dense layers with units for each
    class. In training the model takes images f32[B,S,S,3], the crops, labels i32[B], proposals f32[B,4], boxes f32[B,4]
    and positive i32[B], and returns its losses. Otherwise it takes images, proposals and classes i32[B,T],
    and returns the result of `localize` as a dictionary.

    Args:
        backbone: as for `Localizer`.
        classes: as for `Localizer`.
        name: name of the model.
        **options: further options of `Localizer`.
    """

    def __init__(
        self, backbone: str | Architecture = "resnet101", classes: int = 1000, *, name: str = "rcnn", **options: Any
    ):
        super().__init__(backbone, classes, name=name, **options)
        self.pool = keras.layers.GlobalAveragePooling2D(name="avg_pool", dtype="float32")
        self.cls = PerClassDense(classes, 1, name="cls", dtype="float32")
        self.reg = PerClassDense(classes, 4, stddev=0.001, name="reg", dtype="float32")
        for layer in (self.cls, self.reg):
            layer.build((None, None, self.channels))
        self.built = True

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> dict[str, tf.Tensor]:
        if not training:
            logits, boxes = self.localize(inputs["images"], inputs["proposals"], inputs["classes"])
            return {"logits": logits, "boxes": boxes}
        logits, deltas = self._outputs(inputs["images"], inputs["labels"][:, None], training=True)
        targets = box_ops.encode(inputs["boxes"], inputs["proposals"], DELTA_WEIGHTS)
        return self._add_losses(*losses.proposals(logits[:, 0], deltas[:, 0], targets, inputs["positive"] > 0))

    def localize(self, crops: tf.Tensor, proposals: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the scores and boxes of proposals for some classes of each.

        Args:
            crops: f32[P,S,S,3], the proposals warped and normalized.
            proposals: f32[P,4] in pixels of their image.
            classes: i32[P,T].

        Returns:
            (logits f32[P,T], boxes f32[P,T,4] in pixels of the image, which may extend beyond it).
        """
        logits, deltas = self._outputs(crops, classes, training=False)
        return logits, box_ops.decode(deltas, proposals[:, None], DELTA_WEIGHTS)

    def _outputs(self, crops: tf.Tensor, classes: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits f32[P,T] and deltas f32[P,T,4]."""
        vectors = tf.cast(self.pool(self.trunk(crops, training=training)), tf.float32)[:, None]
        return self.cls(vectors, classes)[:, :, 0, 0], self.reg(vectors, classes)[:, :, 0]
