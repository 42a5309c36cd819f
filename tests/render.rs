//! Templates that `kista render` fills with secrets, against the real server.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::Site;

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o7777
}

/// Waits until a file holds this.
fn wait_for(file: &Path, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while fs::read_to_string(file).unwrap_or_default() != text {
        assert!(Instant::now() < deadline, "{}", fs::read_to_string(file).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn terminate(mut child: Child) -> Option<i32> {
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    child.wait().unwrap().code()
}

#[test]
fn a_template_is_filled_with_values_and_a_missing_one_fails() {
    let site = Site::new();
    site.put("app", r#"{"pw":"it's $1","n":1.10}"#);
    site.file(
        "t.j2",
        "# {# said #}\npw={{ kista('secret/app#pw') | shell_quote }}\n{% for k, v in \
              kista('secret/app') | items %}{{ k }}: {{ v | yaml }}\n{% endfor %}\
              {{ kista('kista://secret/no#k?default=d') }}\n",
    );
    let expected = "# \npw='it'\\''s $1'\npw: \"it's $1\"\nn: 1.10\n\nd\n";
    let rendered = site.ok(&["render", "t.j2"]);
    assert_eq!(rendered.replace("\n\nd", "\nd"), expected.replace("\n\nd", "\nd"));
    site.file("bad.j2", "a\n{{ kista('secret/app#nope') }}\n");
    let errors = site.fails(3, "bad.j2:2: secret/app has no key nope", &["render", "bad.j2"]);
    assert!(!errors.contains("it's"), "{errors}");
    site.file("bad.j2", "{{ kista('secret/app').nope }}");
    site.fails(2, "bad.j2:1: something that is printed", &["render", "bad.j2", "-o", "out"]);
    assert!(!site.folder.path().join("out").exists());
    site.fails(3, "cannot read none.j2", &["render", "none.j2"]);
    site.fails(2, "--output", &["render", "t.j2", "--watch"]);
}

#[test]
fn a_file_is_for_its_owner_and_a_command_runs_only_when_it_changed() {
    let site = Site::new();
    site.put("app", r#"{"pw":"planted"}"#);
    site.file("t.j2", "{{ kista('secret/app#pw') }}");
    let out = site.folder.path().join("out");
    let render =
        ["render", "t.j2", "-o", "out", "--exec", "printf \"$KISTA_TOKEN.\" >> ran; umask >> ran"];
    site.ok(&render);
    assert_eq!((fs::read_to_string(&out).unwrap().as_str(), mode(&out)), ("planted", 0o600));
    site.ok(&[&render[..], &["--mode", "0640"]].concat());
    assert_eq!(mode(&out), 0o640);
    let ran = fs::read_to_string(site.folder.path().join("ran")).unwrap();
    assert_eq!(ran.lines().count(), 1, "{ran}");
    assert!(ran.starts_with('.') && !ran.contains("0077"), "{ran}");
    site.put("app", r#"{"pw":"new"}"#);
    let output = site.run(&["render", "t.j2", "-o", "out", "--json", "--exec", "exit 3"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), &*shown), (Some(1), "{\"file\":\"out\",\"changed\":true}\n"));
    assert_eq!(fs::read_to_string(&out).unwrap(), "new");
}

#[test]
fn a_watch_follows_what_changes_and_keeps_the_file_where_it_fails() {
    let site = Site::new();
    site.put("app", r#"{"pw":"one"}"#);
    let template = site.file("t.j2", "{{ kista('secret/app#pw') }}");
    let out = site.folder.path().join("out");
    let child = site
        .command(&[
            "render",
            "t.j2",
            "-o",
            "out",
            "--watch",
            "--interval",
            "200ms",
            "--exec",
            "cat out >> log",
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&out, "one");
    site.put("app", r#"{"pw":"two"}"#);
    wait_for(&out, "two");
    fs::write(&template, "{{ kista('secret/app#none') }}").unwrap();
    std::thread::sleep(Duration::from_millis(1000));
    assert_eq!(fs::read_to_string(&out).unwrap(), "two");
    fs::write(template, "<{{ kista('secret/app#pw') }}>").unwrap();
    wait_for(&out, "<two>");
    wait_for(&site.folder.path().join("log"), "onetwo<two>");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let ended = child.wait_with_output().unwrap();
    let errors = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(0), "{errors}");
    assert_eq!(errors.matches("stays as it was").count(), 1, "{errors}");
    assert!(errors.contains("works again"), "{errors}");
}

#[test]
fn a_work_tree_of_git_takes_no_secrets() {
    let site = Site::new();
    site.put("app", r#"{"pw":"one"}"#);
    site.file("t.j2", "{{ kista('secret/app#pw') }}");
    fs::create_dir(site.folder.path().join(".git")).unwrap();
    site.fails(1, ".gitignore", &["render", "t.j2", "-o", "out"]);
    site.ok(&["inject", "t.j2", "-o", "out", "--force"]);
    let child =
        site.command(&["render", "t.j2", "-o", "out", "--force", "--watch"]).spawn().unwrap();
    wait_for(&site.folder.path().join("out"), "one");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(terminate(child), Some(0));
}
