"""VOC folders, nothing to learn, the splits one measures on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from doors import Door
from inputs import both, picture, write
from PIL import Image

from detkit.data.formats.voc.voc import read_voc

CHECK = "check_data data=voc data.root=ds data.val_split=null"
TRAIN = "train QUICK data=voc data.root=ds"
CAT = "<object><name>cat</name><bndbox><xmin>11</xmin><ymin>6</ymin><xmax>40</xmax><ymax>35</ymax></bndbox></object>"
BOX = [10, 5, 40, 35]


def xml(name: str, inside: str = CAT) -> str:
    """An annotation file of an 80 x 60 picture."""
    size = "<size><width>80</width><height>60</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}</filename>{size}{inside}</annotation>"


def voc(
    insides: dict[str, str], split: str = "train", images: str = "JPEGImages", annotations: str = "Annotations"
) -> Callable[[Path], None]:
    """Writes `ds`: a picture and an annotation for each id, and the list of `split` ("": none)."""

    def make(folder: Path) -> None:
        for name, inside in insides.items():
            picture(folder / "ds" / images / f"{name}.png")
            write(folder / "ds" / annotations / f"{name}.xml", xml(f"{name}.png", inside))
        if split:
            write(folder / "ds/ImageSets/Main" / f"{split}.txt", "".join(f"{name}\n" for name in insides))

    return make


def flat(folder: Path) -> None:
    for split, names in {"train": "ab", "valid": "c", "test": "d"}.items():
        for name in names:
            picture(folder / "ds" / split / f"{name}_png.rf.06d58.png")
            write(folder / "ds" / split / f"{name}_png.rf.06d58.xml", xml(f"{name}.png"))


def entries(*lines: str) -> Callable[[Path], None]:
    return lambda folder: write(folder / "ds/ImageSets/Main/train.txt", "\n".join(lines))


def reads(boxes: Sequence[Sequence[float]], split: str = "train", root: str = "ds") -> Callable[[Path, str], None]:
    """Holds the boxes of a split, in the order of the files."""

    def check(folder: Path, _: str) -> None:
        assert read_voc(folder / root, split).boxes.tolist() == [list(map(float, box)) for box in boxes]

    return check


def latest_weights(folder: Path, _: str) -> None:
    best, last = (torch.load(folder / f"run/checkpoints/{name}.pt", weights_only=True) for name in ("best", "last"))
    assert best["position"]["step"] == last["position"]["step"] == 2


def not_there(name: str) -> Callable[[Path, str], None]:
    def check(folder: Path, _: str) -> None:
        assert not (folder / name).exists()

    return check


def no_step(_: Path, output: str) -> None:
    assert "step 1" not in output


def nameless(folder: Path, _: str) -> None:
    found = read_voc(folder / "ds", "train")
    assert found.classes == ["cat"] and found.boxes.tolist() == [BOX]


def gb2312(folder: Path) -> None:
    voc({"a": CAT})(folder)
    text = f'<?xml version="1.0" encoding="GB2312"?>{xml("a.png", CAT.replace("cat", "猫"))}'
    write(folder / "ds/Annotations/a.xml", text.encode("gb2312"))


def huge(folder: Path) -> None:
    voc({"a": CAT, "b": CAT})(folder)
    Image.new("1", (14000, 14000)).save(folder / "ds/JPEGImages/a.png")
    text = xml("a.png").replace(">80<", ">14000<").replace(">60<", ">14000<")
    write(folder / "ds/Annotations/a.xml", text)


def coco_of_crowds(folder: Path) -> None:
    picture(folder / "ds/images/a.png")
    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 5, 30, 30], "area": 900, "iscrowd": 1}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 80, "height": 60}],
        "annotations": [entry],
        "categories": [{"id": 1, "name": "cat"}],
    }
    write(folder / "ds/train.json", json.dumps(content))


def classes_of_the_report(*names: str) -> Callable[[Path, str], None]:
    def check(folder: Path, _: str) -> None:
        assert list(json.loads((folder / "r.json").read_text())["splits"]["train"]["classes"]) == list(names)

    return check


def picture_is(name: str) -> Callable[[Path, str], None]:
    def check(folder: Path, _: str) -> None:
        assert [Path(path).name for path in read_voc(folder / "ds", "train").image_paths] == [name]

    return check


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


DIFFICULT = CAT.replace("<bndbox>", "<difficult>1</difficult><bndbox>")
INVERTED = CAT.replace(">11<", ">t<").replace(">40<", ">11<").replace(">t<", ">40<")
SEVERAL = CAT.replace("</object>", "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object>")
POLYGON = (
    "<object><name>cat</name><polygon><x1>11</x1><y1>6</y1><x2>40</x2><y2>20</y2><x3>30</x3><y3>35</y3></polygon>"
    "</object>"
)
POINTS = "<object><name>cat</name><polygon><pt><x>11</x><y>35</y></pt><pt><x>40</x><y>6</y></pt></polygon></object>"
TURNED = (
    "<object><name>cat</name><robndbox><cx>25</cx><cy>20</cy><w>20</w><h>10</h><angle>0</angle></robndbox></object>"
)

DOORS = [
    # layouts
    Door(
        "Roboflow's flat export", "train/ valid/ test/, XML beside the pictures; val is asked for",
        "check_data data=voc data.root=ds", 0, "no faults", "google-coral/tutorials PR 27", flat,
        check=reads([BOX], "val"),
    ),
    Door(
        "other names of the two folders", "images/, annots/ and a list", CHECK, 0, "no faults", "jetson-inference 776",
        voc({"a": CAT}, images="images", annotations="annots"), check=reads([BOX]),
    ),
    Door(
        "two folders without a list", "images/ and annotations/", CHECK, 2,
        "has no split 'train' (known: all); it has no lists: 'all' is the split of all its annotation files",
        "labelformat.com", voc({"a": CAT}, "", "images", "annotations"),
    ),
    Door(
        "two folders without a list, all of it", "images/ and annotations/", f"{CHECK} data.train_split=all", 0,
        "no faults", "labelformat.com", voc({"a": CAT, "b": CAT}, "", "images", "annotations"),
        check=reads([BOX, BOX], "all"),
    ),
    Door(
        "a folder for each split in both folders", "images/train, annotations/train", CHECK, 0, "no faults", "",
        voc({"a": CAT}, "", "images/train", "annotations/train"), check=reads([BOX]),
    ),
    Door(
        "a mistyped split of a flat export", "train/ valid/ test/", f"{CHECK} data.train_split=trian", 2,
        "no split 'trian'; did you mean 'train'? (known: test, train, valid)", "", flat,
    ),
    # lists
    Door(
        "a list of file names", "train.txt has a.png", CHECK, 0, "no faults", "qfgaohao/pytorch-ssd 59",
        both(voc({"a": CAT}), entries("a.png")), check=reads([BOX]),
    ),
    Door(
        "a list of Windows paths", "train.txt has C:\\\\data\\\\JPEGImages\\\\a.png", CHECK, 0, "no faults", "",
        both(voc({"a": CAT}), entries("C:\\data\\JPEGImages\\a.png")), check=reads([BOX]),
    ),
    Door(
        "a list of picture and XML", "train.txt has ./JPEGImages/a.png ./Annotations/a.xml", CHECK, 0, "no faults", "",
        both(voc({"a": CAT}), entries("./JPEGImages/a.png ./Annotations/a.xml")), check=reads([BOX]),
    ),
    Door(
        "a list from PowerShell", "train.txt in UTF-16", CHECK, 0, "no faults", "AlexeyAB/darknet 1186",
        both(voc({"a": CAT}), lambda folder: write(folder / "ds/ImageSets/Main/train.txt", "a\r\n".encode("utf-16"))),
        check=reads([BOX]),
    ),
    Door(
        "a list in another encoding", "train.txt in Latin-1", CHECK, 2,
        "train.txt is not UTF-8 (byte 3 is 0xe9): open it in an editor and save it as UTF-8", "",
        both(voc({"a": CAT}), lambda f: write(f / "ds/ImageSets/Main/train.txt", "caf\xe9\n".encode("latin-1"))),
    ),
    # XML
    Door(
        "several boxes in one object", "two <bndbox> in an <object>", CHECK, 0, "no faults", "drainingsun/ybat 6",
        voc({"a": SEVERAL}), check=reads([BOX, [0, 0, 9, 8]]),
    ),
    Door(
        "an object without a name", "one of two has no <name>", CHECK, 1,
        "a.xml: object 2 has no <name>", "ssaru/convert2Yolo 16",
        voc({"a": CAT + CAT.replace("<name>cat</name>", "")}), check=nameless,
    ),
    Door(
        "polygons", "<polygon> in two forms and a turned box, no <bndbox>", CHECK, 0, "no faults",
        "ssaru/convert2Yolo 16", voc({"a": POLYGON, "b": POINTS, "c": TURNED}),
        check=reads([BOX, BOX, [14, 14, 35, 25]]),
    ),
    Door(
        "corners in the wrong order", "xmin > xmax", f"{CHECK} output=fixed", 1,
        "has the corners [40, 6, 11, 35] in the wrong order; put in order\nwrote 1 of 1 images with 1 of 1 objects",
        "CVHub520/X-AnyLabeling 222", voc({"a": INVERTED}), check=reads([BOX], root="fixed"),
    ),
    Door(
        "XML in the encoding that it declares", "GB2312", f"{CHECK} report=r.json", 0, "no faults", "Lab41/pelops 72",
        gb2312, check=classes_of_the_report("猫"),
    ),
    Door(
        "a raw & in XML", "<name>salt & pepper</name>", CHECK, 1, "in XML a & is written &amp;",
        "EdjeElectronics/TensorFlow-Object-Detection",
        voc({"a": CAT, "b": CAT.replace("cat", "salt & pepper")}),
    ),
    Door(
        "XML with a namespace", 'xmlns="http://x"', CHECK, 0, "no faults", "",
        both(
            voc({"a": CAT}),
            lambda f: write(f / "ds/Annotations/a.xml", xml("a.png").replace("<annotation>", '<annotation xmlns="http://x">')),
        ), check=reads([BOX]),
    ),
    Door(
        "XML of another kind", "CVAT's own", f"{TRAIN} data.val_split=null", 2,
        "a.xml: unreadable annotation: is no VOC annotation: its outermost element is <annotations>, not <annotation>; "
        "is it CVAT's own XML? export it as PASCAL VOC",
        "", both(voc({"a": CAT}), lambda f: write(f / "ds/Annotations/a.xml", "<annotations><image/></annotations>")),
    ),
    # pictures
    Door(
        "a mask of the same name", "a.png and a.gif; <filename> says a.png", CHECK, 0, "no faults", "",
        both(voc({"a": CAT}), lambda f: picture(f / "ds/JPEGImages/a.gif")),
        check=picture_is("a.png"),
    ),
    Door(
        "two pictures of one name", "a.jpg and a.gif; <filename> says a.png", CHECK, 1,
        "a may be any of ds/JPEGImages/a.gif, ds/JPEGImages/a.jpg: keep one of them", "",
        both(
            voc({"a": CAT, "b": CAT}), remove("ds/JPEGImages/a.png"),
            lambda f: (picture(f / "ds/JPEGImages/a.gif"), picture(f / "ds/JPEGImages/a.jpg")),
        ),
    ),
    Door(
        "a picture that Pillow does not read", "a.heic", CHECK, 1,
        "there is ds/JPEGImages/a.heic, which cannot be read: convert it to JPEG or PNG\n"
        "passed over in ds/JPEGImages, as no pictures that can be read: 1 x .heic", "ultralytics PR 23358",
        both(voc({"a": CAT, "b": CAT}), lambda f: (f / "ds/JPEGImages/a.png").rename(f / "ds/JPEGImages/a.heic")),
    ),
    Door(
        "a folder that is a link", "JPEGImages -> elsewhere", CHECK, 0, "no faults", "",
        both(
            voc({"a": CAT}), lambda f: shutil.move(f / "ds/JPEGImages", f / "elsewhere"),
            lambda f: (f / "ds/JPEGImages").symlink_to(f / "elsewhere"),
        ), check=reads([BOX]),
    ),
    Door(
        "a picture of 196 megapixels", "14000 x 14000", CHECK, 1,
        "it claims 196 megapixels, above the limit of 179\nset the environment variable DETKIT_MAX_MEGAPIXELS",
        "yolov5 7003", huge,
    ),
    Door(
        "background pictures without XML", "listed, no file", CHECK, 1,
        "if its picture shows nothing: data.reader.missing_annotation=empty", "jetson-inference 674",
        both(voc({"a": CAT, "b": ""}), remove("ds/Annotations/b.xml")),
    ),
    Door(
        "background pictures without XML, meant so", "listed, no file",
        f"{CHECK} data.reader.missing_annotation=empty", 0, "no faults", "jetson-inference 674",
        both(voc({"a": CAT, "b": ""}), remove("ds/Annotations/b.xml")),
    ),
    Door(
        "annotation files in no list", "c.xml is not in train.txt", CHECK, 0,
        "1 annotation files below ds are in no list, as ds/Annotations/c.xml\nno faults", "",
        both(voc({"c": CAT}, ""), voc({"a": CAT})),
    ),
    # nothing to learn
    Door(
        "no object in any picture", "XML without <object>", f"{TRAIN} data.val_split=null", 2,
        "data.root=ds split=train has no objects: not one in 2 images\nlooked in ds/ImageSets/Main/train.txt",
        "yolov5 12700", voc({"a": "", "b": ""}), check=no_step,
    ),
    Door(
        "no object in any picture, checked", "XML without <object>", CHECK, 1, "no objects: 1\nnot one in 2 images",
        "yolov5 12700", voc({"a": "", "b": ""}),
    ),
    Door(
        "nothing but faults", "no picture at all", f"{TRAIN} data.val_split=null", 2,
        "has no images\na.xml: missing image: no picture a; looked in ds/JPEGImages\n"
        "looked in ds/ImageSets/Main/train.txt", "", both(voc({"a": CAT}), remove("ds/JPEGImages/a.png")),
        check=no_step,
    ),
    Door(
        "boxes beside the picture only", "xmin 200 in 80 pixels", f"{TRAIN} data.val_split=null", 2,
        "has no objects: no box of 1 has an inside in its picture", "",
        voc({"a": CAT.replace("11", "200").replace("40", "240")}), check=no_step,
    ),
    Door(
        "all objects difficult", "labelImg's tick left on", CHECK, 1,
        "all objects difficult: 1\n1 difficult or crowd, no others; to count them: data.difficult=keep",
        "own variant of cvat 7030", voc({"a": DIFFICULT}),
    ),
    Door(
        "training on difficult objects only", "labelImg's tick left on", f"{TRAIN} data.val_split=null", 2,
        "to count them: data.difficult=keep", "own variant of cvat 7030", voc({"a": DIFFICULT}), check=no_step,
    ),
    Door(
        "difficult objects kept", "labelImg's tick left on", f"{TRAIN} data.val_split=train data.difficult=keep", 0,
        "2 objects and 0 difficult ones", "own variant of cvat 7030", voc({"a": DIFFICULT, "b": DIFFICULT}),
    ),
    Door(
        "crowds only", "iscrowd 1 everywhere",
        "check_data data=coco data.root=ds data.train_split=train data.val_split=null", 1,
        "all objects difficult: 1\ndata.difficult=keep", "ultralytics 5800", coco_of_crowds,
    ),
    Door(
        "a class without objects", "data.classes has one more", f"{CHECK} data.classes=[cat,zebra]", 1,
        "class without objects: 1\nno object of class 'zebra' is in train", "roboflow-100-benchmark 45",
        voc({"a": CAT}),
    ),
    Door(
        "anchors of nothing", "XML without <object>", "fit_anchors data=voc data.root=ds num_anchors=2 levels=1", 2,
        "has no objects: not one in 1 image", "", voc({"a": ""}),
    ),
    Door(
        "a mistyped folder, and no data=", "nothing", "train QUICK data.root=nowhere", 2,
        "data.root=nowhere does not exist\ndetkit make_synthetic root=nowhere, or data=synthetic", "", None,
        check=not_there("nowhere"),
    ),
    Door(
        "an own folder, and no data=", "a VOC folder", "train QUICK data.root=ds", 2,
        "data.root=ds holds no drawn set (no synthetic.json): read your own with data=voc, coco or yolo", "",
        voc({"a": CAT}),
    ),
    Door(
        "shapes drawn where one says so", "nothing",
        "train QUICK data=synthetic data.root=scenes data.reader.num_train=2 data.reader.num_val=1 "
        "data.reader.num_test=1 data.reader.size=[96,128]", 0, "drawing 4 synthetic scenes into scenes", "", None,
    ),
    # the splits one measures on
    Door(
        "no val object of a class of the model", "val has dogs, data.classes=[cat]",
        f"{TRAIN} data.classes=[cat]", 2, "split=val has no object of a class of the model: class 'dog'",
        "mmdetection 4243", both(voc({"a": CAT}), voc({"b": CAT.replace("cat", "dog")}, "val")), check=no_step,
    ),
    Door(
        "a test split that is not there", "test.txt is missing", f"{TRAIN} data.val_split=null data.test_split=test",
        2, "no split 'test' (known: train)", "", voc({"a": CAT}), check=no_step,
    ),
    Door(
        "val pictures that are missing", "one of two", TRAIN, 0,
        "data.root=ds split=val: faults while reading: 1 x missing image, as in ds/Annotations/c.xml",
        "visipedia/iwildcam_comp 1",
        both(voc({"a": CAT, "d": CAT}), voc({"b": CAT, "c": CAT}, "val"), remove("ds/JPEGImages/c.png")),
    ),
    Door(
        "val has background only", "no objects in val", f"{TRAIN} trainer.eval_every=1it hydra.run.dir=run", 0,
        "split=val has no objects that count: nothing can be measured on it; the latest weights are the result\n"
        "step 2: voc.mAP_area -, nothing could be measured: the latest weights count, those of step 2",
        "tensorflow/models 7326", both(voc({"a": CAT, "d": CAT}), voc({"b": ""}, "val")), check=latest_weights,
    ),
    # names
    Door(
        "splits called 1 and 2", "1.txt", f"{CHECK} data.train_split=1", 0, "no faults", "yolov5 11439",
        voc({"a": CAT}, "1"), check=reads([BOX], "1"),
    ),
    Door(
        "a folder called 2007", "ds is 2007", "check_data data=voc data.root=2007 data.val_split=null", 0, "no faults",
        "yolov5 11439", both(voc({"a": CAT}), lambda f: (f / "ds").rename(f / "2007")),
    ),
    Door(
        "no folder", "", "check_data data=voc data.root=null", 2, "data.root is not set: add data.root=", "", None,
    ),
]  # fmt: skip


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.kind)
def test_door(door, walk):
    walk(door)
