//! Opening the store: what is there is checked and never deleted, and every refusal says what to do.

use std::fmt;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use ::redb::backends::FileBackend;
use ::redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, StorageBackend, StorageError, TableHandle as _,
};
use syncline_actors::id::SHARDS;

use super::layers::{Layer, Layers, View};
use super::log::{self, Held, Log, Mark};
use super::tables::{MARK, Name, durable, settle};
use super::{Failure, Options};
use crate::journal::Error;

/// The layout of the store. Another number is another layout.
const FORMAT: u32 = 2;

/// The layout before there was a log: the tables are the same, so it becomes the present one when it is opened.
const WITHOUT_LOG: u32 = 1;

type Opener = Box<dyn Fn() -> Result<Opened, Error> + Send + Sync>;

/// A store just opened.
pub(super) struct Opened {
    database: Database,
    log: Log,
    held: Held,
}

/// A store in use: the tables, and what the log holds beyond them.
struct Store {
    database: Arc<Database>,
    layers: Layers,
}

/// The store that readers and the writer share, and how it is opened anew after an I/O error.
pub(super) struct Shared {
    store: RwLock<Option<Store>>,
    opener: Opener,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// Opens with `opener` for the first time. With the log comes how far it goes that was on its way into the tables when the last
    /// process ended, if any was: it is laid over them meanwhile.
    pub(super) fn open(opener: Opener) -> Result<(Self, Log, Option<Mark>), Error> {
        let Opened { database, log, held } = opener()?;
        let (mut layers, mut under_way) = (Layers::default(), None);
        for (mark, layer) in held {
            if mark.generation == log.mark().generation {
                layers.active = layer;
            } else {
                (layers.frozen, under_way) = (Some(Arc::new(layer)), Some(mark));
            }
        }
        let store = Store { database: Arc::new(database), layers };
        Ok((Self { store: RwLock::new(Some(store)), opener }, log, under_way))
    }

    fn put(&self, store: Option<Store>) -> Option<Store> {
        std::mem::replace(&mut *self.store.write().unwrap_or_else(PoisonError::into_inner), store)
    }

    fn with<T>(&self, work: impl FnOnce(&Store) -> Result<T, Failure>) -> Result<T, Failure> {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        work(store.as_ref().ok_or_else(closed)?)
    }

    fn change<T>(&self, work: impl FnOnce(&mut Store) -> T) -> Result<T, Failure> {
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        store.as_mut().map(work).ok_or_else(closed)
    }

    /// Runs `work` on what is written now. Writers wait meanwhile, so it should not be long.
    pub(super) fn read<T>(&self, work: impl FnOnce(&View<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        // The database library trusts pages that its own checks passed, and panics where they cannot be right.
        let read = || self.with(|store| work(&View::new(store.database.begin_read()?, &store.layers)));
        catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| Err(Failure::of_panic(panic.as_ref())))
    }

    /// Makes a group that is in the log visible.
    pub(super) fn publish(&self, group: Layer) -> Result<(), Failure> {
        self.change(|store| store.layers.active.absorb(group))
    }

    /// Sets aside what is laid over the tables, to be written there; what is written from now on is laid over it.
    pub(super) fn freeze(&self) -> Result<(), Failure> {
        self.change(|store| {
            debug_assert!(store.layers.frozen.is_none(), "one part goes into the tables at a time");
            store.layers.frozen = Some(Arc::new(std::mem::take(&mut store.layers.active)));
        })
    }

    /// Writes what was set aside to the tables: all that the log holds up to `mark`.
    pub(super) fn settle_frozen(&self, mark: Mark) -> Result<(), Failure> {
        let (database, frozen) =
            self.with(|store| Ok((store.database.clone(), store.layers.frozen.clone())))?;
        let layer = frozen.unwrap_or_default();
        settle(&database, &layer, mark)?;
        drop(database); // whoever closes the store must be its last holder
        self.change(|store| store.layers.frozen = None)
    }

    /// Writes `group` straight to the tables, which have everything that the log holds.
    pub(super) fn settle_group(&self, group: &Layer, mark: Mark) -> Result<(), Failure> {
        let database = self.with(|store| Ok(store.database.clone()))?;
        settle(&database, group, mark)
    }

