"""Bundled plugin: videos from files, GIFs, folders of frames and arrays."""
