"""The disk runs full: writes are refused with 507, reads go on, and space brings the writes back.

    python full_disk.py BINARY

The store lies on an ext4 of its own that is filled until little is left, then until nothing is left, with
a kill -9 while it is full. It needs root and loop devices; where these are missing it says so.
"""

import errno
import os
import sys
import threading

import kill_loop
import power_cut
import server as servers

MIB = 320
# The server keeps this much free for what must still be written.
RESERVE_MIB = 64


class Writer(kill_loop.Writer):
    """One that may be told that the disk is full, and takes that for an answer."""

    def __init__(self, number, seed):
        super().__init__(number, seed)
        self.refused = 0

    def write(self, connection, token, times):
        for _ in range(times):
            try:
                self.write_one(connection, token)
            except AssertionError as error:
                status, raw = error.args[0]
                assert status == 507 and b"space" in raw, (status, raw)
                self.refused += 1
                # Refused is not done, and not in doubt either.
                self.unanswered.clear()


def fill(volume, leave_mib):
    """Takes the space of the volume but for so much, to the last block."""
    ballast = volume.folder / "ballast"
    with open(ballast, "ab", buffering=0) as file:
        for block in (1 << 20, 4096):
            try:
                while free_bytes(volume) - block >= leave_mib << 20:
                    file.write(b"x" * block)
                    os.fsync(file.fileno())
            except OSError as error:
                assert error.errno == errno.ENOSPC, error
    return ballast


def free_bytes(volume):
    found = os.statvfs(volume.folder)
    return found.f_bavail * found.f_frsize


def everyone(server, writers, token, times):
    def work(writer):
        connection = server.connection()
        try:
            writer.write(connection, token, times)
        except BaseException as error:
            writer.error = error
        finally:
            connection.close()

    before = sum(writer.answered for writer in writers), sum(writer.refused for writer in writers)
    threads = [threading.Thread(target=work, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        if writer.error:
            raise writer.error
    after = sum(writer.answered for writer in writers), sum(writer.refused for writer in writers)
    return after[0] - before[0], after[1] - before[1]


def opens(server, keys, leave_mib):
    """Whether it can be unsealed. The index may need a block to be opened; the store waits for that."""
    try:
        server.unseal(keys)
    except RuntimeError:
        if leave_mib or "No space left" not in server.tail():
            raise
        return False
    return True


def live(server, volume):
    writers = [Writer(number, "full") for number in range(kill_loop.WRITERS)]
    server.start()
    keys, token = kill_loop.initialise(server)
    done, refused = everyone(server, writers, token, 10)
    assert refused == 0 and done == 10 * len(writers), (done, refused)

    for leave_mib in (RESERVE_MIB // 2, 0):
        ballast = fill(volume, leave_mib)
        done, refused = everyone(server, writers, token, 10)
        assert done == 0, f"{done} writes were taken with {leave_mib} MiB left"
        kill_loop.verify(server, writers, token)
        print(f"{leave_mib} MiB left: {refused} writes refused, every read answered", flush=True)
        # A crash now, and a start on the full disk.
        server.kill()
        server.start()
        if opens(server, keys, leave_mib):
            kill_loop.verify(server, writers, token)
            done, refused = everyone(server, writers, token, 3)
            assert done == 0, f"{done} writes were taken after a start with {leave_mib} MiB left"
            ballast.unlink()
        else:
            print("without a free block it opens once there is space", flush=True)
            ballast.unlink()
            server.unseal(keys)
        done, refused = everyone(server, writers, token, 10)
        assert refused == 0, f"{refused} writes were refused with space again"
        kill_loop.verify(server, writers, token)
        print("space again: every write taken", flush=True)
    assert server.stop() == 0
    server.start()
    server.unseal(keys)
    kill_loop.verify(server, writers, token)
    assert server.stop() == 0


def main():
    with servers.scratch() as folder, power_cut.volume_or_word(folder, MIB) as volume:
        if volume is None:
            print("0 passed, 0 failed, 1 skipped")
            return
        server = power_cut.on_volume(sys.argv[1], folder, volume)
        # Without a line in the audit file nothing is answered, so that one has its own disk.
        server.audit = server.folder / "audit.log"
        server.configuration.write_text(f'[audit.file]\npath = "{server.audit}"\n')
        with server:
            try:
                live(server, volume)
            except Exception:
                print(f"{server.tail()}\n0 passed, 1 failed", flush=True)
                raise
    print("1 passed, 0 failed")


if __name__ == "__main__":
    main()
