"""The README's first minute and everyday commands, as a user types them, and the usual mistakes.

    python first_minute.py BINARY
"""

import json
import os
import pathlib
import pty
import signal
import subprocess
import sys
import tempfile
import time

import server as servers


class Home:
    """A user with an empty home and a free port."""

    def __init__(self, binary, folder):
        self.binary = str(pathlib.Path(binary).resolve())
        self.folder = pathlib.Path(folder)
        self.listen = f"127.0.0.1:{servers.free_port()}"
        self.up = None
        keep = {name: value for name, value in os.environ.items()
                if not name.startswith(("VAULT_", "BAO_", "KISTA_", "XDG_"))}
        self.environment = {**keep, "HOME": str(self.folder)}

    def kista(self, *arguments, text="", **environment):
        """Runs one command: exit code, stdout, stderr. Input comes from a pipe, as in a script."""
        done = subprocess.run([self.binary, *arguments], input=text, capture_output=True, text=True,
                              timeout=60, env={**self.environment, **environment})
        return done.returncode, done.stdout, done.stderr

    def ok(self, *arguments, text="", **environment):
        code, output, errors = self.kista(*arguments, text=text, **environment)
        assert code == 0, (arguments, code, output, errors)
        return output

    def fails(self, code, *arguments, hint="", **environment):
        found, output, errors = self.kista(*arguments, **environment)
        assert found == code, (arguments, found, output, errors)
        assert hint in errors and output == "", (arguments, output, errors)

    def person(self, *arguments, answers=(), **environment):
        """Runs one command at a terminal, answering each prompt: exit code, all that the screen shows."""
        variables = {**self.environment, "TERM": "xterm", **environment}
        variables.pop("CI", None)
        pid, screen = pty.fork()
        if pid == 0:
            os.execve(self.binary, [self.binary, *arguments], variables)
        shown, answers = b"", list(answers)
        while True:
            try:
                data = os.read(screen, 4096)
            except OSError:  # Linux tells so that the other end is closed
                data = b""
            if not data:
                break
            shown += data
            if answers and shown.rstrip(b" ").endswith(answers[0][0].encode()):
                time.sleep(0.1)  # until echo is off
                os.write(screen, answers.pop(0)[1].encode())
        os.close(screen)
        assert not answers, (answers, shown)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()

    def start(self):
        log = open(self.folder / "up.log", "ab")
        self.up = subprocess.Popen([self.binary, "up", "--listen", self.listen], env=self.environment,
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   preexec_fn=servers.die_with_parent)
        log.close()
        for _ in range(600):
            if self.up.poll() is not None:
                raise RuntimeError(f"up ended with {self.up.returncode}:\n{self.said()}")
            if self.kista("status")[0] == 0:
                return
            time.sleep(0.1)
        raise RuntimeError(f"no answer within 60 s:\n{self.said()}")

    def stop(self, how=signal.SIGINT):
        self.up.send_signal(how)
        return self.up.wait(timeout=60)

    def said(self):
        return (self.folder / "up.log").read_text()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.up and self.up.poll() is None:
            self.up.kill()
            self.up.wait()


def before_there_is_a_server_it_says_what_to_do(home):
    home.fails(5, "status", hint="kista up")
    home.fails(5, "get", "secret/app/db", hint="kista up")


def up_makes_everything(home):
    home.start()
    said = home.said()
    assert "recovery-kit.txt" in said and home.listen in said, said
    config = home.folder / ".config/kista"
    for name in ("seal.key", "recovery-kit.txt"):
        assert (config / name).stat().st_mode & 0o777 == 0o600, name
    assert (home.folder / ".local/share/kista").stat().st_mode & 0o777 == 0o700


def secrets_go_in_and_come_out(home):
    home.ok("put", "secret/app/db", "url=postgres://db", "password=-", text="correct horse")
    assert home.ok("get", "secret/app/db", "-k", "password") == "correct horse"
    shown = json.loads(home.ok("get", "secret/app/db", "--json"))
    assert "correct horse" in json.dumps(shown)
    assert "app/" in home.ok("ls", "secret/")
    assert "db" in home.ok("ls", "secret/app/")


def a_patch_changes_what_it_names(home):
    home.ok("put", "secret/app/patched", "a=-", "b=env:B", text="one", B="two")
    home.ok("patch", "secret/app/patched", "a=-", "c=env:C", "--remove", "b", "--cas", "1", text="new", C="three")
    shown = json.loads(home.ok("get", "secret/app/patched", "--json"))
    assert shown["data"] == {"a": "new", "c": "three"} and shown["metadata"]["version"] == 2, shown
    home.fails(6, "patch", "secret/app/patched", "--remove", "a", "--cas", "1", hint="--json")
    home.fails(3, "patch", "secret/app/patche", "--remove", "a", hint="secret/app/patched")
    home.fails(3, "patch", "secret/none/x", "--remove", "a", hint="kista put")
    home.fails(2, "patch", "secret/app/patched")
    home.fails(2, "patch", "secret/app/patched", "a=env:A", "--remove", "a", A="x", hint="both")
    home.ok("delete", "secret/app/patched")
    home.fails(3, "patch", "secret/app/patched", "--remove", "a", hint="kista undelete")


