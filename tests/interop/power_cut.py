"""The power goes under eight writers, again and again: nothing acknowledged is lost, and it always opens.

    python power_cut.py BINARY [CYCLES] [SEED]

The store and its audit file lie on an ext4 of their own, in a file. A cut is the file system's own
shutdown without writing its log (EXT4_IOC_SHUTDOWN, as xfstests' godown uses it): what was not synced is
gone, data and names alike. Then it is mounted again, its journal is replayed, and the server starts over
what is left. It needs root and loop devices; where these are missing it says so and does nothing.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import threading
import time

import kill_loop
import server as servers

SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = struct.pack("=I", 2)
MIB = 1024
# What a cut may leave and the vault tells of; a rotation writes the seal file, one copy after the other.
# Anything else is an alarm.
HARMLESS = {"unfinished_commit_cut", "audit_line_unfinished", "index_rebuilt", "seal_file_repaired"}
# Four reserves: below it the vault says that space gets short.
LOW_BYTES = 4 * 64 << 20


class Volume:
    """An ext4 in a file, mounted while this lives."""

    def __init__(self, folder, mib=MIB):
        self.image = pathlib.Path(folder) / "volume.img"
        self.folder = pathlib.Path(folder) / "volume"
        self.folder.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(mib << 20)
        self.is_mounted = False
        run("mkfs.ext4", "-q", "-F", "-m", "0", str(self.image))
        self.mount()
        self.folder.chmod(0o700)

    def mount(self):
        run("mount", "-o", "loop", str(self.image), str(self.folder))
        self.is_mounted = True

    def cut(self):
        """Stops the file system where it is."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, SHUTDOWN, NO_LOG_FLUSH)
        finally:
            os.close(folder)

    def unmount(self):
        if self.is_mounted:
            run("umount", str(self.folder))
            self.is_mounted = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.unmount()


class Writer(kill_loop.Writer):
    """One that is also refused once the disk is gone: what it was told then is no acknowledgement."""

    def __init__(self, number, seed, cut):
        super().__init__(number, seed)
        self.cut = cut

    def write_one(self, connection, token):
        try:
            super().write_one(connection, token)
        except AssertionError as error:
            if self.cut.is_set():
                raise ConnectionError("refused after the cut") from error
            raise


def cycle(server, volume, writers, token, cut, seconds, number):
    cut.clear()
    threads = [threading.Thread(target=writer.write_until_killed, args=(server, token)) for writer in writers]
    for thread in threads:
        thread.start()
    server.rotate(token, number)
    time.sleep(seconds)
    cut.set()
    # Never synced, so it must be gone: else nothing was cut.
    control = volume.folder / "never-synced"
    control.write_bytes(b"x" * 4096)
    volume.cut()
    for thread in threads:
        thread.join()
    server.kill()
    for writer in writers:
        if writer.error:
            raise writer.error
    volume.unmount()
    volume.mount()
    assert not control.exists() or control.stat().st_size == 0, "the cut has cut nothing"


def check_health(server, volume):
    """What the vault says of itself after the cut; gives the words.

    Each compaction that is cut off leaves a segment behind until one comes to its end: after a row of them the
    volume is short of space, and then the vault must say so.
    """
    free = os.statvfs(volume.folder)
    is_low = free.f_bavail * free.f_frsize < LOW_BYTES
    status, raw = server.call("GET", "sys/health")
    assert status == 200, (status, raw)
    words = {warning.split(":")[0] for warning in json.loads(raw).get("warnings") or []}
    alarms = words - HARMLESS - ({"disk_space_low"} if is_low else set())
    assert not alarms, f"alarm without a cause: {alarms}"
    return words


@contextlib.contextmanager
def volume_or_word(folder, mib=MIB):
    """The volume, or None and a word why there is none here."""
    if os.geteuid() != 0:
        print("skipped: mounting needs root")
        yield None
        return
    try:
        volume = Volume(folder, mib)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"skipped: no ext4 can be made and mounted here ({error})")
        yield None
        return
    with volume:
        yield volume


def run(*command):
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def on_volume(binary, folder, volume):
    """A server whose store and audit file lie on the volume, and the rest of it elsewhere."""
    server = servers.Server(binary, folder, log_level="warn")
    server.data = volume.folder / "data"
    server.audit = volume.folder / "audit.log"
    server.configuration.write_text(f'[audit.file]\npath = "{server.audit}"\n')
    return server


def main():
    binary = sys.argv[1]
    cycles = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    seed = sys.argv[3] if len(sys.argv) > 3 else str(time.time_ns())
    with servers.scratch() as folder, volume_or_word(folder) as volume:
        if volume is None:
            print("0 passed, 0 failed, 1 skipped")
            return
        print(f"{cycles} power cuts, {kill_loop.WRITERS} writers, seed {seed}", flush=True)
        with on_volume(binary, folder, volume) as server:
            cut_again_and_again(server, volume, cycles, seed)
    print(f"{cycles} passed, 0 failed")


def cut_again_and_again(server, volume, cycles, seed):
    timing = random.Random(seed)
    cut = threading.Event()
    writers = [Writer(number, seed, cut) for number in range(kill_loop.WRITERS)]
    told = {}
    server.start()
    keys, token = kill_loop.initialise(server)
    for number in range(1, cycles + 1):
        try:
            cycle(server, volume, writers, token, cut, timing.uniform(0.05, 1.5), number)
            server.start()
            server.unseal(keys)
            for word in check_health(server, volume):
                told[word] = told.get(word, 0) + 1
            kill_loop.verify(server, writers, token)
        except Exception:
            print(f"cycle {number}, seed {seed}:\n{server.tail()}", flush=True)
            print(f"{number - 1} passed, 1 failed", flush=True)
            raise
        if number % 20 == 0:
            print(f"cycle {number}: {sum(writer.answered for writer in writers)} writes acknowledged", flush=True)
    terms, names = server.rotated(token)
    print(f"{terms} terms and {names} keys of names destroyed", flush=True)
    assert terms and names
    assert server.stop() == 0
    acknowledged = sum(writer.answered for writer in writers)
    print(f"{acknowledged} writes acknowledged, none lost; told at unseal: {told or 'nothing'}", flush=True)


if __name__ == "__main__":
    main()
