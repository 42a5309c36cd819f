"""Starts, kills and stops the real binary, and speaks to it without any client of ours."""

import ctypes
import http.client
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
START_SECONDS = 30


class Server:
    """`kista server` over a data folder of its own, with a certificate made for this run."""

    def __init__(self, binary, folder, log_level="info"):
        self.binary = str(pathlib.Path(binary).resolve())
        self.folder = pathlib.Path(folder)
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        self.audit = self.folder / "audit.log"
        self.log_level = log_level
        self.port = free_port()
        self.process = None
        self.ca = self.folder / "cert.pem"
        self.key = self.folder / "key.pem"
        self.configuration = self.folder / "kista.toml"
        self.configuration.write_text(f'[audit.file]\npath = "{self.audit}"\n')
        if not self.ca.exists():
            make_certificate(self.ca, self.key)

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}"

    def arguments(self):
        """What the binary is started with."""
        return [
            self.binary, "server",
            "--config", str(self.configuration),
            "--data", str(self.data),
            "--listen", f"127.0.0.1:{self.port}",
            "--tls-cert", str(self.ca),
            "--tls-key", str(self.key),
            "--log-level", self.log_level,
        ]

    def start(self):
        """Starts it and waits until it answers; a process that ends instead is an error."""
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith(("VAULT_", "BAO_", "KISTA_"))}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.arguments(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**environment, "HOME": str(self.folder)}, preexec_fn=die_with_parent)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.tail()}")
            try:
                self.call("GET", "sys/seal-status")
                return self
            except OSError:
                time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"no answer within {START_SECONDS} s:\n{self.tail()}")

    def tail(self):
        return self.log.read_text(errors="replace")[-4000:]

    def kill(self):
        """kill -9, as a crash would end it."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.reap()

    def stop(self):
        """SIGTERM, and the exit code that the drain ends with."""
        self.process.send_signal(signal.SIGTERM)
        return self.reap()

    def reap(self):
        if self.process is None:
            return None
        try:
            code = self.process.wait(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RuntimeError("the server did not end") from None
        self.process = None
        return code

    def connection(self):
        context = ssl.create_default_context(cafile=str(self.ca))
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=context)

    def call(self, method, path, token=None, body=None):
        """One request on a connection of its own: status and raw body."""
        connection = self.connection()
        try:
            return send(connection, method, path, token, body)
        finally:
            connection.close()

    def rotate(self, token, number):
        """Has the keys of records or of names rotate, in turns; what is under way may be in its way."""
        path = "sys/rotate/names" if number % 2 else "sys/rotate"
        status, raw = self.call("POST", path, token)
        if status not in (204, 400):
            raise RuntimeError(f"{path}: {status} {raw!r}")

    def rotated(self, token):
        """Waits until the old keys are gone, and tells how many were."""
        for _ in range(600):
            status, raw = self.call("GET", "sys/rotate/status", token)
            state = json.loads(raw)["data"]
            if "error" in state:
                raise RuntimeError(f"the rotation does not go on: {state['error']}")
            if state["step"] == state["names"]["step"] == "idle":
                return len(state["destroyed"]), len(state["names"]["destroyed"])
            time.sleep(0.1)
        raise RuntimeError(f"the rotation does not end: {raw!r}")

    def unseal(self, keys):
        for key in keys:
            status, raw = self.call("POST", "sys/unseal", body={"key": key})
            if status != 200:
                raise RuntimeError(f"unseal: {status} {raw!r}")
        if json.loads(raw)["sealed"]:
            raise RuntimeError("still sealed after every key")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


def send(connection, method, path, token=None, body=None):
    """One request on a connection that is kept; `body` is bytes as they are, or an object."""
    headers = {"X-Vault-Request": "true"}
    if token:
        headers["X-Vault-Token"] = token
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    if body is not None:
        headers["Content-Type"] = "application/json"
    connection.request(method, f"/v1/{path}", body=body, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def die_with_parent():
    """prctl(PR_SET_PDEATHSIG): a test that is killed leaves no server running."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_certificate(certificate, key):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=kista interop",
         "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    key.chmod(0o600)


def scratch():
    """A folder that is removed at the end; the binary insists on 0700 for its own."""
    return tempfile.TemporaryDirectory(prefix="kista-")
