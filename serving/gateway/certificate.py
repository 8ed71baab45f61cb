"""Makes a self-signed certificate for a gateway."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from registry.errors import InputError
from serving.gateway.plan import Tls
from serving.gateway.state import write_private

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z)(\*\.)?{_LABEL}(\.{_LABEL})*")

_LEEWAY = timedelta(hours=1)
"""For clients whose clock is behind."""


def make_certificate(folder: Path, names: Sequence[str], days: int) -> Tls:
    """Write ``certificate.pem`` and ``key.pem``; a gateway that uses them takes them at once.

    Args:
        folder: where to.
        names: host names and IP addresses that clients will ask for.
        days: how long it holds.

    Raises:
        InputError: a name is neither a host name nor an IP address.
    """
    wanted = [_general(name) for name in names]
    folder.mkdir(parents=True, exist_ok=True)
    files = Tls(certificate=folder / "certificate.pem", key=folder / "key.pem")
    key = ec.generate_private_key(ec.SECP256R1())
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(files.key, key.private_bytes(*plain).decode())
    write_private(files.certificate, _signed(key, wanted, days).public_bytes(serialization.Encoding.PEM).decode())
    return files


def _signed(key: ec.EllipticCurvePrivateKey, names: list[x509.GeneralName], days: int) -> x509.Certificate:
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Burnish gateway")]), datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LEEWAY)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        # Its own authority, so that a client may be told to trust it, and nothing that it would have signed.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        if not _HOST_NAME.fullmatch(name):
            raise InputError(
                f"a certificate cannot be made for {name!r}: give a host name (in ASCII, xn--...) or an IP address,"
                " without scheme or port"
            ) from None
        return x509.DNSName(name)
