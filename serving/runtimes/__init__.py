"""One file per runtime; a file here is a plug-in and nothing else."""
