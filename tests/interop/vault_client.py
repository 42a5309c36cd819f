"""An unmodified Vault client (hvac) against the real binary, from init to seal and through kill -9.

    python vault_client.py BINARY
"""

import json
import sys
import warnings

import hvac
from hvac import exceptions

import server as servers

# The client announces a default that will change; where it matters here, it is given.
warnings.simplefilter("ignore", DeprecationWarning)

SHARES, THRESHOLD = 5, 3
READER = 'path "secret/data/app/*" { capabilities = ["read", "list"] }'
READER_JSON = json.dumps({"path": {"secret/data/app/*": {"capabilities": ["read", "list"]}}})
# Numbers that no float holds, an order that no map keeps, text in three planes and two spellings.
EXACT = ('{"z": 1, "a": 12345678901234567890123, "m": 1.10, "big": 1e400, "neg": -0.0, '
         '"\u00fc": "\\u00e9 \u00e9 \U0001f600 \\ud83d\\ude00 \\/ \\n", '
         '"list": [1.0, true, null, {"y": 2, "b": {}}], "": "empty name"}')


class Run:
    """What the steps share."""

    def __init__(self, server):
        self.server = server
        self.keys = []
        self.root = None

    def client(self, token=None):
        return hvac.Client(url=self.server.url, token=token, verify=str(self.server.ca))

    def admin(self):
        return self.client(self.root)

    def raw(self, method, path, body=None, token=None):
        return self.server.call(method, path, token or self.root, body)


def refused(error, call, text=None):
    """The call must fail with this error of the client, and with this text in it."""
    try:
        call()
    except error as raised:
        assert text is None or text in str(raised), f"{text!r} not in {raised}"
        return
    raise AssertionError(f"{error.__name__} was not raised")


def a_fresh_server_is_uninitialised(run):
    client = run.client()
    assert client.sys.is_initialized() is False
    assert client.sys.is_sealed() is True
    assert client.sys.read_health_status(method="GET").status_code == 501


def bad_shares_are_refused(run):
    client = run.client()
    refused(exceptions.InvalidRequest, lambda: client.sys.initialize(2, 3), "threshold cannot be larger")
    refused(exceptions.InvalidRequest, lambda: client.sys.initialize(3, 1))


def init_gives_shares_and_a_root_token(run):
    answer = run.client().sys.initialize(SHARES, THRESHOLD)
    run.keys, run.root = answer["keys_base64"], answer["root_token"]
    assert len(run.keys) == len(answer["keys"]) == SHARES
    assert run.root.startswith("hvs.")
    refused(exceptions.InvalidRequest, lambda: run.client().sys.initialize(1, 1), "Vault is already initialized")
    run.hex = answer["keys"]


def a_sealed_vault_answers_503(run):
    refused(exceptions.VaultDown, lambda: run.admin().secrets.kv.v2.read_secret_version("x"), "Vault is sealed")
    assert run.client().sys.read_health_status(method="GET").status_code == 503


def unseal_counts_and_resets(run):
    client = run.client()
    assert client.sys.submit_unseal_key(run.keys[0])["progress"] == 1
    assert client.sys.submit_unseal_key(run.keys[0])["progress"] == 1, "the same share counts once"
    assert client.sys.submit_unseal_key(reset=True)["progress"] == 0
    status = client.sys.read_seal_status()
    assert (status["t"], status["n"], status["sealed"]) == (THRESHOLD, SHARES, True)


def a_foreign_share_discards_all(run):
    client = run.client()
    wrong = bytearray(bytes.fromhex(run.hex[2]))
    wrong[0] ^= 1
    client.sys.submit_unseal_key(run.keys[0])
    client.sys.submit_unseal_key(run.keys[1])
    refused(exceptions.InvalidRequest, lambda: client.sys.submit_unseal_key(wrong.hex()))
    assert client.sys.read_seal_status()["progress"] == 0
    refused(exceptions.InvalidRequest, lambda: client.sys.submit_unseal_key("not a share!"))


def hex_and_base64_shares_unseal(run):
    client = run.client()
    client.sys.submit_unseal_key(run.hex[4])
    client.sys.submit_unseal_key(run.keys[1])
    assert client.sys.submit_unseal_key(run.keys[2])["sealed"] is False
    assert client.sys.read_health_status(method="GET")["sealed"] is False
    leader = client.sys.read_leader_status()
    assert leader["ha_enabled"] is False and leader["leader_address"] == ""


