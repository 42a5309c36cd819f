//! The yardstick of durable writes: what the disk itself does.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

/// Appends of 4 KiB, each followed by an fdatasync, for each second.
pub(crate) fn rate(folder: &Path, length: Duration) -> io::Result<f64> {
    let mut file = File::create(folder.join("disk"))?;
    let block = [7; 4096];
    let began = Instant::now();
    let mut count = 0_u32;
    while began.elapsed() < length {
        file.write_all(&block)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}
