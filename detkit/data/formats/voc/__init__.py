"""PASCAL VOC's folders and XML."""
