//! The checksums of a file: computed by the worker, and again by the demo to check it.
use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checksums {
    pub bytes: u64,
    /// CRC-32 (ISO-HDLC).
    pub crc32: u32,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

pub fn of(path: &Path) -> io::Result<Checksums> {
    let content = fs::read(path)?;
    Ok(Checksums {
        bytes: content.len() as u64,
        crc32: crc32fast::hash(&content),
        sha256: hex::encode(Sha256::digest(&content)),
    })
}