def references_name_single_values(home):
    home.ok("put", "secret/app/port", "number=env:N", N="5432")
    assert home.ok("get", "secret/app/port#number") == "5432"
    assert home.ok("get", "kista://secret/app/port#number?version=1") == "5432"
    assert home.ok("get", "kista://local/secret/app/port#number", KISTA_ADDR="") == "5432"
    assert home.ok("get", "kista://secret/app/no#number?default=1%25") == "1%"
    assert home.ok("get", "secret/app/port#number", "secret/app/db#password") == "5432\ncorrect horse\n"
    rows = home.ok("get", "secret/app/port", "secret/app/db#password").splitlines()
    assert rows == ["secret/app/port\tnumber\t5432", "secret/app/db\tpassword\tcorrect horse"], rows
    both = json.loads(home.ok("get", "secret/app/port#number", "secret/app/db", "--json"))
    assert both[0] == {"path": "secret/app/port", "key": "number", "value": "5432"}, both
    assert both[1]["data"]["url"] == "postgres://db", both
    home.fails(3, "get", "secret/app/port#nr", hint="its keys: number")
    home.fails(2, "get", "secret/app/port#", hint="after '#' comes a key")
    home.fails(2, "get", "op://vault/item/field", hint="another program")
    home.fails(2, "get", "kista://secret/app/port?version=1#number", hint="before '?'")
    home.fails(2, "put", "secret/app/port#number", "number=env:N", hint="whole secret", N="1")


def names_are_listed_drawn_and_found(home):
    for path in ("tree/a", "tree/b/key", "tree/b/c/key", "tree/b.c"):
        home.ok("put", f"secret/{path}", "Api_Key=env:V", V="hidden")
    assert home.ok("ls", "-r", "secret/tree").splitlines() == ["a", "b/c/key", "b/key", "b.c"]
    assert home.ok("tree", "secret/tree/b/") == "secret/tree/b/\n├── c/\n│   └── key\n└── key\n"
    assert json.loads(home.ok("tree", "secret/tree/b", "--json")) == {"c/": {"key": None}, "key": None}
    rows = [line.split("\t") for line in home.ok("ls", "--long", "secret/tree").splitlines()]
    assert [(row[0], row[1], row[3]) for row in rows] == [
        ("1", "kept", "a"), ("", "", "b/"), ("1", "kept", "b.c")], rows
    assert "secret/" in home.ok("ls").splitlines()
    assert home.ok("find", "KEY", "secret/tree").splitlines() == ["secret/tree/b/c/key", "secret/tree/b/key"]
    assert home.ok("find", "secret/tree/*/key").splitlines() == ["secret/tree/b/key"]
    found = json.loads(home.ok("find", "api_*", "secret/tree/b/", "--keys", "--json"))
    assert found["found"] == ["secret/tree/b/c/key#Api_Key", "secret/tree/b/key#Api_Key"], found
    home.fails(3, "find", "hidden", "secret/tree", "--keys", hint="nothing")
    home.fails(3, "ls", "-r", "secret/tree/none", "--json", hint="no folder")
    home.fails(3, "tree", "secret/tree/a", hint="kista get")


def values_are_made_and_their_strength_is_told(home):
    code, _, errors = home.kista("put", "secret/app/made", "user=env:U", "--generate", "password", "--generate",
                                 "pin:6:digits", "--generate", "phrase:5:words", U="me")
    assert code == 0 and "password: generated 32 characters, 190 bits" in errors, errors
    assert "phrase: generated 5 words, 55 bits" in errors and "guesses" in errors, errors
    made = json.loads(home.ok("get", "secret/app/made", "--json"))["data"]
    assert len(made["password"]) == 32 and made["pin"].isdigit() and made["phrase"].count("-") == 4, made
    assert not any(made[key] in errors for key in ("password", "pin", "phrase"))
    home.ok("patch", "secret/app/made", "--generate", "password:20:letters+digits+symbols")
    assert len(home.ok("get", "secret/app/made#password")) == 20
    home.fails(2, "put", "secret/app/made", "--generate", "password:many", hint="digits")
    home.fails(2, "put", "secret/app/made", "a=env:U", "--generate", "a", hint="twice", U="me")
    code, shown = home.person("put", "secret/app/asked", answers=[
        ("key (empty to end):", "url\n"), ("(hidden, empty = generate):", "postgres://typed\n"),
        ("key (empty to end):", "password\n"), ("(hidden, empty = generate):", "\n"),
        ("key (empty to end):", "\n")])
    assert code == 0 and "password: generated 32 characters, 190 bits" in shown, shown
    assert "typed" not in shown, shown
    asked = json.loads(home.ok("get", "secret/app/asked", "--json"))["data"]
    assert asked["url"] == "postgres://typed" and asked["password"] not in shown, asked


def a_value_goes_to_a_file_or_the_clipboard(home):
    file = home.folder / "password"
    assert home.ok("get", "secret/app/db#password", "--out", str(file)) == ""
    assert file.read_text() == "correct horse" and file.stat().st_mode & 0o777 == 0o600
    home.fails(1, "get", "secret/app/db#password", "--out", str(file), hint="--force")
    home.fails(2, "get", "secret/app/db", "--out", str(file), "--force", hint="#KEY")
    home.ok("get", "secret/app/db", "--json", "--out", str(file), "--force")
    assert json.loads(file.read_text())["data"]["password"] == "correct horse"
    home.fails(1, "get", "secret/app/db#password", "--copy", hint="xclip", PATH="/none")
    tools = home.folder / "tools"
    tools.mkdir()
    held = home.folder / "held"
    xclip = tools / "xclip"
    xclip.write_text(f'#!/bin/sh\ncase "$*" in *-out) cat {held};; *) cat > {held};; esac\n')
    xclip.chmod(0o755)
    desktop = {"PATH": f"{tools}:{os.environ['PATH']}", "DISPLAY": ":9", "WAYLAND_DISPLAY": ""}
    for changed, left in ((None, ""), ("something else", "something else")):
        assert home.ok("get", "secret/app/db#password", "--copy", "--clear", "1s", **desktop) == ""
        assert held.read_text() == "correct horse"
        if changed:
            held.write_text(changed)
        time.sleep(2)
        assert held.read_text() == left, held.read_text()


