"""The detection task: detections gathered over a split, VOC and COCO metrics."""
