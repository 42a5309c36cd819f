use serde::Deserialize;

use super::{
    Transit,
    batch::Binding,
    wire::{Body, Decoded},
};
use crate::{
    client::{Error, transport::Call},
    secret::SecretBytes,
};

/// A new key to encrypt with elsewhere, and its wrapped form, which is kept beside what it has
/// encrypted.
#[derive(Debug)]
pub struct DataKey {
    /// The key; only [`Transit::data_key`] has it.
    pub plaintext: SecretBytes,
    /// What [`Transit::decrypt`] gives the key back for.
    pub ciphertext: String,
    /// The version of the key that it is wrapped under.
    pub key_version: u64,
}

/// How long a data key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataKeyBits {
    /// 16 bytes.
    Bits128,
    /// 32 bytes.
    #[default]
    Bits256,
    /// 64 bytes.
    Bits512,
}

impl DataKeyBits {
    fn number(self) -> u64 {
        match self {
            Self::Bits128 => 128,
            Self::Bits256 => 256,
            Self::Bits512 => 512,
        }
    }
}

impl Transit<'_> {
    /// Has a key made and wrapped. What it is bound to is asked for again when it is unwrapped.
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 when the key cannot wrap, and what any call may answer.
    pub async fn data_key(
        &self,
        key: &str,
        bits: DataKeyBits,
        binding: Binding<'_>,
    ) -> Result<DataKey, Error> {
        #[derive(Deserialize)]
        struct Answered {
            plaintext: Decoded,
            ciphertext: String,
            #[serde(default)]
            key_version: u64,
        }
        let mut body = Body::object(0);
        body.number("bits", bits.number());
        binding.write(&mut body);
        let call = Call::ask(self.place("datakey/plaintext", key), body.finish())?;
        let answered: Answered = self.client.send(&call).await?.data()?;
        Ok(DataKey {
            plaintext: answered.plaintext.0,
            ciphertext: answered.ciphertext,
            key_version: answered.key_version,
        })
    }
}
