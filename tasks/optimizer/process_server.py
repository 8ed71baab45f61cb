"""The process server as its users see it: started early and in the background, stopped when this process ends."""


def start_process_server() -> None:
    """Start importing the libraries that children need, beside what the caller does next; returns at once.

    A second call does nothing, in whatever thread. Children are served without it too: the first one then waits for
    the imports.
    """
