"""Declares the sources; imports nothing heavy."""

from mmreg import SourceSpec, hookimpl

mmreg_api = 1
SCHEMES = {
    "http": "the web",
    "https": "the web",
    "s3": "Amazon S3, or a server of the same interface",
    "gs": "Google Cloud Storage",
    "hf": "the Hugging Face Hub, as hf://datasets/USER/NAME/FILE",
    "memory": "fsspec's files in this process's memory",
}


@hookimpl
def mmreg_sources() -> list[SourceSpec]:
    """`https://HOST/FILE`, `s3://BUCKET/FILE` and the like, `*.tar`, and `datasets://NAME`."""
    return [
        SourceSpec(
            scheme, "mmreg_remote.fetching:fetch", f"Tables, and files that cells name, of {what}.", fetches=True
        )
        for scheme, what in SCHEMES.items()
    ] + [
        SourceSpec(".tar", "mmreg_remote.shards:read", "Tar shards of WebDataset, such as train-{000..009}.tar."),
        SourceSpec("datasets", "mmreg_remote.huggingface:read", "A data set of Hugging Face: datasets://NAME#SPLIT."),
    ]