def mounts_are_enabled_listed_and_disabled(run):
    client = run.admin()
    client.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
    client.sys.enable_secrets_engine("kv-v2", path="other/deep")
    mounts = client.sys.list_mounted_secrets_engines()["data"]
    for path in ("secret/", "other/deep/"):
        assert mounts[path]["type"] == "kv" and mounts[path]["options"]["version"] == "2", mounts[path]
    refused(exceptions.InvalidRequest,
            lambda: client.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"}),
            "path is already in use at secret/")
    client.secrets.kv.v2.create_or_update_secret("gone", {"a": "b"}, mount_point="other/deep")
    client.sys.disable_secrets_engine("other/deep")
    assert "other/deep/" not in client.sys.list_mounted_secrets_engines()["data"]
    client.sys.enable_secrets_engine("kv-v2", path="other/deep")
    refused(exceptions.InvalidPath,
            lambda: client.secrets.kv.v2.read_secret_version("gone", mount_point="other/deep"))
    client.sys.disable_secrets_engine("other/deep")
    client.sys.disable_secrets_engine("never/there")


def kv_writes_reads_and_keeps_versions(run):
    kv = run.admin().secrets.kv.v2
    for number in range(1, 4):
        written = kv.create_or_update_secret("app/db", {"password": f"v{number}", "n": number})
        assert written["data"]["version"] == number
    current = kv.read_secret_version("app/db", raise_on_deleted_version=True)["data"]
    assert current["data"] == {"password": "v3", "n": 3}
    assert current["metadata"]["version"] == 3 and current["metadata"]["destroyed"] is False
    first = kv.read_secret_version("app/db", version=1, raise_on_deleted_version=True)["data"]
    assert first["data"]["password"] == "v1"
    refused(exceptions.InvalidPath, lambda: kv.read_secret_version("app/db", version=9))
    refused(exceptions.InvalidPath, lambda: kv.read_secret_version("app/absent"))


def check_and_set_guards_a_write(run):
    kv = run.admin().secrets.kv.v2
    kv.create_or_update_secret("app/cas", {"a": 1}, cas=0)
    mismatch = "check-and-set parameter did not match the current version"
    refused(exceptions.InvalidRequest, lambda: kv.create_or_update_secret("app/cas", {"a": 2}, cas=0), mismatch)
    refused(exceptions.InvalidRequest, lambda: kv.create_or_update_secret("app/cas", {"a": 2}, cas=7), mismatch)
    assert kv.create_or_update_secret("app/cas", {"a": 2}, cas=1)["data"]["version"] == 2


def deleted_versions_come_back_and_destroyed_ones_do_not(run):
    kv = run.admin().secrets.kv.v2
    kv.delete_latest_version_of_secret("app/db")
    refused(exceptions.InvalidPath, lambda: kv.read_secret_version("app/db", raise_on_deleted_version=True))
    shown = kv.read_secret_version("app/db", raise_on_deleted_version=False)["data"]
    assert shown["data"] is None and shown["metadata"]["deletion_time"] != ""
    kv.undelete_secret_versions("app/db", versions=[3])
    assert kv.read_secret_version("app/db", raise_on_deleted_version=True)["data"]["data"]["password"] == "v3"
    kv.delete_secret_versions("app/db", versions=[1, 2])
    refused(exceptions.InvalidPath,
            lambda: kv.read_secret_version("app/db", version=2, raise_on_deleted_version=True))
    kv.destroy_secret_versions("app/db", versions=[2])
    kv.undelete_secret_versions("app/db", versions=[1, 2])
    assert kv.read_secret_version("app/db", version=1, raise_on_deleted_version=True)["data"]["data"]["password"] == "v1"
    refused(exceptions.InvalidPath,
            lambda: kv.read_secret_version("app/db", version=2, raise_on_deleted_version=True))
    versions = kv.read_secret_metadata("app/db")["data"]["versions"]
    assert versions["2"]["destroyed"] is True and versions["1"]["deletion_time"] == ""


