"""Detection as a task: boxes gathered over a split, VOC and COCO metrics, and how both are told."""
