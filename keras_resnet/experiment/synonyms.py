"""Names that other packages have for flags and fields of configurations, and what this package calls them."""

from __future__ import annotations

from collections.abc import Collection

from keras_resnet.errors import did_you_mean

SYNONYMS: dict[str, tuple[str, ...]] = {
    "learning_rate": ("lr", "initial_lr", "base_lr", "lr0", "init_lr"),
    "steps": (
        *("epochs", "epoch", "num_epochs", "max_epochs", "n_epochs", "train_epochs"),
        *("max_steps", "num_steps", "train_steps", "total_steps", "iterations", "iters", "max_iter", "num_iters"),
    ),
    "batch_size": ("batch", "bs", "batchsize", "train_batch_size", "per_device_train_batch_size", "images_per_batch"),
    "model": ("arch", "architecture", "network", "net", "model_name", "model_type", "backbone"),
    "backbone": ("model", "arch", "architecture", "network", "net", "model_name"),
    "data": ("data_path", "dataset_path", "root", "train_dir", "images_dir", "image_dir", "train_data", "data_root"),
    "dataset": ("data", "data_path", "dataset_name", "root"),
    "data_dir": ("tfds_dir",),
    "workdir": (
        *("output_dir", "out_dir", "outdir", "output", "save_dir", "savedir", "save_path", "logdir", "log_dir"),
        *("run_dir", "run", "model_dir", "checkpoint_dir", "ckpt_dir", "work_dir", "project", "experiment", "exp"),
        *("dir", "folder", "out"),
    ),
    "out": ("output", "output_dir", "out_dir", "outdir", "output_path", "outfile", "save", "save_path", "export_dir"),
    "replicas": ("gpus", "gpu", "num_gpus", "n_gpus", "ngpus", "devices", "device", "gpu_ids", "cuda"),
    "workers": ("nproc", "nproc_per_node", "num_workers", "num_processes", "n", "np"),
    "threads": ("workers", "num_workers", "j", "dataloader_num_workers", "num_threads", "num_parallel_calls"),
    "weight_decay": ("wd", "l2", "decay"),
    "optimizer": ("opt", "optim", "solver"),
    "init_weights": ("pretrained", "weights", "finetune", "checkpoint", "ckpt", "load", "from_pretrained", "init"),
    "backbone_weights": ("pretrained", "weights", "pretrained_backbone"),
    "weights": ("pretrained", "checkpoint", "ckpt", "model_path", "load", "weight"),
    "precision": ("amp", "fp16", "bf16", "half", "mixed_precision", "dtype", "policy"),
    "warmup_steps": ("warmup", "warmup_epochs", "warmup_iters", "num_warmup_steps", "warmup_ratio"),
    "warmup_rate": ("warmup_lr", "warmup_start_lr"),
    "decay_steps": ("milestones", "lr_steps", "lr_milestones", "step_size", "lr_decay_steps", "lr_step_size"),
    "schedule": ("scheduler", "lr_scheduler", "lr_schedule", "sched", "lr_scheduler_type"),
    "image_size": ("img_size", "imgsz", "input_size", "size", "crop_size", "resolution", "img", "input_shape"),
    "min_size": ("img_size", "imgsz", "image_size", "input_size", "size"),
    "label_smoothing": ("smoothing",),
    "drop_path_rate": ("drop_path", "dropout", "stochastic_depth", "stochastic_depth_prob"),
    "clip_norm": ("clip_grad", "grad_clip", "max_grad_norm", "clip", "gradient_clip", "clipnorm"),
    "ema": ("ema_decay", "model_ema", "model_ema_decay"),
    "mirror": ("hflip", "flip", "horizontal_flip", "hflip_prob"),
    "random_erase_prob": ("reprob", "random_erase", "random_erasing", "erase"),
    "rand_augment": ("aa", "auto_augment", "randaugment"),
    "mixup": ("mixup_alpha",),
    "cutmix": ("cutmix_alpha",),
    "accumulate": ("grad_accum", "grad_accum_steps", "accumulation_steps", "gradient_accumulation_steps"),
    "synchronized_norm": ("sync_bn", "sync_batchnorm"),
    "eval_split": ("val_split", "validation_split", "test_split", "split", "validation_data"),
    "split": ("eval_split", "val_split", "test_split", "subset"),
    "train_split": ("split",),
    "eval_steps": ("eval_interval", "eval_every", "val_interval", "eval_freq", "validation_steps"),
    "checkpoint_steps": ("save_every", "save_freq", "save_steps", "checkpoint_interval", "save_interval"),
    "early_stopping": ("early_stop", "early_stopping_patience", "patience", "max_evals_without_improvement"),
    "log": ("logger", "loggers", "report_to", "log_with", "tracker", "trackers", "track"),
    "seed": ("random_seed", "random_state", "manual_seed", "rng_seed"),
    "seeds": ("seed", "random_seed"),
    "freeze_stages": ("freeze", "freeze_layers", "freeze_backbone", "freeze_at"),
    "views": ("tta", "augment", "crops", "ten_crop"),
    "top": ("topk", "top_k", "k"),
    "show": ("conf", "confidence", "threshold", "conf_thres", "score"),
    "score_thresh": ("conf", "conf_thres", "score", "score_threshold", "threshold"),
    "nms_thresh": ("iou", "iou_thres", "nms_threshold"),
    "config": ("cfg", "config_file", "yaml", "hyp"),
    "preset": ("recipe",),
    "preprocessing": ("mode", "normalization"),
    "format": ("fmt", "export_format"),
    "variants": ("variant", "quantize", "quantization", "int8"),
    "input_size": ("image_size", "img_size", "size", "resolution"),
    "classes": ("num_classes", "nc"),
    "jit_compile": ("xla", "jit", "compile"),
    "strategy": ("distributed", "distribution_strategy", "accelerator"),
    "download": ("download_data",),
}
"""Flag of this package -> its names elsewhere; the first flag that a command has is the one that is meant."""

