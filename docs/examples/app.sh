#!/bin/sh
set -eu

# METHOD PATH. A sealed vault is waited for. The token goes through a pipe: arguments show in `ps`.
vault() {
    printf 'header = "X-Vault-Token: %s"\n' "$VAULT_TOKEN" |
        curl --config - --silent --show-error --fail --retry 60 --retry-delay 2 \
            --retry-connrefused --cacert "$VAULT_CACERT" --request "$1" "$VAULT_ADDR/v1/$2"
}

version=none
while found=$(vault GET secret/data/app/db); do
    new=$(printf %s "$found" | jq .data.metadata.version)
    if [ "$new" != "$version" ]; then
        version=$new
        user=$(printf %s "$found" | jq -r .data.data.user)
        printf 'connected as %s, version %s\n' "$user" "$version"
    fi
    vault POST auth/token/renew-self >/dev/null
    sleep 5
done
