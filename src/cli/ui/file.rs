//! Files that get their name when they are whole.
//!
//! A result is written to `NAME.partial` beside it and renamed at the end, so that a kill, a full
//! disk or an error leaves an older file as it was, and nothing that looks whole and is not. What
//! is no regular file (a pipe, `/dev/null`) is written directly.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tallow::Error;

/// Bytes that are written at once.
const BUFFER: usize = 1 << 16;

/// A file on its way.
pub struct NewFile {
    /// The name asked for.
    path: PathBuf,
    /// Where the bytes go until they are whole; `None` where they go to `path` directly.
    partial: Option<PathBuf>,
    /// The bytes of an unfinished file are worth something: `--resume` goes on with them.
    keep: bool,
    out: BufWriter<File>,
}

impl NewFile {
    /// Begins a file.
    ///
    /// # Errors
    /// [`Error::Io`] with the path if its folder can not be written.
    pub fn create(path: &Path) -> Result<NewFile, Error> {
        let target = target(path);
        let partial = is_replaceable(&target).then(|| partial(&target));
        let name = partial.as_ref().unwrap_or(&target);
        let file = File::create(name).map_err(|e| Error::io(name, e))?;
        Ok(NewFile { path: target, partial, keep: false, out: BufWriter::with_capacity(BUFFER, file) })
    }

    /// Goes on with `file`, which is open where the next byte goes, and has the name [`partial`] of `path`.
    pub fn resume(path: &Path, file: File) -> NewFile {
        let path = target(path);
        NewFile { partial: Some(partial(&path)), path, keep: true, out: BufWriter::with_capacity(BUFFER, file) }
    }

    /// Keeps what there is if the file does not become whole.
    pub fn keep(mut self) -> NewFile {
        self.keep = true;
        self
    }

    /// Whether it can be written again from its beginning: a name may stand for a pipe.
    pub fn seeks(&self) -> bool {
        let mut file = self.out.get_ref();
        file.stream_position().is_ok()
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes, and says where it failed.
    ///
    /// # Errors
    /// [`Error::Io`] with the path.
    pub fn put<T>(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<T>) -> Result<T, Error> {
        write(&mut self.out).map_err(|e| Error::io(&self.path, e))
    }

    /// Goes back to the beginning.
    ///
    /// # Errors
    /// [`Error::Io`] with the path.
    pub fn rewind(&mut self) -> Result<(), Error> {
        self.put(|out| out.seek(SeekFrom::Start(0)).map(|_| ()))
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// [`Error::Io`] with the path; what was there before stays.
    pub fn finish(mut self) -> Result<(), Error> {
        self.put(|out| out.flush())?;
        if let Some(partial) = self.partial.take() {
            // The bytes are on the disk before the name is: what a power cut leaves must not look whole.
            let renamed = self.out.get_ref().sync_data().and_then(|()| std::fs::rename(&partial, &self.path));
            if renamed.is_err() {
                self.partial = Some(partial);
            }
            renamed.map_err(|e| Error::io(&self.path, e))?;
        }
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            let _ = self.out.flush();
            let is_empty = self.out.get_ref().metadata().is_ok_and(|metadata| metadata.len() == 0);
            if !self.keep || is_empty {
                let _ = std::fs::remove_file(partial);
            }
        }
    }
}

/// Where the bytes of an unfinished `path` are.
pub fn partial(path: &Path) -> PathBuf {
    let mut name = target(path).into_os_string();
    name.push(".partial");
    name.into()
}

/// What a link leads to: it stays a link, and its target is replaced.
pub fn target(path: &Path) -> PathBuf {
    let is_link = path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
    if is_link { path.canonicalize().unwrap_or_else(|_| path.to_owned()) } else { path.to_owned() }
}

/// Whether a rename may take the place of `path`: it is not there yet, or a regular file.
fn is_replaceable(path: &Path) -> bool {
    path.symlink_metadata().map_or(true, |metadata| metadata.is_file())
}
