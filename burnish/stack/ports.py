"""Checks, before anything is started, that every port of a stack can be had."""

import socket
from collections import defaultdict
from collections.abc import Sequence

from burnish.stack.plan import Part, Port
from registry.errors import InputError


def check_ports(parts: Sequence[Part]) -> None:
    """Check that every port is free and claimed once.

    Raises:
        InputError: some are not; the message names each port, who needs it, and the variable that changes it.
    """
    claims = defaultdict(list)
    for part in parts:
        for port in part.ports:
            claims[port.number].append(port)
    problems = [_twice(ports) for ports in claims.values() if len(ports) > 1]
    problems += [problem for ports in claims.values() if (problem := _taken(ports[0])) is not None]
    if problems:
        raise InputError("; ".join(problems))


def _twice(ports: list[Port]) -> str:
    purposes = " and ".join(port.purpose for port in ports)
    variables = " or ".join(sorted({port.variable for port in ports}))
    return f"port {ports[0].number} is claimed by {purposes}; set {variables} to another one"


def _taken(port: Port) -> str | None:
    change = f"the {port.purpose} needs it; set {port.variable} to a free port"
    try:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((port.host, port.number))
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return f"port {port.number} on {port.host} cannot be used ({reason}): {change}"
    return None
