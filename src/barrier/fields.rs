use crate::clock::Timestamp;

/// Reads the fixed fields of a layout from its front.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `N` bytes; `None` if fewer are left.
    pub(super) fn bytes<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(field)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.bytes().map(|&[byte]| byte)
    }

    pub(super) fn be32(&mut self) -> Option<u32> {
        self.bytes().map(|bytes| u32::from_be_bytes(*bytes))
    }

    pub(super) fn be64(&mut self) -> Option<u64> {
        self.bytes().map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// A time in milliseconds. One beyond what a timestamp holds is refused, so that whatever is
    /// read is written back as the same bytes.
    pub(super) fn time_ms(&mut self) -> Option<Timestamp> {
        let millis = self.be64()?;
        let time = Timestamp::from_millis(millis);
        (time.millis() == millis).then_some(time)
    }

    /// `Some` when everything was read.
    pub(super) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
