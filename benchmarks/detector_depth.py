"""Effect of depth on a detector: ResNet-50 and the same network with blocks removed, on one short schedule.

    python benchmarks/detector_depth.py --data=BCCD --weights=imagenet --workdir=runs/depth --steps=300

All start from the same ImageNet weights; the shorter networks keep the first blocks of each stage. Residual networks
tolerate the removal of blocks (Veit et al., 2016), plain networks do not. Each is evaluated on the split `val`.
"""

import dataclasses
import json
import pathlib

import keras
from absl import app, flags

from keras_resnet.cli import main as cli
from keras_resnet.detection import train as detection
from keras_resnet.detection.config import PRESETS
from keras_resnet.detection.data import sources
from keras_resnet.detection.faster_rcnn import FasterRCNN
from keras_resnet.models.architectures import ARCHITECTURES
from keras_resnet.models.resnet import ResNet50
from keras_resnet.training import finetuning

FLAGS = flags.FLAGS
flags.DEFINE_string("data", None, "Folder of BCCD in VOC's layout.", required=True)
flags.DEFINE_string("weights", "imagenet", "Name or file of ResNet-50's ImageNet weights.")
flags.DEFINE_string("workdir", None, "Folder of the runs.", required=True)
flags.DEFINE_integer("steps", 300, "Training steps; the learning rate is divided by 10 at three quarters.")

BLOCKS = ((3, 4, 6, 3), (3, 4, 1, 1), (1, 1, 1, 1))


def main(_):
    dataset = sources.load(f"folder:{FLAGS.data}")
    path, info = finetuning.find(FLAGS.weights, "resnet50")
    normalization = info.normalization
    dataset = dataclasses.replace(
        dataset, info=dataclasses.replace(dataset.info, mean=normalization.mean, std=normalization.std)
    )
    classifier = ResNet50()
    finetuning.initialize(classifier, path, info)
    config = dataclasses.replace(
        PRESETS["bccd_resnet50"],
        steps=FLAGS.steps,
        decay_steps=(FLAGS.steps * 3 // 4,),
        warmup_steps=min(50, FLAGS.steps // 4),
        eval_steps=FLAGS.steps,
    )
    rows = []
    for blocks in BLOCKS:
        whole = ARCHITECTURES["ResNet50"]
        stages = tuple(stage._replace(blocks=count) for stage, count in zip(whole.stages, blocks, strict=True))
        depth = 2 + 3 * sum(blocks)
        backbone = dataclasses.replace(whole, name=f"ResNet{depth}", depth=depth, stages=stages)
        keras.utils.set_random_seed(config.seed)
        network = config.network().replace(backbone=backbone)
        model = FasterRCNN(network, len(dataset.info.class_names), config.precision)
        model.load_backbone(classifier)
        run = detection.fit(model, dataset, config, pathlib.Path(FLAGS.workdir, backbone.name.lower()))
        record = json.loads(run.metrics.read_text(encoding="utf-8").splitlines()[-1])
        averages = [record["val_map50"]] + [record[f"val_ap50_{name}"] for name in dataset.info.class_names]
        cells = " | ".join(f"{value:.2f}" for value in averages)
        rows.append(f"| {', '.join(map(str, blocks))} | {depth} | {model.count_params():,} | {cells} |")
    print(f"\n{FLAGS.steps} steps each\n")
    print(f"| blocks per stage | layers | parameters | mAP@.5 | {' | '.join(dataset.info.class_names)} |")
    print("|---|---:|---:|" + "---:|" * (1 + len(dataset.info.class_names)))
    print("\n".join(rows))


if __name__ == "__main__":
    cli.quiet()
    app.run(main)
