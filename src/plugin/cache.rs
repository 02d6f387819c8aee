//! Compiled components on disk. Loading one runs the machine code that it holds, so a file is only loaded when its
//! authentication code, made with a key that only this user can read, fits its content and its name.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::artifact::hexadecimal;

/// Length of the authentication code before the machine code.
const MAC_BYTES: usize = 32;
/// The largest entry that is read. A component of 64 MiB compiles to about three times its size.
const MAX_ENTRY_BYTES: u64 = 512 << 20;

/// The cache of one user.
pub(super) struct Cache {
    folder: PathBuf,
    /// Begun with the key.
    mac: Hmac<Sha256>,
    /// What of the engine and of this program decides whether an entry fits.
    build: [u8; 32],
}

impl Cache {
    /// Opens or makes the folder and its key.
    ///
    /// # Errors
    /// When the folder or the key could be written or read by another user, or cannot be made.
    pub(super) fn open(folder: &Path, engine: &Engine) -> io::Result<Self> {
        let key = key_of(folder)?;
        let mut hasher = Sha256Hasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        env!("CARGO_PKG_VERSION").hash(&mut hasher);
        let mac = Hmac::new_from_slice(&key).map_err(io::Error::other)?;
        Ok(Self { folder: folder.to_owned(), mac, build: hasher.0.finalize().into() })
    }

    /// The component, when an entry is there and authentic.
    pub(super) fn load(&self, engine: &Engine, digest: &[u8; 32]) -> Option<Component> {
        let name = self.name(digest);
        let path = self.folder.join(&name);
        let mut entry = Vec::new();
        match File::open(&path) {
            Ok(file) => file.take(MAX_ENTRY_BYTES).read_to_end(&mut entry).ok()?,
            Err(_) => return None,
        };
        let Some(code) = self.authentic(&name, &entry) else {
            tracing::warn!(entry = %path.display(), "an entry of the cache of compiled components is not authentic and is replaced");
            return None;
        };
        deserialize(engine, code)
            .inspect_err(|error| tracing::warn!(%error, "a cached component does not load and is replaced"))
            .ok()
    }

    /// Writes an entry in one step: a reader sees the old one or the new one.
    ///
    /// # Errors
    /// What the file system said.
    pub(super) fn store(&self, digest: &[u8; 32], code: &[u8]) -> io::Result<()> {
        let name = self.name(digest);
        let mut mac = self.mac_for(&name);
        mac.update(code);
        let temporary = self.folder.join(temporary_name()?);
        let mut file = new_private_file(&temporary)?;
        let written = file
            .write_all(&mac.finalize().into_bytes())
            .and_then(|()| file.write_all(code))
            .and_then(|()| fs::rename(&temporary, self.folder.join(name)));
        written.inspect_err(|_| drop(fs::remove_file(&temporary)))
    }

    /// The machine code of an entry whose authentication code fits; checked in constant time over every byte.
    fn authentic<'entry>(&self, name: &str, entry: &'entry [u8]) -> Option<&'entry [u8]> {
        let (code_mac, code) = entry.split_at_checked(MAC_BYTES)?;
        let mut mac = self.mac_for(name);
        mac.update(code);
        mac.verify_slice(code_mac).ok()?;
        Some(code)
    }

    /// Begins with the name, so that the entry of one component is not authentic as that of another.
    fn mac_for(&self, name: &str) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(b"portcullis compiled component\0");
        mac.update(name.as_bytes());
        mac.update(b"\0");
        mac
    }

    fn name(&self, digest: &[u8; 32]) -> String {
        let mut hasher = Sha256::new();
        hasher.update(digest);
        hasher.update(self.build);
        format!("{}.bin", hexadecimal(&hasher.finalize()))
    }
}

/// Whether this folder would be used: makes it where it is missing, and tries everything that opening the cache needs.
///
/// # Errors
/// As [`Cache::open`].
pub(crate) fn try_cache(folder: &Path) -> io::Result<()> {
    key_of(folder).map(drop)
}

fn key_of(folder: &Path) -> io::Result<[u8; 32]> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let user = private(&fs::symlink_metadata(folder)?, "folder", None)?;
    let key_path = folder.join("key");
    if !fs::exists(&key_path)? {
        make_key(folder, &key_path)?;
    }
    let mut file = File::open(&key_path)?;
    private(&fs::symlink_metadata(&key_path)?, "key", Some(user))?;
    let mut key = [0; 32];
    file.read_exact(&mut key)?;
    probe(folder, user)?;
    Ok(key)
}

/// Loads machine code from memory, never from a file that could change between the check and the load.
#[allow(unsafe_code, reason = "the only way to load compiled code; its bytes are authentic or come from the compiler")]
pub(super) fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `code` is what the compiler of this program gave: either just now (`compile`), or `authentic` has checked every
    // byte of it with a key that only this user can read. wasmtime itself checks that engine and version fit.
    unsafe { Component::deserialize(engine, code) }
}

fn make_key(folder: &Path, path: &Path) -> io::Result<()> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let temporary = folder.join(temporary_name()?);
    new_private_file(&temporary)?.write_all(&key)?;
    // A link fails where another process was first: then its key is the one.
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Makes a file to learn who this process is: a folder of somebody else must not decide what runs here.
fn probe(folder: &Path, user: u32) -> io::Result<()> {
    let path = folder.join(temporary_name()?);
    let owner = new_private_file(&path).and_then(|file| file.metadata()).map(|metadata| metadata.uid());
    fs::remove_file(&path)?;
    if owner? == user {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "the folder belongs to another user"))
}

