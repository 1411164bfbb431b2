"""Who may do what: keys with roles, and the rule for addresses that others can reach."""

from __future__ import annotations

import dataclasses
import hmac
import ipaddress
import pathlib
import ssl

from rt2.errors import UserError

ROLES = ("ask", "act", "admin")  # questions alone; actions too; reloading too
MIN_TOKEN = 16  # characters


class ServeError(UserError):
    """Settings that the server refuses; the message carries the remedy."""


@dataclasses.dataclass(frozen=True)
class Access:
    """The keys of a server, none on an address that this machine alone can reach."""

    keys: tuple[tuple[str, str], ...] = ()  # role, key

    def role(self, headers: list[str]) -> str | None:
        """The role of a request's `Authorization` headers; None where it may do nothing.

        Every key is compared, each in constant time.
        """
        if not self.keys:
            return "act"
        given = [header.encode("utf-8", "surrogateescape") for header in headers]
        found = None
        for role, key in self.keys:
            wanted = f"Api-Key {key}".encode()
            if len(given) == 1 and hmac.compare_digest(given[0], wanted):
                found = role
        return found


def allows(role: str, needed: str) -> bool:
    """Whether a role may do what another one may."""
    return ROLES.index(role) >= ROLES.index(needed)


def read_keys(path: pathlib.Path) -> Access:
    """The keys of a file: a key on each line, or `ROLE KEY`; a key alone has the role act."""
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ServeError(f"--token-file={path}: unreadable ({error})") from error
    keys = []
    for line in filter(None, map(str.strip, lines)):
        role, key = ("act", line) if " " not in line else line.split(" ", 1)
        if role not in ROLES or len(key) < MIN_TOKEN or not key.isprintable() or " " in key:
            raise ServeError(
                f"--token-file={path}: a line is one key of at least {MIN_TOKEN} characters, such "
                f"as `openssl rand -hex 32` prints, or a role ({', '.join(ROLES)}) and a key"
            )
        keys.append((role, key))
    if not keys:
        raise ServeError(f"--token-file={path}: no key in it; `openssl rand -hex 32` prints one")
    return Access(tuple(keys))


def read_tls(certificate: pathlib.Path, key: pathlib.Path) -> ssl.SSLContext:
    """TLS 1.2 or newer with the certificate chain and key of two PEM files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ServeError(
            f"--tls-cert={certificate} --tls-key={key}: {error}; both are PEM files"
        ) from error
    return context


def check_exposure(host: str, keys: bool, encrypted: bool) -> None:
    """Raises ServeError where others than this machine could connect without a key, or listen."""
    if is_loopback(host):
        return
    if not keys:
        raise ServeError(
            f"--host={host}: other machines could move the robot. Give --token-file=FILE (clients "
            "send its content as `Authorization: Api-Key ...`), or keep --host=127.0.0.1"
        )
    if not encrypted:
        raise ServeError(
            f"--host={host}: keys and images would cross the network readable. Give "
            "--tls-cert=FILE --tls-key=FILE, or --tls-proxy where a proxy encrypts"
        )


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's alone; a name other than localhost is not."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name, or empty for every interface
