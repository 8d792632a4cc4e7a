"""Export of detectors as ONNX files and PyTorch programs."""
