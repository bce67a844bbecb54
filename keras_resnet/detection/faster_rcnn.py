"""Faster R-CNN on a residual network (appendix A of the paper): one trunk, proposals, and conv5_x on regions.

model = faster_rcnn("resnet101", classes=20)
model.load_backbone(keras_resnet.ResNet101(weights="resnet101.weights.h5"))
model.compile(keras.optimizers.SGD(1e-3, momentum=0.9))
model.fit(batches)                      # of dicts with images, image_size, boxes, labels, crowd, seed
model.predict_on_batch({"images": images, "image_size": image_size})
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_resnet import compat
from keras_resnet.detection import anchors, losses, masks, matching, nms, roi, rpn
from keras_resnet.detection.config import FasterRCNNConfig
from keras_resnet.errors import InputError, check_choice
from keras_resnet.models import blocks, resnet
from keras_resnet.models.architectures import STEMS, Architecture, Stage
from keras_resnet.ops import boxes as box_ops
from keras_resnet.serving import folding
from keras_resnet.training import finetuning

DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Factors of the detector's deltas, the inverses of their standard deviations (Fast R-CNN's code)."""

LOSSES = ("rpn_class_loss", "rpn_box_loss", "roi_class_loss", "roi_box_loss")
MASK_LOSS = "mask_loss"


class GroundTruth(NamedTuple):
    """The ground truth of a batch: boxes f32[B,G,4], labels i32[B,G] from 1, valid bool[B,G] and crowd bool[B,G].

    Padding is neither valid nor a crowd; a crowd is not valid.
    """

    boxes: tf.Tensor
    labels: tf.Tensor
    valid: tf.Tensor
    crowd: tf.Tensor

    @classmethod
    def from_inputs(cls, inputs: Mapping[str, tf.Tensor]) -> GroundTruth:
        """Read the ground truth from the inputs of the model in training."""
        labels = inputs["labels"]
        crowd = (inputs["crowd"] > 0) & (labels > 0)
        return cls(inputs["boxes"], labels, (labels > 0) & ~crowd, crowd)


