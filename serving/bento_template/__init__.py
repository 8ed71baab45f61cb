"""What every Bento of a version is made of: the service that is copied into it, and the script that builds it."""