def programs_start_with_secrets(home):
    home.ok("put", "secret/app/run", "db-url=env:V", V="it's")
    assert home.ok("run", "-e", "secret/app/run", "--", "printenv", "DB_URL") == "it's\n"
    assert home.ok("run", "-e", "secret/app/run#db-url=U", "printenv", "U") == "it's\n"
    (home.folder / "app.env").write_text("A=kista://secret/app/run#db-url\n")
    assert home.ok("run", "--env-file", str(home.folder / "app.env"), "--", "printenv", "A") == "it's\n"
    home.fails(7, "run", "-e", "secret/app/run", "--", "sh", "-c", "exit 7")
    home.fails(2, "run", "--", "true", hint="-e secret/app/db")
    home.fails(2, "run", "-e", "secret/app/run", hint="CMD")
    home.fails(127, "run", "-e", "secret/app/run", "--", "no-such-program", hint="PATH")
    home.fails(3, "run", "-e", "secret/app/rum", "--", "true", hint="secret/app/run")


def secrets_are_exported_for_other_programs(home):
    value = "it's $HOME `id` \"q\" \\\n\u00e5"
    home.ok("put", "secret/app/export", "db-url=env:V", "n=env:N", V=value, N="5")
    assert json.loads(home.ok("export", "secret/app/export", "-o", "json")) == {"db-url": value, "n": "5"}
    assert json.loads(home.ok("export", "secret/app/export", "--json"))["n"] == "5"
    lines = home.ok("export", "secret/app/export", "-o", "shell")
    read = subprocess.run(["sh", "-c", lines + "printf %s \"$DB_URL\""], capture_output=True, text=True)
    assert read.stdout == value, (lines, read)
    (home.folder / "exported.env").write_text(home.ok("export", "secret/app/export"))
    assert home.ok("run", "--env-file", str(home.folder / "exported.env"), "printenv", "DB_URL") == value + "\n"
    assert home.ok("export", "secret/app/export#n=N", "-o", "yaml") == '"N": "5"\n'
    assert "  name: \"export\"" in home.ok("export", "secret/app/export", "-o", "k8s-secret")
    home.fails(2, "export", "secret/app/export", "-o", "k8s-secret", "--name", "A", hint="--name")
    home.fails(2, "export", "secret/app/export", "-o", "xml", hint="k8s-secret")
    home.fails(3, "export", "secret/app/exprt", hint="secret/app/export")


def a_value_on_the_command_line_is_warned_of(home):
    code, _, errors = home.kista("put", "secret/app/argv", "a=b")
    assert code == 0 and errors, errors


def other_clients_work_with_the_printed_environment(home):
    lines = home.ok("context", "env").splitlines()
    words = dict(line.removeprefix("export ").split("=", 1) for line in lines if "=" in line)
    words = {name: value.strip("'\"") for name, value in words.items()}
    answer = subprocess.run(
        ["curl", "--silent", "--show-error", "--cacert", words["VAULT_CACERT"],
         "-H", f"X-Vault-Token: {words['VAULT_TOKEN']}", f"{words['VAULT_ADDR']}/v1/secret/data/app/db"],
        capture_output=True, text=True, timeout=30)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["data"]["data"]["password"] == "correct horse"