def metadata_is_kept_listed_and_wiped(run):
    kv = run.admin().secrets.kv.v2
    kv.update_metadata("app/db", max_versions=2, custom_metadata={"owner": "team-a"})
    metadata = kv.read_secret_metadata("app/db")["data"]
    assert metadata["current_version"] == 3 and metadata["custom_metadata"] == {"owner": "team-a"}
    assert isinstance(metadata["current_version"], int) and metadata["max_versions"] == 2
    assert kv.create_or_update_secret("app/db", {"password": "v4"})["data"]["version"] == 4
    metadata = kv.read_secret_metadata("app/db")["data"]
    assert sorted(metadata["versions"]) == ["3", "4"] and metadata["oldest_version"] == 3
    kv.create_or_update_secret("app/db/child", {"a": 1})
    kv.create_or_update_secret("top", {"a": 1})
    assert kv.list_secrets("app")["data"]["keys"] == ["cas", "db", "db/"]
    assert kv.list_secrets("")["data"]["keys"] == ["app/", "top"]
    refused(exceptions.InvalidPath, lambda: kv.list_secrets("nothing/here"))
    kv.delete_metadata_and_all_versions("app/db/child")
    assert kv.list_secrets("app")["data"]["keys"] == ["cas", "db"]
    refused(exceptions.InvalidPath, lambda: kv.read_secret_metadata("app/db/child"))


def secrets_are_patched_shown_in_part_and_found_below(run):
    client = run.admin()
    kv = client.secrets.kv.v2
    kv.create_or_update_secret("patched/a", {"a": 1, "b": {"c": 2, "d": 3}})

    def patch(path, body):
        kind = {"Content-Type": "application/merge-patch+json"}
        return client.adapter.request("PATCH", f"/v1/secret/{path}", headers=kind, json=body)

    assert patch("data/patched/a", {"data": {"a": None, "b": {"c": 9}}})["data"]["version"] == 2
    read = kv.read_secret_version("patched/a", raise_on_deleted_version=True)["data"]["data"]
    assert read == {"b": {"c": 9, "d": 3}}, read
    # hvac's own patch reads, and writes what it has read under check-and-set.
    assert kv.patch("patched/a", {"e": 5})["data"]["version"] == 3
    refused(exceptions.InvalidPath, lambda: patch("data/patched/none", {"data": {"a": 1}}))
    refused(exceptions.UnexpectedError,
            lambda: client.adapter.request("PATCH", "/v1/secret/data/patched/a", json={"data": {"a": 1}}),
            "PATCH requires Content-Type of application/merge-patch+json")
    patch("metadata/patched/a", {"custom_metadata": {"owner": "team-a"}, "max_versions": 4})
    patch("metadata/patched/a", {"custom_metadata": {"zone": "b"}, "max_versions": None})
    metadata = kv.read_secret_metadata("patched/a")["data"]
    assert metadata["custom_metadata"] == {"owner": "team-a", "zone": "b"} and metadata["max_versions"] == 0
    subkeys = client.read("secret/subkeys/patched/a")["data"]["subkeys"]
    assert subkeys == {"b": {"c": None, "d": None}, "e": None}, subkeys
    kv.create_or_update_secret("patched/a/below", {})
    found = client.adapter.request("SCAN", "/v1/secret/metadata/patched")["data"]["keys"]
    assert found == ["a", "a/below"], found
    detailed = client.list("secret/detailed-metadata/patched")["data"]
    assert detailed["keys"] == ["a", "a/"] and detailed["key_info"]["a"]["current_version"] == 3, detailed
    for path in found:
        kv.delete_metadata_and_all_versions(f"patched/{path}")


def version_1_of_kv_has_one_value_for_each_secret(run):
    client = run.admin()
    client.sys.enable_secrets_engine("kv", path="plain")
    client.sys.enable_secrets_engine("kv", path="also", options={"version": "1"})
    mounts = client.sys.list_mounted_secrets_engines()["data"]
    assert mounts["plain/"]["options"] is None and mounts["also/"]["options"] == {"version": "1"}, mounts
    kv = client.secrets.kv.v1
    kv.create_or_update_secret("app/db", {"password": "old", "ttl": "1h"}, mount_point="plain")
    kv.create_or_update_secret("app/db", {"password": "new"}, mount_point="plain")
    read = kv.read_secret("app/db", mount_point="plain")
    assert read["data"] == {"password": "new"} and read["lease_duration"] == 2764800, read
    kv.create_or_update_secret("app/db/child", {"ttl": "1h"}, mount_point="plain")
    assert kv.read_secret("app/db/child", mount_point="plain")["lease_duration"] == 3600
    assert kv.list_secrets("app", mount_point="plain")["data"]["keys"] == ["db", "db/"]
    refused(exceptions.InvalidRequest,
            lambda: kv.create_or_update_secret("app/none", {}, mount_point="plain"), "missing data fields")
    kv.delete_secret("app/db", mount_point="plain")
    refused(exceptions.InvalidPath, lambda: kv.read_secret("app/db", mount_point="plain"))
    refused(exceptions.InvalidPath, lambda: kv.read_secret("app/db/child", mount_point="also"))
    for path in ("plain", "also"):
        client.sys.disable_secrets_engine(path)


