//! Journals to read: of a running node, or of the store of one that has stopped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use syncline_actors::entity::State;
use syncline_actors::id::EntityId;
use syncline_actors::record::Record;

use super::Failure;
use super::client::{Client, To};
use crate::api::{Entity, Head, Page};
use crate::codec;
use crate::journal::redb::{Options, Redb};
use crate::journal::{self, SharedJournal};

/// Entities asked for at a time.
const HEADS: usize = 500;
/// Records asked for at a time.
const RECORDS: usize = 500;
/// Longest journal that is read: what is longer is told, not read.
const RECORDS_MAX: usize = 10_000;

/// Where journals are.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct From {
    /// The store of a node that has stopped: its directory, or the file. Without it, a running node is asked.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    #[command(flatten)]
    to: To,
}

/// Journals to read.
pub(super) enum Journals {
    Node(Client),
    Store(SharedJournal),
}

/// An entity, as far as lists tell.
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) has_ended: bool,
}

impl Journals {
    pub(super) fn open(from: &From) -> Result<Self, Failure> {
        let Some(path) = &from.store else { return Ok(Self::Node(Client::new(&from.to)?)) };
        let path = file(path)?;
        let opened = Redb::open(&path, Options::default());
        let opened = opened.map_err(|error| Failure::Input(format!("{}: {error}", path.display())))?;
        Ok(Self::Store(Arc::new(opened)))
    }

    /// Entities of a kind after the key `after`, and the key to go on from.
    pub(super) async fn list(
        &self,
        kind: &str,
        after: Option<&str>,
    ) -> Result<(Vec<Listed>, Option<String>), Failure> {
        match self {
            Self::Node(client) => {
                let limit = HEADS.to_string();
                let mut query = vec![("limit", limit.as_str())];
                query.extend(after.map(|after| ("after", after)));
                let page: Page<Head> = match client.get(&["v1", "entities", kind], &query).await {
                    // The node does not know the process yet: it has no instances.
                    Err(Failure::Failed(_)) => return Ok((Vec::new(), None)),
                    page => page?,
                };
                let listed = |head: Head| Listed { id: head.id, status: head.status, has_ended: head.ended };
                Ok((page.items.into_iter().map(listed).collect(), page.next))
            }
            Self::Store(journal) => {
                let heads = journal.heads(kind, after, HEADS).await.map_err(|error| broken(&error))?;
                let next =
                    (heads.len() == HEADS).then(|| heads.last().map(|last| last.entity.key().to_owned()));
                let listed = |head: &journal::Head| Listed {
                    id: head.entity.to_string(),
                    status: head.status.to_string(),
                    has_ended: head.ended,
                };
                Ok((heads.iter().map(listed).collect(), next.flatten()))
            }
        }
    }

    /// All records of an entity that are kept; none when there are too many to be read.
    pub(super) async fn records(&self, id: &str) -> Result<Option<Vec<Record>>, Failure> {
        let mut records: Vec<Record> = Vec::new();
        loop {
            let from = records.last().map_or(1, |last| last.seq + 1);
            let frames = self.frames(id, from).await?;
            let count = frames.len();
            for frame in frames {
                let record = codec::decode_record(&frame);
                records.push(record.map_err(|error| Failure::Broken(format!("{id}: {error}")))?);
            }
            if count < RECORDS {
                return Ok(Some(records));
            }
            if records.len() >= RECORDS_MAX {
                return Ok(None);
            }
        }
    }

    async fn frames(&self, id: &str, from: u64) -> Result<Vec<Vec<u8>>, Failure> {
        match self {
            Self::Node(client) => {
                let (kind, key) = split(id);
                let (from, limit) = (from.to_string(), RECORDS.to_string());
                let query = [("from", from.as_str()), ("limit", limit.as_str())];
                let page: Page<String> =
                    client.get(&["v1", "entities", kind, key, "records"], &query).await?;
                let decode = |text: String| {
                    STANDARD.decode(text).map_err(|error| Failure::Broken(format!("{id}: {error}")))
                };
                page.items.into_iter().map(decode).collect()
            }
            Self::Store(journal) => {
                let entity = EntityId::parse(id).map_err(|error| Failure::Broken(error.to_string()))?;
                let frames = journal.records(&entity, from, RECORDS).await.map_err(|error| broken(&error))?;
                Ok(frames.iter().map(|frame| frame.to_vec()).collect())
            }
        }
    }

    /// The version of its process that an entity is on; none when that cannot be told.
    pub(super) async fn version(&self, id: &str) -> Result<Option<u32>, Failure> {
        match self {
            Self::Node(client) => {
                let (kind, key) = split(id);
                let entity: Entity = client.get(&["v1", "entities", kind, key], &[]).await?;
                Ok(Some(entity.version))
            }
            Self::Store(journal) => {
                let entity = EntityId::parse(id).map_err(|error| Failure::Broken(error.to_string()))?;
                let loaded = journal.load(&entity).await.map_err(|error| broken(&error))?;
                let unread = |error: codec::Error| Failure::Broken(format!("{id}: {error}"));
                let mut state = match &loaded.snapshot {
                    Some(snapshot) => codec::decode_state(&snapshot.frame).map_err(unread)?,
                    None => State::default(),
                };
                for frame in &loaded.tail {
                    state.fold(&codec::decode_record(frame).map_err(unread)?);
                }
                Ok(state.has_begun().then_some(state.version))
            }
        }
    }

    /// Lets go of the store.
    pub(super) async fn close(self) {
        if let Self::Store(journal) = self {
            let _ = journal.close().await;
        }
    }
}

/// The store's file; a store that is not there must not be made.
fn file(path: &Path) -> Result<PathBuf, Failure> {
    let path = if path.is_dir() { path.join("journal.redb") } else { path.to_owned() };
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::Input(format!("there is no store at {}: name a node's data_dir", path.display())))
}

fn split(id: &str) -> (&str, &str) {
    id.split_once('/').unwrap_or((id, ""))
}

fn broken(error: &journal::Error) -> Failure {
    Failure::Broken(error.to_string())
}