def other_homes_log_in_and_out(home):
    home.ok("put", "secret/app/shared", "a=-", text="for both")
    address = f"https://{home.listen}"
    known = json.loads(home.ok("context", "show", "--json"))
    assert known["token"] == "kept" and known["store"], known
    token = made_token(home)
    fingerprint = next(line.split()[-1] for line in home.said().splitlines() if "SHA-256" in line)
    away = {"HOME": str(home.folder / "away")}
    home.fails(3, "context", "show", hint="kista login", **away)
    home.fails(2, "login", "--address", address, hint=fingerprint, **away)
    home.fails(5, "login", "--address", address, "--fingerprint", "AA" * 32, hint="another certificate", **away)
    home.fails(5, "get", "secret/app/shared", "--address", address, hint="--fingerprint", **away)
    refused, shown = home.person("login", "--address", address, answers=[("(empty to end):", "no\n")], **away)
    assert refused == 5 and fingerprint in shown, shown
    code, shown = home.person("login", "--context", "far", "--address", address, **away, answers=[
        ("(empty to end):", "yes\n"), ("token (hidden):", token + "\n")])
    assert code == 0 and fingerprint in shown and token not in shown, shown
    assert home.ok("get", "secret/app/shared#a", **away) == "for both"
    file = home.folder / "away/.config/kista/contexts/far.toml"
    assert file.stat().st_mode & 0o777 == 0o600 and known["store"] in file.read_text()
    [listed] = json.loads(home.ok("context", "ls", "--json", **away))
    assert listed["name"] == "far" and listed["in_use"] and token not in json.dumps(listed), listed
    home.fails(2, "login", "--context", "far", "--address", "https://127.0.0.1:1", hint="another server", **away)
    home.fails(2, "context", "add", "far", "--address", address, hint="already", **away)
    home.ok("context", "add", "near", "--address", address, "--fingerprint", fingerprint, **away)
    home.fails(4, "get", "secret/app/shared", "--context", "near", hint="kista login", **away)
    home.fails(3, "context", "use", "none", hint="kista context ls", **away)
    home.ok("context", "use", "near", **away)
    assert home.ok("get", "kista://far/secret/app/shared#a", **away) == "for both"
    home.ok("context", "rm", "near", **away)
    code, _, errors = home.kista("login", "--context", "far", text="hvs.wrong\n", **away)
    assert code == 4 and "does not know" in errors and "hvs.wrong" not in errors, errors
    home.fails(2, "context", "rm", "far", hint="--yes", **away)

    kept = file.read_text()
    file.write_text(kept.replace(known["store"], "11111111-2222-4333-8444-555555555555"))
    home.fails(5, "get", "secret/app/shared", "--context", "far", hint="another store", **away)
    file.write_text(kept)
    home.ok("logout", "--context", "far", **away)
    assert token not in file.read_text()
    home.fails(4, "get", "secret/app/shared", KISTA_TOKEN=token, hint="KISTA_TOKEN")
    home.ok("context", "rm", "far", **away)
    assert json.loads(home.ok("context", "ls", "--json", **away)) == []
    home.ok("delete", "secret/app/shared")


def made_token(home):
    """A token beside the context's own, made as any client would."""
    variables = json.loads(home.ok("context", "env", "--json"))
    made = subprocess.run(
        ["curl", "--silent", "--show-error", "--cacert", variables["VAULT_CACERT"], "-X", "POST",
         "-H", f"X-Vault-Token: {variables['VAULT_TOKEN']}", "-d", '{"policies":["root"]}',
         f"{variables['VAULT_ADDR']}/v1/auth/token/create"],
        capture_output=True, text=True, timeout=30, check=True)
    return json.loads(made.stdout)["auth"]["client_token"]


def a_certificate_without_a_ca_is_pinned_itself(home):
    folder = home.folder / "lone"
    folder.mkdir()
    away = {"HOME": str(folder / "home")}
    with servers.Server(home.binary, folder) as server:
        server.start()
        code, _, errors = home.kista("context", "add", "lone", "--address", server.url, **away)
        shown = next(line.split()[-1] for line in errors.splitlines() if "SHA-256" in line)
        assert code == 2, errors
        home.ok("context", "add", "lone", "--address", server.url, "--fingerprint", shown, **away)
        status = json.loads(home.kista("status", "--context", "lone", "--json", **away)[1])
        assert status["initialized"] is False, status
        server.stop()
        servers.make_certificate(server.ca, server.key)
        server.start()
        home.fails(5, "status", "--context", "lone", hint="another one than was pinned", **away)


def the_manual_and_completions_are_printed(home):
    pages = home.folder / "man1"
    home.ok("man", "--dir", str(pages))
    page = pages / "kista-context-use.1"
    assert "kista context use prod" in page.read_text() and page.stat().st_mode & 0o777 == 0o644
    assert ".TH kista" in home.ok("man")
    script = home.ok("completion", "bash")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True, timeout=30)
    home.fails(2, "completion", "csh", hint="fish")
    with open("/dev/full", "w") as full:
        done = subprocess.run([home.binary, "completion", "zsh"], stdout=full, stderr=subprocess.PIPE,
                              text=True, env=home.environment, timeout=30)
    assert done.returncode == 1 and "No space left" in done.stderr, done


def a_doctor_finds_nothing_wrong_with_what_up_has_made(home):
    report = json.loads(home.ok("doctor", "--json"))
    states = {check["check"]: check["state"] for check in report["checks"]}
    assert report["good"], report
    for name in ("server", "TLS", "clock", "seal", "slots", "audit file", "keyfile", "permissions", "data"):
        assert states[name] == "ok", (name, report)
    assert states["token"] == "warn" and states["kit"] == "warn", report
    code, shown = home.person("doctor", TERM="xterm")
    assert code == 0 and "\x1b[32mok" in shown and "\x1b[33mwarn" in shown, shown
    code, shown = home.person("doctor", TERM="xterm", NO_COLOR="1")
    assert code == 0 and "\x1b" not in shown, shown
    (home.folder / ".config/kista/seal.key").chmod(0o640)
    code, output, _ = home.kista("doctor")
    assert code == 10 and "next: chmod 600" in output, output
    (home.folder / ".config/kista/seal.key").chmod(0o600)


def a_file_becomes_a_secret_and_a_template_a_file(home):
    env = home.folder / "dev.env"
    env.write_text("PORT=80\nPASSWORD='correct horse'\n")
    home.ok("import", "dotenv", str(env), "secret/app/dev")
    env.write_text("PORT=81\nPASSWORD='correct horse'\n")
    code, shown = home.person("import", "dotenv", str(env), "secret/app/dev", answers=[("? [y/N]", "n\n")],
                               NO_COLOR="1")
    assert code == 1 and "~ PORT" in shown and "correct" not in shown, shown
    assert home.ok("get", "secret/app/dev#PORT") == "80"
    code, shown = home.person("import", "dotenv", str(env), "secret/app/dev", answers=[("? [y/N]", "y\n")])
    assert code == 0 and "version 2" in shown, shown
    out = home.folder / "app.conf"
    home.ok("render", "-", "-o", str(out), text="port {{ kista('secret/app/dev#PORT') }}\n")
    assert out.read_text() == "port 81\n" and out.stat().st_mode & 0o777 == 0o600


