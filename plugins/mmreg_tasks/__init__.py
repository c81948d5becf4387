"""Bundled plugin: classification, multilabel classification and regression."""
