"""The real adapters: the only importer of boto3."""
