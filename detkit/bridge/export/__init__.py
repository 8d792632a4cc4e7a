"""Detectors out of detkit: as ONNX files or `torch.export` programs, checked against what they come from."""
