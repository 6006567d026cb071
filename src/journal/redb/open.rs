//! Opening the store: what is there is checked and never deleted, and every refusal says what to do.

use std::fmt;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use ::redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase as _, StorageError, TableHandle as _,
};
use syncline_actors::id::SHARDS;

use super::tables::{Name, durable};
use super::{Failure, Options};
use crate::journal::Error;

/// The layout of the tables. Another number is another layout.
const FORMAT: u32 = 1;

type Opener = Box<dyn Fn() -> Result<Database, Error> + Send + Sync>;

/// The database, and how it is opened anew after an I/O error.
pub(super) struct Shared {
    database: RwLock<Option<Database>>,
    opener: Opener,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// Opens with `opener` for the first time.
    pub(super) fn open(opener: Opener) -> Result<Self, Error> {
        let database = opener()?;
        Ok(Self { database: RwLock::new(Some(database)), opener })
    }

    /// Runs `work` on the database; it cannot be opened anew meanwhile.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, Failure>) -> Result<T, Failure> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        work(database.as_ref().ok_or_else(|| Failure::Io("the store is not open".to_owned()))?)
    }

    /// Runs `work` on what is committed now.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        // The database library trusts pages that its own checks passed, and panics where they cannot be right.
        catch_unwind(AssertUnwindSafe(|| self.with(|database| work(&database.begin_read()?))))
            .unwrap_or_else(|panic| Err(Failure::of_panic(panic.as_ref())))
    }

    /// Opens the database anew unless it is open.
    pub(super) fn open_if_broken(&self) -> Result<(), Failure> {
        if self.database.read().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        self.reopen();
        self.with(|_| Ok(()))
    }

    /// Closes the database and opens it anew: after an I/O error it refuses all else.
    pub(super) fn reopen(&self) {
        let mut place = self.database.write().unwrap_or_else(PoisonError::into_inner);
        drop(place.take());
        match (self.opener)() {
            Ok(database) => *place = Some(database),
            Err(error) => {
                tracing::error!(%error, "the store did not open again; the next call tries once more");
            }
        }
    }

    /// Closes the database for good.
    pub(super) fn shut(&self) -> Result<(), Error> {
        let database = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        let closed = database.map_or(Ok(()), Database::close);
        closed.map_err(|error| Error::Unavailable(format!("the store did not close cleanly: {error}")))
    }
}

/// Opens or creates the store at `path`.
pub(super) fn file(path: &Path, options: &Options) -> Result<Database, Error> {
    if path.exists() {
        let empty = path.metadata().is_ok_and(|found| found.is_file() && found.len() == 0);
        if empty {
            return Err(refuse(
                path,
                "the file is empty, though a store never is: if this node has never run, remove the file; otherwise \
                 restore a backup",
            ));
        }
        let database = guarded(path, || builder(options).open(path))?;
        return checked(path, database, options);
    }
    create(path, options)
}

/// Makes a new store under another name first, so that a crash leaves either a whole store or none.
fn create(path: &Path, options: &Options) -> Result<Database, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let database = guarded(&new, || builder(options).create(&new))?;
    let database = checked(&new, database, options)?;
    // Whoever else is here has to hold the lock on the new file, so this check and the renaming are one step.
    if path.exists() {
        drop(database);
        return file(path, options);
    }
    let failed = |error: std::io::Error| refuse(path, &format!("it could not be created: {error}"));
    std::fs::rename(&new, path).map_err(failed)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    std::fs::File::open(directory.unwrap_or_else(|| Path::new(".")))
        .and_then(|dir| dir.sync_all())
        .map_err(failed)?;
    Ok(database)
}

fn builder(options: &Options) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(options.cache_bytes).set_check_integrity_on_open(options.check_integrity);
    builder
}

/// Opens on `backend`, for tests that lose power or fill the disk.
pub(super) fn backend(
    backend: impl ::redb::StorageBackend,
    place: &Path,
    options: &Options,
) -> Result<Database, Error> {
    let database = guarded(place, || builder(options).create_with_backend(backend))?;
    checked(place, database, options)
}

/// The database library may panic on a file that something else has damaged.
fn guarded(path: &Path, open: impl FnOnce() -> Result<Database, DatabaseError>) -> Result<Database, Error> {
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(error)) => Err(refuse(path, &reason(path, &error))),
        Err(panic) => Err(refuse(path, &damaged(&Failure::of_panic(panic.as_ref()).to_string()))),
    }
}

fn refuse(path: &Path, reason: &str) -> Error {
    Error::Open(format!("{}: {reason}", path.display()))
}

