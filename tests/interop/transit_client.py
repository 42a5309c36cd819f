"""An unmodified Vault client's (hvac) transit calls, against a fresh server: ADDRESS, and CA_FILE with its certificate.

    python against.py BINARY python transit_client.py
"""

import base64
import hashlib
import hmac
import os
import warnings

import hvac
from hvac import exceptions

# The client announces a default that will change; where it matters here, it is given.
warnings.simplefilter("ignore", DeprecationWarning)

SYMMETRIC = ("aes256-gcm96", "chacha20-poly1305")
FURTHER = ("aes128-gcm96", "xchacha20-poly1305", "aes256-gcm-committing", "aes256-siv")


def b64(data):
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


def client(token=None):
    return hvac.Client(url=os.environ["ADDRESS"], token=token, verify=os.environ["CA_FILE"])


def opened():
    made = client().sys.initialize(3, 2)
    for key in made["keys"][:2]:
        client().sys.submit_unseal_key(key)
    admin = client(made["root_token"])
    admin.sys.enable_secrets_engine("transit")
    return admin


def refused(error, call, text=None):
    """The call must fail with this error of the client, and with this text in it."""
    try:
        call()
    except error as raised:
        assert text is None or text in str(raised), f"{text!r} not in {raised}"
        return
    raise AssertionError(f"{error.__name__} was not raised")


def keys_are_made_read_listed_rotated_and_deleted(admin, transit):
    refused(exceptions.InvalidPath, transit.list_keys)
    refused(exceptions.InvalidPath, lambda: transit.read_key("absent"))
    for kind in SYMMETRIC:
        transit.create_key(kind, key_type=kind)
    assert transit.list_keys()["data"]["keys"] == sorted(SYMMETRIC)
    key = transit.read_key("aes256-gcm96")["data"]
    assert key["type"] == "aes256-gcm96" and key["latest_version"] == 1 and list(key["keys"]) == ["1"]
    assert key["supports_encryption"] and not key["supports_signing"] and not key["exportable"]
    transit.rotate_key("aes256-gcm96")
    assert transit.read_key("aes256-gcm96")["data"]["latest_version"] == 2
    transit.create_key("gone")
    refused(exceptions.InvalidRequest, lambda: transit.delete_key("gone"), "deletion is not allowed")
    transit.update_key_configuration("gone", deletion_allowed=True)
    transit.delete_key("gone")
    assert "gone" not in transit.list_keys()["data"]["keys"]


def values_are_encrypted_decrypted_and_rewrapped(admin, transit):
    # This client knows some types only; the others are made without its check.
    for kind in FURTHER:
        admin.write_data(f"transit/keys/{kind}", data={"type": kind})
    for kind in (*SYMMETRIC, *FURTHER):
        sealed = transit.encrypt_data(kind, plaintext=b64("hello"), associated_data=b64("row 7"))["data"]
        assert sealed["ciphertext"].startswith(f"vault:v{sealed['key_version']}:"), sealed
        opened = transit.decrypt_data(kind, ciphertext=sealed["ciphertext"], associated_data=b64("row 7"))
        assert opened["data"]["plaintext"] == b64("hello"), kind
        for wrong in (None, b64("row 8")):
            refused(exceptions.InvalidRequest,
                    lambda: transit.decrypt_data(kind, ciphertext=sealed["ciphertext"], associated_data=wrong),
                    "message authentication failed")
    transit.create_key("turning")
    old = transit.encrypt_data("turning", plaintext=b64("hello"))["data"]["ciphertext"]
    transit.rotate_key("turning")
    new = transit.rewrap_data("turning", old)["data"]["ciphertext"]
    assert new.startswith("vault:v2:") and old.startswith("vault:v1:")
    for sealed in (old, new):
        assert transit.decrypt_data("turning", ciphertext=sealed)["data"]["plaintext"] == b64("hello")


def batches_keep_their_order_and_their_failures(admin, transit):
    plain = [f"value {n}" for n in range(100)]
    sealed = transit.encrypt_data("turning", batch_input=[{"plaintext": b64(text)} for text in plain])
    sealed = sealed["data"]["batch_results"]
    opened = transit.decrypt_data("turning", batch_input=[{"ciphertext": one["ciphertext"]} for one in sealed])
    assert [one["plaintext"] for one in opened["data"]["batch_results"]] == [b64(text) for text in plain]
    bad = [{"ciphertext": sealed[0]["ciphertext"]}, {"ciphertext": "vault:v1:AAAA"}]
    refused(exceptions.InvalidRequest, lambda: transit.decrypt_data("turning", batch_input=bad))
    moved = transit.rewrap_data("turning", ciphertext="", batch_input=[{"ciphertext": sealed[3]["ciphertext"]}])
    assert moved["data"]["batch_results"][0]["ciphertext"].startswith("vault:v2:")


def old_versions_are_shut_and_trimmed(admin, transit):
    sealed = transit.encrypt_data("turning", plaintext=b64("new"))["data"]["ciphertext"]
    old = transit.encrypt_data("turning", plaintext=b64("old"), key_version=1)["data"]["ciphertext"]
    transit.rotate_key("turning")
    transit.update_key_configuration("turning", min_decryption_version=2, min_encryption_version=3)
    refused(exceptions.InvalidRequest, lambda: transit.decrypt_data("turning", ciphertext=old), "too old")
    assert list(transit.read_key("turning")["data"]["keys"]) == ["2", "3"]
    transit.trim_key("turning", 2)
    refused(exceptions.InvalidRequest, lambda: transit.update_key_configuration("turning", min_decryption_version=1))
    assert transit.decrypt_data("turning", ciphertext=sealed)["data"]["plaintext"] == b64("new")


