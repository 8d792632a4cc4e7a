"""Values: what a key cannot hold is said where it enters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from doors import Door

# command, words of the answer, where somebody met it
REFUSED = [
    ("train loader.batch_size=0", "loader.batch_size=0: must be a whole number at least 1", "ultralytics #15872"),
    ("train loader.batch_size=-1", "loader.batch_size=-1: must be a whole number at least 1", "ultralytics #16465"),
    ("train loader.batch_size=1.5", "loader.batch_size=1.5: must be a whole number at least 1", "yolov5 PR #5940"),
    ("train loader.batch_size=auto", "loader.batch_size=auto: must be a whole number", "pytorch-YOLOv4 #459"),
    ("train evaluation.batch_size=0", "evaluation.batch_size=0: must be a whole number at least 1", ""),
    ("train trainer.clip_norm=-1", "trainer.clip_norm=-1: must be null or a number above 0; null", "torchtitan #4295"),
    ("train trainer.clip_norm=0", "trainer.clip_norm=0: must be null or a number above 0; null switches it off", ""),
    ("train trainer.clip_norm=nan", "trainer.clip_norm=nan: must be null or a number above 0", ""),
    ("train trainer.patience=0", "trainer.patience=0: must be null or a whole number at least 1; null", "yolov5 #5288"),
    ("train trainer.ema=1.5", "trainer.ema=1.5: must be null or a number above 0 and below 1", ""),
    ("train data=true", "data=true: data takes the name of an option", ""),
    ("train model=[0]", "model=[0]: model takes the name of an option", ""),
    ("train trainer.accumulate=0", "trainer.accumulate=0: must be a whole number at least 1", ""),
    ("train trainer.accumulate=-1", "trainer.accumulate=-1: must be a whole number at least 1", ""),
    ("train trainer.accumulate=1.5", "trainer.accumulate=1.5: must be a whole number at least 1", ""),
    ("train trainer.best_metric=null", "trainer.best_metric=null: must be text", ""),
    ("train trainer.precision=half", "trainer.precision=half: must be fp32 or bf16 or fp16", ""),
    ("train trainer.budget=null", "trainer.budget=null: must be text", ""),
    ("train preprocess.short=-5", "preprocess.short=-5: must be a whole number at least 1", ""),
    ("train preprocess.short=0", "preprocess.short=0: must be a whole number at least 1", ""),
    ("train preprocess.pad_multiple=0", "preprocess.pad_multiple=0: must be a whole number at least 1", ""),
    ("train optimizer.weight_decay=-1", "optimizer.weight_decay=-1: must be a number at least 0", ""),
    ("train optimizer.lr=fast", "optimizer.lr=fast: must be a number at least 0", "mmdetection #1710"),
    ("train optimizer.lr=null", "optimizer.lr=null: must be a number at least 0", "mmdetection #1710"),
    ("train optimizer.lr=-0.1", "optimizer.lr=-0.1: must be a number at least 0", "mmdetection #1710"),
    ("train optimizer.lr=true", "optimizer.lr=true: must be a number at least 0", ""),
    (
        "train optimizer.algorithm=torch.optim.Adam",
        "optimizer.algorithm=torch.optim.Adam: must be a part (_target_): choose an option of the group",
        "",
    ),
    ("train schedule.warmup=5ep", "schedule.warmup=5ep: must be a number at least 0", ""),
    ("train logger.every=0", "logger.every=0: must be a whole number at least 1", ""),
    ("train seed=-1", "seed=-1: must be a whole number at least 0", ""),
    ("train seed=abc", "seed=abc: must be a whole number at least 0", ""),
    ("train seed=true", "seed=true: must be a whole number at least 0", ""),
    ("train loader.num_workers=-1", "loader.num_workers=-1: must be a whole number at least 0", ""),
    ("train loader.num_workers=1.5", "loader.num_workers=1.5: must be a whole number at least 0", ""),
    ("train evaluation.timing_images=-1", "evaluation.timing_images=-1: must be a whole number at least 0", ""),
    ("train evaluation.pictures=-3", "evaluation.pictures=-3: must be a whole number at least 0", ""),
    ("train model.postprocess.score_threshold=abc", "model.postprocess.score_threshold=abc: must be", ""),
    ("train model.proposer.nms_iou=70", "model.proposer.nms_iou=70: must be null or a number at least 0 and", ""),
    ("train device=[0,1]", "device=[0, 1]: must be text", ""),
    ("predict checkpoint=x source=y score_threshold=50", "score_threshold=50: must be", "yolov5 #10618"),
    ("predict checkpoint=x source=y score_threshold=50", "is 0.5 meant?", ""),
    ("predict checkpoint=x source=y postprocess.nms_iou=60", "postprocess.nms_iou=60: must be", "EdjeElectronics #251"),
    ("predict checkpoint=x source=y batch_size=0", "batch_size=0: must be a whole number at least 1", ""),
    ("eval checkpoint=x precision=fp64", "precision=fp64: must be fp32 or bf16 or fp16", ""),
    ("eval checkpoint=x data.repair=mend", "data.repair=mend: must be null or clip or drop or error", ""),
    ("export checkpoint=x format=tensorrt", "format=tensorrt: must be onnx or torch", ""),
    ("make_synthetic num_train=0", "num_train=0: must be a whole number at least 1", ""),
    ("check_data data.root=x limit=-1", "limit=-1: must be a whole number at least 0", ""),
    ("compare models=ssd_light seeds=[-1]", "seeds=[-1]: must be a list of: a whole number at least 0", ""),
    ("compare models=ssd_light optimizer.lr=fast", "optimizer.lr=fast: must be a number at least 0", ""),
    ("train ~augment", "~augment: augment is needed, it cannot be taken away", "lightning-hydra-template #629"),
    ("train ~schedule", "~schedule: schedule is needed, it cannot be taken away", "lightning-hydra-template #629"),
    ("train augment=null", "augment=null: augment is needed, it cannot be taken away; use augment=none", ""),
    ("train schedule=null", "schedule=null: schedule is needed, it cannot be taken away; choose another option", ""),
    ("train ~trainer.ema", "~trainer.ema: trainer.ema is needed, it cannot be taken away; use trainer.ema=null", ""),
    ("train data.root=${oc.env:NOPE}", "data.root=${oc.env:NOPE}: Environment variable 'NOPE' not found", ""),
    ("train data.root=${nowhere}", "data.root", ""),
]


def rule_of_typed(given: str, key: str, expected: object) -> Door:
    def check(folder: Path, output: str) -> None:
        lines = output.strip().splitlines()
        assert json.loads(next(line for line in reversed(lines) if line.startswith("{")))[key] == expected

    def act(folder: Path) -> tuple[int, str]:
        return 0, json.dumps({key: read(given, key)})

    return Door("text that YAML takes for something else", "", f"train {given}", 0, "", act=act, check=check)


def read(given: str, key: str) -> object:
    """The value of `key` that a training with `given` would have."""
    from omegaconf import OmegaConf

    from detkit.compare.contender import compose
    from detkit.config.config_dir import config_dir
    from detkit.config.overrides import config_loader

    return OmegaConf.to_container(compose(config_loader(str(config_dir())), "train", ["data=voc", given]))["data"][key]


DOORS = [
    *(Door("a value that cannot be", "", command.replace("${", "'${").replace("}", "}'"), 2, says, source)
      for command, says, source in REFUSED),
    rule_of_typed("data.classes=star", "classes", ["star"]),
    rule_of_typed("data.classes=[no,yes,1e3,02146]", "classes", ["no", "yes", "1e3", "02146"]),
    rule_of_typed("data.root=2007", "root", "2007"),
    rule_of_typed("data.root=007", "root", "007"),
    rule_of_typed("data.train_split=1", "train_split", "1"),
    rule_of_typed("data.val_split=1e3", "val_split", "1e3"),
    rule_of_typed("data.val_split=true", "val_split", "true"),
    rule_of_typed("data.val_split=null", "val_split", None),
]  # fmt: skip


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.command)
def test_door(door, walk):
    walk(door)