def a_shell_completes_what_is_there(home):
    script = home.ok("completion", "bash")
    ask = ("COMP_WORDS=(kista get secret/app/d) COMP_CWORD=2 COMP_TYPE=9; _clap_complete_kista kista secret/app/d get; "
           "printf '%s\\n' \"${COMPREPLY[@]}\"")
    path = f"{pathlib.Path(home.binary).parent}:{home.environment['PATH']}"
    done = subprocess.run(["bash", "--norc", "-c", script + ask], capture_output=True, text=True, timeout=30,
                          env={**home.environment, "PATH": path})
    assert "secret/app/db\n" in done.stdout and "secret/app/dev\n" in done.stdout, done


def mistakes_have_their_exit_codes_and_a_next_step(home):
    home.fails(3, "get", "secret/app/no-such")
    home.fails(4, "get", "nowhere/app/db", hint="mount")
    home.fails(4, "get", "secret/app/db", KISTA_TOKEN="hvs.wrong")
    home.fails(2, "get")
    code, _, errors = home.kista("up", "--listen", home.listen)
    assert code == 1 and errors, (code, errors)
    _, output, errors = home.kista("put", "--help")
    assert "Example" in output and errors == ""


def delete_is_soft(home):
    home.ok("delete", "secret/app/db", "--dry-run")
    home.ok("destroy", "secret/app/db", "--all", "--dry-run")
    home.fails(3, "delete", "secret/app/no-such", "--dry-run", hint="no secret/app/no-such")
    assert home.ok("get", "secret/app/db", "-k", "password") == "correct horse"
    home.ok("delete", "secret/app/db")
    home.fails(3, "get", "secret/app/db")


def versions_are_shown_brought_back_and_destroyed(home):
    home.ok("undelete", "secret/app/db")
    assert home.ok("get", "secret/app/db", "-k", "password") == "correct horse"
    for number in (1, 2, 3):
        home.ok("put", "secret/app/many", "n=-", text=str(number))
    lines = home.ok("log", "secret/app/many").splitlines()
    assert [line.split("\t")[0] for line in lines] == ["3", "2", "1"], lines
    home.fails(2, "destroy", "secret/app/many", "--version", "1", hint="--yes")
    home.fails(2, "destroy", "secret/app/many", "--yes")
    home.fails(3, "destroy", "secret/app/many", "--version", "9", "--yes", hint="kista log")
    home.ok("destroy", "secret/app/many", "--version", "1", "--yes")
    logged = json.loads(home.ok("log", "secret/app/many", "--json"))
    assert logged["metadata"]["versions"]["1"]["destroyed"] is True, logged
    home.fails(3, "undelete", "secret/app/many", "--version", "1", hint="kista log")
    home.fails(3, "undelete", "secret/app/many", "--version", "9", hint="kista log")
    assert home.ok("get", "secret/app/many", "-k", "n", "--version", "2") == "2"
    home.ok("destroy", "secret/app/many", "--all", "--yes")
    home.fails(3, "log", "secret/app/many")
    home.ok("delete", "secret/app/db")


def tokens_are_made_shown_renewed_and_revoked(home):
    home.ok("policy", "put", "reading", "-", text='path "secret/data/app/*" { capabilities = ["read"] }')
    code, token, said = home.kista("token", "create", "--policy", "reading", "--ttl", "1h", "--display-name", "api")
    assert code == 0 and token.startswith("hvs.") and token == token.strip(), (code, said)
    assert token not in said and "reading" in said, said
    accessor = said.split("accessor: ")[1].split()[0]
    shown = json.loads(home.ok("token", "show", "--json", KISTA_TOKEN=token))
    assert (shown["accessor"], shown["display_name"]) == (accessor, "token-api") and "id" not in shown, shown
    lines = dict(line.split("\t", 1) for line in home.ok("token", "show", "--accessor", accessor).splitlines())
    assert lines["policies"] == "default, reading" and lines["creation_ttl"] == "3600", lines
    assert token not in str(lines)
    renewed = json.loads(home.ok("token", "renew", "--increment", "30m", "--json", KISTA_TOKEN=token))
    assert renewed["lease_duration"] == 1800 and "client_token" not in renewed, renewed
    home.ok("token", "renew", "--increment", "1h", "--accessor", accessor)
    assert accessor in home.ok("token", "ls").splitlines()
    home.fails(4, "token", "ls", KISTA_TOKEN=token, hint="sudo")
    home.fails(2, "token", "revoke", token, hint="not its accessor")
    home.ok("token", "revoke", accessor)
    home.fails(4, "token", "show", KISTA_TOKEN=token)
    made = json.loads(home.ok("token", "create", "--policy", "reading", "--uses", "1", "--orphan", "--not-renewable",
                              "--no-default-policy", "--json"))
    assert (made["orphan"], made["renewable"], made["policies"]) == (True, False, ["reading"]), made