@keras.saving.register_keras_serializable(package="keras_resnet")
class FasterRCNN(keras.Model):
    """The detector, with fresh weights; `faster_rcnn` builds it from keyword arguments.

    In training it takes images f32[B,H,W,3], image_size f32[B,2], boxes f32[B,G,4], labels i32[B,G] from 1 with 0 for
    padding, crowd i32[B,G] with 1 for groups, and seed i32[B,2]; it adds its four losses and returns them. Otherwise it
    takes images and image_size and returns the fields of `nms.PaddedDetections` as a dictionary. Boxes are in pixels.

    With `masks` it is Mask R-CNN on conv4_x (He et al., 2017): training also takes masks u8[B,G,H,W/8], the objects'
    pixels packed to bits, where an object without a pixel has no mask to learn, and has a fifth loss. The detections
    have masks f32[B,D,M,M], the probabilities of the cells of each box.

    Batch norm is frozen, as in appendix A: an affine function of the statistics that came with the weights.

    Args:
        config: the options; `backbone` may also be an `Architecture`.
        classes: object classes, without the background.
        policy: dtype policy of the convolutions, e.g. "mixed_bfloat16", by default Keras' global policy; everything
            else is float32.
        name: name of the model.

    Raises:
        ValueError: an argument is not allowed.
    """

    def __init__(self, config: FasterRCNNConfig, classes: int, policy: Any = None, name: str = "faster_rcnn"):
        # Boxes must not be cast to half precision, so the model itself is float32.
        super().__init__(name=name, dtype="float32")
        architecture = config.architecture
        if classes < 1:
            raise InputError(f"classes must be at least 1; got {classes}.")
        self.config = config
        self.classes = classes
        self.policy = compat.policy_of(policy) if policy is not None else compat.dtype_policy()

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
            dtype=self.policy,
        )
        self.cell_anchors = anchors.cell_anchors(config.anchor_scales, config.anchor_ratios)
        channels = self.trunk.output_shape[-1]
        self.rpn = rpn.head(channels, config.rpn_filters, len(self.cell_anchors), self.policy)
        self.pool_step = _pool_step(architecture)
        self.region_network = _region_network(
            architecture, config.roi_pool_size, self.pool_step, channels, self.policy, with_maps=config.masks
        )
        cells, features = self.region_network.layers[-1].input.shape[-2:]
        self.siblings = _siblings(features * (2 if config.context else 1), classes)
        self.mask_head = masks.head(cells, features, classes, self.policy) if config.masks else None
        for network in (self.trunk, self.region_network):
            finetuning.freeze(network, config.freeze_at, norm=True)
        self.train_rpn = self.train_detector = True
        self.losses_of_step = (*LOSSES, MASK_LOSS) if config.masks else LOSSES
        self.loss_means = {name: keras.metrics.Mean(name=name) for name in self.losses_of_step}
        self.proposer: Callable[[tf.Tensor, tf.Tensor], rpn.Proposals] | None = None
        self.built = True

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> dict[str, tf.Tensor]:
        images, image_size = inputs["images"], inputs["image_size"]
        features = self.trunk(images, training=False)
        logits, deltas, all_anchors = self._rpn_outputs(features)
        if training:
            return self._training_losses(inputs, features, logits, deltas, all_anchors)
        regions, valid, _ = self._proposals(logits, deltas, all_anchors, image_size, training=False)
        pred_boxes, probabilities = self.classify(features, regions, image_size)
        if self.config.refine:
            refined_regions = self.best_boxes(pred_boxes, probabilities)
            refined_boxes, refined_probabilities = self.classify(features, refined_regions, image_size)
            pred_boxes, valid = tf.concat([pred_boxes, refined_boxes], 1), tf.concat([valid, valid], 1)
            probabilities = tf.concat([probabilities, refined_probabilities], 1)
        return self.with_masks(self.select(pred_boxes, probabilities, valid), features)

    @property
    def inference_inputs(self) -> dict[str, tf.TensorSpec]:
        """The inputs of inference: images f32[B,H,W,3] and their sizes without padding f32[B,2]."""
        return {"images": tf.TensorSpec([None, None, None, 3]), "image_size": tf.TensorSpec([None, 2])}

    # The parts in the order of the paper; public for multi-scale testing and ensembles.

    def propose(self, features: tf.Tensor, image_size: tf.Tensor, training: bool = False) -> rpn.Proposals:
        """Return the proposals of maps f32[B,h,w,C]."""
        return self._proposals(*self._rpn_outputs(features), image_size, training=training)

    def pool(self, features: tf.Tensor, regions: tf.Tensor) -> tf.Tensor:
        """Pool regions f32[B,R,4] of maps f32[B,h,w,C]: f32[B,R,S,S,C], the bins that conv5_x reads."""
        pooling = roi.POOLINGS[self.config.roi_pooling]
        return pooling(features, regions, self.config.roi_pool_size, self.stride, self.pool_step)

    def pools_any_size(self, side: int) -> bool:
        """Return whether one graph pools the regions of images of all sizes up to a side in pixels."""
        return self.config.roi_pooling == "align" or side <= self.stride * roi.LARGEST_MAP

    def vectors(self, features: tf.Tensor, regions: tf.Tensor) -> tf.Tensor:
        """Pool regions f32[B,R,4] and apply conv5_x and global average pooling: f32[B,R,F]."""
        return self.pooled_vectors(self.pool(features, regions))

    def pooled_vectors(self, pooled: tf.Tensor) -> tf.Tensor:
        """Apply conv5_x and global average pooling: f32[B,R,S,S,C] -> f32[B,R,F]."""
        return self._region_outputs(pooled)[0]

    def all_vectors(self, features: tf.Tensor, regions: tf.Tensor) -> tf.Tensor:
        """Compute `vectors` in chunks of `region_chunk` regions, which bounds the memory."""
        count, chunk = regions.shape[1], self.config.region_chunk
        chunks = [self.vectors(features, regions[:, start : start + chunk]) for start in range(0, count, chunk)]
        return tf.concat(chunks, 1)

    def with_context(self, vectors: tf.Tensor, features: tf.Tensor, image_size: tf.Tensor) -> tf.Tensor:
        """Append the vector of the whole image to that of each region if `context` is set (appendix B)."""
        if not self.config.context:
            return vectors
        whole_image = tf.concat([tf.zeros_like(image_size), image_size], -1)[:, None, :]
        context = self.vectors(features, whole_image)
        return tf.concat([vectors, tf.repeat(context, tf.shape(vectors)[1], 1)], -1)

    def decide(self, vectors: tf.Tensor, regions: tf.Tensor, image_size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return a box for each region and class, and the probabilities: f32[B,R,K,4], f32[B,R,K+1]."""
        logits, deltas = self._head_outputs(vectors)
        pred_boxes = box_ops.decode(deltas, regions[:, :, None, :], DELTA_WEIGHTS)
        flat = tf.reshape(pred_boxes, [-1, regions.shape[1] * self.classes, 4])
        pred_boxes = tf.reshape(box_ops.clip(flat, image_size), [-1, regions.shape[1], self.classes, 4])
        return pred_boxes, tf.nn.softmax(logits)

    def classify(self, features: tf.Tensor, regions: tf.Tensor, image_size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Pool regions and `decide`."""
        vectors = self.with_context(self.all_vectors(features, regions), features, image_size)
        return self.decide(vectors, regions, image_size)

    def best_boxes(self, pred_boxes: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
        """Return the box of each region's most probable object class: f32[B,R,4]."""
        best = tf.argmax(probabilities[..., 1:], -1, output_type=tf.int32)
        return tf.gather(pred_boxes, best, batch_dims=2)

    def select(self, pred_boxes: tf.Tensor, probabilities: tf.Tensor, valid: tf.Tensor) -> dict[str, tf.Tensor]:
        """Apply NMS, box voting if `refine` is set, and keep the best detections of each image."""
        return nms.detections(
            pred_boxes,
            probabilities,
            valid,
            score_thresh=self.config.score_thresh,
            nms_thresh=self.config.nms_thresh,
            detections_per_image=self.config.detections_per_image,
            vote_thresh=0.5 if self.config.refine else None,
        )._asdict()

    def with_masks(self, detections: Mapping[str, tf.Tensor], features: tf.Tensor) -> dict[str, tf.Tensor]:
        """Add `mask_probabilities` to detections if `masks` is set."""
        detections = dict(detections)
        if self.mask_head is not None:
            detections["masks"] = self.mask_probabilities(features, detections)
        return detections

    def mask_probabilities(self, features: tf.Tensor, detections: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Return the mask of each detection's class: f32[B,D,M,M], 0 for padding; requires `masks`.

        Only the final detections go through conv5_x once more, in chunks of `region_chunk`.
        """
        boxes, classes, count = (detections[name] for name in ("boxes", "classes", "count"))
        most, chunk = tf.reduce_max(count), self.config.region_chunk

        def of_chunk(start: int, end: int) -> tf.Tensor:
            last = tf.minimum(most, end)
            probabilities = tf.sigmoid(self._mask_logits(features, boxes[:, start:last], classes[:, start:last]))
            return tf.pad(probabilities, [[0, 0], [0, end - last], [0, 0], [0, 0]])

        def empty(start: int, end: int) -> tf.Tensor:
            return tf.zeros([tf.shape(boxes)[0], end - start, self.mask_size, self.mask_size])

        total = self.config.detections_per_image
        limits = [(start, min(start + chunk, total)) for start in range(0, total, chunk)]
        chunks = [
            tf.cond(most > start, functools.partial(of_chunk, start, end), functools.partial(empty, start, end))
            for start, end in limits
        ]
        probabilities = tf.where((classes > 0)[..., None, None], tf.concat(chunks, 1), 0.0)
        return tf.ensure_shape(probabilities, [None, total, self.mask_size, self.mask_size])

    @property
    def mask_size(self) -> int:
        """Rows and columns of a mask; 0 without masks."""
        return 0 if self.mask_head is None else self.mask_head.output_shape[1]

    def _region_outputs(self, pooled: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """The vectors f32[B,R,F] of pooled regions f32[B,R,s,s,C], and with masks conv5_x's maps f32[B*R,h,w,F]."""
        outputs = self.region_network(tf.reshape(pooled, [-1, *pooled.shape[2:]]), training=False)
        vectors, maps = (outputs, None) if self.mask_head is None else outputs
        shape = [tf.shape(pooled)[0], pooled.shape[1] or tf.shape(pooled)[1], vectors.shape[-1]]
        return tf.reshape(vectors, shape), maps

    def _mask_logits(self, features: tf.Tensor, regions: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """The logits f32[B,R,M,M] of the masks of regions f32[B,R,4] of classes i32[B,R] from 1."""
        maps = self._region_outputs(self.pool(features, regions))[1]
        return self._logits_of_maps(maps, labels)

    def _logits_of_maps(self, maps: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        assert self.mask_head is not None
        logits = self.mask_head(maps)
        shape = tf.shape(labels)
        logits = tf.reshape(logits, [shape[0], shape[1], self.mask_size, self.mask_size, self.classes])
        return masks.of_class(logits, labels)

    def _rpn_outputs(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The RPN's logits f32[B,N] and deltas f32[B,N,4], and the anchors f32[N,4]."""
        logits, deltas = self.rpn(features)
        shape = tf.shape(features)
        height, width = features.shape[1] or shape[1], features.shape[2] or shape[2]
        grid = anchors.grid_anchors(height, width, self.stride, self.cell_anchors, self.config.anchor_offset)
        count = -1 if None in features.shape[1:3] else height * width * len(self.cell_anchors)
        return tf.reshape(logits, [shape[0], count]), tf.reshape(deltas, [shape[0], count, 4]), grid

    def _proposals(
        self, logits: tf.Tensor, deltas: tf.Tensor, all_anchors: tf.Tensor, image_size: tf.Tensor, *, training: bool
    ) -> rpn.Proposals:
        config = self.config
        return rpn.proposals(
            logits,
            deltas,
            all_anchors,
            image_size,
            pre_nms_topk=config.pre_nms_topk_train if training else config.pre_nms_topk_test,
            post_nms_topk=config.post_nms_topk_train if training else config.post_nms_topk_test,
            min_size=config.min_proposal_size,
        )

    def _head_outputs(self, vectors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits f32[B,R,K+1] and deltas f32[B,R,K,4]."""
        shape = [-1, vectors.shape[1]]
        logits, deltas = self.siblings(tf.reshape(vectors, [-1, vectors.shape[-1]]))
        return tf.reshape(logits, [*shape, self.classes + 1]), tf.reshape(deltas, [*shape, self.classes, 4])

    def _training_losses(
        self,
        inputs: Mapping[str, tf.Tensor],
        features: tf.Tensor,
        logits: tf.Tensor,
        deltas: tf.Tensor,
        all_anchors: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The losses of a training step; those of a part that does not train are 0."""
        image_size, seeds = inputs["image_size"], inputs["seed"]
        ground_truth = GroundTruth.from_inputs(inputs)
        values = dict.fromkeys(self.losses_of_step, tf.zeros([]))
        if self.train_rpn:
            targets = rpn.targets(
                all_anchors,
                image_size,
                ground_truth.boxes,
                ground_truth.valid,
                ground_truth.crowd,
                seeds,
                batch_size_per_image=self.config.rpn_batch_size_per_image,
                straddle_thresh=self.config.straddle_thresh,
            )
            values["rpn_class_loss"], values["rpn_box_loss"] = losses.region_proposal(
                logits, deltas, *targets, self.config.rpn_batch_size_per_image
            )
        if self.train_detector:
            if self.proposer is None:
                proposals = self._proposals(logits, deltas, all_anchors, image_size, training=True)
            else:
                proposals = self.proposer(inputs["images"], image_size)
            regions, labels, box_targets, sampled, index = self._sampled_regions(
                proposals, ground_truth, tf.add(seeds, [0, 1])
            )
            vectors, maps = self._region_outputs(self.pool(features, regions))
            vectors = self.with_context(vectors, features, image_size)
            class_logits, box_deltas = self._head_outputs(vectors)
            values["roi_class_loss"], values["roi_box_loss"] = losses.detector(
                class_logits, box_deltas, labels, box_targets, sampled
            )
            if maps is not None:
                values[MASK_LOSS] = self._mask_loss(inputs["masks"], maps, regions, labels, index)
        for name, value in values.items():
            self.add_loss(value)
            self.loss_means[name].update_state(value)
        return values

    def _mask_loss(
        self, bits: tf.Tensor, maps: tf.Tensor, regions: tf.Tensor, labels: tf.Tensor, index: tf.Tensor
    ) -> tf.Tensor:
        """The loss of the masks of positive regions, which come first among the sampled ones."""
        most = max(self._max_positives, 1)
        maps = tf.reshape(maps, [-1, regions.shape[1], *maps.shape[1:]])[:, :most]
        regions, labels, index = regions[:, :most], labels[:, :most], index[:, :most]
        logits = self._logits_of_maps(tf.reshape(maps, [-1, *maps.shape[2:]]), labels)
        has_mask = tf.gather(tf.reduce_any(bits > 0, [2, 3]), index, batch_dims=1)
        targets = masks.targets(bits, regions, index, self.mask_size)
        return losses.masks(logits, targets, (labels > 0) & has_mask)

    @property
    def _max_positives(self) -> int:
        """The most positive regions of an image in a training step."""
        return int(self.config.roi_batch_size_per_image * self.config.positive_fraction)

    def _sampled_regions(
        self, proposals: rpn.Proposals, ground_truth: GroundTruth, seeds: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Sample the regions of a training step from proposals and ground truth (Fast R-CNN, section 2.3).

        Returns:
            (regions f32[B,R,4], labels i32[B,R], deltas to learn f32[B,R,4], sampled bool[B,R], False for padding, and
            the matched object i32[B,R]); positive regions come first.
        """
        gt_boxes, gt_labels, gt_valid, gt_crowd = ground_truth
        batch_size = self.config.roi_batch_size_per_image
        regions = tf.concat([proposals.boxes, gt_boxes], 1)
        usable = tf.concat([proposals.valid, gt_valid], 1)
        index, label = matching.match(box_ops.iou(regions, gt_boxes), gt_valid, (self.config.bg_iou_low, 0.5), 0.5)
        in_crowd = tf.reduce_any((box_ops.coverage(regions, gt_boxes) > 0.5) & gt_crowd[:, None, :], -1)
        usable &= ~(in_crowd & (label != matching.POSITIVE))
        label = tf.where(usable, label, matching.IGNORED)
        positive, negative = matching.sample(label, self._max_positives, batch_size, seeds)
        chosen, sampled = matching.gather_sampled(positive, negative, batch_size)
        regions, index, positive = (tf.gather(values, chosen, batch_dims=1) for values in (regions, index, positive))
        labels = tf.where(positive & sampled, tf.gather(gt_labels, index, batch_dims=1), 0)
        targets = box_ops.encode(tf.gather(gt_boxes, index, batch_dims=1), regions, DELTA_WEIGHTS)
        return tf.stop_gradient(regions), labels, targets, sampled, index

    def folded(self, dtype: str = "float32") -> FasterRCNN:
        """Copy the detector for inference, with batch norm folded into the convolutions; see `serving.folding.fold`.

        Args:
            dtype: dtype of the convolutions and their weights: "float32", "float16" or "bfloat16"; boxes and
                probabilities are float32.

        Raises:
            ValueError: unknown dtype.
        """
        check_choice("dtype", dtype, folding.DTYPES)
        copy = FasterRCNN(self.config, self.classes, dtype, name=self.name)
        copy.set_weights(self.get_weights())
        copy.trunk, copy.region_network = (folding.fold(part, dtype) for part in (self.trunk, self.region_network))
        return copy

    def load_backbone(self, classifier: keras.Model) -> None:
        """Copy the weights of a classification network into the trunk and conv5_x, by the names of its layers.

        Raises:
            ValueError: a layer is missing, superfluous, or has another shape or stride, as in a v1.5 bottleneck.
        """
        source = {layer.name: layer for layer in classifier.layers if layer.weights}
        layers = {layer.name: layer for layer in (*self.trunk.layers, *self.region_network.layers) if layer.weights}
        reasons = {name: "no such layer" for name in layers if name not in source}
        reasons |= {name: "a further layer" for name in source if name.startswith("conv") and name not in layers}
        first = {layer.name for layer in self.region_network.layers if layer.input is self.region_network.input}
        for name in layers.keys() & source.keys():
            if _geometry(source[name]) != _geometry(layers[name], self.pool_step if name in first else 1):
                reasons[name] = "a layer of another shape or stride"
        if reasons:
            name = min(reasons)
            raise InputError(
                f"classifier must be the backbone's own network; {classifier.name!r} has {reasons[name]}: {name!r}."
            )
        for name, layer in layers.items():
            layer.set_weights(source[name].get_weights())

    def get_config(self) -> dict[str, Any]:
        options = dataclasses.asdict(self.config)
        return {"config": options, "classes": self.classes, "policy": self.policy.name, "name": self.name}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> FasterRCNN:
        values = dict(config)
        classes, policy, name = (values.pop(key) for key in ("classes", "policy", "name"))
        options = dict(values.get("config", values))  # version 0.1 wrote the options next to the classes
        backbone = options.pop("backbone")
        if isinstance(backbone, Mapping):
            stages = tuple(Stage(*stage) for stage in backbone["stages"])
            backbone = Architecture(**{**backbone, "stages": stages})
        # `freeze_at` is checked against the backbone.
        network = {"backbone": backbone} | ({"freeze_at": options.pop("freeze_at")} if "freeze_at" in options else {})
        return cls(FasterRCNNConfig.from_dict(options).replace(**network), classes, policy, name)


def faster_rcnn(
    backbone: str | Architecture = "resnet101",
    classes: int = 20,
    *,
    policy: Any = None,
    name: str = "faster_rcnn",
    **options: Any,
) -> FasterRCNN:
    """Build Faster R-CNN on a residual or plain network (appendix A; Ren et al., 2015), with fresh weights.

    Args:
        backbone: "resnet18" .. "resnet152", "plainnet18", "plainnet34", or an `Architecture`.
        classes: object classes, without the background.
        policy: dtype policy of the convolutions, e.g. "mixed_bfloat16"; everything else is float32.
        name: name of the model.
        **options: fields of `config.FasterRCNNConfig`, such as `anchor_scales` or `roi_pooling`.

    Raises:
        ValueError: an option is unknown, or a value is not allowed.
    """
    return FasterRCNN(FasterRCNNConfig().replace(backbone=backbone, **options), classes, policy, name)


def _pool_step(architecture: Architecture) -> int:
    """The distance of the bins of a region that conv5_x reads.

    A bottleneck begins with 1x1 convolutions, which with a stride skip rows and columns; basic blocks read all bins.
    """
    before, last = architecture.stages[-2:]
    # With as many channels as before, a block without a stride would have no projection.
    skips = architecture.block == "bottleneck" and last.filters != before.filters
    return last.stride if skips else 1


def _region_network(
    architecture: Architecture, size: int, step: int, channels: int, policy: Any, *, with_maps: bool
) -> keras.Model:
    """conv5_x and global average pooling: f32[N,S,S,channels] -> f32[N,F], and conv5_x's maps if asked for.

    Its input has every `step`-th row and column of a grid of `size` bins, so its stride is that much smaller.
    """
    side = -(-size // step)
    pooled = keras.Input((side, side, channels))
    stage = architecture.stages[-1]
    options = blocks.BlockOptions(architecture.block, architecture.shortcut, dtype=policy)
    name = f"conv{len(architecture.stages) + 1}"
    maps = blocks.stage(pooled, stage.filters, stage.blocks, stage.stride // step, name=name, options=options)
    vectors = keras.layers.GlobalAveragePooling2D(name="avg_pool", dtype="float32")(maps)
    return keras.Model(pooled, [vectors, maps] if with_maps else vectors, name="region_network")


def _siblings(features: int, classes: int) -> keras.Model:
    """The two output layers of Fast R-CNN: f32[N,F] -> logits f32[N,K+1], deltas f32[N,4K]."""
    normal = keras.initializers.RandomNormal
    vectors = keras.Input((features,))
    logits = keras.layers.Dense(classes + 1, kernel_initializer=normal(stddev=0.01), name="classes", dtype="float32")
    deltas = keras.layers.Dense(4 * classes, kernel_initializer=normal(stddev=0.001), name="deltas", dtype="float32")
    return keras.Model(vectors, [logits(vectors), deltas(vectors)], name="siblings")


def _geometry(layer: keras.layers.Layer, factor: int = 1) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    """Shapes and strides, times a factor, in which two layers must agree to exchange weights."""
    strides = tuple(factor * stride for stride in getattr(layer, "strides", ()))
    return [tuple(weight.shape) for weight in layer.weights], strides
