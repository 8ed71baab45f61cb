import ssl
import stat
from pathlib import Path

from cryptography import x509

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