def a_mount_is_tuned_moved_and_upgraded(run):
    admin = run.admin()
    admin.sys.enable_secrets_engine("kv", path="old", options={"version": "1"})
    admin.secrets.kv.v1.create_or_update_secret("app", {"v": 1}, mount_point="old")
    admin.sys.tune_mount_configuration("old", default_lease_ttl="30m", description="tuned",
                                       listing_visibility="hidden")
    tuning = admin.sys.read_mount_configuration("old")["data"]
    assert (tuning["default_lease_ttl"], tuning["description"]) == (1800, "tuned"), tuning
    assert admin.secrets.kv.v1.read_secret("app", mount_point="old")["lease_duration"] == 1800
    moved = admin.sys.move_backend("old", "team/kv")
    assert "team/kv/" in admin.sys.list_mounted_secrets_engines()["data"], moved
    status = admin.read(f"sys/remount/status/{moved['data']['migration_id']}")
    assert status["data"]["migration_info"]["status"] == "success", status
    admin.sys.tune_mount_configuration("team/kv", options={"version": "2"})
    read = admin.secrets.kv.v2.read_secret_version("app", mount_point="team/kv")["data"]
    assert (read["data"], read["metadata"]["version"]) == ({"v": 1}, 1), read
    admin.secrets.kv.v2.create_or_update_secret("app", {"v": 2}, cas=1, mount_point="team/kv")
    refused(exceptions.InvalidRequest,
            lambda: admin.sys.tune_mount_configuration("team/kv", options={"version": "1"}), "cannot downgrade")
    assert "token/" in admin.sys.list_auth_methods()["data"]
    admin.sys.disable_secrets_engine("team/kv")


def a_cubbyhole_ends_with_its_token(run):
    admin = run.admin()
    token = admin.auth.token.create(policies=["default"], ttl="1h")["auth"]["client_token"]
    own = run.client(token)
    own.write("cubbyhole/mine", v="x")
    assert own.read("cubbyhole/mine")["data"] == {"v": "x"}
    assert own.list("cubbyhole")["data"]["keys"] == ["mine"]
    assert admin.read("cubbyhole/mine") is None
    admin.auth.token.revoke(token)
    refused(exceptions.Forbidden, lambda: own.read("cubbyhole/mine"))


def quotas_count_and_are_shown(run):
    admin = run.admin()
    admin.sys.create_or_update_quota("app", 2, path="secret/data/counted", interval="1h", rate_limit_type="rate-limit")
    assert admin.sys.list_quotas()["data"]["keys"] == ["app"]
    read = admin.sys.read_quota("app")["data"]
    assert (read["path"], read["rate"], read["interval"], read["role"]) == ("secret/data/counted", 2, 3600, ""), read
    for _ in range(2):
        refused(exceptions.InvalidPath, lambda: admin.secrets.kv.v2.read_secret_version("counted"))
    refused(exceptions.RateLimitExceeded, lambda: admin.secrets.kv.v2.read_secret_version("counted"), "quota exceeded")
    admin.write_data("sys/quotas/config", data={"rate_limit_exempt_paths": ["secret/data/counted"]})
    refused(exceptions.InvalidPath, lambda: admin.secrets.kv.v2.read_secret_version("counted"))
    for _ in range(2):
        assert admin.sys.delete_quota("app").status_code == 204
    refused(exceptions.InvalidPath, admin.sys.list_quotas)


def json_comes_back_byte_for_byte(run):
    status, raw = run.raw("POST", "secret/data/exact", f'{{"data":{EXACT}}}'.encode())
    assert status == 200, (status, raw)
    status, raw = run.raw("GET", "secret/data/exact")
    assert status == 200 and EXACT.encode() in raw, raw.decode()


