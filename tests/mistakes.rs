//! The mistakes that are made most: what each is answered with, word for word, and how it ends.
//!
//! Each text is to tell a newcomer what to do next.

use std::net::TcpListener;

use crate::{
    dev,
    support::{Site, snapshot},
};

/// What was typed wrongly, and as whom.
struct Mistake<'a> {
    what: &'a str,
    line: &'a str,
    /// Variables beside the usual ones; an empty value takes one away.
    variables: &'a [(&'a str, &'a str)],
}

fn mistake<'a>(what: &'a str, line: &'a str) -> Mistake<'a> {
    Mistake { what, line, variables: &[] }
}

/// What the site answers, with placeholders.
fn answer(site: &Site, mistake: &Mistake<'_>, hidden: &[(&str, &str)]) -> String {
    let words: Vec<&str> = mistake.line.split_whitespace().collect();
    let mut command = site.command(&words);
    for (name, value) in mistake.variables {
        match *value {
            "" => command.env_remove(name),
            value => command.env(name, value),
        };
    }
    let output = command.output().unwrap();
    assert!(output.stdout.is_empty(), "{}: {:?}", mistake.line, output.stdout);
    let mut said = String::from_utf8(output.stderr).unwrap();
    let mut line = mistake.line.to_owned();
    let folder = site.folder.path().to_str().unwrap();
    for (value, name) in hidden.iter().chain(&[(folder, "<folder>")]) {
        said = said.replace(value, name);
        line = line.replace(value, name);
    }
    let code = output.status.code().unwrap();
    format!("# {}\n$ kista {line}\n{said}(exit {code})\n\n", mistake.what)
}

#[test]
fn each_mistake_is_answered_with_what_to_do() {
    let site = Site::new();
    site.put("app/db", r#"{"url":"postgres://x","password":"planted"}"#);
    let root = &site.kept.root;
    let mount = r#"{"type":"kv","options":{"version":"1"}}"#;
    assert_eq!(site.server.call("POST", "sys/mounts/old", root, mount).status, 204);
    assert_eq!(site.server.call("POST", "old/app", root, r#"{"a":"1"}"#).status, 204);
    let poor = r#"{"policies":["default"]}"#;
    let poor = site.server.call("POST", "auth/token/create", root, poor).json();
    let poor = poor["auth"]["client_token"].as_str().unwrap().to_owned();
    let short = r#"{"policies":["root"],"ttl":"1s"}"#;
    let short = site.server.call("POST", "auth/token/create", root, short).json();
    let expired = short["auth"]["client_token"].as_str().unwrap().to_owned();
    std::thread::sleep(std::time::Duration::from_millis(1100));

    let (tls, made) = dev::start(site.folder.path());
    let (second, other) = dev::start(site.folder.path());
    let tls_address = made["VAULT_ADDR"].as_str().unwrap();
    let other = other["VAULT_CACERT"].as_str().unwrap();
    let plain = site.server.address();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("https://{}", listener.local_addr().unwrap())
    };
    let as_https = plain.replace("http://", "https://");
    let as_http = tls_address.replace("https://", "http://");
    let hidden = [
        (&*closed, "https://<nobody>"),
        (&*as_https, "https://<plain server>"),
        (&*plain, "http://<plain server>"),
        (tls_address, "https://<TLS server>"),
        (&*as_http, "http://<TLS server>"),
        (other, "<another CA>"),
    ];
    let get = "get secret/app/db";
    let mistakes = [
        Mistake { variables: &[("KISTA_ADDR", &closed)], ..mistake("no server runs", get) },
        Mistake {
            variables: &[("KISTA_ADDR", &as_https)],
            ..mistake("https to a server of http", get)
        },
        Mistake {
            variables: &[("KISTA_ADDR", &as_http)],
            ..mistake("http to a server of https", get)
        },
        Mistake {
            variables: &[("KISTA_ADDR", "127.0.0.1:8200")],
            ..mistake("an address without http", get)
        },
        Mistake {
            variables: &[("KISTA_ADDR", tls_address)],
            ..mistake("a CA that is not known", get)
        },
        Mistake {
            variables: &[("KISTA_ADDR", tls_address), ("KISTA_CACERT", other)],
            ..mistake("another CA", get)
        },
        Mistake {
            variables: &[("KISTA_CACERT", "/no/such.pem")],
            ..mistake("a CA file that is not there", get)
        },
        Mistake { variables: &[("KISTA_TOKEN", "")], ..mistake("no token", get) },
        Mistake { variables: &[("KISTA_TOKEN", "hvs.wrong")], ..mistake("a wrong token", get) },
        Mistake {
            variables: &[("KISTA_TOKEN", &expired)],
            ..mistake("a token that has expired", get)
        },
        Mistake { variables: &[("KISTA_TOKEN", &poor)], ..mistake("a token that may not", get) },
        mistake("a context that is not there", "get secret/app/db --context prod"),
        mistake("a mount that is not there", "get secrt/app/db"),
        mistake("a path that is nearly right", "get secret/ap/db"),
        mistake("a path with the API's part", "get secret/data/app/db"),
        mistake("a folder in place of a secret", "get secret/app/"),
        mistake("a secret in place of a folder", "ls secret/app/db"),
        mistake("a key that is nearly right", "get secret/app/db#pasword"),
        mistake("a version that is not there", "get secret/app/db --version 9"),
        mistake("versions where there are none", "log old/app"),
        mistake("put without a key", "put secret/app/new --no-input"),
        mistake("put without =", "put secret/app/new password hunter2"),
        mistake("put with two of stdin", "put secret/app/new a=- b=-"),
        mistake("put of a file that is not there", "put secret/app/new key=@no-such-file"),
        mistake("put of a variable that is not set", "put secret/app/new key=env:NO_SUCH"),
        mistake("put that would overwrite", "put secret/app/db a=env:HOME --cas new"),
        mistake("run of a path that is nearly right", "run -e secret/app/dbs -- true"),
        mistake("run without a program", "run -e secret/app/db"),
        mistake("a template that is not there", "render no-such-file"),
        mistake("a file to import that is not there", "import dotenv no-such-file secret/app/new"),
        mistake("rm of what must be asked", "rm -r secret/app/"),
        mistake("a key of transit without its mount", "key ls"),
        mistake("a command that is nearly right", "gte secret/app/db"),
        mistake("an option that is nearly right", "get secret/app/db --jsn"),
        mistake("Vault's way to get", "kv get secret/app/db"),
        mistake("a share in place of a question", "operator unseal 0a1b2c"),
        mistake("a server without a configuration", "server"),
        mistake("a configuration that is not there", "server --config no-such-file"),
        mistake("a backup that is not there", "backup verify no-such-file --passphrase"),
    ];
    let mut seen = String::new();
    for mistake in &mistakes {
        seen.push_str(&answer(&site, mistake, &hidden));
    }
    assert_eq!(site.server.call("PUT", "sys/seal", root, "").status, 204);
    seen.push_str(&answer(&site, &mistake("a sealed vault", get), &hidden));
    tls.end();
    second.end();
    snapshot("mistakes", &seen);
    let advised = |answer: &&str| answer.contains("\nnext:  ") || answer.contains("--help");
    let silent: Vec<_> = seen.trim_end().split("\n\n# ").filter(|one| !advised(one)).collect();
    assert!(silent.is_empty(), "what to do next?\n{}", silent.join("\n"));
}
