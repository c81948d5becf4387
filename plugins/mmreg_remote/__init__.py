"""Tables and files from elsewhere: http, S3, Google Cloud Storage and the Hugging Face Hub, by fsspec."""
