"""Transit keys that rotate under load, and a server that is killed while it encrypts.

    python transit_loop.py BINARY [SECONDS] [KILLS] [SEED]

First two keys get a new version every 100 ms while 32 clients encrypt with them: no request may fail,
and every ciphertext must decrypt afterwards. Then the server is killed again and again under eight
clients: no nonce may come twice under one version, and the nonces that `usage` tells to be reserved
must be a whole block more for each life in which a version has encrypted, and never fewer than
what was acknowledged.
"""

import base64
import collections
import http.client
import json
import random
import sys
import threading
import time

import kill_loop
import server as servers

CLIENTS, KILLED_CLIENTS = 32, 8
PERIOD = 0.1
KEYS = {"fields": "aes256-gcm96", "documents": "aes256-gcm-committing"}
BLOCK = 1 << 20
NONCE_BYTES = 12


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def post(connection, path, token, body):
    status, raw = servers.send(connection, "POST", f"transit/{path}", token, body)
    assert status == 200, (path, status, raw[:300])
    return json.loads(raw)["data"]


class Client:
    """Encrypts with one key, one request at a time, and remembers every ciphertext."""

    def __init__(self, number, key):
        self.number, self.key = number, key
        self.made = []
        self.error = None

    def run(self, server, token, deadline):
        connection = server.connection()
        newest = 0
        try:
            while time.monotonic() < deadline:
                text = f"{self.number}/{len(self.made)}"
                aad = encoded(f"row {len(self.made) % 7}")
                body = {"plaintext": encoded(text), "associated_data": aad}
                data = post(connection, f"encrypt/{self.key}", token, body)
                assert data["key_version"] >= newest, f"version {data['key_version']} after {newest}"
                newest = data["key_version"]
                self.made.append((text, aad, data["ciphertext"]))
        except Exception as error:  # told by the main thread
            self.error = error
        finally:
            connection.close()

    def check(self, connection, token):
        for start in range(0, len(self.made), 500):
            part = self.made[start:start + 500]
            items = [{"ciphertext": sealed, "associated_data": aad} for _, aad, sealed in part]
            results = post(connection, f"decrypt/{self.key}", token, {"batch_input": items})["batch_results"]
            for (text, *_), result in zip(part, results, strict=True):
                assert result.get("plaintext") == encoded(text), (text, result)


class Rotator:
    """Gives a key a new version every 100 ms, as far as the server keeps up."""

    def __init__(self, key):
        self.key, self.rotations, self.error = key, 0, None

    def run(self, server, token, deadline):
        connection = server.connection()
        due = time.monotonic()
        try:
            while time.monotonic() < deadline:
                post(connection, f"keys/{self.key}/rotate", token, {})
                self.rotations += 1
                due = max(due + PERIOD, time.monotonic() - PERIOD)
                time.sleep(max(0.0, due - time.monotonic()))
        except Exception as error:  # told by the main thread
            self.error = error
        finally:
            connection.close()


def rotate_under_load(server, token, seconds):
    names = list(KEYS)
    clients = [Client(number, names[number % len(names)]) for number in range(CLIENTS)]
    rotators = [Rotator(key) for key in KEYS]
    deadline = time.monotonic() + seconds
    threads = [threading.Thread(target=one.run, args=(server, token, deadline)) for one in clients + rotators]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in clients + rotators:
        if one.error:
            raise one.error
    connection = server.connection()
    for client in clients:
        assert client.made, f"client {client.number} encrypted nothing"
        client.check(connection, token)
    connection.close()
    made = sum(len(client.made) for client in clients)
    rotations = sum(rotator.rotations for rotator in rotators)
    assert rotations > seconds * len(KEYS), f"{rotations} rotations"
    print(f"{seconds} s: {made} encryptions under {rotations} rotations of {len(KEYS)} keys, none failed, "
          "all decrypt", flush=True)


class Nonces:
    """What all clients were answered, by version of the key."""

    def __init__(self):
        self.lock = threading.Lock()
        self.by_version = collections.defaultdict(set)
        self.lives = collections.Counter()

    def take(self, ciphertexts, used):
        with self.lock:
            for ciphertext in ciphertexts:
                _, version, sealed = ciphertext.split(":")
                nonce = base64.b64decode(sealed)[:NONCE_BYTES]
                known = self.by_version[int(version[1:])]
                assert nonce not in known, f"a nonce came twice under {version}"
                known.add(nonce)
                used.add(int(version[1:]))

    def check(self, server, token):
        """Holds what is told to be reserved against what was acknowledged."""
        status, raw = server.call("GET", "transit/keys/counted/usage", token)
        assert status == 200, (status, raw)
        versions = json.loads(raw)["data"]["versions"]
        for version, nonces in self.by_version.items():
            reserved = versions[str(version)]["nonces_reserved"]
            assert reserved >= len(nonces), f"{len(nonces)} nonces of version {version}, {reserved} reserved"
            least = self.lives[version] * BLOCK
            assert reserved >= least, f"{reserved} reserved in {self.lives[version]} lives of version {version}"


def encrypt_until_killed(server, token, nonces, used, errors):
    connection = server.connection()
    items = [{"plaintext": encoded("a")} for _ in range(20)]
    try:
        while True:
            data = post(connection, "encrypt/counted", token, {"batch_input": items})
            nonces.take([result["ciphertext"] for result in data["batch_results"]], used)
    except (OSError, http.client.HTTPException):
        pass
    except AssertionError as error:
        errors.append(error)
    finally:
        connection.close()


def kill_while_encrypting(server, keys, token, kills, timing):
    nonces = Nonces()
    for kill in range(1, kills + 1):
        used, errors = set(), []
        arguments = (server, token, nonces, used, errors)
        threads = [threading.Thread(target=encrypt_until_killed, args=arguments) for _ in range(KILLED_CLIENTS)]
        for thread in threads:
            thread.start()
        time.sleep(timing.uniform(0.05, 0.8))
        if kill % 5 == 0:
            status, raw = server.call("POST", "transit/keys/counted/rotate", token)
            assert status == 200, (status, raw)
        time.sleep(timing.uniform(0.0, 0.1))
        server.kill()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        nonces.lives.update(used)
        server.start()
        server.unseal(keys)
        nonces.check(server, token)
    total = sum(len(one) for one in nonces.by_version.values())
    assert total, "nothing was encrypted"
    print(f"{kills} kills: {total} nonces of {len(nonces.by_version)} versions, none twice, none uncounted",
          flush=True)


def main():
    binary = sys.argv[1]
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    kills = int(sys.argv[3]) if len(sys.argv) > 3 else 50
    seed = sys.argv[4] if len(sys.argv) > 4 else str(time.time_ns())
    print(f"{seconds} s of rotations, {kills} kills, seed {seed}", flush=True)
    with servers.scratch() as folder, servers.Server(binary, folder, log_level="warn") as server:
        server.start()
        keys, token = kill_loop.initialise(server)
        status, raw = server.call("POST", "sys/mounts/transit", token, {"type": "transit"})
        assert status == 204, (status, raw)
        for name, kind in {**KEYS, "counted": "aes256-gcm96"}.items():
            status, raw = server.call("POST", f"transit/keys/{name}", token, {"type": kind})
            assert status == 200, (status, raw)
        try:
            rotate_under_load(server, token, seconds)
            kill_while_encrypting(server, keys, token, kills, random.Random(seed))
        except Exception:
            print(f"seed {seed}:\n{server.tail()}", flush=True)
            raise
        assert server.stop() == 0


if __name__ == "__main__":
    main()
