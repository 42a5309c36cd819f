//! What is typed on the tour, in an order in which each finds what it needs.
//!
//! `{…}` is replaced by what the site has: see `Tour::fill`.

/// A command as it is typed, less the name of the program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) line: &'static str,
    pub(super) stdin: &'static str,
    /// How it ends.
    pub(super) code: i32,
    /// Which site it speaks to.
    pub(super) at: At,
    /// How often it is gone by.
    pub(super) price: Price,
}

/// What costs a second of the processor is not gone by in every way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Price {
    Low,
    High,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// A server with a few secrets.
    Site,
    /// One without a store.
    Empty,
}

const fn step(line: &'static str) -> Step {
    Step { line, stdin: "", code: 0, at: At::Site, price: Price::Low }
}

const fn fed(line: &'static str, stdin: &'static str) -> Step {
    Step { line, stdin, code: 0, at: At::Site, price: Price::Low }
}

/// A passphrase is stretched, an RSA key made.
const fn slow(step: Step) -> Step {
    Step { price: Price::High, ..step }
}

pub(super) const STEPS: &[Step] = &[
    // Secrets.
    step("put secret/app/new a=@{folder}/plain b=env:HOME --generate c:20 --note why --tag o=t"),
    step("patch secret/app/new --remove b"),
    step("get secret/app/db"),
    step("get secret/app/db#url"),
    step("get secret/app/db secret/app/new#a"),
    step("ls secret/app/"),
    step("ls --long secret/"),
    step("ls -r secret/"),
    step("tree secret/"),
    step("find db"),
    step("find u* secret/app/ --keys"),
    step("log secret/app/db"),
    Step { code: 10, ..step("diff secret/app/db@1 secret/app/db@2") },
    step("rollback secret/app/db --to 1 --dry-run"),
    step("rollback secret/app/db --to 1 --yes"),
    step("edit secret/app/db --dry-run"),
    step("edit secret/app/db"),
    step("delete secret/app/db --dry-run"),
    step("delete secret/app/db"),
    step("undelete secret/app/db"),
    step("destroy secret/app/db --version 1 --dry-run"),
    step("destroy secret/app/db --version 1 --yes"),
    step("cp secret/app/db secret/app/copy"),
    step("cp -r secret/app/ secret/all/ --dry-run"),
    step("mv secret/app/copy secret/app/moved"),
    step("rm secret/app/moved"),
    step("rm -r secret/app/ --dry-run"),
    step("import dotenv {folder}/app.env secret/app/imported"),
    step("import json {folder}/tree.json secret/app/several --dry-run"),
    step("export secret/app/imported"),
    step("render {folder}/template -o {folder}/rendered --force"),
    // Any route.
    step("read sys/key-status"),
    step("read secret/data/app/db"),
    fed("write secret/config -", r#"{"max_versions":7}"#),
    step("list secret/metadata/app"),
    step("api GET sys/seal-status"),
    // Policies, tokens, mounts.
    fed("policy put reading -", r#"path "secret/data/*" { capabilities = ["read"] }"#),
    step("policy get reading"),
    step("policy ls"),
    step("policy test {folder}/policy.hcl secret/data/a read"),
    step("policy rm reading"),
    step("quota set api --path secret/data/api --rate 2.5 --per 1m --block 5m"),
    step("quota show api"),
    step("quota ls"),
    step("quota config --headers off"),
    step("quota rm api"),
    step("token create --policy default --ttl 1h --display-name api"),
    step("token ls"),
    step("token show"),
    step("token show --accessor {accessor}"),
    step("token renew --accessor {accessor} --increment 30m"),
    step("token revoke {accessor}"),
    step("secrets enable transit"),
    step("secrets enable kv --version 1 --path old"),
    step("secrets ls"),
    step("secrets disable old --dry-run"),
    step("secrets disable old --yes"),
    // Keys.
    step("key create pii --exportable --allow-plaintext-backup"),
    slow(fed(
        "key import taken - --type aes256-gcm96 --base64",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    )),
    step("key ls"),
    step("key ls --long"),
    step("key show pii"),
    step("key rotate pii"),
    step("key usage pii"),
    step("key config pii --deletion-allowed true"),
    step("key export pii --show"),
    step("key backup pii --out {folder}/pii.backup"),
    step("key restore {folder}/pii.backup --as again"),
    step("key retire pii --below 2 --dry-run"),
    step("key retire pii --below 2 --yes"),
    step("key rm pii --dry-run"),
    step("key rm again --yes"),
    fed("encrypt --key pii", "value"),
    fed("encrypt --key pii --batch", "one\ntwo\n"),
    step("decrypt --key pii {ciphertext}"),
    Step { code: 7, ..fed("decrypt --key pii --batch", "{ciphertext}\nwrong\n") },
    step("rewrap --key pii {ciphertext}"),
    step("encrypt --key pii --local {folder}/plain -o {folder}/sealed"),
    step("decrypt --local {folder}/sealed -o {folder}/opened"),
    // This machine.
    step("context add far --address {address}"),
    step("context ls"),
    step("context use far"),
    step("context show far"),
    fed("login --context far --address {address}", "{token}"),
    step("context env --context far"),
    step("logout --context far"),
    step("context rm far --yes"),
    step("config show --origin"),
    step("doctor"),
    step(
        "server check --config {folder}/kista.toml --data {folder}/none --listen 127.0.0.1:0 --insecure-http",
    ),
    step("server install --program /usr/local/bin/kista"),
    step("completion bash"),
    step("man"),
    // The operator's.
    step("status"),
    step("operator key-status"),
    step("operator verify --wait"),
    step("operator compact --wait"),
    step("operator rotate --wait"),
    step("operator rotate status"),
    step("operator rotate config"),
    step("operator slot ls"),
    step("operator slot add keyfile {folder}/seal.key"),
    Step { code: 1, ..step("operator slot add systemd-credential kista") },
    step("operator slot drop {slot} --keep-root --yes"),
    step("backup create --data {folder}/data -o {folder}/store.kistabak"),
    step("backup ls {folder}"),
    fed("backup verify {folder}/store.kistabak --shares", "{share}"),
    fed("backup restore {folder}/store.kistabak --data {folder}/restored --shares", "{share}"),
    step("operator repair --data {folder}/restored"),
    step("operator seal"),
    fed("operator unseal", "{share}"),
    step("operator rekey status"),
    step("operator rekey cancel"),
    fed("operator rekey --shares 1 --threshold 1 --yes --no-input", "{share}"),
    slow(fed("operator slot add passphrase", "correct horse")),
    slow(step("operator slot drop {shares} --keep-root --yes")),
    slow(step("operator slot add shares --shares 1 --threshold 1")),
    Step { at: At::Empty, ..step("operator init --shares 3 --threshold 2") },
];

/// Commands that the tour leaves out, and why.
pub(super) const LEFT_OUT: &[(&str, &str)] = &[
    ("operator accept-rollback", "needs a store that was put back: tests/operator.rs"),
    ("run", "becomes another program: tests/run.rs"),
    ("server", "serves until it is ended: all tests stand on it"),
    ("up", "serves until it is ended: tests/dev.rs"),
];

/// Commands that have no JSON to print, and why.
pub(super) const WITHOUT_JSON: &[(&str, &str)] = &[
    ("completion", "prints a script for a shell"),
    ("man", "prints a page for man"),
    ("run", "becomes another program, and stdout is that one's"),
    ("server", "prints nothing but its log"),
];
