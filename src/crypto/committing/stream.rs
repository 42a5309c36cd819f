use std::{
    fmt,
    io::{self, BufRead, Read, Write},
};

use zeroize::Zeroizing;

use super::{
    CHUNK_BYTES, COMMITMENT_BYTES, ChunkCipher, Cobblestone256, HEADER_BYTES, MAX_CHUNKS_WRITTEN,
    SALT_BYTES, SEALED_CHUNK_BYTES, TAG_BYTES,
};
use crate::{
    crypto::{OpenFailed, mac},
    secret::{Key, Locked},
};

/// Encrypts what is written to it, chunk by chunk, in 16 KiB of memory.
///
/// [`finish`](Self::finish) writes the last chunk; without it what was written does not open.
pub struct Writer<W> {
    inner: W,
    cipher: Locked<ChunkCipher>,
    /// The plaintext of the next chunk so far.
    chunk: Zeroizing<Vec<u8>>,
    next: u64,
    /// A chunk may be half written: nothing can follow it.
    broken: bool,
}

impl<W: Write> Writer<W> {
    /// Writes salt and commitment; `salt` and `context` as for [`seal`](super::seal).
    ///
    /// # Errors
    /// What `inner` says.
    pub fn new(
        key: &Key<Cobblestone256>,
        salt: &[u8; SALT_BYTES],
        context: &[u8],
        mut inner: W,
    ) -> io::Result<Self> {
        let (cipher, commitment) = locked(key, salt, context);
        inner.write_all(salt)?;
        inner.write_all(&commitment)?;
        let chunk = Zeroizing::new(Vec::with_capacity(SEALED_CHUNK_BYTES));
        Ok(Self { inner, cipher, chunk, next: 0, broken: false })
    }

    /// Writes the last chunk and gives `inner` back, which is not flushed.
    ///
    /// # Errors
    /// What `inner` says, or that an earlier write failed.
    pub fn finish(mut self) -> io::Result<W> {
        self.write_chunk()?;
        Ok(self.inner)
    }

    fn write_chunk(&mut self) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write failed; begin anew"));
        }
        self.broken = true;
        // A whole chunk is never the last, for which there must be room.
        if self.chunk.len() == CHUNK_BYTES && self.next == MAX_CHUNKS_WRITTEN - 1 {
            let kind = io::ErrorKind::FileTooLarge;
            return Err(io::Error::new(kind, "the content exceeds 64 TiB; split it"));
        }
        let tag = self.cipher.lend().seal(self.next, &mut self.chunk);
        self.chunk.extend_from_slice(&tag);
        self.inner.write_all(&self.chunk)?;
        self.chunk.clear();
        self.next += 1;
        self.broken = false;
        Ok(())
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK_BYTES.saturating_sub(self.chunk.len());
        let (taken, _) = bytes.split_at(bytes.len().min(room));
        self.chunk.extend_from_slice(taken);
        if self.broken || self.chunk.len() == CHUNK_BYTES {
            self.write_chunk()?;
        }
        Ok(taken.len())
    }

    /// Flushes `inner`. What does not fill a chunk yet stays: only the last one may be short.
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W> fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("next", &self.next).finish_non_exhaustive()
    }
}

/// Decrypts what it reads, chunk by chunk, in 16 KiB of memory.
///
/// A chunk is given out when its own tag holds, before those behind it are seen: only its end, `0`
/// bytes read, says that nothing was changed or cut off. Errors that are the ciphertext's have the
/// kind [`InvalidData`](io::ErrorKind::InvalidData) and [`OpenFailed`] inside; each read after one
/// fails too.
pub struct Reader<R> {
    inner: R,
    cipher: Locked<ChunkCipher>,
    /// The newest chunk as it was read.
    sealed: Vec<u8>,
    /// The same, decrypted, at the beginning of a room for a whole one.
    chunk: Zeroizing<Vec<u8>>,
    /// How long it is, and how much of it was given out.
    length: usize,
    given: usize,
    next: u64,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Whole,
    Last,
    Failed,
}