def derived_and_convergent_keys_take_a_context(admin, transit):
    transit.create_key("derived", derived=True, convergent_encryption=True)
    refused(exceptions.InvalidRequest, lambda: transit.encrypt_data("derived", plaintext=b64("x")), "context")
    same = [transit.encrypt_data("derived", plaintext=b64("x"), context=b64("a"))["data"]["ciphertext"] for _ in "12"]
    other = transit.encrypt_data("derived", plaintext=b64("x"), context=b64("b"))["data"]["ciphertext"]
    assert same[0] == same[1] != other
    assert transit.decrypt_data("derived", ciphertext=other, context=b64("b"))["data"]["plaintext"] == b64("x")


def data_keys_random_bytes_hashes_and_hmacs(admin, transit):
    made = transit.generate_data_key("turning", key_type="plaintext", bits=512)["data"]
    assert len(base64.b64decode(made["plaintext"])) == 64
    assert transit.decrypt_data("turning", ciphertext=made["ciphertext"])["data"]["plaintext"] == made["plaintext"]
    assert "plaintext" not in transit.generate_data_key("turning", key_type="wrapped")["data"]
    assert len(base64.b64decode(transit.generate_random_bytes(n_bytes=24)["data"]["random_bytes"])) == 24
    assert len(transit.generate_random_bytes(n_bytes=24, output_format="hex")["data"]["random_bytes"]) == 48
    for algorithm, ours in (("sha2-256", hashlib.sha256), ("sha2-512", hashlib.sha512)):
        assert transit.hash_data(b64("x"), algorithm=algorithm)["data"]["sum"] == ours(b"x").hexdigest()
    transit.create_key("mac", exportable=True)
    tag = transit.generate_hmac("mac", b64("x"), algorithm="sha2-512")["data"]["hmac"]
    key = base64.b64decode(transit.export_key("mac", "hmac-key")["data"]["keys"]["1"])
    assert base64.b64decode(tag.split(":")[2]) == hmac.digest(key, b"x", "sha512")
    valid = transit.verify_signed_data("mac", b64("x"), hmac=tag, hash_algorithm="sha2-512")["data"]["valid"]
    assert valid is True


def signatures_are_made_and_verified(admin, transit):
    for kind in ("ed25519", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048"):
        transit.create_key(kind, key_type=kind)
        signature = transit.sign_data(kind, hash_input=b64("x"))["data"]["signature"]
        assert transit.verify_signed_data(kind, b64("x"), signature=signature)["data"]["valid"] is True, kind
        assert transit.verify_signed_data(kind, b64("y"), signature=signature)["data"]["valid"] is False, kind
    for algorithm in ("pss", "pkcs1v15"):
        options = {"signature_algorithm": algorithm, "hash_algorithm": "sha2-512"}
        signature = transit.sign_data("rsa-2048", hash_input=b64("x"), **options)["data"]["signature"]
        assert transit.verify_signed_data("rsa-2048", b64("x"), signature=signature, **options)["data"]["valid"]
    signature = transit.sign_data("ecdsa-p256", hash_input=b64("x"), marshaling_algorithm="jws")["data"]["signature"]
    found = transit.verify_signed_data("ecdsa-p256", b64("x"), signature=signature, marshaling_algorithm="jws")
    assert found["data"]["valid"] is True


def keys_are_exported_backed_up_and_restored(admin, transit):
    refused(exceptions.InvalidRequest, lambda: transit.export_key("turning", "encryption-key"), "not exportable")
    refused(exceptions.InvalidRequest, lambda: transit.backup_key("turning"))
    transit.create_key("copied", exportable=True, allow_plaintext_backup=True)
    sealed = transit.encrypt_data("copied", plaintext=b64("x"))["data"]["ciphertext"]
    key = transit.export_key("copied", "encryption-key", version="latest")["data"]["keys"]["1"]
    assert len(base64.b64decode(key)) == 32
    backup = transit.backup_key("copied")["data"]["backup"]
    refused(exceptions.InvalidRequest, lambda: transit.restore_key(backup), "already exists")
    transit.restore_key(backup, name="again")
    assert transit.decrypt_data("again", ciphertext=sealed)["data"]["plaintext"] == b64("x")
    transit.restore_key(backup, name="again", force=True)


STEPS = [
    keys_are_made_read_listed_rotated_and_deleted,
    values_are_encrypted_decrypted_and_rewrapped,
    batches_keep_their_order_and_their_failures,
    old_versions_are_shut_and_trimmed,
    derived_and_convergent_keys_take_a_context,
    data_keys_random_bytes_hashes_and_hmacs,
    signatures_are_made_and_verified,
    keys_are_exported_backed_up_and_restored,
]


def main():
    admin = opened()
    for done, step in enumerate(STEPS):
        try:
            step(admin, admin.secrets.transit)
        except Exception:
            print(f"FAILED {step.__name__}\n{done} passed, 1 failed", flush=True)
            raise
        print(f"ok {step.__name__}", flush=True)
    print(f"{len(STEPS)} passed, 0 failed")


if __name__ == "__main__":
    main()
