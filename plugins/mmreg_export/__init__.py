"""`mmreg export`: a run's whole model as one file, for torch.export or ONNX."""
