"""Runs on the managed host: whom a registry's TLS connection trusts, and what it shows of itself.

Besides the settings, the folders count in which Docker and Podman keep certificates per registry:
`/etc/docker/certs.d/HOST[:PORT]/` with `*.crt` (trusted), `*.cert` and `*.key` (shown).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..contract.errors import HostctlError
from ..contract.registries import RegistrySettings, settings_for

CERTS_D = ("/etc/docker/certs.d", "/etc/containers/certs.d")


def context(
    host: str, registries: Mapping[str, RegistrySettings], verify: bool, home: str = ""
) -> Any:
    """The SSL context for a server.

    Args:
        host: with its port where one is written, as the folders are named.
        verify: check its certificate.
        home: another server whose CA is trusted, too.
    Raises:
        HostctlError: `registry-certificate`: a file cannot be read, or is none.
    """
    import ssl

    made = ssl.create_default_context()
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    for server in filter(None, dict.fromkeys((home, host))):
        ca = settings_for(registries, server).ca
        if ca:
            _trust(made, ca, f"the ca of {server}")
        for path in _files(server, ".crt"):
            _trust(made, path, path)
    settings = settings_for(registries, host)
    if settings.cert:
        with _as_file(settings.cert) as cert, _as_file(settings.key) as key:
            _show(made, cert, key, f"cert and key of {host}")
    for path in _files(host, ".cert"):
        key = path[: -len(".cert")] + ".key"
        if not os.path.exists(key):
            raise _error(path, f"its key {os.path.basename(key)} is missing")
        _show(made, path, key, path)
    return made


def _files(host: str, ending: str) -> list[str]:
    """Files of the server's folders; those with its port come first."""
    found = []
    for parent in CERTS_D:
        for name in dict.fromkeys((host, host.partition(":")[0])):
            folder = os.path.join(parent, name)
            if name and os.path.isdir(folder):
                names = sorted(os.listdir(folder))
                found += [os.path.join(folder, one) for one in names if one.endswith(ending)]
    return found


def _trust(made: Any, text: str, what: str) -> None:
    import ssl

    try:
        if text.startswith("/"):
            made.load_verify_locations(cafile=text)
        else:
            made.load_verify_locations(cadata=text)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise _error(what, getattr(error, "strerror", "") or "it is no PEM certificate") from None


def _show(made: Any, cert: str, key: str, what: str) -> None:
    import ssl

    try:
        # A key with a passphrase would be asked for on the terminal.
        made.load_cert_chain(cert, key, password="")
    except (OSError, ssl.SSLError, ValueError) as error:
        cause = getattr(error, "reason", "") or getattr(error, "strerror", "")
        raise _error(what, cause or "they are no PEM") from None


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """The path of what is a path, or is PEM: OpenSSL takes files only, so that lies in memory."""
    if text.startswith("/"):
        yield text
        return
    fd = os.memfd_create("pem")
    try:
        data = text.encode()
        while data:
            data = data[os.write(fd, data) :]
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _error(what: str, cause: str) -> HostctlError:
    return HostctlError(
        f"cannot use {what}: {cause}",
        hint="PEM is text that begins with -----BEGIN CERTIFICATE----- (or ... PRIVATE KEY-----)",
        ref="registry-certificate",
    )
