"""Bundled plugin: a training's figures in TensorBoard, MLflow, Weights & Biases or Trackio, and of its gradients."""