NOTES = {
    "steps": "an epoch has as many steps as batch_size goes into the number of images",
    "resume": "rerun the same command to resume a run",
    "num_classes": "the data set determines the classes",
    "classes": "the data set determines the classes",
    "input": "give files without a flag",
}
"""Flag of this package or of others -> what to know about it."""

RESUME = ("resume", "resume_from", "resume_from_checkpoint", "auto_resume", "continue")
FILES = ("input", "source", "image", "images", "img", "photo", "photos", "file", "files")


def normalized(flag: str) -> str:
    """Return a flag's name as this package would spell it: in lower case, with underscores."""
    return flag.lower().strip("-").replace("-", "_")


def meant(name: str, known: Collection[str]) -> str:
    """Return the first flag or field of `known` that other packages call `name`, or "" if there is none."""
    return next((ours for ours, others in SYNONYMS.items() if ours in known and name in others), "")


def advice(name: str, known: Collection[str]) -> str:
    """Return what to write instead of an unknown field, as an appendix to an error message."""
    ours = meant(name, known)
    return f"; use {ours}" if ours else did_you_mean(name, known)


def hint(flag: str, known: Collection[str]) -> str:
    """Return what to write instead of an unknown flag, as the end of a sentence, or "" if it is no known synonym.

    Args:
        flag: the unknown flag, without dashes in front.
        known: the flags of the command.
    """
    name = normalized(flag)
    if name in known:
        return f"; it is written --{name}"
    if ours := meant(name, known):
        note = f" ({NOTES[ours]})" if ours == "steps" and "epoch" in name else ""
        return f"; it is called --{ours} here{note}"
    if name in RESUME:
        return f"; {NOTES['resume']}"
    if name in FILES:
        return f"; {NOTES['input']}"
    return f"; {NOTES[name]}" if name in ("num_classes", "classes") and "dataset" in known else ""
