"""Readers of annotation formats: PASCAL VOC, COCO, YOLO."""