fn damaged(how: &str) -> String {
    format!("the file is damaged ({how}): keep it for inspection, and restore a backup at this path")
}

fn reason(path: &Path, error: &DatabaseError) -> String {
    match error {
        DatabaseError::DatabaseAlreadyOpen => {
            "another process has it open: stop that process, or give this node a path \
                                               of its own"
                .to_owned()
        }
        DatabaseError::UpgradeRequired(version) => {
            format!(
                "its file format {version} is older than this program reads: upgrade it with the release that wrote it"
            )
        }
        DatabaseError::Storage(StorageError::Corrupted(how)) => damaged(how),
        DatabaseError::Storage(StorageError::Io(error)) => io_reason(path, error),
        other => format!("it did not open: {other}"),
    }
}

fn io_reason(path: &Path, error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            "this user may not read and write it: correct the owner or the mode of the file and its directory"
                .to_owned()
        }
        ErrorKind::NotFound => {
            let directory = path.parent().unwrap_or_else(|| Path::new(".")).display();
            format!("the directory {directory} does not exist: create it, or correct the path")
        }
        ErrorKind::IsADirectory => "this is a directory: name a file in it".to_owned(),
        ErrorKind::InvalidData => {
            format!(
                "this is not a store, or its beginning is damaged ({error}): correct the path, or restore a backup"
            )
        }
        ErrorKind::UnexpectedEof => damaged("it was cut short"),
        _ => format!("reading or writing it failed: {error}"),
    }
}

/// Checks that `database` is a store of ours, or makes one of an empty database.
fn checked(path: &Path, database: Database, options: &Options) -> Result<Database, Error> {
    let outcome = catch_unwind(AssertUnwindSafe(|| check(&database, options)))
        .unwrap_or_else(|panic| Err(Failure::of_panic(panic.as_ref())));
    match outcome {
        Ok(None) => Ok(database),
        Ok(Some(reason)) => Err(refuse(path, &reason)),
        Err(Failure::Io(how)) => Err(refuse(path, &format!("reading or writing it failed: {how}"))),
        Err(failure) => Err(refuse(path, &damaged(&failure.to_string()))),
    }
}

/// The reason to refuse `database`, if there is one.
fn check(database: &Database, options: &Options) -> Result<Option<String>, Failure> {
    let read = database.begin_read()?;
    let tables: Vec<String> = read.list_tables()?.map(|table| table.name().to_owned()).collect();
    if tables.is_empty() {
        drop(read);
        return initialise(database, options).map(|()| None);
    }
    if !tables.iter().any(|table| table == "meta") {
        return Ok(Some("this is a database of another program: correct the path".to_owned()));
    }
    let meta = read.open_table(Name::Meta.definition())?;
    let value = |name: &str| -> Result<Option<Vec<u8>>, Failure> {
        Ok(meta.get(name.as_bytes())?.map(|value| value.value().to_vec()))
    };
    let format = value("format")?;
    if format.as_deref() != Some(&FORMAT.to_be_bytes()[..]) {
        let found = format.unwrap_or_default();
        return Ok(Some(format!(
            "its store format is {found:?}, this program reads {FORMAT}: use the release that wrote it, or migrate it"
        )));
    }
    let shards = value("shards")?.unwrap_or_default();
    if shards != SHARDS.to_be_bytes() {
        return Ok(Some(format!(
            "it was made for another number of shards ({shards:?}, this program has {SHARDS}): a store keeps its number for \
             life; use the program that made it"
        )));
    }
    let cluster = value("cluster")?.unwrap_or_default();
    match &options.cluster {
        Some(wanted) if !cluster.is_empty() && wanted.as_bytes() != cluster => Ok(Some(format!(
            "it belongs to cluster `{}`, not to `{wanted}`: correct the path or the cluster's name",
            String::from_utf8_lossy(&cluster)
        ))),
        _ => Ok(None),
    }
}

fn initialise(database: &Database, options: &Options) -> Result<(), Failure> {
    let mut transaction = database.begin_write()?;
    durable(&mut transaction);
    for name in Name::ALL {
        transaction.open_table(name.definition())?;
    }
    {
        let mut meta = transaction.open_table(Name::Meta.definition())?;
        meta.insert(&b"format"[..], &FORMAT.to_be_bytes()[..])?;
        meta.insert(&b"shards"[..], &SHARDS.to_be_bytes()[..])?;
        meta.insert(&b"cluster"[..], options.cluster.as_deref().unwrap_or_default().as_bytes())?;
    }
    transaction.commit()?;
    Ok(())
}