impl<R: Read> Reader<R> {
    /// Reads salt and commitment, and checks the commitment before anything is decrypted.
    ///
    /// # Errors
    /// As for reading, see [`Reader`].
    pub fn new(key: &Key<Cobblestone256>, context: &[u8], mut inner: R) -> io::Result<Self> {
        let mut salt = [0; SALT_BYTES];
        let mut commitment = [0; COMMITMENT_BYTES];
        let read = fill(&mut inner, &mut salt)? + fill(&mut inner, &mut commitment)?;
        let (cipher, expected) = locked(key, &salt, context);
        if read < HEADER_BYTES || !mac::equal(&commitment, &expected) {
            return Err(refused());
        }
        let sealed = vec![0; SEALED_CHUNK_BYTES];
        let chunk = Zeroizing::new(vec![0; CHUNK_BYTES]);
        let (length, given) = (0, 0);
        let progress = Progress::Whole;
        Ok(Self { inner, cipher, sealed, chunk, length, given, next: 0, progress })
    }

    fn read_chunk(&mut self) -> io::Result<()> {
        self.progress = Progress::Failed;
        (self.length, self.given) = (0, 0);
        let read = fill(&mut self.inner, &mut self.sealed)?;
        // What is decrypted of a chunk whose tag does not hold is nobody's: it has no length.
        self.length = self.open_chunk(read)?;
        self.next += 1;
        self.progress = if read == SEALED_CHUNK_BYTES { Progress::Whole } else { Progress::Last };
        Ok(())
    }

    fn open_chunk(&mut self, read: usize) -> io::Result<usize> {
        let length = read.checked_sub(TAG_BYTES).ok_or_else(refused)?;
        let sealed = self.sealed.split_at(read).0;
        let room = self.chunk.split_at_mut(length).0;
        let opened = self.cipher.lend().open(self.next, sealed, room);
        opened.map_err(|OpenFailed| refused())?;
        Ok(length)
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let waiting = self.fill_buf()?;
        let length = waiting.len().min(room.len());
        room.split_at_mut(length).0.copy_from_slice(waiting.split_at(length).0);
        self.consume(length);
        Ok(length)
    }
}

impl<R: Read> BufRead for Reader<R> {
    /// The rest of a chunk; nothing at the end.
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.given == self.length {
            match self.progress {
                Progress::Whole => self.read_chunk()?,
                Progress::Last => break,
                Progress::Failed => return Err(refused()),
            }
        }
        Ok(self.chunk.split_at(self.length).0.split_at(self.given).1)
    }

    fn consume(&mut self, amount: usize) {
        self.given = self.given.saturating_add(amount).min(self.length);
    }
}

impl<R> fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("next", &self.next)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

/// The cipher of a message for as long as the message takes, and its commitment.
fn locked(
    key: &Key<Cobblestone256>,
    salt: &[u8; SALT_BYTES],
    context: &[u8],
) -> (Locked<ChunkCipher>, [u8; COMMITMENT_BYTES]) {
    let mut commitment = [0; COMMITMENT_BYTES];
    let cipher = Locked::build(|| {
        let (cipher, derived) = ChunkCipher::derive(key, salt, context);
        commitment = derived;
        cipher
    });
    (cipher, commitment)
}