    /// Whether the store is open; after an I/O error it may not be.
    pub(super) fn is_open(&self) -> bool {
        self.store.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Closes the store and opens it anew: after an I/O error the database library refuses all else, and only the files tell what is
    /// written. What the log holds goes into the tables before anyone reads it: a flush that failed once may be said to have succeeded
    /// the next time, so it must be written elsewhere.
    pub(super) fn reopen(&self) -> Option<Log> {
        drop(self.put(None));
        let opened = (self.opener)().and_then(|Opened { database, mut log, held }| {
            for (mark, layer) in held {
                settle(&database, &layer, mark).map_err(Failure::error)?;
            }
            log.turn();
            Ok((database, log))
        });
        match opened {
            Ok((database, log)) => {
                self.put(Some(Store { database: Arc::new(database), layers: Layers::default() }));
                Some(log)
            }
            Err(error) => {
                tracing::error!(%error, "the store did not open again; the next call tries once more");
                None
            }
        }
    }

    /// Brings all that the log holds into the tables, and closes the store for good.
    pub(super) fn shut(&self, log: Option<Log>) -> Result<(), Error> {
        let Some(Store { database, layers }) = self.put(None) else { return Ok(()) };
        let unclean = |how: String| Error::Unavailable(format!("the store did not close cleanly: {how}"));
        if let Some(log) = log {
            let mark = Mark { in_use: false, ..log.mark() };
            let settled = catch_unwind(AssertUnwindSafe(|| settle(&database, &layers.active, mark)))
                .unwrap_or_else(|panic| Err(Failure::of_panic(panic.as_ref())));
            let cleared = settled.and_then(|()| log.clear());
            cleared.map_err(|failure| unclean(failure.to_string()))?;
        }
        let closed = Arc::into_inner(database).map_or(Ok(()), Database::close);
        closed.map_err(|error| unclean(error.to_string()))
    }
}

fn closed() -> Failure {
    Failure::Io("the store is not open".to_owned())
}

/// Opens or creates the store at `path`.
pub(super) fn file(path: &Path, options: &Options) -> Result<Opened, Error> {
    let database = tables(path, options)?;
    let beside = log_path(path);
    let opened = std::fs::File::options().read(true).write(true).create(true).truncate(false).open(&beside);
    let file = opened.map_err(|error| refuse(&beside, &io_reason(&beside, &error)))?;
    flush_directory(path)?;
    let file = FileBackend::new(file).map_err(|error| refuse(&beside, &reason(&beside, &error)))?;
    with_log(path, database, Box::new(file), options)
}

/// Where the log of the store at `path` is.
fn log_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".log");
    PathBuf::from(name)
}

/// Reads the log of `database`, and marks it as in use.
fn with_log(
    path: &Path,
    database: Database,
    file: Box<dyn StorageBackend>,
    options: &Options,
) -> Result<Opened, Error> {
    let damaged_log = |failure: Failure| match failure {
        Failure::Io(how) => refuse(path, &format!("reading or writing it failed: {how}")),
        other => refuse(
            path,
            &format!(
                "its log is damaged ({other}): keep {0} and {0}.log for inspection, and restore a backup of both",
                path.display()
            ),
        ),
    };
    let kept = mark(&database).map_err(damaged_log)?;
    let beside = log_path(path);
    let beside = beside.display();
    let is_empty = file.len().map_err(|error| damaged_log(Failure::Io(error.to_string())))? == 0;
    if kept.is_some_and(|mark| mark.in_use) && is_empty {
        let reason = format!("its log {beside} is missing: it holds what was acknowledged last; put it back");
        return Err(refuse(path, &reason));
    }
    if kept.is_none() && !is_empty && log::is_written(&*file).map_err(damaged_log)? {
        let reason = format!(
            "it is new, and {beside} is the log of a store that is not here any more: put that store back, or remove the log to \
             begin anew"
        );
        return Err(refuse(path, &reason));
    }
    // A log that holds nothing may as well get another size.
    let mark = match kept {
        Some(mark) if mark.in_use => mark,
        kept => Mark { region: options.log_bytes, ..kept.unwrap_or_default() },
    };
    let (log, held) = Log::open(file, mark).map_err(damaged_log)?;
    if !mark.in_use {
        let empty = Layer::default();
        settle(&database, &empty, Mark { in_use: true, ..mark }).map_err(damaged_log)?;
    }
    Ok(Opened { database, log, held })
}

/// How far `database` has applied its log; none when it never had one.
fn mark(database: &Database) -> Result<Option<Mark>, Failure> {
    let meta = database.begin_read()?.open_table(Name::Meta.definition())?;
    let stored = meta.get(MARK)?;
    let mark =
        stored.map(|value| Mark::read(value.value()).ok_or_else(|| Failure::Corrupt("its mark".to_owned())));
    mark.transpose()
}

/// Opens or creates the tables at `path`.
fn tables(path: &Path, options: &Options) -> Result<Database, Error> {
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
        return tables(path, options);
    }
    let failed = |error: std::io::Error| refuse(path, &format!("it could not be created: {error}"));
    std::fs::rename(&new, path).map_err(failed)?;
    flush_directory(path)?;
    Ok(database)
}

/// Makes the names of the files beside `path` durable.
fn flush_directory(path: &Path) -> Result<(), Error> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    std::fs::File::open(directory.unwrap_or_else(|| Path::new(".")))
        .and_then(|dir| dir.sync_all())
        .map_err(|error| refuse(path, &format!("it could not be created: {error}")))
}

fn builder(options: &Options) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(options.cache_bytes).set_check_integrity_on_open(options.check_integrity);
    builder
}

/// Opens on a backend for the tables and one for the log, for tests that lose power or fill the disk.
pub(super) fn backend<B: StorageBackend>(
    (tables, log): (B, B),
    place: &Path,
    options: &Options,
) -> Result<Opened, Error> {
    let database = guarded(place, || builder(options).create_with_backend(tables))?;
    let database = checked(place, database, options)?;
    with_log(place, database, Box::new(log), options)
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
    if format.as_deref() == Some(&WITHOUT_LOG.to_be_bytes()[..]) {
        let mut transaction = database.begin_write()?;
        durable(&mut transaction);
        transaction.open_table(Name::Meta.definition())?.insert(&b"format"[..], &FORMAT.to_be_bytes()[..])?;
        transaction.commit()?;
    } else if format.as_deref() != Some(&FORMAT.to_be_bytes()[..]) {
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
