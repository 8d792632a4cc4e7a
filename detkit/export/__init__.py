"""Detectors as ONNX files and PyTorch programs."""
