"""Runs each fuzz target until it has used its minutes of processor time, and says what came of it.

    python3 fuzz/minutes.py MINUTES [TARGET ...]

Minutes are those of the fuzzing process itself, so that other work on the machine does not count.
A finding ends its target; the input lies in fuzz/artifacts/TARGET then. What is measured goes to
fuzz/target/minutes/TARGET.json and adds up over runs of one binary; other targets may run beside it.
"""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
RECORDS = HERE / "target" / "minutes"
# How long a process runs before it is asked what it has used.
SLICE = 120
# Folders of targets lie in memory, so that no run waits for a disk.
MEMORY = {"TMPDIR": "/dev/shm"} if pathlib.Path("/dev/shm").is_dir() else {}


def main(minutes, targets):
    targets = targets or output("cargo", "fuzz", "list").split()
    failed = False
    print(f"{'target':<20}{'runs':>14}{'CPU-minutes':>13}  findings", flush=True)
    for target in targets:
        binary = built(target)
        entry = entry_of(target, binary)
        while entry["seconds"] < 60 * minutes and not entry["findings"]:
            left = min(SLICE, 60 * minutes - entry["seconds"])
            fuzz(target, binary, left, entry)
            keep(target, entry)
        failed |= bool(entry["findings"])
        found = ", ".join(entry["findings"]) or "none"
        print(f"{target:<20}{entry['runs']:>14,}{entry['seconds'] / 60:>13.1f}  {found}", flush=True)
    return 1 if failed else 0


def output(*command):
    return subprocess.run(command, cwd=HERE, check=True, text=True, stdout=subprocess.PIPE).stdout


def built(target):
    subprocess.run(["cargo", "fuzz", "build", "-s", "none", target], cwd=HERE, check=True)
    host = re.search(r"^host: (.*)$", output("rustc", "-vV"), re.MULTILINE).group(1)
    return HERE / "target" / host / "release" / target


def entry_of(target, binary):
    """What is on record of this binary; nothing of another one."""
    digest = hashlib.sha256(binary.read_bytes()).hexdigest()
    record = RECORDS / f"{target}.json"
    entry = json.loads(record.read_text()) if record.exists() else {}
    if entry.get("binary") != digest:
        entry = {"binary": digest, "runs": 0, "seconds": 0.0, "findings": []}
    return entry


def keep(target, entry):
    RECORDS.mkdir(exist_ok=True)
    (RECORDS / f"{target}.json").write_text(json.dumps(entry, indent=1))


def fuzz(target, binary, seconds, entry):
    corpus, artifacts = HERE / "corpus" / target, HERE / "artifacts" / target
    artifacts.mkdir(parents=True, exist_ok=True)
    log = HERE / "target" / f"{target}.log"
    with log.open("w") as out:
        # libFuzzer counts time on the clock, which is never less than what one thread uses.
        command = [binary, corpus, f"-artifact_prefix={artifacts}/", f"-max_total_time={int(seconds) + 1}"]
        command += ["-rss_limit_mb=2048", "-print_final_stats=1"]
        process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | MEMORY)
    _, status, usage = os.wait4(process.pid, 0)
    entry["seconds"] += usage.ru_utime + usage.ru_stime
    text = log.read_text(errors="replace")
    runs = re.search(r"stat::number_of_executed_units:\s*(\d+)", text)
    entry["runs"] += int(runs.group(1)) if runs else 0
    if status != 0:
        written = re.search(r"Test unit written to (\S+)", text)
        entry["findings"].append(pathlib.Path(written.group(1)).name if written else f"see {log}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