def a_mount_of_version_1_is_read_and_becomes_one_of_version_2(home):
    home.ok("secrets", "enable", "kv", "--version", "1", "--path", "plain")
    home.ok("put", "plain/app", "v=-", text="old")
    assert home.ok("get", "plain/app#v") == "old" and home.ok("ls", "plain/") == "app\n"
    code, output, said = home.kista("log", "plain/app")
    assert code == 1 and output == "" and "kista get plain/app" in said, said
    command = said.split("while it is in use: ")[1].strip().removeprefix("printf ")
    assert command == """'{"options":{"version":"2"}}' | kista write sys/mounts/plain/tune -""", command
    home.ok("write", "sys/mounts/plain/tune", "-", text='{"options":{"version":"2"}}')
    assert home.ok("get", "plain/app", "-k", "v") == "old"


def secrets_and_folders_are_copied_moved_and_removed(home):
    for path in ("old/a", "old/b/c", "old/b/d"):
        for value in ("first", "second"):
            home.ok("put", f"secret/{path}", "v=-", text=value)
    assert home.ok("cp", "-r", "secret/old", "secret/new", "--dry-run").splitlines() == [
        "secret/old/a -> secret/new/a", "secret/old/b/c -> secret/new/b/c", "secret/old/b/d -> secret/new/b/d"]
    home.fails(3, "ls", "secret/new")
    home.ok("cp", "-r", "secret/old/", "secret/new/")
    assert home.ok("get", "secret/new/b/c", "-k", "v", "--version", "1") == "first"
    home.fails(1, "cp", "secret/old/a", "secret/new/", hint="already")
    home.ok("cp", "secret/old/a", "secret/new/a", "--skip-existing")
    home.ok("mv", "secret/new/a", "secret/new/renamed")
    assert home.ok("ls", "-r", "secret/new").splitlines() == ["b/c", "b/d", "renamed"]
    moved = json.loads(home.ok("mv", "secret/new/b/", "secret/moved/", "--json"))
    assert moved == {"from": "secret/new/b/", "to": "secret/moved/", "secrets": 2, "skipped": 0}, moved
    home.fails(2, "rm", "secret/moved/", hint="rm -r")
    home.fails(2, "rm", "-r", "secret/moved", hint="--yes")
    assert home.ok("rm", "-r", "secret/moved", "--dry-run").splitlines() == ["secret/moved/c", "secret/moved/d"]
    home.ok("rm", "-r", "secret/moved", "--yes")
    home.fails(3, "get", "secret/moved/c", hint="deleted")
    home.ok("undelete", "secret/moved/c")
    assert home.ok("get", "secret/moved/c", "-k", "v") == "second"
    home.ok("rm", "-r", "secret/moved/", "--destroy", "--yes")
    home.fails(3, "ls", "secret/moved")
    home.ok("rm", "secret/old/a")
    home.fails(3, "rm", "secret/none")
    home.fails(3, "mv", "secret/none/", "secret/some/")
    home.fails(1, "mv", "secret/old/", "secret/old/below/", hint="neither may lie in the other")
    home.fails(4, "mv", "nowhere/a", "secret/b")


def versions_differ_by_key_and_come_back(home):
    home.ok("put", "secret/app/two", "a=-", "b=env:B", text="one", B="kept")
    home.ok("put", "secret/app/two", "a=-", "b=env:B", "c=env:C", text="two", B="kept", C="new")
    code, output, errors = home.kista("diff", "secret/app/two")
    assert (code, output) == (10, "~ a\n+ c\n"), (code, output, errors)
    code, output, _ = home.kista("diff", "secret/app/two@2", "secret/app/two@1", "--show")
    assert (code, output) == (10, "- a=two\n+ a=one\n- c=new\n"), (code, output)
    code, output, _ = home.kista("diff", "secret/app/two@1", "--json")
    assert code == 10 and json.loads(output)["changes"][0] == {"key": "a", "change": "changed"}, output
    assert home.ok("diff", "secret/app/two@1", "secret/app/two@1") == ""
    home.fails(3, "diff", "secret/app/two@7", hint="kista log")
    home.fails(2, "rollback", "secret/app/two", "--to", "1", hint="--yes")
    code, output, errors = home.kista("rollback", "secret/app/two", "--to", "1", "--dry-run")
    assert code == 0 and "  ~ a\n  - c\n" in errors and output == "", errors
    assert home.ok("get", "secret/app/two#a") == "two"
    code, shown = home.person("rollback", "secret/app/two", "--to", "1", answers=[("[y/N]", "n\n")])
    assert code == 1 and home.ok("get", "secret/app/two#a") == "two", shown
    code, shown = home.person("rollback", "secret/app/two", "--to", "1", answers=[("[y/N]", "y\n")])
    assert code == 0 and home.ok("get", "secret/app/two#a") == "one", shown
    code, _, errors = home.kista("rollback", "secret/app/two", "--to", "1", "--yes")
    assert code == 0 and "the same" in errors, errors
    home.ok("delete", "secret/app/two")
    home.ok("rollback", "secret/app/two", "--to", "2", "--yes")
    assert home.ok("get", "secret/app/two#c") == "new"
    home.fails(3, "rollback", "secret/app/two", "--to", "9", "--yes", hint="kista log")


