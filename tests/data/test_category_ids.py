from __future__ import annotations

import pytest

from detkit.data.annotation_builder import AnnotationBuilder
from detkit.data.category_ids import fill_category_ids


@pytest.mark.parametrize(
    ("found", "trained", "filled"),
    [
        (None, [1, 2, 3], None),
        ([5, 6, 7], [1, 2, 3], [5, 6, 7]),
        ([5, None, 7], [1, 2, 3], [5, 2, 7]),
        ([2, None, None], [1, 2, 9], [2, 3, 9]),  # 2 is another class here
        ([None, 1, None], None, [2, 1, 3]),
        (["1", None, "c"], [7, 1, "x"], ["1", 2, "c"]),
        ([None, 3, 4], [None, 1, 2], [5, 3, 4]),
    ],
)
def test_ids_of_classes_that_a_file_lacks(found, trained, filled) -> None:
    annotations = AnnotationBuilder(["a", "b", "c"], "x").build(found)
    assert fill_category_ids(annotations, trained).category_ids == filled
