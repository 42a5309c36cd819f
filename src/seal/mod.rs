//! Key slots and the seal file.
