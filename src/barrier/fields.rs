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

    /// `Some` when everything was read.
    pub(super) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
