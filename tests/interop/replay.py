"""A peer's recorded answers (OpenBao 2.6.2) held against the real binary.

    python replay.py BINARY [NAME…]

Each file of tests/fixtures/recordings is played from its top against a fresh server. Status and body must
fit, and the words of errors that clients look for. What differs is in differences.txt, one line each: a
step's id or the beginning of several, `status` or a pointer into the body, and why. A line that no step
needs any more fails the run too.
"""

import json
import pathlib
import re
import sys
import time

import server as servers

RECORDINGS = servers.ROOT / "tests/fixtures/recordings"
DIFFERENCES = pathlib.Path(__file__).with_name("differences.txt")
SHARES, THRESHOLD = 5, 3
# Headers that are held against the recorded ones, where those have them.
HEADERS = ["retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]

# What clients look for in errors; other words may be Kista's own.
READ_BY_CLIENTS = [
    "Vault is sealed", "permission denied", "no handler for route", "unsupported path", "path is already in use at",
    "unsupported operation", "check-and-set parameter did not match the current version",
    "check-and-set parameter required for this call", "No version number provided", "no data provided",
    "missing data fields", "No secret engine mount at", "No auth engine at", "preflight capability check returned 403", "cannot write to a path ending in '/'",
    "encryption key not found", "signing key not found", "invalid ciphertext:", "cipher: message authentication failed",
    "missing plaintext to encrypt", "missing ciphertext to decrypt", "missing 'context' for key derivation",
    "disallowed by policy (too old)", "private key material is not exportable", "deletion is not allowed for this key",
]
WORDS = {
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
    "unix": r"\d{10}", "unix-nano": r"\d{19}", "int": r"-?\d+",
    "token": r"\S+", "batch-token": r"\S+", "accessor": r"\S+", "lease": r"\S+", "otp": r"[0-9A-Za-z]+",
    "mount-accessor": r"[a-z_]+_[0-9a-f]{8}", "hmac": r"hmac-sha256:[0-9a-f]{64}",
    "version": r"\S*", "plugin-version": r"\S*", "duration": r"\S+", "string": r".*",
}
ENCODINGS = ["base64", "hex", "pem"]


def encoded(word, size):
    """A regular expression for bytes: base64 of either alphabet, hexadecimal or PEM, so many when that is said."""
    if word == "pem":
        return rf"-----BEGIN {size}-----\n[A-Za-z0-9+/=\n]+-----END {size}-----\n?"
    if word == "hex":
        return r"[0-9a-f]{%d}" % (2 * int(size)) if size else r"[0-9a-f]+"
    digits = "[A-Za-z0-9+/_-]" + ("{%d}" % -(-4 * int(size) // 3) if size else "*")
    return digits + "={0,2}"


KINDS = {"object": dict, "array": list, "string": str}


def pattern(text):
    """A regular expression for a text with placeholders in it, or None when there are none."""
    parts = re.split(r"<([a-z0-9-]+)(?::([^<>]*))?>", text)
    if not any(word in WORDS or word in ENCODINGS for word in parts[1::3]):
        return None
    words = [re.escape(parts[0])]
    for word, size, rest in zip(parts[1::3], parts[2::3], parts[3::3]):
        words.append(encoded(word, size) if word in ENCODINGS else WORDS.get(word, re.escape(f"<{word}>")))
        words.append(re.escape(rest))
    return "".join(words)


def differences(expected, found, at=""):
    """Pointers to what does not fit."""
    if expected == "<any>":
        return []
    if isinstance(expected, str) and expected.strip("<>") in KINDS and expected.startswith("<"):
        return [] if isinstance(found, KINDS[expected.strip("<>")]) else [at]
    if isinstance(expected, str) and (words := pattern(expected)) is not None:
        return [] if re.fullmatch(words, str(found), re.DOTALL) else [at]
    if isinstance(expected, dict) and isinstance(found, dict):
        keys = sorted(expected.keys() | found.keys())
        return [pointer for key in keys
                for pointer in (differences(expected[key], found[key], f"{at}/{key}")
                                if key in expected and key in found else [f"{at}/{key}"])]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [pointer for n, (one, other) in enumerate(zip(expected, found))
                for pointer in differences(one, other, f"{at}/{n}")]
    same = type(expected) is type(found) and expected == found
    return [] if same else [at]


def errors_differ(expected, found):
    """Whether the words that clients look for are missing, or an empty list is not empty."""
    if not isinstance(found, list) or (expected == []) != (found == []):
        return True
    texts = [word for word in READ_BY_CLIENTS if word.lower() in " ".join(expected).lower()]
    return any(word.lower() not in " ".join(found).lower() for word in texts)


def at_pointer(body, pointer):
    for key in pointer.split("/")[1:]:
        body = body[int(key)] if isinstance(body, list) else body[key]
    return body


def reached(until, status, raw):
    """Whether an answer has the status, or the value at a pointer, that is waited for."""
    if "status" in until:
        return status == until["status"]
    try:
        return at_pointer(json.loads(raw), until["pointer"]) == until["equals"]
    except (ValueError, KeyError, IndexError, TypeError):
        return False


class Player:
    """One recording against one server."""

    def __init__(self, server):
        self.server = server
        status, raw = server.call("POST", "sys/init", body={"secret_shares": SHARES, "secret_threshold": THRESHOLD})
        assert status == 200, (status, raw)
        made = json.loads(raw)
        server.unseal(made["keys_base64"][:THRESHOLD])
        self.saved = {"root": made["root_token"], "folder": str(server.folder)}
        self.saved.update({f"key{n}": key for n, key in enumerate(made["keys_base64"], 1)})
        self.connection = server.connection()
        self.headers = {}

    def fill(self, value):
        """Puts what was saved in the place of its name."""
        if isinstance(value, str):
            return re.sub(r"\{\{(\w+)\}\}", lambda name: self.saved.get(name[1], name[0]), value)
        if isinstance(value, list):
            return [self.fill(part) for part in value]
        if isinstance(value, dict):
            return {self.fill(key): self.fill(part) for key, part in value.items()}
        return value

    def send(self, step):
        request = step["request"]
        headers, body = {}, None
        if step["as"] != "none":
            headers["X-Vault-Token"] = self.saved.get(step["as"], "none was saved")
        if "raw_repeat" in request:
            repeat = request["raw_repeat"]
            body = (repeat["prefix"] + repeat["unit"] * repeat["times"] + repeat["suffix"]).encode()
        elif "raw" in request:
            body = self.fill(request["raw"]).encode()
        elif "body" in request:
            body = json.dumps(self.fill(request["body"])).encode()
        if body is not None:
            headers["Content-Type"] = "application/json"
        for name, value in request.get("headers", {}).items():
            headers = {key: kept for key, kept in headers.items() if key.lower() != name.lower()}
            if value != "-":
                headers[name] = self.fill(value)
        path = self.fill(request["path"]) + (f"?{self.fill(request['query'])}" if request.get("query") else "")
        try:
            self.connection.request(request["method"], path, body=body, headers=headers)
            answer = self.connection.getresponse()
            self.headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, answer.read()
        except OSError:
            # The server may close behind what it refuses; the answer to a request that was cut off is none.
            self.connection.close()
            return 0, b""

    def play(self, step):
        """Pointers to what does not fit."""
        time.sleep(step.get("wait_seconds", 0))
        status, raw = self.send(step)
        until = step.get("repeat_until")
        deadline = time.monotonic() + 10
        while until and not reached(until, status, raw) and time.monotonic() < deadline:
            time.sleep(0.1)
            status, raw = self.send(step)
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = raw.decode(errors="replace")
        expected = step["response"]
        for name, pointer in step.get("save", {}).items():
            try:
                self.saved[name] = at_pointer(body, pointer)
            except (KeyError, IndexError, TypeError):
                return [f"save {name}"]
        if status != expected["status"]:
            return ["status"]
        if unlike := [name for name, value in expected.get("headers", {}).items()
                      if name in HEADERS and differences(value, self.headers.get(name))]:
            return unlike
        wanted = self.fill(expected.get("body"))
        if "text" in expected:
            try:
                wanted = json.loads(self.fill(expected["text"]))
            except ValueError:
                return []
        if isinstance(wanted, dict) and "errors" in wanted:
            return ["/errors"] if not isinstance(body, dict) or errors_differ(wanted["errors"], body.get("errors")) else []
        for pointer in step.get("unordered", []):
            for document in (wanted, body):
                at_pointer(document, pointer).sort(key=json.dumps)
        return differences(wanted, body)


def listed():
    """The differences that are known: id or beginning, pointer, reason."""
    lines = [line for line in DIFFERENCES.read_text().splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(None, 2)) for line in lines]


def is_meant(line, step, pointer):
    beginning, at, _ = line
    return step.startswith(beginning) and (at == "*" or pointer == at or pointer.startswith(f"{at}/"))


def main():
    binary, names = sys.argv[1], sys.argv[2:] or sorted(path.stem for path in RECORDINGS.glob("*.json"))
    known = [line for line in listed() if line[0].split("/")[0] in names]
    needed, failed, played = set(), 0, 0
    for name in names:
        recording = json.loads((RECORDINGS / f"{name}.json").read_text())
        with servers.scratch() as folder, servers.Server(binary, folder, "warn") as server:
            player = Player(server.start())
            for step in recording["steps"]:
                if "needs" in step:
                    continue
                played += 1
                for pointer in player.play(step):
                    meant = [line for line in known if is_meant(line, step["id"], pointer)]
                    needed.update(meant)
                    if not meant:
                        failed += 1
                        print(f"FAILED {step['id']} {pointer or '(body)'}", flush=True)
    for line in known:
        if line not in needed:
            failed += 1
            print(f"FAILED no step needs this line any more: {' '.join(line)}")
    print(f"{played} steps, {len(known)} lines of differences, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
