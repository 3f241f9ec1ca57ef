"""What requests are made of: paths good and bad, data, ACLs, versions, users.

Names are few, so that requests meet: a create finds its node there, a delete finds children, a watch is triggered.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Final

from tests.crosscheck.plan import AclEntry, Acls, AclVersionOf, Bytes, CreatedPath, Int, VersionOf
from tests.crosscheck.runner import OPEN_ACL, SUPER_USER

from corral.jute.primitives import decode_text, encode_text

if TYPE_CHECKING:
    from random import Random

    from tests.crosscheck.plan import Argument

ROOTS: Final = (b"/a", b"/b", b"/c")
NAMES: Final = (b"a", b"b", b"c")
QUOTA_ROOTS: Final = (b"/q", b"/q/a")
"""Only single requests go below these: quotas are checked against what is applied, and a pipeline races with that."""

DEEP_PATH: Final = b"/a" + b"/d" * 40

SYSTEM_PATHS: Final = (b"/", b"/zookeeper", b"/zookeeper/quota", b"/zookeeper/config")

STRANGE_PATHS: Final[tuple[bytes | None, ...]] = (
    b"",
    b"a",
    b"a/b",
    b"//",
    b"/a/",
    b"/a//b",
    b"/a/.",
    b"/a/..",
    b"/./a",
    b"/a/../b",
    b"/.a",
    b"/a/...",
    b"/a/b.",
    b"/a/ ",
    b" /a",
    b"/a\x00b",
    b"\x00",
    b"/a/\x01",
    b"/a/\x1f",
    b"/a/\x7f",
    "/a/\u0080".encode(),
    "/a/\u009f".encode(),
    "/a/\u00a0".encode(),
    "/a/\u00fc\u00df".encode(),
    "/a/\u65e5\u672c".encode(),
    "/a/\ud7ff".encode(),
    "/a/\ue000".encode(),
    "/a/\uf8ff".encode(),
    "/a/\uf900".encode(),
    "/a/\uffef".encode(),
    "/a/\ufff0".encode(),
    "/a/\ufffd".encode(),
    "/a/\uffff".encode(),
    "/a/\U0001f600".encode(),
    b"/a/\xed\xa0\xbd\xed\xb8\x80",
    b"/a/\xed\xa0\xbd",
    b"/a/\xff",
    b"/a/\xc3",
    b"/a/\xc0\xaf",
    b"/a/\xf0\x9f\x98",
    b"/a/" + b"n" * 1000,
    DEEP_PATH,
    b"/zookeeper/a",
    b"/zookeeper/quota/a",
    b"/zookeeper/config/a",
    b"/zookeeperx",
)

NULL_PATHS: Final[tuple[bytes | None, ...]] = (None,)

USERS: Final = (b"ann:one", b"bob:two", b"carol:x:y")


def digest_id(user_and_password: bytes) -> bytes:
    """The id that the digest scheme gives a user."""
    user = user_and_password.partition(b":")[0]
    return user + b":" + base64.b64encode(hashlib.sha1(user_and_password).digest())


GOOD_ACLS: Final = (
    (OPEN_ACL,),
    (OPEN_ACL,),
    (OPEN_ACL,),
    (OPEN_ACL,),
    (AclEntry(1, b"world", b"anyone"),),
    (AclEntry(1 | 2, b"world", b"anyone"), AclEntry(31, b"digest", digest_id(USERS[0]))),
    (AclEntry(16, b"world", b"anyone"), AclEntry(1, b"digest", digest_id(USERS[1]))),
    (AclEntry(31, b"auth", b""),),
    (AclEntry(31, b"auth", b"ignored"), AclEntry(1, b"world", b"anyone")),
    (AclEntry(31, b"digest", digest_id(USERS[0])),),
    (AclEntry(4 | 8, b"world", b"anyone"), AclEntry(31, b"digest", b"ann:nobodyhasthis")),
    (AclEntry(31, b"ip", b"127.0.0.1"),),
    (AclEntry(31, b"ip", b"127.0.0.1/8"),),
    (AclEntry(31, b"ip", b"127.255.0.0/9"),),
    (AclEntry(31, b"ip", b"10.0.0.0/8"), AclEntry(1, b"world", b"anyone")),
    (AclEntry(31, b"ip", b"0.0.0.0/0"),),
    (AclEntry(31, b"ip", b"::1"), AclEntry(7, b"world", b"anyone")),
    (AclEntry(31, b"ip", b"::/0"),),
    (OPEN_ACL, OPEN_ACL, AclEntry(31, b"world", b"anyone"), AclEntry(3, b"world", b"anyone")),
    (AclEntry(0, b"world", b"anyone"), AclEntry(31, b"ip", b"127.0.0.1/32")),
    (AclEntry(-1, b"world", b"anyone"),),
    (AclEntry(255, b"world", b"anyone"),),
    tuple(AclEntry(perms, b"world", b"anyone") for perms in range(32)),
)

BAD_ACLS: Final[tuple[tuple[AclEntry, ...] | None, ...]] = (
    None,
    (),
    (AclEntry(31, b"world", b"nobody"),),
    (AclEntry(31, b"world", b""),),
    (AclEntry(31, b"digest", b"ann"),),
    (AclEntry(31, b"digest", b"a:b:c"),),
    (AclEntry(31, b"digest", b""),),
    (AclEntry(31, b"digest", b":"),),
    (AclEntry(31, b"digest", b"a:"),),
    (AclEntry(31, b"ip", b"bad"),),
    (AclEntry(31, b"ip", b"127.0.0.1/33"),),
    (AclEntry(31, b"ip", b"127.0.0.1/-1"),),
    (AclEntry(31, b"ip", b"127.0.0.1/x"),),
    (AclEntry(31, b"ip", b"127.0.0.1/"),),
    (AclEntry(31, b"ip", b"127.0.0.1/8/8"),),
    (AclEntry(31, b"ip", b"127.0.0"),),
    (AclEntry(31, b"ip", b"256.0.0.1"),),
    (AclEntry(31, b"ip", b"::1/129"),),
    (AclEntry(31, b"ip", b"1:2:3"),),
    (AclEntry(31, b"ip", b""),),
    (AclEntry(31, b"sasl", b"bob"),),
    (AclEntry(31, b"x509", b"CN=bob"),),
    (AclEntry(31, b"super", b""),),
    (AclEntry(31, b"nonsense", b"x"),),
    (AclEntry(31, b"", b""),),
    (OPEN_ACL, AclEntry(31, b"nonsense", b"x")),
    (AclEntry(31, None, b"anyone"),),
    (AclEntry(31, None, None),),
)

NULL_ID_ACLS: Final[tuple[tuple[AclEntry, ...], ...]] = (
    (AclEntry(31, b"world", None),),
    (AclEntry(31, b"digest", None),),
    (AclEntry(31, b"ip", None),),
    (AclEntry(31, b"auth", None),),
)

AUTHENTICATIONS: Final[tuple[tuple[bytes | None, bytes | None], ...]] = (
    (b"digest", USERS[0]),
    (b"digest", USERS[1]),
    (b"digest", USERS[2]),
    (b"digest", SUPER_USER),
    (b"digest", b"super:wrong"),
    (b"digest", b"nopassword"),
    (b"digest", b""),
    (b"digest", b":"),
    (b"digest", "j\u00fcrgen:\U0001f600".encode()),
    (b"ip", b""),
    (b"ip", b"10.0.0.1"),
)

REFUSED_AUTHENTICATIONS: Final[tuple[tuple[bytes | None, bytes | None], ...]] = (
    (b"digest", None),
    (b"world", b"anyone"),
    (b"nonsense", b"x"),
    (b"super", b""),
    (b"sasl", b"bob"),
    (b"x509", b"CN=bob"),
    (b"", b""),
    (None, b"x"),
)


def is_watchable(path: bytes | None) -> bool:
    """Whether a Java server that decodes and encodes a path again gets the same bytes.

    Other paths are never watched: no znode can have one, but a watch table keyed by decoded text and one keyed by bytes
    show them differently.
    """
    return path is None or encode_text(decode_text(path)) == path


def plain_path(random: Random) -> bytes:
    """A well-formed path among the few that everything happens at."""
    path = random.choice(ROOTS)
    while random.random() < 0.55 and path.count(b"/") < 4:
        path += b"/" + random.choice(NAMES)
    return path


def quota_path(random: Random) -> bytes:
    path = QUOTA_ROOTS[0]
    while random.random() < 0.6 and path.count(b"/") < 4:
        path += b"/" + random.choice(NAMES)
    return path


def data(random: Random) -> Bytes:
    """Mostly short, sometimes null, empty, or long."""
    choice = random.random()
    if choice < 0.1:
        return Bytes(None)
    if choice < 0.2:
        return Bytes(b"")
    if choice < 0.95:
        return Bytes(random.randbytes(random.randrange(1, 40)))
    return Bytes(bytes([random.randrange(256)]) * random.randrange(1000, 20_000))


def version(random: Random, path: bytes) -> Argument:
    """Mostly one that matches."""
    choice = random.random()
    if choice < 0.5:
        return Int(-1)
    if choice < 0.8:
        return VersionOf(path)
    if choice < 0.9:
        return VersionOf(path, random.choice((-1, 1)))
    return Int(random.choice((0, 1, -2, 2**31 - 1, -(2**31))))


def acl_version(random: Random, path: bytes) -> Argument:
    choice = random.random()
    if choice < 0.5:
        return Int(-1)
    if choice < 0.8:
        return AclVersionOf(path)
    return AclVersionOf(path, random.choice((-1, 1)))


def created_path(random: Random, otherwise: bytes) -> CreatedPath:
    """What a recent create made (its sequence number is known to nobody beforehand), or something below it."""
    return CreatedPath(random.randrange(8), random.choice((b"", b"", b"", b"/a", b"/")), otherwise)


def acls(random: Random, clean: bool) -> Acls:
    """A vector of ACLs. `clean` leaves out what makes Apache stumble (see `generator`)."""
    choice = random.random()
    if choice < 0.91:
        return Acls(random.choice(GOOD_ACLS))
    if choice < 0.98 or clean:
        return Acls(random.choice(BAD_ACLS))
    return Acls(random.choice(NULL_ID_ACLS))
