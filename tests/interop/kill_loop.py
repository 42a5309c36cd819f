"""kill -9 under eight writers, again and again: nothing acknowledged is lost, and it always opens.

Keys rotate meanwhile, and names move to new ones; both go on wherever a kill has left them.

    python kill_loop.py BINARY [CYCLES] [SEED]

Each writer owns its keys and writes one at a time, so at a kill at most one write of each writer has
no answer. After it the key holds what was acknowledged last, or that one write, and nothing else.
"""

import http.client
import json
import random
import sys
import threading
import time

import server as servers

WRITERS, KEYS = 8, 25
ABSENT = None


class Writer:
    """One client with its own keys, its own connection, and a memory of every answer."""

    def __init__(self, number, seed):
        self.number = number
        self.random = random.Random(f"{seed}/{number}")
        self.acknowledged = {key: ABSENT for key in range(KEYS)}
        self.unanswered = {}
        self.count = 0
        self.answered = 0
        self.error = None

    def path(self, key):
        return f"secret/%s/writer-{self.number}/key-{key}"

    def write_until_killed(self, server, token):
        connection = server.connection()
        try:
            while True:
                self.write_one(connection, token)
        except (OSError, http.client.HTTPException):
            pass
        except AssertionError as error:
            self.error = error
        finally:
            connection.close()

    def write_one(self, connection, token):
        key = self.random.randrange(KEYS)
        if self.acknowledged[key] is not ABSENT and self.random.random() < 0.1:
            self.unanswered[key] = ABSENT
            status, raw = servers.send(connection, "DELETE", self.path(key) % "metadata", token)
            assert status == 204, (status, raw)
        else:
            self.count += 1
            size = self.random.choice((1, 40, 300, 300, 300, 4_000, 20_000))
            value = f"{self.number}/{self.count}/" + "x" * size
            self.unanswered[key] = value
            status, raw = servers.send(connection, "POST", self.path(key) % "data", token,
                                       {"data": {"value": value}})
            assert status == 200, (status, raw)
        self.acknowledged[key] = self.unanswered.pop(key)
        self.answered += 1

    def check(self, connection, token):
        """Compares every key, and takes what an unanswered write has become."""
        for key, acknowledged in self.acknowledged.items():
            status, raw = servers.send(connection, "GET", self.path(key) % "data", token)
            assert status in (200, 404), (status, raw)
            found = json.loads(raw)["data"]["data"]["value"] if status == 200 else ABSENT
            allowed = [acknowledged]
            if key in self.unanswered:
                allowed.append(self.unanswered.pop(key))
            if found not in allowed:
                shown = [value and value[:30] for value in (found, *allowed)]
                raise AssertionError(f"{self.path(key)}: found {shown[0]}, allowed {shown[1:]}")
            self.acknowledged[key] = found
        present = sorted(f"key-{key}" for key, value in self.acknowledged.items() if value is not ABSENT)
        status, raw = servers.send(connection, "LIST", f"secret/metadata/writer-{self.number}", token)
        listed = json.loads(raw)["data"]["keys"] if status == 200 else []
        assert listed == present, f"writer-{self.number}: listed {listed}, present {present}"


def initialise(server):
    status, raw = server.call("POST", "sys/init", body={"secret_shares": 1, "secret_threshold": 1})
    assert status == 200, (status, raw)
    answer = json.loads(raw)
    server.unseal(answer["keys"])
    token = answer["root_token"]
    status, raw = server.call("POST", "sys/mounts/secret", token, {"type": "kv", "options": {"version": "2"}})
    assert status == 204, (status, raw)
    return answer["keys"], token


def check_audit(server, writers):
    """No answer without its line: as many answers to writes in the file as writers have seen, or more."""
    answered = 0
    for line in server.audit.read_text().splitlines():
        entry = json.loads(line)
        if entry["type"] == "response" and entry["request"]["operation"] in ("update", "create", "delete"):
            answered += entry["request"]["path"].startswith("secret/")
    seen = sum(writer.answered for writer in writers)
    assert answered >= seen, f"{seen} answers seen, {answered} in the audit file"
    print(f"{seen} answers seen, {answered} in the audit file", flush=True)


def cycle(server, writers, token, seconds, number):
    threads = [threading.Thread(target=writer.write_until_killed, args=(server, token)) for writer in writers]
    for thread in threads:
        thread.start()
    server.rotate(token, number)
    time.sleep(seconds)
    server.kill()
    for thread in threads:
        thread.join()
    for writer in writers:
        if writer.error:
            raise writer.error


def verify(server, writers, token):
    connection = server.connection()
    try:
        for writer in writers:
            writer.check(connection, token)
    finally:
        connection.close()


def main():
    binary = sys.argv[1]
    cycles = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    seed = sys.argv[3] if len(sys.argv) > 3 else str(time.time_ns())
    print(f"{cycles} cycles, {WRITERS} writers, seed {seed}", flush=True)
    timing = random.Random(seed)
    writers = [Writer(number, seed) for number in range(WRITERS)]
    slowest = 0.0
    with servers.scratch() as folder, servers.Server(binary, folder, log_level="warn") as server:
        server.start()
        keys, token = initialise(server)
        for number in range(1, cycles + 1):
            try:
                cycle(server, writers, token, timing.uniform(0.02, 0.8), number)
                began = time.monotonic()
                server.start()
                server.unseal(keys)
                slowest = max(slowest, time.monotonic() - began)
                verify(server, writers, token)
            except Exception:
                print(f"cycle {number}, seed {seed}:\n{server.tail()}", flush=True)
                print(f"{number - 1} passed, 1 failed", flush=True)
                raise
            if number % 20 == 0:
                total = sum(writer.count for writer in writers)
                print(f"cycle {number}: {total} writes, slowest start to unsealed {slowest:.2f} s", flush=True)
        terms, names = server.rotated(token)
        print(f"{terms} terms and {names} keys of names destroyed", flush=True)
        assert terms and names
        verify(server, writers, token)
        assert server.stop() == 0
        check_audit(server, writers)
    print(f"{cycles} passed, 0 failed")


if __name__ == "__main__":
    main()
