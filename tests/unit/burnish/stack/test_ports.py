import socket

import pytest

from burnish.stack.plan import Part, Port
from burnish.stack.ports import check_ports
from registry.errors import InputError
from tests.integration.processes import free_ports


def part(name: str, *numbers: int) -> Part:
    ports = tuple(
        Port(host="127.0.0.1", number=number, purpose=name, variable=f"BURNISH_{name.upper()}_PORT")
        for number in numbers
    )
    return Part(name=name, command=("true",), ports=ports, probes=())


def test_free_ports_pass() -> None:
    check_ports((part("one", *free_ports(1)), part("two")))


def test_every_port_in_use_is_named_with_its_owner_and_its_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        taken = [first.getsockname()[1], second.getsockname()[1]]
        with pytest.raises(InputError) as caught:
            check_ports((part("one", taken[0]), part("two", taken[1], *free_ports(1))))
    for number, name in zip(taken, ("one", "two"), strict=True):
        assert f"port {number} on 127.0.0.1 cannot be used" in str(caught.value)
        assert f"the {name} needs it; set BURNISH_{name.upper()}_PORT to a free port" in str(caught.value)
    assert str(caught.value).count("cannot be used") == 2


def test_a_port_claimed_twice_is_refused_with_both_claims() -> None:
    (number,) = free_ports(1)
    with pytest.raises(
        InputError, match=f"port {number} is claimed by one and two; set BURNISH_ONE_PORT or BURNISH_TWO"
    ):
        check_ports((part("one", number), part("two", number)))


def test_a_number_that_is_no_port_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"port 70000 .* BURNISH_ONE_PORT"):
        check_ports((part("one", 70000),))
