"""Read folders in PASCAL VOC layout: ImageSets/Main/<split>.txt, Annotations/<id>.xml, JPEGImages/<id>.*."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args

from detkit.core.errors import UserError
from detkit.data.annotation_builder import AnnotationBuilder
from detkit.data.annotations import Annotations
from detkit.data.formats.voc.voc_layout import VocPlace, annotation_folder, find_place, xml_files
from detkit.data.formats.voc.voc_xml import VocFile, parse_voc
from detkit.image.picture_finder import Found, PictureFinder, describe_passed_over, list_pictures
from detkit.image.read import is_picture, read_image_size

WithoutXml = Literal["fault", "empty"]


def read_voc(
    root: str | Path, split: str, classes: Sequence[str] | None = None, *, missing_annotation: WithoutXml = "fault"
) -> Annotations:
    """One split of a VOC folder, or of one laid out as other tools export it (`detkit.data.formats.voc.voc_layout`).

    `split` is a name, or several joined by "+", each with an optional folder below `root`:
    "trainval", "VOC2007/trainval+VOC2012/trainval". Where the folders differ, image ids carry theirs
    ("VOC2007/000005"). Classes that are not given are all that the XML files of those folders hold, sorted.
    missing_annotation: what a picture without XML file is: a fault, or a picture without objects ("empty").

    Coordinates are 1-based and inclusive in the files; ours are [xmin-1, ymin-1, xmax, ymax].
    Raises UserError where a split or a folder does not exist; broken files become faults.
    """
    if missing_annotation not in get_args(WithoutXml):
        choices = ", ".join(get_args(WithoutXml))
        raise UserError(f"data.reader.missing_annotation={missing_annotation}: choose one of {choices}")
    root, split = Path(root), str(split)
    parts = [part.strip() for part in split.split("+")]
    places = [find_place(root, part) for part in parts]
    if classes is None:
        classes = find_voc_classes(dict.fromkeys(root / Path(part).parent for part in parts))
    builder = AnnotationBuilder(classes, f"data.root={root} split={split}")
    bases = dict.fromkeys(place.base for place in places)
    finders = {base: PictureFinder([f for p in places if p.base == base for f in p.pictures], base) for base in bases}
    for place in places:
        prefix = f"{place.base.relative_to(root).as_posix()}/" if len(bases) > 1 else ""
        builder.looked_in(*place.looked_in)
        reader = _PlaceReader(builder, place, finders[place.base], prefix, missing_annotation)
        for entry in place.entries():
            reader.add(entry)
        unlisted = place.unlisted()
        if unlisted:
            builder.note(f"{len(unlisted)} annotation files below {place.base} are in no list, as {unlisted[0]}")
    for folder in dict.fromkeys(place.pictures[0] for place in places):
        builder.note(describe_passed_over(list_pictures(folder).passed_over, folder))
    return builder.build()


def find_voc_classes(folders: Iterable[Path]) -> list[str]:
    """The class names in all annotation files of `folders`, sorted: the same list whatever the split."""
    names: set[str] = set()
    for folder in folders:
        for path in xml_files(annotation_folder(folder)):
            try:
                names.update(item.name for item in parse_voc(path).objects)
            except (OSError, UserError):
                continue  # reported as a fault if a split lists it
    return sorted(names)


class _PlaceReader:
    """Adds the entries of one place to a builder."""

    def __init__(
        self,
        builder: AnnotationBuilder,
        place: VocPlace,
        finder: PictureFinder,
        prefix: str,
        missing_annotation: WithoutXml,
    ) -> None:
        self.builder = builder
        self.place = place
        self.finder = finder
        self.prefix = prefix
        self.missing_annotation = missing_annotation
        self._taken: dict[str, str] = {}  # picture -> the image that it is of

    def add(self, entry: str) -> None:
        """Add one image, or a fault that says why not."""
        image_id, files = self.place.find(entry)
        if len(files) > 1:
            named = ", ".join(map(str, files[:4]))
            self.builder.fault("ambiguous annotation", image_id, f"{entry} may be any of {named}: keep one of them")
        elif not files:
            self._without_annotation(entry, image_id)
        else:
            self._add_file(image_id, files[0])

    def _add_file(self, image_id: str, xml: Path) -> None:
        try:
            parsed = parse_voc(xml)
        except (OSError, UserError) as error:
            self.builder.fault("unreadable annotation", xml, str(error).removeprefix(f"{xml} "))
            return
        image = self._picture(image_id, parsed)
        taken = None if image.path is None else self._taken.get(image.path)
        if image.path is None:
            self.builder.fault(image.kind, xml, image.reason)
            return
        if taken not in (None, image_id):
            self.builder.fault("ambiguous image", xml, f"names the picture {image.path}, which is that of {taken}")
            return
        self._taken[image.path] = image_id
        for slip in parsed.slips:
            self.builder.fault(slip.kind, xml, slip.message)
        if parsed.size == (0, 0):
            self.builder.fault("missing size", xml, "declares no image size")
        self._add(image_id, image.path, parsed, xml)

    def _without_annotation(self, entry: str, image_id: str) -> None:
        expected = self.place.annotations / f"{image_id}.xml"
        image = self.finder.find(entry)
        if self.missing_annotation == "fault":
            hint = "listed in the split but there is no such file"
            if image.path is not None:
                hint += "; if its picture shows nothing: data.reader.missing_annotation=empty"
            self.builder.fault("missing annotation", expected, hint)
        elif image.path is None:
            self.builder.fault(image.kind, entry, image.reason)
        else:
            try:
                size = read_image_size(image.path)
            except UserError as error:
                self.builder.fault("unreadable image", image.path, str(error))
                return
            self._add(image_id, image.path, VocFile("", size, [], []), expected)

    def _picture(self, image_id: str, parsed: VocFile) -> Found:
        """The picture of the same stem; of several the one that <filename> names, which also counts where none is."""
        by_id = self.finder.find(image_id)
        if by_id.path is not None and is_picture(by_id.path):
            return by_id
        named = parsed.filename.replace("\\", "/").rpartition("/")[2]
        by_name = self.finder.find(parsed.filename) if named else by_id
        if by_id.kind == "ambiguous image" and Path(named).stem != image_id.rpartition("/")[2]:
            return by_id
        return by_name if by_name.path is not None and is_picture(by_name.path) else by_id

    def _add(self, image_id: str, path: str, parsed: VocFile, where: Path) -> None:
        self.builder.add(
            path=path, image_id=self.prefix + image_id, size=parsed.size, objects=parsed.objects, where=where
        )