def large_values_come_back_whole(run):
    kv = run.admin().secrets.kv.v2
    for size in (4_000, 7_680, 7_681, 100_000, 900_000):
        kv.create_or_update_secret("app/large", {"blob": "x" * size})
        read = kv.read_secret_version("app/large", raise_on_deleted_version=True)["data"]["data"]
        assert read["blob"] == "x" * size, size


def bad_bodies_are_refused(run):
    for body in (b'{"data":{"a":1,"a":2}}', b'{"data":{}} trailing', b'{"data":', b'[1]',
                 b'{"data":{"a":"\\ud800"}}', b'{"data":' + b"[" * 100 + b"]" * 100 + b"}"):
        status, raw = run.raw("POST", "secret/data/bad", body)
        assert status == 400 and "errors" in json.loads(raw), (body[:40], status, raw)
    refused(exceptions.InvalidPath, lambda: run.admin().secrets.kv.v2.read_secret_version("bad"))


def odd_paths_are_one_path_or_none(run):
    status, _ = run.raw("POST", "secret/data/a%20b%2Fc%2B%25", {"data": {"a": 1}})
    assert status == 200, status
    assert run.admin().secrets.kv.v2.list_secrets("a b")["data"]["keys"] == ["c+%"]
    for path in ("secret/data/x/../y", "secret/data/x/%2e%2e/y", "secret/data/x//y", "secret/data/x%00",
                 "secret/data/%ff"):
        status, _ = run.raw("GET", path)
        assert status == 400, (path, status)


def policies_are_read_in_hcl_and_json(run):
    system = run.admin().sys
    system.create_or_update_policy("reader", READER)
    assert system.read_policy("reader")["data"]["rules"] == READER
    system.create_or_update_acl_policy("reader-json", READER_JSON)
    assert system.read_acl_policy("reader-json")["data"]["policy"] == READER_JSON
    assert {"default", "reader", "reader-json", "root"} <= set(system.list_policies()["data"]["policies"])
    assert {"default", "reader", "reader-json", "root"} <= set(system.list_acl_policies()["data"]["keys"])
    refused(exceptions.InvalidRequest, lambda: system.create_or_update_acl_policy("bad", 'path "x" {'))
    refused(exceptions.InvalidRequest, lambda: system.create_or_update_acl_policy("root", READER))
    refused(exceptions.InvalidRequest, lambda: system.delete_policy("default"))
    system.create_or_update_acl_policy("passing", READER)
    system.delete_acl_policy("passing")
    refused(exceptions.InvalidPath, lambda: system.read_acl_policy("passing"))


def a_token_reads_what_its_policy_says_and_no_more(run):
    kv = run.admin().secrets.kv.v2
    kv.create_or_update_secret("hidden", {"a": 1})
    for policy in ("reader", "reader-json"):
        token = run.admin().auth.token.create(policies=[policy], ttl="1h")["auth"]["client_token"]
        reader = run.client(token).secrets.kv.v2
        assert reader.read_secret_version("app/cas", raise_on_deleted_version=True)["data"]["data"] == {"a": 2}
        denied = exceptions.Forbidden
        refused(denied, lambda: reader.read_secret_version("hidden"), "permission denied")
        refused(denied, lambda: reader.read_secret_version("absent"), "permission denied")
        refused(denied, lambda: reader.create_or_update_secret("app/cas", {"a": 3}))
        refused(denied, lambda: reader.delete_latest_version_of_secret("app/cas"))
        refused(denied, lambda: run.client(token).sys.list_mounted_secrets_engines())
        refused(denied, lambda: run.client(token).sys.seal())
    refused(exceptions.Forbidden, lambda: run.client("hvs.nothing").secrets.kv.v2.read_secret_version("app/cas"))
    refused(exceptions.Forbidden, lambda: run.client().secrets.kv.v2.read_secret_version("app/cas"))