def a_secret_is_edited_and_nothing_is_left(home):
    memory = pathlib.Path(tempfile.mkdtemp(dir="/dev/shm"))

    def editor(script):
        file = home.folder / "editor"
        file.write_text("#!/bin/sh\n" + script)
        file.chmod(0o755)
        return {"VISUAL": "", "EDITOR": str(file), "XDG_RUNTIME_DIR": str(memory)}

    def left():
        return list(memory.iterdir())

    home.ok("put", "secret/app/edited", "a=-", "b=env:B", text="one", B="two")
    change = editor('stat -c %a "$1" "$(dirname "$1")" >&2; cp "$1" "$1.swp"; sed -i s/one/planted/ "$1"')
    code, output, errors = home.kista("edit", "secret/app/edited", **change)
    assert code == 0 and "600\n700\n" in errors and "~ a" in errors and "planted" not in errors, errors
    assert "version 2" in output and home.ok("get", "secret/app/edited#a") == "planted"
    assert left() == [], left()
    code, _, errors = home.kista("edit", "secret/app/edited", **editor("true"))
    assert code == 0 and "nothing has changed" in errors, errors
    code, _, errors = home.kista("edit", "secret/app/edited", "--dry-run", **editor("echo '{}' > \"$1\""))
    assert code == 0 and "- a" in errors and "dry run" in errors, errors
    home.ok("edit", "secret/app/edited", **editor(': > "$1"'))
    home.fails(1, "edit", "secret/app/edited", hint="line 1, column 6", **editor("echo '{\"a\":x' > \"$1\""))
    home.fails(1, "edit", "secret/app/edited", hint="EDITOR", **editor("exit 3"))
    meanwhile = f'printf 3 | {home.binary} patch secret/app/edited b=- >/dev/null; echo "{{}}" > "$1"'
    home.fails(6, "edit", "secret/app/edited", hint="kista get", **editor(meanwhile))
    assert home.ok("get", "secret/app/edited#b") == "3" and left() == [], left()
    home.ok("edit", "secret/app/new", "--format", "env", **editor("echo 'A=\"x\\\\ny\"' > \"$1\""))
    assert home.ok("get", "secret/app/new#A") == "x\ny"
    twice = editor('[ -e "$0.once" ] && echo \'{"a":"good"}\' > "$1" || echo bad > "$1"; touch "$0.once"')
    code, shown = home.person("edit", "secret/app/edited", answers=[("[y/N]", "y\n")], **twice)
    assert code == 0 and home.ok("get", "secret/app/edited", "--json").count("good") == 1, shown
    twice = editor("echo bad > \"$1\"")
    for answer, ends in (("n\n", 1), ("\x03", 130)):
        code, shown = home.person("edit", "secret/app/edited", answers=[("[y/N]", answer)], **twice)
        assert code == ends and "nothing was written" in shown and left() == [], shown
    code, shown = home.person("edit", "secret/app/edited", answers=[("ready", "\x03")],
                              **editor("printf ready; exec sleep 60"))
    assert code == 130 and left() == [], shown
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        waiting = editor("trap '' INT; echo ready; exec sleep 60")
        edit = subprocess.Popen([home.binary, "edit", "secret/app/edited"], stdout=subprocess.PIPE, text=True,
                                stderr=subprocess.DEVNULL, env={**home.environment, **waiting})
        assert edit.stdout.readline() == "ready\n" and left()
        edit.send_signal(number)
        if number == signal.SIGINT:  # the editor's to obey
            time.sleep(0.3)
            assert edit.poll() is None and left()
            number = signal.SIGTERM
            edit.send_signal(number)
        assert edit.wait(timeout=10) == 128 + number and left() == [], left()
        edit.stdout.close()
    memory.rmdir()


def any_route_is_read_written_and_listed(home):
    home.ok("write", "cubbyhole/note", "text=-", text="hidden")
    assert home.ok("read", "cubbyhole/note", "-k", "text") == "hidden"
    assert home.ok("read", "cubbyhole/note") == "text\thidden\n"
    assert json.loads(home.ok("read", "cubbyhole/note", "--json"))["data"] == {"text": "hidden"}
    assert home.ok("list", "cubbyhole") == "note\n"
    home.ok("write", "cubbyhole/note", "-", text='{"n": 1, "o": {"k": [true]}}')
    assert json.loads(home.ok("api", "get", "/v1/cubbyhole/note"))["data"] == {"n": 1, "o": {"k": [True]}}
    home.ok("api", "DELETE", "cubbyhole/note")
    home.fails(3, "read", "cubbyhole/note", hint="nothing is there")
    assert json.loads(home.ok("api", "LIST", "secret/metadata/tree?limit=1"))["data"]["keys"] == ["a"]
    home.fails(2, "write", "cubbyhole/note")
    home.fails(2, "write", "cubbyhole/note", "@/dev/null", hint="one JSON object")
    home.fails(2, "api", "GET", "sys/mounts", "a=b", hint="query")
    home.fails(2, "api", "FETCH", "sys/mounts", hint="possible values")
    curl = home.ok("api", "GET", "secret/data/app/a'b?version=1", "--curl")
    assert "$VAULT_TOKEN" in curl and "hvs." not in curl and "/a%27b?version=1'" in curl, curl
    words = home.ok("context", "env") + home.ok("api", "POST", "cubbyhole/by-curl", "k=env:K", "--curl", K="not shown")
    assert "not shown" not in words
    subprocess.run(["sh", "-ec", f'echo \'{{"k":"v"}}\' > body\n{words.rstrip()} --silent --fail < body'], check=True,
                   cwd=home.folder, timeout=30)
    assert home.ok("read", "cubbyhole/by-curl", "-k", "k") == "v"


