"""What a vault costs a machine: the size of the binary, a start, memory. Over a store of a thousand secrets.

    python footprint.py BINARY [STARTS]
"""

import http.client
import pathlib
import re
import shlex
import signal
import ssl
import statistics
import subprocess
import sys
import threading
import time

import first_minute
import server as servers

SECRETS = 1_000
READERS = 64
LOAD_SECONDS = 10


class Client:
    """Requests to what `kista up` has made, with the address and the token that its own context names."""

    def __init__(self, home):
        said = re.findall(r"^export (\w+)=(.*)$", home.ok("context", "env"), re.MULTILINE)
        settings = {name: "".join(shlex.split(value)) for name, value in said}
        self.host, self.port = home.listen.split(":")
        self.token = settings["VAULT_TOKEN"]
        self.trust = ssl.create_default_context(cafile=settings["VAULT_CACERT"])

    def connection(self):
        return http.client.HTTPSConnection(self.host, int(self.port), timeout=30, context=self.trust)

    def fill(self):
        connection = self.connection()
        for number in range(SECRETS):
            body = {"data": {"value": "x" * 300}}
            status, raw = servers.send(connection, "POST", f"secret/data/app/{number}", self.token, body)
            assert status == 200, raw

    def read_on(self, end, counts):
        connection, count = self.connection(), 0
        while time.monotonic() < end:
            status, raw = servers.send(connection, "GET", f"secret/data/app/{count % SECRETS}", self.token)
            assert status == 200, raw
            count += 1
        counts.append(count)

    def is_open(self):
        connection = self.connection()
        try:
            return servers.send(connection, "GET", "sys/health")[0] == 200
        except OSError:
            return False
        finally:
            connection.close()


def memory(process):
    """Memory of a process in MiB: now, and at most since its start."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return [int(re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)[1]) / 1024 for name in ("VmRSS", "VmHWM")]


def start(home, client):
    """Starts the vault again; milliseconds until it is open and answers its first request."""
    begun = time.perf_counter()
    home.up = subprocess.Popen([home.binary, "up", "--listen", home.listen], env=home.environment,
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               preexec_fn=servers.die_with_parent)
    while not client.is_open():
        assert home.up.poll() is None, "up has ended"
        time.sleep(0.002)
    return (time.perf_counter() - begun) * 1000


def load(client):
    """Reads on so many connections for a while; answers a second. This load is Python, and no bench of reads."""
    counts, end = [], time.monotonic() + LOAD_SECONDS
    readers = [threading.Thread(target=client.read_on, args=(end, counts)) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(counts) == READERS, "a reader broke off"
    return sum(counts) / LOAD_SECONDS


def main():
    starts = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    with servers.scratch() as folder, first_minute.Home(sys.argv[1], folder) as home:
        home.start()
        client = Client(home)
        client.fill()
        taken = []
        for how in [signal.SIGINT, signal.SIGKILL] * (starts // 2):
            home.stop(how)
            taken.append(start(home, client))
        print(f"the binary has {pathlib.Path(home.binary).stat().st_size / 1e6:.1f} MB")
        print(f"start to the first answer, {SECRETS} secrets, {len(taken)} starts: "
              f"median {statistics.median(taken):.0f} ms, longest {max(taken):.0f} ms")
        time.sleep(2)
        print(f"memory when idle: {memory(home.up)[0]:.0f} MiB")
        rate = load(client)
        now, most = memory(home.up)
        print(f"memory under {READERS} readers at {rate:.0f} reads/s: {now:.0f} MiB, at most {most:.0f} MiB")


if __name__ == "__main__":
    main()
