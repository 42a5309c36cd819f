import time

import hvac
import requests

vault, version = hvac.Client(), None  # VAULT_ADDR, VAULT_TOKEN, VAULT_CACERT
kv = vault.secrets.kv.v2
while True:
    try:
        found = kv.read_secret_version("app/db", raise_on_deleted_version=True)["data"]
        if found["metadata"]["version"] != version:
            version = found["metadata"]["version"]
            print(f"connected as {found['data']['user']}, version {version}", flush=True)
        vault.auth.token.renew_self()
    except (hvac.exceptions.VaultDown, requests.ConnectionError):
        pass  # sealed, or not there yet; a refusal ends the program
    time.sleep(5)
