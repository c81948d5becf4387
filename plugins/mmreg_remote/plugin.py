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
    """`https://HOST/FILE`, `s3://BUCKET/FILE` and the like."""
    return [
        SourceSpec(scheme, "mmreg_remote.fetching:fetch", f"Tables, and files that cells name, of {what}.", fetches=True)
        for scheme, what in SCHEMES.items()
    ]