/// Refuses what another user could write or read; returns the owner.
fn private(metadata: &fs::Metadata, what: &str, owner: Option<u32>) -> io::Result<u32> {
    let refuse = |reason: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    if metadata.is_symlink() {
        return refuse(format!("the {what} is a symbolic link"));
    }
    if metadata.mode() & 0o077 != 0 {
        return refuse(format!(
            "the {what} has mode {:03o}, other users must have no rights on it",
            metadata.mode() & 0o777
        ));
    }
    if owner.is_some_and(|owner| owner != metadata.uid()) {
        return refuse(format!("the {what} belongs to another user"));
    }
    Ok(metadata.uid())
}

fn new_private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn temporary_name() -> io::Result<String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(format!("new-{}", hexadecimal(&random)))
}

/// The engine describes itself only through `Hash`; a 64-bit result would be too short for a file name that must not
/// collide.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::plugin::tests::guest;

    const ONE: [u8; 32] = [1; 32];
    const OTHER: [u8; 32] = [2; 32];

    fn opened() -> (tempfile::TempDir, Engine, Cache) {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let engine = crate::plugin::engine::new_engine().unwrap();
        let cache = Cache::open(folder.path(), &engine).unwrap();
        (folder, engine, cache)
    }

    fn entry(cache: &Cache, digest: &[u8; 32]) -> PathBuf {
        cache.folder.join(cache.name(digest))
    }

    fn code(engine: &Engine) -> Vec<u8> {
        Component::from_binary(engine, &fs::read(guest("touch")).unwrap()).unwrap().serialize().unwrap()
    }

    #[test]
    fn an_entry_with_any_byte_changed_added_or_cut_is_not_authentic() {
        let (_folder, _engine, cache) = opened();
        cache.store(&ONE, &[7; 100]).unwrap();
        let name = cache.name(&ONE);
        let good = fs::read(entry(&cache, &ONE)).unwrap();
        assert_eq!(cache.authentic(&name, &good), Some(&[7; 100][..]));
        for position in 0..good.len() {
            let mut bad = good.clone();
            bad[position] ^= 0x40;
            assert_eq!(cache.authentic(&name, &bad), None, "byte {position}");
            assert_eq!(cache.authentic(&name, &good[..position]), None, "cut at {position}");
        }
        assert_eq!(cache.authentic(&name, &[&good[..], &[0]].concat()), None);
    }

    #[test]
    fn what_was_stored_loads_until_a_byte_of_it_is_flipped() {
        let (_folder, engine, cache) = opened();
        assert!(cache.load(&engine, &ONE).is_none());
        cache.store(&ONE, &code(&engine)).unwrap();
        assert!(cache.load(&engine, &ONE).is_some());
        let path = entry(&cache, &ONE);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(cache.load(&engine, &ONE).is_none());
        cache.store(&ONE, &code(&engine)).unwrap();
        assert!(cache.load(&engine, &ONE).is_some(), "a bad entry is replaced");
    }

    #[test]
    fn the_entry_of_one_component_is_not_loaded_as_that_of_another() {
        let (_folder, engine, cache) = opened();
        cache.store(&ONE, &code(&engine)).unwrap();
        fs::copy(entry(&cache, &ONE), entry(&cache, &OTHER)).unwrap();
        assert!(cache.load(&engine, &OTHER).is_none());
    }

    #[test]
    fn an_entry_made_with_another_key_is_not_loaded() {
        let (_folder, engine, cache) = opened();
        let (_other_folder, _, foreign) = opened();
        foreign.store(&ONE, &code(&engine)).unwrap();
        fs::copy(entry(&foreign, &ONE), entry(&cache, &ONE)).unwrap();
        assert!(cache.load(&engine, &ONE).is_none());
    }

    #[test]
    fn the_key_is_private_and_stays_the_same() {
        let (folder, engine, cache) = opened();
        let key = folder.path().join("key");
        assert_eq!(fs::metadata(&key).unwrap().mode() & 0o777, 0o600);
        cache.store(&ONE, &[7; 100]).unwrap();
        let again = Cache::open(folder.path(), &engine).unwrap();
        let bytes = fs::read(entry(&cache, &ONE)).unwrap();
        assert!(again.authentic(&again.name(&ONE), &bytes).is_some());
    }

    #[test]
    fn a_folder_or_a_key_that_others_could_use_is_refused() {
        let (folder, engine, _cache) = opened();
        let refused = |path: &Path, mode: u32, good: u32| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Cache::open(folder.path(), &engine).err().map(|error| error.kind());
            fs::set_permissions(path, fs::Permissions::from_mode(good)).unwrap();
            error
        };
        assert_eq!(refused(folder.path(), 0o750, 0o700), Some(io::ErrorKind::PermissionDenied));
        assert_eq!(refused(&folder.path().join("key"), 0o640, 0o600), Some(io::ErrorKind::PermissionDenied));
        assert!(Cache::open(folder.path(), &engine).is_ok());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        assert!(Cache::open(&link, &engine).is_err(), "a link could point to a folder of somebody else");
    }

    #[test]
    fn no_temporary_file_is_left() {
        let (folder, _engine, cache) = opened();
        cache.store(&ONE, &[7; 100]).unwrap();
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        let mut expected = vec![cache.name(&ONE), "key".to_owned()];
        expected.sort();
        assert_eq!(names, expected);
    }
}
