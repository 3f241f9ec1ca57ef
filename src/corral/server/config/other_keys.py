"""The keys that Apache's server knows and a Corral server does not act on, each with the reason.

A user who moves a ``zoo.cfg`` over is told about each of these that is set, unless it is set to what Corral does
anyway. A name that ends in ``*`` stands for all that begin so.
"""

import enum
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

__all__ = ["JVM_KEYS", "OTHER_KEYS", "OtherKey", "Standing", "find_other_key"]


class Standing(enum.Enum):
    """Why a key is not acted on. The value is what the user is told."""

    NOT_SUPPORTED_YET = "not supported yet by Corral"
    NO_EFFECT = "has no effect in Corral"
    CLIENT = "is a setting of the Java client, and has no effect in a server"
    HANDLED = "read together with other keys"


class OtherKey(NamedTuple):
    """A key, its standing, and the values (in lower case) that ask for nothing that Corral does not do."""

    name: str
    standing: Standing
    harmless: frozenset[str] = frozenset()


def group(standing: Standing, names: str, harmless: str = "") -> Iterator[OtherKey]:
    """The keys listed in ``names``; ``harmless`` lists their harmless values."""
    return (OtherKey(name, standing, frozenset(harmless.lower().split())) for name in names.split())


OTHER_KEYS: Final[Mapping[str, OtherKey]] = {
    key.name: key
    for keys in (
        # Membership decides whether this is a standalone server at all: corral.server.config.membership reads it.
        group(Standing.HANDLED, "server.* group.* weight.* standaloneEnabled dynamicConfigFile authProvider.*"),
        group(
            Standing.NOT_SUPPORTED_YET,
            """
            secureClientPort secureClientPortAddress ssl.*
            client.certReload client.portUnification
            admin.serverPort admin.serverAddress admin.commandURL admin.idleTimeout admin.httpVersion
            admin.rateLimiterIntervalInMS metricsProvider.*
            superUser superUser.* letAnySaslUserDoX SASLAuthenticationProvider.superPassword sasl.serverconfig
            security.auth_to_local kinit kerberos.minReLoginTimeMs java.security.auth.login.config
            audit.impl.class controllerPort testingonly.initialZxid X509AuthenticationProvider.superUser
            """,
        ),
        group(
            Standing.NOT_SUPPORTED_YET,
            """
            sslQuorum portUnification sslQuorumReloadCertFiles
            admin.enableServer admin.portUnification admin.forceHttps admin.needClientAuth
            admin.snapshot.enabled admin.restore.enabled
            IPAuthenticationProvider.usexforwardedfor
            allowSaslFailedClients sessionRequireClientSASLAuth requireKerberosConfig
            kerberos.removeHostFromPrincipal kerberos.removeRealmFromPrincipal kerberos.canonicalizeHostNames
            audit.enable pathStats.enabled
            """,
            harmless="false",
        ),
        group(
            Standing.NOT_SUPPORTED_YET,
            "metricsProvider.className",
            harmless="org.apache.zookeeper.metrics.impl.DefaultMetricsProvider",
        ),
        group(
            Standing.NOT_SUPPORTED_YET,
            "serverCnxnFactory",
            harmless="org.apache.zookeeper.server.NIOServerCnxnFactory",
        ),
        group(
            Standing.NOT_SUPPORTED_YET,
            """
            enableEagerACLCheck
            quorum.auth.enableSasl quorum.auth.serverRequireSasl quorum.auth.learnerRequireSasl
            messageTracker.Enabled test.allowDiscontinuousProposals
            """,
            harmless="false",
        ),
        group(Standing.NO_EFFECT, "syncEnabled observer.syncEnabled", harmless="true"),
        group(Standing.NOT_SUPPORTED_YET, "observerMasterPort", harmless="0"),
        group(Standing.NO_EFFECT, "leader.maxTimeToWaitForEpoch", harmless="-1"),
        group(Standing.NOT_SUPPORTED_YET, "oraclePath quorum.auth.*"),
        group(
            Standing.NO_EFFECT,
            """
            multiAddress.reachabilityCheckTimeoutMs multiAddress.reachabilityCheckEnabled quorum.cnxn.threads.size
            leader.* learner.* follower.skipLearnerRequestToNextProcessor leaderConnectDelayDuringRetryMs
            forward_learner_requests_to_commit_processor_disabled observerMaster.sizeLimit observer.election.DelayMs
            messageTracker.BufferSize
            """,
        ),
        group(Standing.NO_EFFECT, "leader.nodelay follower.nodelay", harmless="true"),
        group(
            Standing.NO_EFFECT,
            """
            jvm.pause.monitor jvm.pause.sleep.time.ms jvm.pause.info-threshold.ms jvm.pause.warn-threshold.ms
            nio.numSelectorThreads nio.numWorkerThreads nio.directBufferBytes nio.shutdownTimeout
            netty.advancedFlowControl.enabled netty.server.outstandingHandshake.limit
            netty.server.earlyDropSecureConnectionHandshakes
            intBufferStartingSizeBytes flushDelay maxBatchSize jute.maxbuffer.extrasize
            commitProcessor.numWorkerThreads commitProcessor.maxReadBatchSize commitProcessor.maxCommitBatchSize
            commitProcessor.shutdownTimeout request_throttler.shutdownTimeout maxWriteQueuePollTime
            maxResponseCacheSize maxGetChildrenResponseCacheSize
            watchManagerName watcherCleanThreadsNum watcherCleanThreshold watcherCleanIntervalInSeconds
            maxInProcessingDeadWatchers bitHashCacheSize
            pathStats.slotDuration pathStats.slotCapacity pathStats.maxDepth pathStats.sampleRate
            pathStats.initialDelay pathStats.delay pathStats.topPathMax
            jmx.log4j.disable jmx.log4j.mbean fips-mode
            log.dir log.file log.threshold root.logger console.threshold tracelog.dir tracelog.file
            """,
        ),
        group(
            Standing.CLIENT,
            """
            client.secure clientCnxnSocket request.timeout disableAutoWatchReset shuffleDnsResponse
            hostProvider.dnsSrvRefreshIntervalSeconds sasl.client sasl.clientconfig sasl.client.username
            sasl.client.canonicalize.hostname sasl.client.allowReverseDnsLookup server.principal server.realm
            """,
        ),
    )
    for key in keys
}
"""Every key, by name."""

JVM_KEYS: Final = frozenset(
    {
        "java.security.auth.login.config",
        "leader.nodelay",
        "follower.nodelay",
        "leader.closeSocketAsync",
        "learner.closeSocketAsync",
        "learner.asyncSending",
    }
)
"""Those of them that the JVM takes without the prefix ``zookeeper.``."""


def find_other_key(name: str) -> OtherKey | None:
    """The entry for ``name``: its own, or else the longest one with a ``*`` that covers it."""
    if name in OTHER_KEYS:
        return OTHER_KEYS[name]
    for dot in range(len(name) - 1, -1, -1):
        if name[dot] == "." and (key := OTHER_KEYS.get(name[: dot + 1] + "*")):
            return key
    return None
