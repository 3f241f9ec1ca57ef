"""The settings of one server, as one validated value.

Each setting is declared once: its name here, its key in ``zoo.cfg``, what values it takes and its default. The
defaults are those of Apache ZooKeeper 3.9. Times are milliseconds and sizes bytes unless the name says otherwise.

A :class:`ServerConfig` can be made from a file (:mod:`corral.server.config.reading`) or from keywords:
``ServerConfig(data_dir=Path("data"), client_port=0, limits=Limits(max_client_connections=0))``. Both ways the same
checks hold; a value that is refused raises :class:`~corral.server.config.errors.ConfigError`.
"""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from corral.server.config.errors import ConfigError
from corral.server.config.membership import (
    ANY_ADDRESSES,
    Member,
    Membership,
    PeerAddress,
    check_addresses,
    check_members,
)
from corral.server.config.values import (
    LONG_MAX,
    Algorithm,
    Directory,
    Fraction,
    Interval,
    Names,
    OneOf,
    Switch,
    Text,
    Value,
    Whole,
)

__all__ = [
    "ALL_WORDS",
    "GROUPS",
    "UNSET",
    "AuthConfig",
    "ConnectionThrottle",
    "Declaration",
    "Limits",
    "QuorumConfig",
    "RequestThrottle",
    "ServerConfig",
    "Source",
    "StorageConfig",
    "TreeConfig",
    "check_number",
    "declarations",
]

T = TypeVar("T")

ALL_WORDS: Final = "*"
"""The member of ``four_letter_words`` that stands for every word."""

UNSET: Final = -1
"""Stands for "derived from another setting" where Apache writes it so; no value of a finished configuration."""

SAME_AS_DATA_DIR: Final = Path()
"""The default of ``data_log_dir``, known by its identity: a user may well mean the working directory."""

BACKLOG_DEFAULT: Final = 50
"""How many connections may wait to be accepted when nothing is set: what the JVM uses."""


class Source(enum.Enum):
    """Where Apache's server reads a setting from."""

    FILE = "a key of zoo.cfg"
    PROPERTY = "a system property zookeeper.K, which zoo.cfg may hold as K"
    JVM = "a system property without prefix, which Apache's zoo.cfg cannot hold"


@dataclass(frozen=True, slots=True)
class Declaration:
    """What is known about one setting besides its type and default."""

    key: str
    value: Value[Any]
    source: Source


def setting(key: str, value: Value[T], default: T, source: Source = Source.PROPERTY) -> T:
    """A dataclass field that is the setting ``key`` of ``zoo.cfg``."""
    declared: T = field(default=default, metadata={"declaration": Declaration(key, value, source)})
    return declared


def declarations(settings: type) -> Iterator[tuple["Field[Any]", Declaration]]:
    """The fields of a group of settings that are declared as settings, in order."""
    for each in fields(settings):
        declaration = each.metadata.get("declaration")
        if declaration is not None:
            yield each, declaration


