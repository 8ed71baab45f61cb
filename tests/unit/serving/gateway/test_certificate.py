import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from registry.errors import InputError
from serving.gateway.certificate import make_certificate


def test_a_certificate_names_its_hosts_and_its_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    made = make_certificate(tmp_path / "tls", ("localhost", "127.0.0.1"), 3)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(made.certificate, made.key)
    found = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert (found.not_valid_after_utc - found.not_valid_before_utc).days == 3
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "name",
    [
        "caf\u00e9.example",
        "two words",
        "",
        "a..b",
        "-a",
        "http://a",
        "a:8000",
        "[::1]",
        "10.0.0.0/8",
        "a" * 64,
        "a,b",
        "a\n",
    ],
)
def test_what_is_no_host_name_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"cannot be made for .*give a host name"):
        make_certificate(tmp_path / "tls", ("localhost", name), 3)
    assert not (tmp_path / "tls").exists()


@pytest.mark.parametrize("name", ["*.example.com", "a_b.c-d", "xn--caf-dma.example", "::1"])
def test_what_a_client_may_ask_for_is_taken(tmp_path: Path, name: str) -> None:
    made = make_certificate(tmp_path / "tls", (name,), 3)
    assert ssl.create_default_context(cafile=str(made.certificate)).get_ca_certs()
