"""Free ports: apart from each other, from what listens, and from the ports that connections are given."""

import socket
from pathlib import Path

import pytest

from benchmarks.ports import PORTS, free_ports


def test_free_ports_of_spans_do_not_overlap() -> None:
    found = free_ports([(0, 1, 10, 11), (0,), (0, 1)])
    wanted = [found[0], found[0] + 1, found[0] + 10, found[0] + 11, found[1], found[2], found[2] + 1]
    assert len(set(wanted)) == len(wanted)


def test_free_ports_are_looked_for_where_it_is_said_and_none_that_is_left_out_is_taken() -> None:
    among = PORTS[100:200]
    left_out = {*among[:50]}
    (found,) = free_ports([(0, 1)], among, left_out)
    assert {found, found + 1} <= set(among) - left_out
    with pytest.raises(OSError, match="no free ports"):
        free_ports([(0,)], among, set(among))


def test_no_connection_is_given_such_a_port_and_a_server_can_have_it() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if lowest < 32_768:
        pytest.skip(f"this machine gives connections the ports from {lowest} on, other than Linux by default")
    for port in free_ports([(0,)] * 50):
        assert port < lowest
        with socket.create_server(("127.0.0.1", port)):
            pass
