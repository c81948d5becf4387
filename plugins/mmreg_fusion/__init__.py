"""Bundled plugin: fusion operators at feature level and at model level."""
