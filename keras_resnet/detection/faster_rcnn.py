"""Faster R-CNN on a residual network (appendix A of the paper): one trunk, proposals, and conv5_x on regions.

model = faster_rcnn("resnet101", classes=20)
model.load_backbone(keras_resnet.ResNet101(weights="resnet101.weights.h5"))
model.compile(keras.optimizers.SGD(1e-3, momentum=0.9))
model.fit(batches)                      # of dicts with images, image_size, boxes, labels, crowd, seed
model.predict_on_batch({"images": images, "image_size": image_size})
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_resnet import compat
from keras_resnet.detection import losses, matching, nms, roi, rpn
from keras_resnet.detection.anchors import cell_anchors, grid_anchors
from keras_resnet.errors import InputError, check_choice
from keras_resnet.models import blocks, resnet
from keras_resnet.models.architectures import ARCHITECTURES, STEMS, Architecture, Stage
from keras_resnet.ops import boxes

BACKBONES = {name.lower(): net for name, net in ARCHITECTURES.items() if net.stem == "imagenet"}
"""Name -> architecture of the networks that can carry a detector."""

DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Factors of the detector's deltas, the inverse of their usual spread (Fast R-CNN's code)."""

LOSSES = ("rpn_class_loss", "rpn_box_loss", "roi_class_loss", "roi_box_loss")