def policies_and_mounts_are_made_tested_and_removed(home):
    file = home.folder / "app.hcl"
    file.write_text('path "secret/data/tree/*" { capabilities = ["read"] }\n'
                    'path "secret/metadata/tree/*" { capabilities = ["list"] }\n'
                    'path "secret/metadata/tree" { capabilities = ["list"] }\n')
    assert home.ok("policy", "test", str(file), "secret/data/tree/a", "read") == "read\n"
    code, output, errors = home.kista("policy", "test", str(file), "secret/data/tree/a", "read", "update")
    assert code == 4 and output == "read\n" and "update" in errors, (code, output, errors)
    home.ok("policy", "put", "app", str(file))
    assert home.ok("policy", "get", "app") == file.read_text()
    assert "app" in home.ok("policy", "ls").splitlines()
    token = home.ok("write", "auth/token/create", "policies=app", "--argv-ok", "--json")
    token = json.loads(token)["auth"]["client_token"]
    listed = home.ok("ls", "-r", "secret/tree", KISTA_TOKEN=token).splitlines()
    assert listed == ["a", "b/c/key", "b/key", "b.c"], listed  # by LIST, since it may not SCAN
    home.fails(4, "find", "key", hint="name one", KISTA_TOKEN=token)
    home.ok("policy", "rm", "app")
    home.fails(3, "policy", "get", "app", hint="kista policy ls")
    file.write_text("path {")
    home.fails(1, "policy", "put", "app", str(file), hint="cannot read the policy: at 1:7")
    home.ok("secrets", "enable", "kv", "--path", "team", "--description", "of the team")
    assert "team/\tkv\t2\tof the team" in home.ok("secrets", "ls").splitlines()
    home.ok("put", "team/a", "k=-", text="v")
    home.fails(2, "secrets", "disable", "team", hint="--yes")
    home.ok("secrets", "disable", "team", "--dry-run")
    assert home.ok("get", "team/a#k") == "v"
    home.ok("secrets", "disable", "team", "--yes")
    home.fails(3, "secrets", "disable", "team", "--yes", hint="kista secrets ls")


def sealed_it_says_so(home):
    home.ok("put", "secret/app/kept", "a=-", text="still here")
    home.ok("operator", "seal")
    home.fails(5, "get", "secret/app/kept", hint="seal")
    assert home.kista("status")[0] == 5 or "sealed" in home.kista("status")[1]


def shares_of_the_kit_unseal(home):
    kit = (home.folder / ".config/kista/recovery-kit.txt").read_text()
    shares = [line.split()[-1] for line in kit.splitlines() if line.startswith("Share ")]
    assert len(shares) == 5, "the kit shows no shares"
    for share in shares[:3]:
        home.ok("operator", "unseal", text=share + "\n")
    assert home.ok("get", "secret/app/kept", "-k", "a") == "still here"


def it_starts_again_with_what_is_there(home):
    assert home.stop() == 0, home.said()
    home.start()
    assert home.ok("get", "secret/app/kept", "-k", "a") == "still here"
    assert home.stop(signal.SIGKILL) == -signal.SIGKILL
    home.start()
    assert home.ok("get", "secret/app/kept", "-k", "a") == "still here"
    assert home.stop(signal.SIGTERM) == 0


STEPS = [
    before_there_is_a_server_it_says_what_to_do,
    up_makes_everything,
    secrets_go_in_and_come_out, references_name_single_values, names_are_listed_drawn_and_found,
    values_are_made_and_their_strength_is_told, a_value_goes_to_a_file_or_the_clipboard,
    a_patch_changes_what_it_names,
    programs_start_with_secrets, secrets_are_exported_for_other_programs,
    a_value_on_the_command_line_is_warned_of,
    other_clients_work_with_the_printed_environment,
    other_homes_log_in_and_out, a_certificate_without_a_ca_is_pinned_itself,
    the_manual_and_completions_are_printed,
    a_doctor_finds_nothing_wrong_with_what_up_has_made,
    a_file_becomes_a_secret_and_a_template_a_file,
    a_shell_completes_what_is_there,
    mistakes_have_their_exit_codes_and_a_next_step,
    delete_is_soft, versions_are_shown_brought_back_and_destroyed,
    tokens_are_made_shown_renewed_and_revoked,
    a_mount_of_version_1_is_read_and_becomes_one_of_version_2,
    secrets_and_folders_are_copied_moved_and_removed,
    versions_differ_by_key_and_come_back,
    a_secret_is_edited_and_nothing_is_left,
    any_route_is_read_written_and_listed,
    policies_and_mounts_are_made_tested_and_removed,
    sealed_it_says_so,
    shares_of_the_kit_unseal,
    it_starts_again_with_what_is_there,
]


def main():
    with servers.scratch() as folder, Home(sys.argv[1], folder) as home:
        for done, step in enumerate(STEPS):
            try:
                step(home)
            except Exception:
                print(f"FAILED {step.__name__}\n{done} passed, 1 failed", flush=True)
                raise
            print(f"ok {step.__name__}", flush=True)
    print(f"{len(STEPS)} passed, 0 failed")


if __name__ == "__main__":
    main()