/// Reads until `room` is full or there is no more; returns how much there was.
fn fill(inner: &mut impl Read, room: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < room.len() {
        match inner.read(room.split_at_mut(filled).1) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, OpenFailed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{open, seal},
        *,
    };
    use crate::crypto::{Hash, random, vectors};

    #[test]
    fn reading_agrees_with_wycheproof() {
        for test in vectors::cobblestone() {
            let Ok(key) = Key::copy_of(&test.key) else { continue };
            let mut plaintext = Vec::new();
            let read = Reader::new(&key, &test.context, Dribble(&test.sealed));
            // Nothing leaves before the commitment holds, not even the first chunk.
            assert_eq!(read.is_err(), test.fails_at_header(), "{}", test.name);
            let outcome = read.and_then(|mut reader| {
                let outcome = reader.read_to_end(&mut plaintext);
                if outcome.is_err() {
                    assert!(reader.read(&mut [0; 1]).is_err(), "{}", test.name);
                }
                outcome
            });
            assert_eq!(outcome.is_ok(), test.valid_digest.is_some(), "{}", test.name);
            if let Err(error) = outcome {
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                assert!(error.downcast::<OpenFailed>().is_ok());
            }
            // Of a changed message, just the chunks before the change.
            if let Some(digest) = &test.prefix_digest {
                assert_eq!(&Hash::Sha2_512.digest(&plaintext), digest, "{}", test.name);
            } else {
                assert!(plaintext.is_empty(), "{}", test.name);
            }
        }
    }

    #[test]
    fn without_an_end_what_was_written_does_not_open() {
        let key = random::key();
        for length in [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1] {
            let mut written = Vec::new();
            let mut writer = Writer::new(&key, &random::array(), b"", &mut written).unwrap();
            writer.write_all(&vec![7; length]).unwrap();
            drop(writer);
            assert!(open(&key, b"", &written).is_err(), "{length}");
        }
    }

    #[test]
    fn after_a_failed_write_nothing_is_written() {
        let mut writer = Writer::new(&random::key(), &random::array(), b"", Full(60)).unwrap();
        assert!(writer.write_all(&[7; CHUNK_BYTES]).is_err());
        assert!(writer.write_all(&[7; CHUNK_BYTES]).is_err());
        assert!(writer.write(&[7]).is_err());
        assert!(writer.finish().is_err());
    }

    #[test]
    fn the_last_chunk_there_may_be_is_a_short_one() {
        let mut writer = Writer::new(&random::key(), &random::array(), b"", io::sink()).unwrap();
        writer.next = MAX_CHUNKS_WRITTEN - 2;
        writer.write_all(&[7; 2 * CHUNK_BYTES - 1]).unwrap();
        assert_eq!(writer.next, MAX_CHUNKS_WRITTEN - 1);
        let error = writer.write_all(&[7]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(writer.finish().is_err());
    }

    #[test]
    fn an_error_of_the_inner_reader_is_its_own_and_lasts() {
        let key = random::key();
        let sealed = seal(&key, &random::array(), b"", &[7; CHUNK_BYTES + 1]);
        let broken = sealed.split_at(HEADER_BYTES + SEALED_CHUNK_BYTES).0.chain(Failing);
        let mut reader = Reader::new(&key, b"", broken).unwrap();
        let mut plaintext = Vec::new();
        let error = reader.read_to_end(&mut plaintext).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(plaintext.len(), CHUNK_BYTES);
        assert!(reader.read(&mut [0; 1]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_stream_is_the_message(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 0..6),
            context: Vec<u8>,
        ) {
            let (key, salt) = (random::key(), random::array());
            let mut writer = Writer::new(&key, &salt, &context, Vec::new()).unwrap();
            for piece in &pieces {
                writer.write_all(piece).unwrap();
            }
            let written = writer.finish().unwrap();
            let plaintext = pieces.concat();
            prop_assert!(written == seal(&key, &salt, &context, &plaintext));
            let mut read = Vec::new();
            Reader::new(&key, &context, &written[..]).unwrap().read_to_end(&mut read).unwrap();
            prop_assert!(read == plaintext);
        }
    }

    /// Gives some bytes at a time.
    struct Dribble<'a>(&'a [u8]);

    impl Read for Dribble<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let length = room.len().min(4093).min(self.0.len());
            let (given, rest) = self.0.split_at(length);
            room[..length].copy_from_slice(given);
            self.0 = rest;
            Ok(length)
        }
    }

    /// Takes so many bytes and no more.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Failing;

    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
}