def tokens_are_looked_up_and_renewed(run):
    tokens = run.admin().auth.token
    made = tokens.create(policies=["reader"], ttl="1h", display_name="ci", meta={"job": "7"})["auth"]
    assert made["policies"] == ["default", "reader"] and made["lease_duration"] == 3600
    found = run.client(made["client_token"]).auth.token.lookup_self()["data"]
    assert found["display_name"] == "token-ci" and found["meta"] == {"job": "7"}
    assert 3590 <= found["ttl"] <= 3600 and found["type"] == "service" and found["expire_time"]
    assert tokens.lookup(made["client_token"])["data"]["accessor"] == made["accessor"]
    by_accessor = tokens.lookup_accessor(made["accessor"])["data"]
    assert by_accessor["id"] == "" and by_accessor["policies"] == ["default", "reader"]
    assert made["accessor"] in tokens.list_accessors()["data"]["keys"]
    renewed = run.client(made["client_token"]).auth.token.renew_self(increment="2h")["auth"]
    assert renewed["lease_duration"] == 7200
    assert tokens.renew(made["client_token"], increment="90m")["auth"]["lease_duration"] == 5400
    root = run.admin().auth.token.lookup_self()["data"]
    assert root["expire_time"] is None and root["ttl"] == 0 and root["policies"] == ["root"]
    refused(exceptions.Forbidden, lambda: tokens.lookup("hvs.unknown"), "bad token")


def revoking_a_token_takes_its_children(run):
    admin = run.admin().auth.token
    admin_policy = 'path "auth/token/create" { capabilities = ["update"] }'
    run.admin().sys.create_or_update_acl_policy("maker", admin_policy)
    parent = admin.create(policies=["maker"], ttl="1h")["auth"]["client_token"]
    child = run.client(parent).auth.token.create(ttl="30m")["auth"]
    grandchild = run.client(child["client_token"]).auth.token.create(ttl="10m")["auth"]
    assert run.client(grandchild["client_token"]).auth.token.lookup_self()
    refused(exceptions.InvalidRequest, lambda: run.client(parent).auth.token.create(policies=["reader"]))
    admin.revoke(parent)
    for token in (parent, child["client_token"], grandchild["client_token"]):
        refused(exceptions.Forbidden, lambda: run.client(token).auth.token.lookup_self())
    lonely = admin.create(policies=["reader"])["auth"]
    admin.revoke_accessor(lonely["accessor"])
    refused(exceptions.Forbidden, lambda: run.client(lonely["client_token"]).auth.token.lookup_self())
    own = admin.create(policies=["reader"])["auth"]["client_token"]
    run.client(own).auth.token.revoke_self()
    refused(exceptions.Forbidden, lambda: run.client(own).auth.token.lookup_self())


def all_is_there_after_kill_9(run):
    kv = run.admin().secrets.kv.v2
    token = run.admin().auth.token.create(policies=["reader"], ttl="1h")["auth"]["client_token"]
    kv.create_or_update_secret("app/last", {"written": "just before"})
    run.server.kill()
    run.server.start()
    assert run.client().sys.is_sealed() is True
    run.server.unseal(run.keys[:THRESHOLD])
    kv = run.admin().secrets.kv.v2
    assert kv.read_secret_version("app/last", raise_on_deleted_version=True)["data"]["data"] == {"written": "just before"}
    assert run.client(token).secrets.kv.v2.read_secret_version("app/last", raise_on_deleted_version=True)
    status, raw = run.raw("GET", "secret/data/exact")
    assert status == 200 and EXACT.encode() in raw


def a_rekey_replaces_the_shares(run):
    sys = run.admin().sys
    refused(exceptions.Forbidden, lambda: run.client().sys.read_rekey_progress())
    idle = sys.read_rekey_progress()
    assert (idle["started"], idle["required"], idle["pgp_fingerprints"]) == (False, THRESHOLD, None)
    refused(exceptions.InvalidRequest, lambda: sys.rekey(run.keys[0], nonce="x"), "no barrier rekey in progress")
    refused(exceptions.InvalidRequest, lambda: sys.start_rekey(3, 5), "threshold cannot be larger than shares")
    begun = sys.start_rekey(3, 2)
    assert (begun["started"], begun["n"], begun["t"], begun["progress"]) == (True, 3, 2, 0)
    refused(exceptions.InvalidRequest, lambda: sys.start_rekey(3, 2), "rekey already in progress")
    refused(exceptions.InvalidRequest, lambda: sys.rekey(run.keys[0], nonce="wrong"), "incorrect nonce supplied")
    assert sys.rekey(run.keys[0], nonce=begun["nonce"])["progress"] == 1
    refused(exceptions.InvalidRequest, lambda: sys.rekey(run.keys[0], nonce=begun["nonce"]),
            "given key has already been provided")
    sys.cancel_rekey()
    assert sys.read_rekey_progress()["started"] is False
    begun = sys.start_rekey(3, 2)
    done = sys.rekey_multi(run.keys[:3], nonce=begun["nonce"])
    assert done["complete"] is True and len(done["keys"]) == len(done["keys_base64"]) == 3
    refused(exceptions.InvalidRequest, sys.read_backup_keys, "no backed-up keys found")
    old, run.keys = run.keys, done["keys_base64"]
    status = run.client().sys.read_seal_status()
    assert (status["t"], status["n"], status["sealed"]) == (2, 3, False)
    sys.seal()
    run.client().sys.submit_unseal_key(old[0])
    refused(exceptions.InvalidRequest, lambda: run.client().sys.submit_unseal_key(old[1]))
    run.server.unseal(run.keys[1:])


