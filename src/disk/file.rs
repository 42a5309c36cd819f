use std::{
    borrow::Borrow,
    fs::{File, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    num::NonZeroU64,
    ops::Range,
    os::unix::fs::FileExt as _,
};

use rustix::fs::Advice;

/// An open file, used by position only.
#[derive(Debug)]
pub struct DiskFile(pub(super) Handle);

#[derive(Debug)]
pub(super) enum Handle {
    Real(File),
    #[cfg(test)]
    Simulated(super::simulated::OpenFile),
}

impl DiskFile {
    /// Reads what stands at an offset, up to the length of `into`; 0 bytes at the end.
    ///
    /// # Errors
    /// What the system says.
    pub fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            let read = match &self.0 {
                Handle::Real(file) => file.read_at(into, offset),
                #[cfg(test)]
                Handle::Simulated(file) => file.read_at(into, offset),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Fills `into` with what stands at an offset.
    ///
    /// # Errors
    /// What the system says; `UnexpectedEof` when the file ends before.
    pub fn read_exact_at(&self, mut into: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !into.is_empty() {
            match self.read_at(into, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    into = into.get_mut(read..).unwrap_or_default();
                    offset += read as u64;
                }
            }
        }
        Ok(())
    }

    /// Writes all of it at an offset, however often the system stops short.
    ///
    /// # Errors
    /// What the system says; a part may be written.
    pub fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    offset += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        match &self.0 {
            Handle::Real(file) => file.write_at(bytes, offset),
            #[cfg(test)]
            Handle::Simulated(file) => file.write_at(bytes, offset),
        }
    }

    /// Length in bytes.
    ///
    /// # Errors
    /// What the system says.
    #[expect(clippy::len_without_is_empty, reason = "a file is asked how long it is, not whether")]
    pub fn len(&self) -> io::Result<u64> {
        match &self.0 {
            Handle::Real(file) => Ok(file.metadata()?.len()),
            #[cfg(test)]
            Handle::Simulated(file) => Ok(file.len()),
        }
    }

    /// Cuts the file, or lengthens it with zeros.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_len(&self, length: u64) -> io::Result<()> {
        match &self.0 {
            Handle::Real(file) => file.set_len(length),
            #[cfg(test)]
            Handle::Simulated(file) => file.set_len(length),
        }
    }

    /// Keeps other processes that ask from the file, until it is closed.
    ///
    /// # Errors
    /// `WouldBlock` when another one has it; else what the system says.
    pub fn try_lock(&self) -> Result<(), TryLockError> {
        match &self.0 {
            Handle::Real(file) => file.try_lock(),
            // A simulated disk has one process.
            #[cfg(test)]
            Handle::Simulated(_) => Ok(()),
        }
    }

    /// Makes the content durable, and of the rest what is needed to read it.
    ///
    /// # Errors
    /// What the system says. Never tried again: the kernel may have dropped what it could not
    /// write, and call the next sync a success.
    pub fn sync_data(&self) -> io::Result<()> {
        match &self.0 {
            Handle::Real(file) => file.sync_data(),
            #[cfg(test)]
            Handle::Simulated(file) => file.sync(),
        }
    }

    /// Lets the system drop what it keeps in memory of the bytes of this range, where they are
    /// synced: nobody will read them soon. Advice only, so that nothing depends on its being taken.
    ///
    /// What is written next goes where they were. Into memory that was not used lately it costs
    /// more than the rest of its write, and it drives out what is read.
    pub fn release_cache(&self, range: Range<u64>) {
        let Some(length) = NonZeroU64::new(range.end.saturating_sub(range.start)) else { return };
        match &self.0 {
            Handle::Real(file) => {
                rustix::fs::fadvise(file, range.start, Some(length), Advice::DontNeed).ok();
            }
            #[cfg(test)]
            Handle::Simulated(_) => {}
        }
    }

    /// Makes content and attributes durable; the name is its folder's.
    ///
    /// # Errors
    /// As [`sync_data`](Self::sync_data).
    pub fn sync_all(&self) -> io::Result<()> {
        match &self.0 {
            Handle::Real(file) => file.sync_all(),
            #[cfg(test)]
            Handle::Simulated(file) => file.sync(),
        }
    }
}

/// Reads a file, its own or a borrowed one, from one end to the other.
#[derive(Debug)]
pub struct Reading<F = DiskFile> {
    file: F,
    offset: u64,
}

impl<F: Borrow<DiskFile>> Reading<F> {
    /// Begins at an offset.
    pub fn from(file: F, offset: u64) -> Self {
        Self { file, offset }
    }
}

impl<F: Borrow<DiskFile>> Read for Reading<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.borrow().read_at(into, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

impl<F: Borrow<DiskFile>> Seek for Reading<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let beyond = || io::Error::from(io::ErrorKind::InvalidInput);
        self.offset = match to {
            SeekFrom::Start(offset) => offset,
            SeekFrom::Current(by) => self.offset.checked_add_signed(by).ok_or_else(beyond)?,
            SeekFrom::End(by) => {
                self.file.borrow().len()?.checked_add_signed(by).ok_or_else(beyond)?
            }
        };
        Ok(self.offset)
    }
}

/// Writes a file from its beginning on.
#[derive(Debug)]
pub struct Writing {
    file: DiskFile,
    offset: u64,
}

impl Writing {
    /// Begins at the first byte.
    pub fn to(file: DiskFile) -> Self {
        Self { file, offset: 0 }
    }

    /// Ends; what was written stands in the file, not synced.
    pub fn into_file(self) -> DiskFile {
        self.file
    }
}

impl Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
