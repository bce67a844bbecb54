"""Find the boxes of classes in an image: one crop or whole images at several scales, with one stage or both.

localize = Localizer(rpn, transform, Views("dense", scales=(224, 320)))
boxes, scores = localize(pixels, classes)       # u8[H,W,3], i32[T] -> f32[T,4] in pixels, f32[T]

Everything is graph code, which the evaluation and the export share.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from keras_resnet.data.transforms import WholeImageTransform
from keras_resnet.detection import nms
from keras_resnet.errors import InputError, check_choice
from keras_resnet.localization.choices import PROTOCOLS
from keras_resnet.localization.data import crops
from keras_resnet.localization.models import RCNN, PerClassRPN
from keras_resnet.ops import boxes as box_ops
from keras_resnet.ops import image, windows

PRE_NMS_TOPK = 2_000
"""Most boxes of a class that NMS and voting consider, the best ones."""

CHUNK = 50
"""Most crops that go through the R-CNN together, which bounds the memory."""

NO_SCORE = -1.0
"""Score of padding; those of boxes are probabilities."""


@dataclasses.dataclass(frozen=True)
class Views:
    """The views of an image in testing.

    Attributes:
        protocol: "single" for one crop of the network's input size, "dense" for whole images.
        crop_size: side of the crop.
        resize: shorter side of the image before its center is cropped; 0 for the whole image, whose longer side becomes
            `crop_size`.
        scales: shorter sides of the images of "dense".
        mirror: whether to add the left-right mirrored views.
    """

    protocol: str = "single"
    crop_size: int = 224
    resize: int = 0
    scales: tuple[int, ...] = (256,)
    mirror: bool = False

    def __post_init__(self) -> None:
        check_choice("protocol", self.protocol, PROTOCOLS)
        if not self.scales or min(self.scales) < 1:
            raise InputError(f"scales must be one or more positive numbers; got {list(self.scales)}.")
        if self.resize and self.resize < self.crop_size:
            raise InputError(f"resize must be 0 or at least the crop, {self.crop_size}; got {self.resize}.")

    def windows(self, size: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """Return the window f32[4] of each view, and its size i32[2], for an image of height and width i32[2]."""
        whole = tf.cast(windows.whole_window(size), tf.float32)
        if self.protocol == "dense":
            return [(whole, windows.resized_size(size, scale)) for scale in self.scales]
        if self.resize:
            window = windows.center_window(size, self.crop_size, self.resize)
            return [(window, tf.constant([self.crop_size, self.crop_size]))]
        return [(whole, image.fitted_size(size, self.crop_size, self.crop_size))]


class Candidates(NamedTuple):
    """Boxes of each of T classes: boxes f32[T,N,4] in pixels, scores f32[T,N], probabilities or `NO_SCORE`."""

    boxes: tf.Tensor
    scores: tf.Tensor


class Localizer:
    """A function from an image and some classes to the box of each class.

    Args:
        rpn: the network of stage 1.
        transform: the transform of its images.
        views: the views of an image.
        rcnn: the network of stage 2, which gives new scores and boxes to the proposals; None for stage 1 alone.
        rcnn_transform: the transform of its crops, by default `transform`.
        crop_size: side of its crops.
        context_pixels: context around a proposal in its crop.
        proposals: number of proposals of each class.
        proposal_nms_thresh: IoU above which NMS drops the weaker proposal; 1 keeps all.
        multiply_scores: multiply the scores of stage 2 by those that stage 1 gave the proposals.
        vote_thresh: average the boxes whose IoU with the best one is at least this, weighted by their scores; 1 for no
            voting.
    """

    def __init__(
        self,
        rpn: PerClassRPN,
        transform: WholeImageTransform,
        views: Views,
        rcnn: RCNN | None = None,
        *,
        rcnn_transform: WholeImageTransform | None = None,
        crop_size: int = 224,
        context_pixels: int = 0,
        proposals: int = 200,
        proposal_nms_thresh: float = 0.7,
        multiply_scores: bool = False,
        vote_thresh: float = 1.0,
    ):
        self.rpn = rpn
        self.transform = transform
        self.views = views
        self.rcnn = rcnn
        self.rcnn_transform = rcnn_transform or transform
        self.crop_size = crop_size
        self.context_pixels = context_pixels
        self.count = proposals
        self.nms_thresh = proposal_nms_thresh
        self.multiply_scores = multiply_scores
        self.vote_thresh = vote_thresh
        signature = [tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([None], tf.int32)]
        self._localize = tf.function(self.localize, input_signature=signature)
        self._propose = tf.function(self.propose, input_signature=signature)

    def __call__(self, pixels: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Run `localize` as a compiled function."""
        return self._localize(pixels, classes)

    def proposals(self, pixels: tf.Tensor, classes: tf.Tensor) -> Candidates:
        """Run `propose` as a compiled function."""
        return self._propose(pixels, classes)

    def localize(self, pixels: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the best box of each class.

        Args:
            pixels: u8[H,W,3].
            classes: i32[T].

        Returns:
            (boxes f32[T,4] inside the image, in pixels, scores f32[T], probabilities).
        """
        if self.rcnn is None:
            return best(self.candidates(pixels, classes), self.vote_thresh)
        return best(self.refine(pixels, classes, self.propose(pixels, classes)), self.vote_thresh)

    def candidates(self, pixels: tf.Tensor, classes: tf.Tensor) -> Candidates:
        """Return the boxes of stage 1 from all views, clipped to the image; those without an area have `NO_SCORE`."""
        size = tf.shape(pixels)[:2]
        all_boxes, all_scores = [], []
        for window, view_size in self.views.windows(size):
            view = self.transform.normalize(image.resize_window(pixels, window, view_size)[None])
            for mirrored in (False, True)[: 1 + self.views.mirror]:
                logits, boxes = self.rpn.localize(view[:, :, ::-1] if mirrored else view, classes[None])
                extent = tf.cast(view_size, tf.float32)
                boxes = box_ops.mirror(boxes[0], extent) if mirrored else boxes[0]
                boxes = boxes * tf.tile(window[2:] / extent, [2]) + tf.tile(window[:2], [2])
                all_boxes.append(boxes)
                all_scores.append(tf.sigmoid(logits[0]))
        return inside(tf.concat(all_boxes, 1), tf.concat(all_scores, 1), size)

    def propose(self, pixels: tf.Tensor, classes: tf.Tensor) -> Candidates:
        """Return the best boxes of stage 1 after NMS, best first and padded to the number of proposals."""
        boxes, scores = _top(self.candidates(pixels, classes), max(PRE_NMS_TOPK, self.count))
        if self.nms_thresh >= 1:
            missing = tf.maximum(self.count - tf.shape(scores)[1], 0)
            boxes = tf.pad(boxes, [[0, 0], [0, missing], [0, 0]])[:, : self.count]
            scores = tf.pad(scores, [[0, 0], [0, missing]], constant_values=NO_SCORE)[:, : self.count]
            return Candidates(boxes, scores)
        index, valid = nms.suppress(boxes, scores, self.count, self.nms_thresh, NO_SCORE / 2)
        boxes, scores = tf.gather(boxes, index, batch_dims=1), tf.gather(scores, index, batch_dims=1)
        return Candidates(tf.where(valid[..., None], boxes, 0.0), tf.where(valid, scores, NO_SCORE))

    def refine(self, pixels: tf.Tensor, classes: tf.Tensor, proposals: Candidates) -> Candidates:
        """Return new boxes and scores for proposals, from their crops."""
        rcnn = self.rcnn
        assert rcnn is not None
        chunk = next(size for size in range(min(CHUNK, self.count), 0, -1) if self.count % size == 0)

        normalized = self.rcnn_transform.normalize(pixels[None])[0]

        def refine_chunk(part: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            boxes, label = part
            warped = crops.warp(normalized, boxes, self.crop_size, self.context_pixels)
            logits, boxes = rcnn.localize(warped, boxes, tf.fill([chunk, 1], label))
            return boxes[:, 0], tf.sigmoid(logits[:, 0])

        boxes, scores = tf.map_fn(
            refine_chunk,
            (tf.reshape(proposals.boxes, [-1, chunk, 4]), tf.repeat(classes, self.count // chunk)),
            fn_output_signature=(tf.TensorSpec([chunk, 4]), tf.TensorSpec([chunk])),
            parallel_iterations=1,
        )
        scores = tf.reshape(scores, [-1, self.count])
        if self.multiply_scores:
            scores *= proposals.scores
        scores = tf.where(proposals.scores > NO_SCORE, scores, NO_SCORE)
        return inside(tf.reshape(boxes, [-1, self.count, 4]), scores, tf.shape(pixels)[:2])


def best(candidates: Candidates, vote_thresh: float = 1.0) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the box with the highest score of each class, after box voting if `vote_thresh` is below 1.

    Args:
        candidates: boxes f32[T,N,4] and scores f32[T,N].
        vote_thresh: the result is the mean of the boxes whose IoU with the best one is at least this, weighted by their
            scores.

    Returns:
        (boxes f32[T,4], scores f32[T]).
    """
    boxes, scores = _top(candidates, PRE_NMS_TOPK)
    kept = boxes[:, :1]
    if vote_thresh < 1:
        kept = nms.voted(kept, boxes, boxes, tf.maximum(scores, 0.0), vote_thresh)
    return kept[:, 0], tf.maximum(scores[:, 0], 0.0)


def _top(candidates: Candidates, count: int) -> Candidates:
    """The best boxes of each class, best first; fewer if there are not as many."""
    scores, index = tf.math.top_k(candidates.scores, tf.minimum(count, tf.shape(candidates.scores)[1]))
    return Candidates(tf.gather(candidates.boxes, index, batch_dims=1), scores)


def inside(boxes: tf.Tensor, scores: tf.Tensor, size: tf.Tensor) -> Candidates:
    """Clip boxes f32[T,N,4] with scores f32[T,N] to an image of height and width i32[2].

    Boxes without an area inside it get `NO_SCORE`.
    """
    boxes = box_ops.clip(boxes, tf.cast(size, tf.float32)[None])
    return Candidates(boxes, tf.where(box_ops.area(boxes) > 0, scores, NO_SCORE))
