//! The instruction sets: a table of functions each, and scalar code that the others are compared with.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
#[cfg(target_arch = "aarch64")]
pub mod neon;
pub mod scalar;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", test))]
pub mod tiles;
