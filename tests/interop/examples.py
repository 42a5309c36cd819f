"""The programs of docs/examples, each against the real binary: they wait while the vault is sealed, take
a new version of their secret, outlive the first life of their token, and show neither.

    python examples.py BINARY SERVICE PYTHON [NODE]
"""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

import server as servers

EXAMPLES = servers.ROOT / "docs" / "examples"
POLICY = ('path "secret/data/app/db" { capabilities = ["read"] } '
          'path "secret/metadata/app/db" { capabilities = ["read"] }')
# None of the programs would live through this without renewing its token.
TTL_SECONDS = 25
# How often each of them looks, and how long one may take that looks so often.
INTERVAL_SECONDS = 5
PATIENCE_SECONDS = 40


class App:
    """A program with its own token and its own output."""

    def __init__(self, name, command, vault, token, accessor):
        self.name, self.accessor = name, accessor
        self.output = vault.folder / f"{name}.out"
        environment = {key: value for key, value in os.environ.items()
                       if not key.startswith(("VAULT_", "BAO_", "KISTA_"))}
        environment |= {"VAULT_ADDR": vault.url, "VAULT_TOKEN": token, "VAULT_CACERT": str(vault.ca),
                        "HOME": str(vault.folder)}
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                            cwd=vault.folder, env=environment,
                                            preexec_fn=servers.die_with_parent)

    def told(self):
        return self.output.read_text(errors="replace")

    def says(self):
        """What it says of its secret so far."""
        return self.told()

    def wait_for(self, text):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in self.says():
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self.process.returncode}:\n{self.told()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not say {text!r}:\n{self.says()}{self.told()}")
            time.sleep(0.1)

    def end(self):
        self.process.kill()
        self.process.wait()


class Service(App):
    """The one that is a web service: it says on its page what it uses."""

    def __init__(self, binary, vault, token, accessor):
        self.page = f"127.0.0.1:{servers.free_port()}"
        super().__init__("service", [binary, self.page], vault, token, accessor)

    def says(self):
        try:
            with urllib.request.urlopen(f"http://{self.page}/", timeout=5) as page:
                return page.read().decode()
        except urllib.error.URLError:
            return ""


class Vault(servers.Server):
    """A server with a secret, and tokens that may read it."""

    def ask(self, method, path, body=None, token=None):
        status, raw = self.call(method, path, token or self.root, body)
        assert status in (200, 204), f"{method} {path}: {status} {raw!r}"
        return json.loads(raw) if raw else None

    def open(self):
        made = json.loads(self.call("POST", "sys/init", body={"secret_shares": 1, "secret_threshold": 1})[1])
        self.keys, self.root = made["keys"], made["root_token"]
        self.unseal(self.keys)
        self.ask("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
        self.ask("PUT", "sys/policies/acl/app", {"policy": POLICY})

    def put(self, version):
        data = {"url": "postgres://db/app", "user": f"app-{version}", "password": f"planted-{version}"}
        written = self.ask("POST", "secret/data/app/db", {"data": data})
        assert written["data"]["version"] == version

    def token(self):
        made = self.ask("POST", "auth/token/create", {"policies": ["app"], "ttl": f"{TTL_SECONDS}s"})["auth"]
        return made["client_token"], made["accessor"]


def commands(vault, python, node):
    """What starts each program but the service."""
    show = "echo connected as $USER, version $(echo $USER | cut -d- -f2); exec sleep 1000"
    run = [vault.binary, "run", "-e", "secret/app/db", "--wait", "60s", "--watch", "--interval", f"{INTERVAL_SECONDS}s"]
    found = {"run": [*run, "--", "sh", "-c", show], "python": [python, EXAMPLES / "app.py"]}
    if node:
        found["node"] = [node, EXAMPLES / "app.js"]
    if shutil.which("jq"):
        found["shell"] = [EXAMPLES / "app.sh"]
    else:
        print("jq is not here: the example for the shell is not run")
    return found


def examine(vault, service, python, node):
    vault.open()
    vault.put(1)
    wanted = commands(vault, python, node)
    tokens = {name: vault.token() for name in ["service", *wanted]}
    made = time.monotonic()
    vault.ask("POST", "sys/seal")
    apps = [Service(service, vault, *tokens["service"])]
    try:
        apps += [App(name, command, vault, *tokens[name]) for name, command in wanted.items()]
        time.sleep(2)
        for app in apps:
            assert "connected" not in app.says() and app.process.poll() is None, f"{app.name}: {app.told()}"
        print("ok each waits while the vault is sealed")
        vault.unseal(vault.keys)
        for version in (1, 2, 3):
            if version == 3:
                vault.ask("POST", "sys/seal")
                time.sleep(INTERVAL_SECONDS + 1)
                vault.unseal(vault.keys)
                time.sleep(max(0, made + TTL_SECONDS + 1 - time.monotonic()))
            if version > 1:
                vault.put(version)
            for app in apps:
                app.wait_for(f"connected as app-{version}, version {version}")
            print(f"ok each uses version {version}")
        print(f"ok each has outlived its token's first {TTL_SECONDS} seconds, and a sealed vault")
        for app in apps:
            shown = app.says() + app.told()
            assert "planted" not in shown and "hvs." not in shown, f"{app.name} shows a secret"
        ended = apps[0]
        vault.ask("POST", "auth/token/revoke-accessor", {"accessor": ended.accessor})
        assert ended.process.wait(PATIENCE_SECONDS) == 1 and "revoked" in ended.told(), ended.told()
        print("ok the service ends when its token is revoked, and says so")
    finally:
        for app in apps:
            app.end()


def main():
    binary, service, python, *node = sys.argv[1:]
    with servers.scratch() as folder, Vault(binary, folder) as vault:
        vault.start()
        examine(vault, str(servers.ROOT / service), str(servers.ROOT / python), node[0] if node else None)
    print("the examples hold")


if __name__ == "__main__":
    main()
