"""How a connection proves who it is (sources: Digest-, IP-, X509-, EnsembleAuthenticationProvider).

Every connection has an identity of the scheme ``ip``. Others are added by auth packets, which are served on receipt
and overtake writes that wait. A failed one is answered AUTHFAILED and ends the connection.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from typing import TYPE_CHECKING, Final

from corral.jute.errors import ErrorCode
from corral.jute.primitives import JuteError, decode_text
from corral.jute.records import AuthPacket
from corral.tree.acl import DIGEST, IP, Identity, Scheme

if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.server.config import AuthConfig
    from corral.server.connection import Connection
    from corral.server.stats import ServerStats

log = logging.getLogger(__name__)

SUPER: Final = ("super", "")


def digest_id(user_and_password: bytes, algorithm: str = "sha1") -> str:
    """The id of scheme digest for ``user:password``: the user, a colon, the hash of the whole in base64."""
    user = decode_text(user_and_password.split(b":", 1)[0])
    hashed = hashlib.new(algorithm, user_and_password).digest()
    return f"{user}:{base64.b64encode(hashed).decode('ascii')}"


X509: Final = Scheme("x509", lambda own, wanted: own == wanted, lambda name: "=" in name)
"""ACL entries of this scheme hold a certificate's subject; connections prove one once they come over TLS."""
SCHEMES: Final = {"digest": DIGEST, "ip": IP, "x509": X509}


class AuthenticationError(Exception):
    """What was offered proves nothing."""


class Authentication:
    """Serves auth packets by the configured schemes."""

    def __init__(self, config: AuthConfig, stats: ServerStats) -> None:
        self.config = config
        self.stats = stats
        self._provers: dict[str, Callable[[Connection, bytes], list[Identity]]] = {
            "digest": self._prove_digest,
            "ip": self._prove_address,
            "x509": self._prove_certificate,
            "ensemble": self._prove_ensemble,
        }

    def acl_schemes(self) -> list[Scheme]:
        """The schemes that may stand in ACLs here."""
        return [SCHEMES[name] for name in sorted(self.config.schemes) if name in SCHEMES]

    def serve(self, connection: Connection, xid: int, body: bytes) -> None:
        """Answer one auth packet."""
        try:
            packet = AuthPacket.from_bytes(body)
            scheme = packet.scheme or ""
            proved = self._prove(connection, scheme, packet.auth)
        except (AuthenticationError, JuteError) as error:
            connection.server.complaints.warn("authentication", "%r failed to authenticate: %s", connection, error)
            self.stats.auth_failed += 1
            connection.reply_at_once(xid, 0, ErrorCode.AUTH_FAILED)
            connection.close_after_flush = True
            return
        for identity in proved:
            if identity not in connection.identities:
                connection.identities.append(identity)
        connection.authenticated.add(scheme)
        connection.reply_at_once(xid, 0, ErrorCode.OK)

    def _prove(self, connection: Connection, scheme: str, auth: bytes | None) -> list[Identity]:
        if scheme not in self.config.schemes:
            raise AuthenticationError(f"scheme {scheme!r} is not known here")
        if auth is None and scheme == "digest":
            raise AuthenticationError("user and password are missing")
        return self._provers[scheme](connection, auth or b"")

    def user_name(self, scheme: str, name: str) -> str:
        """What whoAmI shows of an identity: never the hash of a password."""
        return name.split(":", 1)[0] if scheme == "digest" else name

    def _prove_digest(self, connection: Connection, auth: bytes) -> list[Identity]:
        own = digest_id(auth, self.config.digest_algorithm)
        identity = ("digest", own)
        return [SUPER, identity] if own == self.config.super_digest else [identity]

    def _prove_address(self, connection: Connection, auth: bytes) -> list[Identity]:
        return [("ip", connection.peer[0])]

    def _prove_certificate(self, connection: Connection, auth: bytes) -> list[Identity]:
        raise AuthenticationError("the connection has no client certificate")

    def _prove_ensemble(self, connection: Connection, auth: bytes) -> list[Identity]:
        names = self.config.ensemble_auth_names
        wanted = decode_text(auth)
        if not wanted or not names:
            self.stats.count("ensemble_auth_skip")
            return []
        if wanted not in names:
            self.stats.count("ensemble_auth_fail")
            raise AuthenticationError(f"the client expects ensemble {wanted!r}, this is {', '.join(sorted(names))}")
        self.stats.count("ensemble_auth_success")
        return []