def new_shares_are_verified_before_they_hold(run):
    sys = run.admin().sys
    refused(exceptions.InvalidRequest, sys.read_rekey_verify_progress, "no rekey configuration found")
    begun = sys.start_rekey(SHARES, THRESHOLD, require_verification=True)
    made = sys.rekey_multi(run.keys[:2], nonce=begun["nonce"])
    assert made["complete"] is True and made["verification_required"] is True
    nonce = made["verification_nonce"]
    assert run.client().sys.read_seal_status()["n"] == 3, "the old shares hold until then"
    refused(exceptions.InvalidRequest, lambda: sys.rekey_verify(made["keys"][0], nonce="wrong"),
            "incorrect nonce supplied")
    assert sys.rekey_verify(made["keys"][0], nonce=nonce)["progress"] == 1
    sys.cancel_rekey_verify()
    progress = sys.read_rekey_verify_progress()
    assert progress["progress"] == 0 and progress["nonce"] != nonce
    done = sys.rekey_verify_multi(made["keys"][:THRESHOLD], nonce=progress["nonce"])
    assert done["complete"] is True
    run.keys = made["keys_base64"]
    assert run.client().sys.read_seal_status()["n"] == SHARES


def seal_shuts_the_door(run):
    run.admin().sys.seal()
    assert run.client().sys.is_sealed() is True
    refused(exceptions.VaultDown, lambda: run.admin().secrets.kv.v2.read_secret_version("app/last"))
    run.server.unseal(run.keys[2:])
    assert run.admin().secrets.kv.v2.read_secret_version("app/last", raise_on_deleted_version=True)


def a_clean_stop_and_start_loses_nothing(run):
    assert run.server.stop() == 0
    run.server.start()
    run.server.unseal(run.keys[1:4])
    assert run.admin().secrets.kv.v2.read_secret_version("app/last", raise_on_deleted_version=True)


STEPS = [
    a_fresh_server_is_uninitialised,
    bad_shares_are_refused,
    init_gives_shares_and_a_root_token,
    a_sealed_vault_answers_503,
    unseal_counts_and_resets,
    a_foreign_share_discards_all,
    hex_and_base64_shares_unseal,
    mounts_are_enabled_listed_and_disabled,
    kv_writes_reads_and_keeps_versions,
    check_and_set_guards_a_write,
    deleted_versions_come_back_and_destroyed_ones_do_not,
    metadata_is_kept_listed_and_wiped,
    secrets_are_patched_shown_in_part_and_found_below, version_1_of_kv_has_one_value_for_each_secret,
    a_mount_is_tuned_moved_and_upgraded,
    a_cubbyhole_ends_with_its_token,
    quotas_count_and_are_shown,
    json_comes_back_byte_for_byte,
    large_values_come_back_whole,
    bad_bodies_are_refused,
    odd_paths_are_one_path_or_none,
    policies_are_read_in_hcl_and_json,
    a_token_reads_what_its_policy_says_and_no_more,
    tokens_are_looked_up_and_renewed,
    revoking_a_token_takes_its_children,
    all_is_there_after_kill_9,
    a_rekey_replaces_the_shares,
    new_shares_are_verified_before_they_hold,
    seal_shuts_the_door,
    a_clean_stop_and_start_loses_nothing,
]


def main():
    binary = sys.argv[1]
    with servers.scratch() as folder, servers.Server(binary, folder) as server:
        run = Run(server.start())
        for done, step in enumerate(STEPS):
            try:
                step(run)
            except Exception:
                print(f"FAILED {step.__name__}\n{server.tail()}", flush=True)
                print(f"{done} passed, 1 failed", flush=True)
                raise
            print(f"ok {step.__name__}", flush=True)
    print(f"{len(STEPS)} passed, 0 failed")


if __name__ == "__main__":
    main()
