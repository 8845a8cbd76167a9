"""A broker with TLS, SCRAM users and access lists."""

from __future__ import annotations

from pathlib import Path

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
)

from tests.certificates import Authority
from tests.kafka.broker import Broker, free_ports

MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-512")

# Whoever comes over PLAINTEXT is ANONYMOUS, and may do everything: that is how the tests administer it.
_PROPERTIES = """
listeners=PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller}},SCRAM://127.0.0.1:{{sasl}},\
MUTUAL://127.0.0.1:{mutual},EXPIRED://127.0.0.1:{expired}
advertised.listeners=PLAINTEXT://127.0.0.1:{{port}},SCRAM://127.0.0.1:{{sasl}},MUTUAL://127.0.0.1:{mutual},\
EXPIRED://127.0.0.1:{expired}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SCRAM:SASL_SSL,MUTUAL:SSL,EXPIRED:SSL
sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512
listener.name.scram.scram-sha-256.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.scram.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={good}
listener.name.expired.ssl.keystore.type=PEM
listener.name.expired.ssl.keystore.location={bad}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
listener.name.mutual.ssl.client.auth=required
ssl.client.auth=none
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""


class SecuredBroker(Broker):
    """Listens with SASL_SSL (SCRAM), with mutual TLS, and with a certificate that has expired.

    Parameters
    ----------
    authority
        Signs the broker's certificates, and those of its clients.
    directory
        For certificates and keys.
    users
        Passwords by user name, for both SCRAM mechanisms.

    Attributes
    ----------
    scram, mutual, expired
        The addresses of the three listeners; `bootstrap` is that of the administrator.
    """

    def __init__(self, authority: Authority, directory: Path, users: dict[str, str]) -> None:
        mutual, expired = free_ports(2)
        self.mutual, self.expired = f"127.0.0.1:{mutual}", f"127.0.0.1:{expired}"
        stores = []
        for name, days in (("broker", 2), ("broker-expired", -1)):
            certificate, key = authority.issue(name, days)
            store = directory / f"{name}.store.pem"
            store.write_text(key.read_text() + certificate.read_text())
            stores.append(store)
        properties = _PROPERTIES.format(
            mutual=mutual, expired=expired, good=stores[0], bad=stores[1], authority=authority.certificate
        )
        scram = [
            option
            for user, password in users.items()
            for mechanism in MECHANISMS
            for option in ("--add-scram", f"{mechanism}=[name={user},password={password}]")
        ]
        super().__init__(properties=properties, format_options=scram)
        self.scram = self.sasl_bootstrap

    def permit(self, principal: str, kind: ResourceType, prefix: str, *operations: ACLOperation) -> None:
        """Add to the access list of the topics, groups or transactional ids whose names begin with `prefix`."""
        rules = [ACL(principal, "*", one, ACLPermissionType.ALLOW, _pattern(kind, prefix)) for one in operations]
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            failed = admin.create_acls(rules)["failed"]
            assert not failed, failed
        finally:
            admin.close()

    def revoke(self, principal: str, kind: ResourceType, prefix: str) -> None:
        """Take from the access list what `permit` put there."""
        every = ACLFilter(principal, "*", ACLOperation.ANY, ACLPermissionType.ANY, _pattern(kind, prefix))
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            ((_, removed, _),) = admin.delete_acls([every])
            assert removed
        finally:
            admin.close()


def _pattern(kind: ResourceType, prefix: str) -> ResourcePattern:
    return ResourcePattern(kind, prefix, ACLResourcePatternType.PREFIXED)
