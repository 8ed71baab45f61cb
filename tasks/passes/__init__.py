"""One file per optimization pass; a file here is a plug-in and nothing else."""
