"""Bundled plugin: what can be predicted: classes, labels, ordered classes, numbers, quantiles and survival."""
