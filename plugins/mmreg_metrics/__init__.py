"""Bundled plugin: further metrics of classes, labels and numbers, for any task with such scores."""
