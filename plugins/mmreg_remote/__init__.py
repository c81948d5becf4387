"""Tables and files from elsewhere, by fsspec; tables of WebDataset's shards and of Hugging Face data sets."""
