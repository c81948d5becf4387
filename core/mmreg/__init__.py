"""mmreg: a plugin-based modality registry for PyTorch."""