@keras.saving.register_keras_serializable(package="keras_resnet")
class FasterRCNN(keras.Model):
    """The detector; see `faster_rcnn` for the arguments.

    In training it takes images f32[B,H,W,3], image_size f32[B,2], boxes f32[B,G,4], labels i32[B,G] from 1 with 0 for
    padding, crowd i32[B,G] with 1 for groups, and seed i32[B,2], adds its four losses, and returns them. Otherwise it
    takes images and image_size, and returns the fields of `nms.PaddedDetections` as a dictionary. Boxes are in pixels.
    """

    def __init__(
        self,
        backbone: str | Architecture = "resnet101",
        classes: int = 20,
        *,
        anchor_scales: Sequence[float] = (128, 256, 512),
        anchor_ratios: Sequence[float] = (0.5, 1, 2),
        anchor_offset: float = 0.5,
        straddle_thresh: float = 0.0,
        rpn_filters: int = 512,
        rpn_batch: int = 256,
        min_proposal_size: float = 16.0,
        pre_nms_topk_train: int = 12_000,
        post_nms_topk_train: int = 2_000,
        pre_nms_topk_test: int = 6_000,
        post_nms_topk_test: int = 300,
        roi_batch_size_per_image: int = 128,
        positive_fraction: float = 0.25,
        bg_iou_low: float = 0.0,
        roi_pooling: str = "max",
        pool_size: int = 14,
        context: bool = False,
        freeze_at: int = 2,
        score_thresh: float = 0.05,
        nms_thresh: float = 0.3,
        detections_per_image: int = 100,
        refine: bool = False,
        region_chunk: int = 64,
        policy=None,
        name: str = "faster_rcnn",
        **kwargs,
    ):
        # Boxes must not be cast to half precision on their way in; `policy` is that of the convolutions.
        super().__init__(name=name, **{**kwargs, "dtype": "float32"})
        given = {key: value for key, value in locals().items() if key not in ("self", "kwargs", "__class__", "name")}
        architecture = _architecture(backbone)
        check_choice("roi_pooling", roi_pooling, roi.POOLINGS)
        check_choice("freeze_at", freeze_at, range(len(architecture.stages) + 2))
        if classes < 1:
            raise InputError(f"classes must be at least 1; got {classes}.")
        self.given = {**given, "backbone": backbone if isinstance(backbone, str) else dataclasses.asdict(backbone)}
        for key, value in given.items():
            if key not in ("backbone", "policy"):
                setattr(self, key, value)
        policy = compat.policy_of(policy) if policy is not None else compat.dtype_policy()
        self.given["policy"] = policy.name

        self.stride = STEMS[architecture.stem].total_stride
        for stage in architecture.stages[:-1]:
            self.stride *= stage.stride
        self.trunk = resnet.ResNet(
            architecture.stages[:-1],
            block=architecture.block,
            stem=architecture.stem,
            include_top=False,
            shortcut=architecture.shortcut,
            input_shape=(None, None, 3),
            name="trunk",
            dtype=policy,
        )
        self.cell = cell_anchors(anchor_scales, anchor_ratios)
        channels = self.trunk.output_shape[-1]
        self.rpn = rpn.head(channels, rpn_filters, len(self.cell), policy)
        self.region_network = _region_network(architecture, pool_size, channels, policy)
        self.siblings = _siblings(self.region_network.output_shape[-1] * (2 if context else 1), classes)
        _freeze([self.trunk, self.region_network], freeze_at)
        self.train_rpn = self.train_detector = True
        self.loss_means = {name: keras.metrics.Mean(name=name) for name in LOSSES}
        self.proposer = None
        self.built = True

    def call(self, inputs, training=False):
        images, image_size = inputs["images"], inputs["image_size"]
        features = self.trunk(images, training=False)
        logits, deltas, anchors = self._anchored(features)
        if training:
            return self._learn(inputs, features, logits, deltas, anchors)
        regions, valid, _ = self._proposals(logits, deltas, anchors, image_size, self._topk(training=False))
        found, probabilities = self.classify(features, regions, image_size)
        if self.refine:
            again = self.best_boxes(found, probabilities)
            new_found, new_probabilities = self.classify(features, again, image_size)
            found, valid = tf.concat([found, new_found], 1), tf.concat([valid, valid], 1)
            probabilities = tf.concat([probabilities, new_probabilities], 1)
        return self.select(found, probabilities, valid)

    # The parts in the order of the paper, public for testing at several scales and for ensembles.

    def propose(self, features: tf.Tensor, image_size: tf.Tensor, training: bool = False) -> rpn.Proposals:
        """Return the regions of maps f32[B,h,w,C]."""
        return self._proposals(*self._anchored(features), image_size, self._topk(training))

    def vectors(self, features: tf.Tensor, regions: tf.Tensor) -> tf.Tensor:
        """Pool regions f32[B,R,4] and apply conv5_x and global average pooling: f32[B,R,F]."""
        return self.pooled_vectors(roi.POOLINGS[self.roi_pooling](features, regions, self.pool_size, self.stride))

    def pooled_vectors(self, pooled: tf.Tensor) -> tf.Tensor:
        """Apply conv5_x and global average pooling: f32[B,R,size,size,C] -> f32[B,R,F]."""
        vectors = self.region_network(tf.reshape(pooled, [-1, *pooled.shape[2:]]), training=False)
        return tf.reshape(vectors, [tf.shape(pooled)[0], pooled.shape[1] or tf.shape(pooled)[1], vectors.shape[-1]])

    def all_vectors(self, features: tf.Tensor, regions: tf.Tensor) -> tf.Tensor:
        """`vectors` of many regions, some at a time, which bounds the memory."""
        count, chunk = regions.shape[1], self.region_chunk
        parts = [self.vectors(features, regions[:, start : start + chunk]) for start in range(0, count, chunk)]
        return tf.concat(parts, 1)

    def with_context(self, vectors: tf.Tensor, features: tf.Tensor, image_size: tf.Tensor) -> tf.Tensor:
        """Append the vector of the whole image to each region's where `context` is set (appendix B)."""
        if not self.context:
            return vectors
        whole = tf.concat([tf.zeros_like(image_size), image_size], -1)[:, None, :]
        context = self.vectors(features, whole)
        return tf.concat([vectors, tf.repeat(context, tf.shape(vectors)[1], 1)], -1)

    def decide(self, vectors: tf.Tensor, regions: tf.Tensor, image_size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return a box for each region and class, and the probabilities: f32[B,R,K,4], f32[B,R,K+1]."""
        logits, deltas = self._outputs(vectors)
        found = boxes.decode(deltas, regions[:, :, None, :], DELTA_WEIGHTS)
        flat = tf.reshape(found, [-1, regions.shape[1] * self.classes, 4])
        found = tf.reshape(boxes.clip(flat, image_size), [-1, regions.shape[1], self.classes, 4])
        return found, tf.nn.softmax(logits)

    def classify(self, features: tf.Tensor, regions: tf.Tensor, image_size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`decide` for regions of one map."""
        vectors = self.with_context(self.all_vectors(features, regions), features, image_size)
        return self.decide(vectors, regions, image_size)

    def best_boxes(self, found: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
        """Return each region's box of its best class but the background: f32[B,R,4]."""
        best = tf.argmax(probabilities[..., 1:], -1, output_type=tf.int32)
        return tf.gather(found, best, batch_dims=2)

    def select(self, found: tf.Tensor, probabilities: tf.Tensor, valid: tf.Tensor) -> dict[str, tf.Tensor]:
        """Suppress, vote where `refine` is set, and keep the best: the detections of a batch."""
        return nms.detections(
            found,
            probabilities,
            valid,
            score=self.score_thresh,
            overlap=self.nms_thresh,
            most=self.detections_per_image,
            vote=0.5 if self.refine else None,
        )._asdict()

    def _anchored(self, features):
        """The proposal network's logits f32[B,N] and deltas f32[B,N,4], and the anchors f32[N,4]."""
        logits, deltas = self.rpn(features)
        shape = tf.shape(features)
        height, width = features.shape[1] or shape[1], features.shape[2] or shape[2]
        anchors = grid_anchors(height, width, self.stride, self.cell, self.anchor_offset)
        count = -1 if None in features.shape[1:3] else height * width * len(self.cell)
        return tf.reshape(logits, [shape[0], count]), tf.reshape(deltas, [shape[0], count, 4]), anchors

    def _topk(self, training: bool) -> tuple[int, int]:
        """Return the numbers of proposals before and after NMS."""
        if training:
            return self.pre_nms_topk_train, self.post_nms_topk_train
        return self.pre_nms_topk_test, self.post_nms_topk_test

    def _proposals(self, logits, deltas, anchors, image_size, counts):
        before, after = counts
        return rpn.proposals(
            logits, deltas, anchors, image_size, before=before, after=after, smallest=self.min_proposal_size
        )

    def _outputs(self, vectors):
        """Logits f32[B,R,K+1] and deltas f32[B,R,K,4]."""
        shape = [-1, vectors.shape[1]]
        logits, deltas = self.siblings(tf.reshape(vectors, [-1, vectors.shape[-1]]))
        return tf.reshape(logits, [*shape, self.classes + 1]), tf.reshape(deltas, [*shape, self.classes, 4])

    def _learn(self, inputs, features, logits, deltas, anchors) -> dict[str, tf.Tensor]:
        image_size, gt_boxes, gt_labels = inputs["image_size"], inputs["boxes"], inputs["labels"]
        gt_crowd = (inputs["crowd"] > 0) & (gt_labels > 0)
        gt_valid = (gt_labels > 0) & ~gt_crowd
        seeds = inputs["seed"]
        found = dict.fromkeys(LOSSES, tf.zeros([]))
        if self.train_rpn:
            targets = rpn.targets(
                anchors,
                image_size,
                gt_boxes,
                gt_valid,
                gt_crowd,
                seeds,
                total=self.rpn_batch,
                straddle=self.straddle_thresh,
            )
            found["rpn_class_loss"], found["rpn_box_loss"] = losses.region_proposal(
                logits, deltas, *targets, self.rpn_batch
            )
        if self.train_detector:
            if self.proposer is None:
                regions, valid, _ = self._proposals(logits, deltas, anchors, image_size, self._topk(training=True))
            else:
                regions, valid, _ = self.proposer(inputs["images"], image_size)
            regions, labels, targets, sampled = self._sampled_regions(
                regions, valid, gt_boxes, gt_labels, gt_valid, gt_crowd, tf.add(seeds, [0, 1])
            )
            vectors = self.with_context(self.vectors(features, regions), features, image_size)
            found["roi_class_loss"], found["roi_box_loss"] = losses.detector(
                *self._outputs(vectors), labels, targets, sampled
            )
        for name, value in found.items():
            self.add_loss(value)
            self.loss_means[name].update_state(value)
        return found

    def _sampled_regions(self, regions, valid, gt_boxes, gt_labels, gt_valid, gt_crowd, seeds):
        """Choose the regions of a training step among proposals and ground truth (Fast R-CNN, section 2.3)."""
        regions = tf.concat([regions, gt_boxes], 1)
        usable = tf.concat([valid, gt_valid], 1)
        index, label = matching.match(boxes.iou(regions, gt_boxes), gt_valid, (self.bg_iou_low, 0.5), 0.5)
        in_crowd = tf.reduce_any((boxes.coverage(regions, gt_boxes) > 0.5) & gt_crowd[:, None, :], -1)
        usable &= ~(in_crowd & (label != matching.POSITIVE))
        label = tf.where(usable, label, matching.IGNORED)
        positive, negative = matching.sample(
            label, int(self.roi_batch_size_per_image * self.positive_fraction), self.roi_batch_size_per_image, seeds
        )
        chosen, sampled = matching.gather_sampled(positive, negative, self.roi_batch_size_per_image)
        regions, index, positive = (tf.gather(values, chosen, batch_dims=1) for values in (regions, index, positive))
        labels = tf.where(positive & sampled, tf.gather(gt_labels, index, batch_dims=1), 0)
        targets = boxes.encode(tf.gather(gt_boxes, index, batch_dims=1), regions, DELTA_WEIGHTS)
        return tf.stop_gradient(regions), labels, targets, sampled

    def load_backbone(self, classifier: keras.Model) -> None:
        """Copy a classification network's weights into the trunk and conv5_x, by the names of its layers.

        Raises:
            ValueError: a layer is missing, or of another shape or stride, as in a bottleneck of v1.5.
        """
        source = {layer.name: layer for layer in classifier.layers}
        for layer in (*self.trunk.layers, *self.region_network.layers):
            if not layer.weights:
                continue
            other = source.get(layer.name)
            if other is None or _geometry(other) != _geometry(layer):
                reason = "no such layer" if other is None else "a layer of another shape or stride"
                raise InputError(
                    f"classifier must be the backbone's own network; {classifier.name!r} has {reason}: {layer.name!r}."
                )
            layer.set_weights(other.get_weights())

    def get_config(self):
        return {**self.given, "name": self.name}

    @classmethod
    def from_config(cls, config):
        if isinstance(config["backbone"], dict):
            values = config["backbone"]
            stages = tuple(Stage(*stage) for stage in values["stages"])
            config = {**config, "backbone": Architecture(**{**values, "stages": stages})}
        return cls(**config)


def faster_rcnn(backbone: str | Architecture = "resnet101", classes: int = 20, **options) -> FasterRCNN:
    """Build Faster R-CNN on a residual or plain network (appendix A; Ren et al., 2015), with fresh weights.

    Batch norm is fixed, as appendix A says: an affine function of the statistics that the weights came with.

    Args:
        backbone: "resnet18" .. "resnet152", "plainnet18", "plainnet34", or an `Architecture` of one's own.
        classes: object classes, without the background.
        **options: by keyword:
            anchor_scales: sides of the anchors in pixels; the paper's for VOC by default, with 64 before them for COCO.
            anchor_ratios: their heights over widths.
            anchor_offset: see `anchors.grid_anchors`.
            straddle: see `rpn.targets`.
            rpn_filters: filters of the proposal network's 3x3 convolution.
            rpn_batch: anchors sampled of an image.
            smallest: smallest side of a proposal in pixels.
            train_proposals: how many of the best boxes are kept before and after suppression in training.
            test_proposals: the same for testing.
            regions: regions sampled of an image in training.
            positive_share: most positive ones among them.
            background: regions that overlap an object less are left out; 0.1 in Fast R-CNN for VOC.
            roi_pooling: "max" (the paper's, quantised) or "align".
            pool_size: rows and columns of a region's grid.
            context: join the features of the whole image to each region's (appendix B).
            freeze_at: the last stage that is not trained: 2 for conv2_x; 1 for conv1 alone, 0 for none.
            score: lowest probability of a detection.
            overlap: intersection over union of the suppression.
            detections: most detections of an image.
            refine: classify the boxes found once more and let them vote (box refinement, appendix B).
            region_chunk: regions that go through conv5_x together in testing.
            policy: dtype policy of the convolutions, e.g. "mixed_bfloat16"; everything else is float32.

    Returns:
        A `FasterRCNN`.

    Raises:
        ValueError: an argument is not one of the allowed ones.
    """
    return FasterRCNN(backbone, classes, **options)


def _architecture(backbone) -> Architecture:
    if isinstance(backbone, Architecture):
        return backbone
    check_choice("backbone", backbone, BACKBONES)
    return BACKBONES[backbone]


def _region_network(architecture: Architecture, size: int, channels: int, policy) -> keras.Model:
    """conv5_x and global average pooling: f32[N,size,size,channels] -> f32[N,F]."""
    maps = keras.Input((size, size, channels))
    stage = architecture.stages[-1]
    options = blocks.BlockOptions(architecture.block, architecture.shortcut, dtype=policy)
    name = f"conv{len(architecture.stages) + 1}"
    x = blocks.stage(maps, stage.filters, stage.blocks, stage.stride, name=name, options=options)
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool", dtype="float32")(x)
    return keras.Model(maps, x, name="region_network")


def _siblings(features: int, classes: int) -> keras.Model:
    """The two output layers of Fast R-CNN: f32[N,F] -> logits f32[N,K+1], deltas f32[N,4K]."""
    normal = keras.initializers.RandomNormal
    vectors = keras.Input((features,))
    logits = keras.layers.Dense(classes + 1, kernel_initializer=normal(stddev=0.01), name="classes", dtype="float32")
    deltas = keras.layers.Dense(4 * classes, kernel_initializer=normal(stddev=0.001), name="deltas", dtype="float32")
    return keras.Model(vectors, [logits(vectors), deltas(vectors)], name="siblings")


def _geometry(layer: keras.layers.Layer) -> tuple:
    """What two layers must have in common for weights to mean the same."""
    return [tuple(weight.shape) for weight in layer.weights], getattr(layer, "strides", None)


def _freeze(networks, freeze_at: int) -> None:
    """Fix batch norm, and the stages up to `freeze_at`."""
    fixed = tuple(f"conv{number}_" for number in range(1, freeze_at + 1))
    for network in networks:
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization) or layer.name.startswith(fixed):
                layer.trainable = False
