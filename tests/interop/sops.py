"""sops' requests to its Vault key service, and sops itself where it is given, against a fresh server: ADDRESS, and
CA_FILE with its certificate.

    python against.py BINARY python sops.py [SOPS]
"""

import base64
import http.client
import json
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
import urllib.parse

SECRET = {"database": {"user": "app", "password": "hunter2"}, "port": 5432}


def call(method, path, token=None, body=None):
    context = ssl.create_default_context(cafile=os.environ["CA_FILE"])
    address = urllib.parse.urlsplit(os.environ["ADDRESS"])
    connection = http.client.HTTPSConnection(address.hostname, address.port, timeout=30, context=context)
    headers = {"X-Vault-Request": "true", **({"X-Vault-Token": token} if token else {})}
    connection.request(method, f"/v1/{path}", json.dumps(body) if body is not None else None, headers)
    answer = connection.getresponse()
    raw = answer.read()
    connection.close()
    return answer.status, json.loads(raw) if raw else None


def opened():
    """A token that may use one key and nothing else."""
    _, made = call("PUT", "sys/init", body={"secret_shares": 1, "secret_threshold": 1})
    call("PUT", "sys/unseal", body={"key": made["keys"][0]})
    root = made["root_token"]
    assert call("PUT", "sys/mounts/sops", root, {"type": "transit"})[0] == 204
    policy = 'path "sops/encrypt/team" { capabilities = ["update"] } path "sops/decrypt/team" { capabilities = ["update"] }'
    call("PUT", "sys/policies/acl/sops", root, {"policy": policy})
    for name in ("team", "other"):
        assert call("PUT", f"sops/keys/{name}", root, {})[0] in (200, 204)
    _, token = call("PUT", "auth/token/create", root, {"policies": ["sops"], "ttl": "1h"})
    return root, token["auth"]["client_token"]


def the_requests_of_sops_are_answered(token):
    data_key = base64.b64encode(os.urandom(32)).decode()
    status, sealed = call("PUT", "sops/encrypt/team", token, {"plaintext": data_key})
    assert status == 200 and sealed["data"]["ciphertext"].startswith("vault:v1:"), sealed
    status, opened = call("PUT", "sops/decrypt/team", token, {"ciphertext": sealed["data"]["ciphertext"]})
    assert status == 200 and opened["data"]["plaintext"] == data_key, opened
    assert call("PUT", "sops/encrypt/other", token, {"plaintext": data_key})[0] == 403


def a_file_is_encrypted_edited_and_decrypted(sops, root, token):
    key = f"{os.environ['ADDRESS']}/v1/sops/keys/team"
    environment = {**os.environ, "VAULT_TOKEN": token, "VAULT_CACERT": os.environ["CA_FILE"]}

    def run(*arguments, **more):
        done = subprocess.run([sops, *arguments], env={**environment, **more}, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "secrets.json")
        file.write_text(json.dumps(SECRET))
        code, sealed, errors = run("encrypt", "--hc-vault-transit", key, str(file))
        assert code == 0, errors
        file.write_text(sealed)
        assert "hunter2" not in sealed and '"hc_vault"' in sealed and "vault:v1:" in sealed
        code, plain, errors = run("decrypt", str(file))
        assert code == 0 and json.loads(plain) == SECRET, errors
        code, _, errors = run("set", str(file), '["port"]', "5433")
        assert code == 0, errors
        # A newer version of the key: what the older one wrapped is still opened, and what is wrapped anew is under it.
        call("PUT", "sops/keys/team/rotate", root, {})
        code, plain, errors = run("decrypt", str(file))
        assert code == 0 and json.loads(plain) == {**SECRET, "port": 5433}, errors
        code, _, errors = run("rotate", "--in-place", str(file))
        assert code == 0 and "vault:v2:" in file.read_text(), errors
        assert run("decrypt", str(file))[0] == 0
        assert run("decrypt", str(file), VAULT_TOKEN="hvs.nothing")[0] != 0


def main():
    root, token = opened()
    the_requests_of_sops_are_answered(token)
    print("ok the_requests_of_sops_are_answered", flush=True)
    if len(sys.argv) < 2:
        print("1 passed, 0 failed, 1 skipped")
        return
    a_file_is_encrypted_edited_and_decrypted(sys.argv[1], root, token)
    print("ok a_file_is_encrypted_edited_and_decrypted\n2 passed, 0 failed")


if __name__ == "__main__":
    main()