def admit(settings: object) -> None:
    """Check every setting of a new frozen value, putting in what is used instead where Apache does so."""
    for each, declaration in declarations(type(settings)):
        value = getattr(settings, each.name)
        try:
            used = declaration.value.admit(value)
        except ValueError:
            raise ConfigError(
                f"{declaration.key}={value} is refused; accepted is {declaration.value.accepts}", declaration.key
            ) from None
        object.__setattr__(settings, each.name, used)


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConfig:
    """The transaction log, the snapshots and their purge."""

    snap_count: int = setting("snapCount", Whole(minimum=2, below=2), 100_000)
    """Transactions between two snapshots (half to all of it, drawn anew each time)."""
    snap_size_limit_kb: int = setting("snapSizeLimitInKb", Whole(-LONG_MAX, LONG_MAX), 4_194_304)
    """The same by size of the log, in KiB; 0 or less is off."""
    prealloc_size_kb: int = setting("preAllocSize", Whole(0, LONG_MAX), 65_536)
    """How much a log file grows at a time, in KiB; 0 grows it with each write."""
    txn_log_size_limit_kb: int = setting("txnLogSizeLimitInKb", Whole(-LONG_MAX, LONG_MAX), -1)
    """Begin a new log file when this one is larger, in KiB; 0 or less is off."""
    force_sync: bool = setting("forceSync", Switch("yes", "no"), default=True)
    """Sync the log to the device before anything is acknowledged."""
    fsync_warning_threshold_ms: int = setting("fsync.warningthresholdms", Whole(0, LONG_MAX), 1000)
    """Report a sync that takes longer."""
    digest_enabled: bool = setting("digest.enabled", Switch(), default=True)
    """Keep the digest of the tree and write it with each transaction and snapshot."""
    serialize_last_processed_zxid_enabled: bool = setting("serializeLastProcessedZxid.enabled", Switch(), default=True)
    """Write the last zxid into snapshots."""
    snapshot_compression: str | None = setting("snapshot.compression.method", OneOf(("gz", "snappy")), None)
    """How snapshots are compressed; None is plain."""
    snapshot_trust_empty: bool = setting("snapshot.trust.empty", Switch(), default=False)
    """Start from the log alone when there is a log and no snapshot."""
    db_autocreate: bool = setting("db.autocreate", Switch(), default=True)
    """Make a new database when the directories hold none."""
    datadir_autocreate: bool = setting("datadir.autocreate", Switch(), default=True)
    """Make the ``version-2`` directories when they are missing."""
    purge_retain_count: int = setting(
        "autopurge.snapRetainCount", Whole(minimum=3, below=3, decimal_only=True), 3, Source.FILE
    )
    """Snapshots that a purge keeps."""
    purge_interval_ms: int = setting("autopurge.purgeInterval", Interval(), 0, Source.FILE)
    """Time between two purges; 0 or less is off."""

    def __post_init__(self) -> None:
        admit(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeConfig:
    """What the tree of znodes does."""

    extended_types_enabled: bool = setting("extendedTypesEnabled", Switch(), default=False)
    """TTL znodes may be created."""
    emulate_353_ttl_nodes: bool = setting("emulate353TTLNodes", Switch(), default=False)
    """Read ephemeral owners as version 3.5.3 wrote those of TTL znodes."""
    container_check_interval_ms: int = setting("znode.container.checkIntervalMs", Whole(1), 60_000, Source.JVM)
    """Time between two searches for container and TTL znodes that are due."""
    container_max_per_minute: int = setting("znode.container.maxPerMinute", Whole(1), 10_000, Source.JVM)
    """How many of them are deleted in a minute at most."""
    container_max_never_used_interval_ms: int = setting(
        "znode.container.maxNeverUsedIntervalMs", Whole(0, LONG_MAX), 0, Source.JVM
    )
    """Delete a container that never had a child after this time; 0 keeps it."""
    enforce_quota: bool = setting("enforceQuota", Switch(), default=False)
    """Refuse what goes over a hard quota, rather than only report it."""
    close_session_txn_enabled: bool = setting("closeSessionTxn.enabled", Switch(), default=True)
    """Write the ephemerals that a closing session takes with it into its transaction."""
    reconfig_enabled: bool = setting("reconfigEnabled", Switch(), False, Source.FILE)
    """Whether reconfig is answered "disabled" or, by a standalone server, "unimplemented"."""

    def __post_init__(self) -> None:
        admit(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthConfig:
    """Who is who, and who may do what."""

    skip_acl: bool = setting("skipACL", Switch("yes", "no"), default=False)
    """Check no ACL."""
    super_digest: str | None = setting(
        "DigestAuthenticationProvider.superDigest", Text("user:hash as in an ACL of scheme digest"), None
    )
    """The digest id that may do everything."""
    digest_algorithm: str = setting("DigestAuthenticationProvider.digestAlg", Algorithm(), "sha1")
    """What digest ids are made with, in the spelling of hashlib."""
    digest_auth_enabled: bool = setting("DigestAuthenticationProvider.enabled", Switch(), default=True)
    """The scheme digest exists."""
    enforce_auth_enabled: bool = setting("enforce.auth.enabled", Switch(), default=False)
    """Serve only connections that authenticated by one of ``enforce_auth_schemes``."""
    enforce_auth_schemes: frozenset[str] = setting("enforce.auth.schemes", Names(), frozenset())
    """See ``enforce_auth_enabled``."""
    ensemble_auth_names: frozenset[str] = setting("ensembleAuthName", Names(), frozenset())
    """The names a client of the scheme ensemble may expect this service to have; none admits every name."""
    extra_schemes: frozenset[str] = frozenset()
    """Schemes beside ip and digest that ``authProvider.*`` lines switched on: ensemble, x509."""

    @property
    def schemes(self) -> frozenset[str]:
        """The schemes that have a provider."""
        return self.extra_schemes | ({"ip", "digest"} if self.digest_auth_enabled else {"ip"})

    def __post_init__(self) -> None:
        admit(self)
        if not self.enforce_auth_enabled:
            return
        if not self.enforce_auth_schemes:
            raise ConfigError(
                "enforce.auth.enabled=true needs enforce.auth.schemes to name at least one scheme",
                "enforce.auth.enabled",
            )
        missing = sorted(self.enforce_auth_schemes - self.schemes)
        if missing:
            raise ConfigError(
                f"enforce.auth.schemes asks for {', '.join(missing)}, which this server does not have;"
                f" it has {', '.join(sorted(self.schemes))}",
                "enforce.auth.schemes",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What clients may use of the server."""

    max_client_connections: int = setting(
        "maxClientCnxns", Whole(minimum=0, below=0, decimal_only=True), 60, Source.FILE
    )
    """Connections from one address; 0 is no limit."""
    max_connections: int = setting("maxCnxns", Whole(minimum=0, below=0), 0)
    """Connections altogether; 0 is no limit."""
    global_outstanding_limit: int = setting("globalOutstandingLimit", Whole(0), 1000)
    """Requests in process; beyond it a connection that has some of them is not read from."""
    jute_max_buffer: int = setting("jute.maxbuffer", Whole(1), 0xFFFFF, Source.JVM)
    """The longest frame that is read from a client."""
    sessionless_connection_timeout_ms: int = setting("nio.sessionlessCnxnTimeout", Whole(1), 10_000)
    """Close a connection that has not asked for a session in this time."""
    large_request_threshold: int = setting("largeRequestThreshold", Whole(minimum=1, below=-1), -1)
    """Requests longer than this count as large; -1 is off."""
    large_request_max_bytes: int = setting("largeRequestMaxBytes", Whole(minimum=1, below=104_857_600), 104_857_600)
    """The sum of the large requests in process; a connection that goes over it is closed."""
    throttled_op_wait_time_ms: int = setting("throttled_op_wait_time", Whole(minimum=0, below=0), 0)
    """A request that waited longer is answered ThrottledOp; 0 is off."""

    def __post_init__(self) -> None:
        admit(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionThrottle:
    """How fast new connections are let in: a bucket of tokens, and dropping at random before it runs dry."""

    tokens: int = setting("connection_throttle_tokens", Whole(minimum=0, below=0), 0)
    """Size of the bucket; 0 is off. With weights, in global sessions: the bucket holds that many weights."""
    fill_time_ms: int = setting("connection_throttle_fill_time", Whole(1), 1)
    """Time between two fillings."""
    fill_count: int = setting("connection_throttle_fill_count", Whole(1), 1)
    """Tokens a filling brings; with weights, in global sessions."""
    freeze_time_ms: int = setting("connection_throttle_freeze_time", Whole(minimum=-1, below=-1), -1)
    """Time between two changes of the probability to drop; -1 drops none at random."""
    drop_increase: float = setting("connection_throttle_drop_increase", Fraction(0, 1), 0.02)
    """What the probability rises by when the bucket is empty."""
    drop_decrease: float = setting("connection_throttle_drop_decrease", Fraction(0, 1), 0.002)
    """What it falls by when the bucket is fuller than ``decrease_ratio``."""
    decrease_ratio: float = setting("connection_throttle_decrease_ratio", Fraction(0, 1), 0.0)
    """See ``drop_decrease``."""
    weight_enabled: bool = setting("connection_throttle_weight_enabled", Switch(), default=False)
    """New global, local and renewed sessions take different numbers of tokens."""
    global_session_weight: int = setting("connection_throttle_global_session_weight", Whole(minimum=1, below=3), 3)
    """Tokens of a new session; never fewer than those of a local one."""
    local_session_weight: int = setting("connection_throttle_local_session_weight", Whole(minimum=1, below=1), 1)
    """Tokens of a local session."""
    renew_session_weight: int = setting("connection_throttle_renew_session_weight", Whole(minimum=1, below=2), 2)
    """Tokens of a session that comes back; never fewer than those of a local one."""

    def __post_init__(self) -> None:
        admit(self)
        for name in ("global_session_weight", "renew_session_weight"):
            object.__setattr__(self, name, max(getattr(self, name), self.local_session_weight))


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestThrottle:
    """How many requests are taken into the pipeline at a time."""

    max_requests: int = setting("request_throttle_max_requests", Whole(minimum=0, below=0), 0)
    """Requests in the pipeline; 0 is off."""
    stall_time_ms: int = setting("request_throttle_stall_time", Whole(0), 100)
    """How long to wait before looking again when the pipeline is full."""
    drop_stale: bool = setting("request_throttle_drop_stale", Switch(), default=True)
    """Drop a waiting request that has gone stale."""
    stale_latency_check: bool = setting("request_stale_latency_check", Switch(), default=False)
    """Stale is what waited longer than its session's timeout."""
    stale_connection_check: bool = setting("request_stale_connection_check", Switch(), default=True)
    """Stale is what came over a connection that is closed by now."""

    def __post_init__(self) -> None:
        admit(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumConfig:
    """The ensemble that the server is a member of, and how its members deal with each other."""

    init_limit: int = setting("initLimit", Whole(0, decimal_only=True), 0, Source.FILE)
    """Ticks for finding the epoch and for coming into step with the leader; 0 is not set."""
    sync_limit: int = setting("syncLimit", Whole(0, decimal_only=True), 0, Source.FILE)
    """Ticks that leader and learner go without hearing of each other; 0 is not set."""
    connect_limit: int = setting("connectToLearnerMasterLimit", Whole(0, decimal_only=True), 0, Source.FILE)
    """Ticks for reaching the elected leader; 0 is one second."""
    election_algorithm: int = setting("electionAlg", Whole(3, 3, decimal_only=True), 3, Source.FILE)
    """There is only one left."""
    peer_type: str | None = setting("peerType", OneOf(("participant", "observer")), None, Source.FILE)
    """What the server is said to be; the server line decides."""
    listen_on_all_addresses: bool = setting("quorumListenOnAllIPs", Switch(), False, Source.FILE)
    """Listen for other members on every address of the machine, rather than on those of the server line."""
    multi_address_enabled: bool = setting("multiAddress.enabled", Switch(), False, Source.FILE)
    """Members may have several addresses each."""
    connect_timeout_ms: int = setting("cnxTimeout", Whole(1), 5000)
    """How long connecting to the election port of another member may take."""
    hello_timeout_ms: int = setting("quorumCnxnTimeoutMs", Whole(minimum=-1, below=-1), -1)
    """How long another member may take to say who it is, once connected; -1 is ``syncLimit`` ticks."""
    bind_attempts: int = setting("electionPortBindRetry", Whole(minimum=0, below=0), 3)
    """How often it is tried to listen for elections, a second apart; 0 is for ever."""
    tcp_keepalive: bool = setting("tcpKeepAlive", Switch(), default=False)
    """Let the system probe election connections on which nothing happens."""
    leader_serves: bool = setting("leaderServes", Switch("yes", "no"), default=True)
    """The leader takes clients."""
    first_notification_interval_ms: int = setting("fastleader.minNotificationInterval", Whole(1), 200)
    """A server that looks for a leader asks again after this time, and then ever less often ..."""
    last_notification_interval_ms: int = setting("fastleader.maxNotificationInterval", Whole(1), 60_000)
    """... but at least once in this time."""
    recent_transactions: int = setting("commitLogCount", Whole(minimum=500, below=500), 500)
    """Committed transactions that are kept in memory for members that were away for a moment."""
    snapshot_size_factor: float = setting("snapshotSizeFactor", Fraction(-LONG_MAX, LONG_MAX), 0.33)
    """More of the log than this share of a snapshot is not sent to a member; below 0 none is."""
    local_sessions_enabled: bool = setting("localSessionsEnabled", Switch(), False, Source.FILE)
    """A new session is known only to the server that has it, until it needs to be known to all."""
    local_sessions_upgrading_enabled: bool = setting("localSessionsUpgradingEnabled", Switch(), False, Source.FILE)
    """A local session becomes one of the ensemble when it creates an ephemeral znode; otherwise that is refused."""
    forces_snapshots: bool = setting("forceSnapshotSync", Switch(), default=False)
    """Every member that comes gets the whole tree, whatever it lacks."""
    snapshot_syncs_max: int = setting("leader.maxConcurrentSnapSyncs", Whole(1), 10)
    """To how many members the whole tree is sent at a time; observers beyond that are sent away, voters never."""
    difference_syncs_max: int = setting("leader.maxConcurrentDiffSyncs", Whole(1), 100)
    """The same for members that get only what they lack."""
    observer_reconnect_delay_ms: int = setting("observer.reconnectDelayMs", Whole(minimum=0, below=0), 0)
    """An observer that loses its leader waits for a random time up to this before it looks for another."""

    members: Mapping[int, Member] = field(default_factory=dict)
    """All members by their numbers; none for a standalone server."""
    version: int = 0
    """Of this membership: the zxid of the reconfiguration that made it."""
    groups: Mapping[int, frozenset[int]] = field(default_factory=dict)
    """The members of each group of a hierarchical quorum; none where a majority decides."""
    weights: Mapping[int, int] = field(default_factory=dict)
    """What votes count in a hierarchical quorum; a member that is not named weighs 1."""
    proposed: Membership | None = None
    """A membership that was on its way when the server stopped, and may have come into force since."""
    standalone_enabled: bool = True
    """Whether a single voter would be a standalone server at its next start; an ensemble is not changed into one."""
    listens_at: tuple[PeerAddress, ...] = ()
    """Where the server listens for the others; none is where they look for it."""

    def __post_init__(self) -> None:
        admit(self)
        if not self.members:
            return
        for key, limit in (("initLimit", self.init_limit), ("syncLimit", self.sync_limit)):
            if limit == 0:
                raise ConfigError(f"{key} is missing: the servers of an ensemble need it, a number of ticks", key)
        check_addresses(self.members, multi_address=self.multi_address_enabled)
        check_members(self.members, self.groups, self.weights)
        if self.proposed is not None:
            check_members(self.proposed.members, self.proposed.groups, self.proposed.weights)


def check_number(server_id: int | None, members: Mapping[int, Member], data_dir: Path) -> None:
    """Raise ConfigError if the server does not know which of the members it is."""
    path, numbers = data_dir / "myid", ", ".join(map(str, sorted(members)))
    if server_id is None:
        raise ConfigError(
            f"{path} is missing: it has to hold the number of this server, one of {numbers}."
            " Write the number into it, or for a new server let corral initialize --myid do that"
        )
    if server_id not in members:
        raise ConfigError(f"the number {server_id} in {path} is none of the servers, {numbers}")


EXTENDED_SERVER_ID_MAX: Final = 254
"""With extended types, session ids that begin with 0xff are none (source: EphemeralType.validateServerId)."""

GROUPS: Final[Mapping[str, type]] = {
    "storage": StorageConfig,
    "tree": TreeConfig,
    "auth": AuthConfig,
    "limits": Limits,
    "connection_throttle": ConnectionThrottle,
    "request_throttle": RequestThrottle,
    "quorum": QuorumConfig,
}
"""The groups of settings, by their names in :class:`ServerConfig`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """The settings of one server: a standalone one, or a member of an ensemble."""

    data_dir: Path = field(metadata={"declaration": Declaration("dataDir", Directory(), Source.FILE)})
    """Where snapshots and ``myid`` are."""
    data_log_dir: Path = field(
        default=SAME_AS_DATA_DIR, metadata={"declaration": Declaration("dataLogDir", Directory(), Source.FILE)}
    )
    """Where the transaction logs are; not set: with the snapshots."""
    client_port: int = setting("clientPort", Whole(0, 65_535, decimal_only=True), 2181, Source.FILE)
    """The port for clients; 0 takes a free one."""
    client_port_address: str | None = setting("clientPortAddress", Text("a host name or address"), None, Source.FILE)
    """The address to listen on; None is every address of the machine."""
    listen_backlog: int = setting(
        "clientPortListenBacklog", Whole(minimum=1, below=BACKLOG_DEFAULT, decimal_only=True), UNSET, Source.FILE
    )
    """Connections that may wait to be accepted; not set: 50."""
    client_tcp_keepalive: bool = setting("clientTcpKeepAlive", Switch(), default=False)
    """Let the system probe connections on which nothing happens."""
    tick_time_ms: int = setting("tickTime", Whole(1, decimal_only=True), 3000, Source.FILE)
    """The unit of time: sessions expire on its multiples."""
    min_session_timeout_ms: int = setting("minSessionTimeout", Whole(0, decimal_only=True), UNSET, Source.FILE)
    """The shortest session timeout given to a client; not set: 2 ticks."""
    max_session_timeout_ms: int = setting("maxSessionTimeout", Whole(1, decimal_only=True), UNSET, Source.FILE)
    """The longest one; not set: 20 ticks."""
    four_letter_words: frozenset[str] = setting("4lw.commands.whitelist", Names(), frozenset({"srvr"}))
    """The administrative words that are answered. ``*`` is every one; ``srvr`` is always among them."""
    read_only_mode_enabled: bool = setting("readonlymode.enabled", Switch(), False, Source.JVM)
    """A member that finds no leader serves clients that only read. Any server answers ``isro``."""
    server_id: int | None = None
    """The number in ``myid``, if there is such a file. A standalone server works without."""
    file: Path | None = field(default=None, compare=False)
    """Where all this is written, if it is; a change of the members is written there and beside it."""

    storage: StorageConfig = field(default_factory=StorageConfig)
    tree: TreeConfig = field(default_factory=TreeConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    limits: Limits = field(default_factory=Limits)
    connection_throttle: ConnectionThrottle = field(default_factory=ConnectionThrottle)
    request_throttle: RequestThrottle = field(default_factory=RequestThrottle)
    quorum: QuorumConfig = field(default_factory=QuorumConfig)

    def __post_init__(self) -> None:
        if self.data_log_dir is SAME_AS_DATA_DIR:
            object.__setattr__(self, "data_log_dir", self.data_dir)
        if self.listen_backlog == UNSET:
            object.__setattr__(self, "listen_backlog", BACKLOG_DEFAULT)
        if self.min_session_timeout_ms == UNSET:
            object.__setattr__(self, "min_session_timeout_ms", 2 * self.tick_time_ms)
        if self.max_session_timeout_ms == UNSET:
            object.__setattr__(self, "max_session_timeout_ms", 20 * self.tick_time_ms)
        always = {"srvr", "isro"} if self.read_only_mode_enabled else {"srvr"}
        object.__setattr__(self, "four_letter_words", self.four_letter_words | always)
        admit(self)
        if self.min_session_timeout_ms > self.max_session_timeout_ms:
            raise ConfigError(
                f"minSessionTimeout ({self.min_session_timeout_ms} ms) is larger than"
                f" maxSessionTimeout ({self.max_session_timeout_ms} ms);"
                f" not set, they are 2 and 20 times tickTime ({self.tick_time_ms} ms)",
                "minSessionTimeout",
                "maxSessionTimeout",
                "tickTime",
            )
        if self.tree.extended_types_enabled and (self.server_id or 0) > EXTENDED_SERVER_ID_MAX:
            raise ConfigError(
                f"the number {self.server_id} in {self.data_dir / 'myid'} is above {EXTENDED_SERVER_ID_MAX}: with"
                " extendedTypesEnabled its sessions' ephemerals would be taken for znodes with a time to live",
                "extendedTypesEnabled",
            )
        if self.is_member:
            check_number(self.server_id, self.quorum.members, self.data_dir)
            self._check_client_port()

    def _check_client_port(self) -> None:
        """Raise ConfigError if the clients' port is one of those for the other servers."""
        for address in self.quorum.members[self.server_id or 0].addresses:
            same_host = self.client_port_address in (None, *ANY_ADDRESSES, address.host)
            if same_host and self.client_port in (address.quorum_port, address.election_port):
                key = f"server.{self.server_id}"
                raise ConfigError(
                    f"port {self.client_port} is for clients, and by {key} for the other servers as well",
                    "clientPort",
                    key,
                )

    @property
    def is_member(self) -> bool:
        """Whether the server belongs to an ensemble; otherwise it is a standalone one."""
        return bool(self.quorum.members)

    def answers_word(self, word: str) -> bool:
        """Whether the white list has the administrative word."""
        return ALL_WORDS in self.four_letter_words or word in self.four_letter_words
