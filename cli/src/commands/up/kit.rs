//! The recovery kit: the shares, written once, for paper.

use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use kista::secret::SecretBytes;

use crate::{failure::Failure, files};

/// Gives a kit of an earlier store another name, which is returned: it is never written over.
pub(super) fn move_away(file: &Path) -> Result<Option<PathBuf>, Failure> {
    if !file.exists() {
        return Ok(None);
    }
    let mut free = (1_u32..).map(|n| file.with_extension(format!("old-{n}.txt")));
    let Some(free) = free.find(|candidate| !candidate.exists()) else { return Ok(None) };
    files::rename(file, &free)?;
    Ok(Some(free))
}

/// Writes the shares, in base64, into a file that was not there.
pub(super) fn write(
    file: &Path,
    data: &Path,
    threshold: u8,
    shares: &[SecretBytes],
) -> Result<(), Failure> {
    files::create(file, &text(data, threshold, shares))
}

fn text(data: &Path, threshold: u8, shares: &[SecretBytes]) -> SecretBytes {
    let head = format!(
        "KISTA RECOVERY KIT\n\n\
         Store: {}\n\n\
         Any {threshold} of these {} shares open the store when its keyfile is lost, or on another\n\
         machine. Whoever holds {threshold} of them and the data folder holds every secret in it.\n\n\
         Print this page, give the shares to different people or places, delete this file.\n\
         To open a sealed store: kista operator unseal, {threshold} times, one share each.\n\n",
        data.display(),
        shares.len(),
    );
    // Room for all of it: a buffer that grows leaves a copy behind.
    let room =
        shares.iter().map(|share| BASE64.encode_len(share.len()) + LABEL_ROOM).sum::<usize>();
    let mut text = head;
    text.reserve_exact(room);
    for (n, share) in (1..).zip(shares) {
        text.push_str(&format!("Share {n}:  "));
        share.expose(|share| BASE64.encode_append(share, &mut text));
        text.push('\n');
    }
    SecretBytes::from_vec(text.into_bytes())
}

/// Bytes that "Share 255:  " and the line break take at most.
const LABEL_ROOM: usize = 16;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_kit_says_what_to_do_and_an_older_one_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("recovery-kit.txt");
        let shares = [b"\0\0", b"\0\x01", b"\0\x02"].map(|bytes| SecretBytes::copy_of(bytes));
        assert_eq!(move_away(&file).unwrap(), None);
        write(&file, Path::new("/data"), 2, &shares).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("Any 2 of these 3 shares"), "{text}");
        assert!(text.ends_with("Share 1:  AAA=\nShare 2:  AAE=\nShare 3:  AAI=\n"), "{text}");

        assert!(write(&file, Path::new("/data"), 2, &shares).is_err(), "never written over");
        let moved = move_away(&file).unwrap().unwrap();
        assert_eq!(moved.file_name().unwrap(), "recovery-kit.old-1.txt");
        assert_eq!(fs::read_to_string(moved).unwrap(), text);
    }
}
