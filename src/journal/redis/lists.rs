//! What lies in many shards and is wanted as one list.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use redis::Value;
use syncline_actors::id::{EntityId, ShardId};
use syncline_actors::outbox::ExceptionRow;
use syncline_actors::time::Timestamp;

use super::functions::Call;
use super::{Redis, reply, request};
use crate::codec::{self, Schema};
use crate::journal::{Compacted, Error, ExceptionFilter, keys, passes, rows};

/// Entities that one call of a compaction looks at.
const COMPACTED_MAX: usize = 64;

/// Exceptions read from a shard at a time.
const EXCEPTIONS_PAGE: usize = 128;

/// Something due: when, where, and its name there, `entity\0name`.
pub(super) type Due = (Timestamp, ShardId, Vec<u8>);

/// A range by bytes as Redis writes it: from `prefix` and what follows it, after `after` if there is one.
fn range(prefix: &[u8], after: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
    let from = match after {
        Some(after) if after >= prefix => [b"(", after].concat(),
        _ if prefix.is_empty() => b"-".to_vec(),
        _ => [b"[", prefix].concat(),
    };
    let to = keys::end_of(prefix).map_or_else(|| b"+".to_vec(), |end| [b"(", end.as_slice()].concat());
    (from, to)
}

/// The entities of `kind` whose keys come after `after`.
pub(super) fn heads_range(kind: &str, after: Option<&str>) -> (Vec<u8>, Vec<u8>) {
    let prefix = format!("{kind}/").into_bytes();
    let after = after.map(|after| [prefix.as_slice(), after.as_bytes(), &[0]].concat());
    range(&prefix, after.as_deref())
}

impl Redis {
    /// What is due in the list `what` of the shards held, the longest due first.
    pub(super) async fn due(&self, what: &str, now: Timestamp, limit: usize) -> Result<Vec<Due>, Error> {
        let asked = self.held_shards().into_iter().map(|shard| async move {
            let mut command = redis::cmd("ZRANGE");
            command.arg(self.shared.names.of(shard, what)).arg("-inf").arg(now.0).arg("BYSCORE");
            command.arg("LIMIT").arg(0).arg(limit.min(1 << 31)).arg("WITHSCORES");
            let found = reply::list("what is due", self.read_trusted(shard, &command).await?)?;
            reply::pairs(found)
                .map(|(member, due)| Ok((request::score(due)?, shard, reply::bytes("what is due", member)?)))
                .collect::<Result<Vec<Due>, Error>>()
        });
        let mut due: Vec<Due> = try_join_all(asked).await?.into_iter().flatten().collect();
        due.sort();
        due.truncate(limit);
        Ok(due)
    }

    /// The rows of what is due. One that is gone by now is passed over.
    pub(super) async fn rows<T>(
        &self,
        kind: &str,
        due: Vec<Due>,
        read: impl Fn(&[u8]) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let asked = due.iter().map(|(_, shard, member)| async move {
            let zero =
                member.iter().position(|byte| *byte == 0).ok_or_else(|| rows::malformed("what is due"))?;
            let (entity, name) = (&member[..zero], &member[zero + 1..]);
            let key = [self.shared.names.of(*shard, "e:").as_bytes(), entity].concat();
            let mut command = redis::cmd("HGET");
            command.arg(key).arg([kind.as_bytes(), name].concat());
            self.read_trusted(*shard, &command).await
        });
        let found = try_join_all(asked).await?.into_iter().filter(|value| *value != Value::Nil);
        found.map(|value| read(&reply::bytes("what is due", value)?)).collect()
    }

    /// When the next of the list `what` is due, after `now`, in the shards held.
    pub(super) async fn next(&self, what: &str, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        let asked = self.held_shards().into_iter().map(|shard| async move {
            let mut command = redis::cmd("ZRANGE");
            command
                .arg(self.shared.names.of(shard, what))
                .arg(format!("({}", now.0))
                .arg("+inf")
                .arg("BYSCORE");
            command.arg("LIMIT").arg(0).arg(1).arg("WITHSCORES");
            let found = reply::list("what is due next", self.read_trusted(shard, &command).await?)?;
            found.into_iter().nth(1).map(request::score).transpose()
        });
        Ok(try_join_all(asked).await?.into_iter().flatten().min())
    }

    pub(super) async fn found(&self, term: &str, limit: usize) -> Result<Vec<EntityId>, Error> {
        let prefix = keys::term(term);
        let (from, to) = range(&prefix, None);
        let (prefix, from, to) = (&prefix, &from, &to);
        let asked = ShardId::all().map(|shard| async move {
            let mut command = redis::cmd("ZRANGEBYLEX");
            command.arg(self.shared.names.of(shard, "T")).arg(from).arg(to);
            command.arg("LIMIT").arg(0).arg(limit.min(1 << 31));
            let found = reply::list("a term", self.read_shard(shard, &command).await?)?;
            found
                .into_iter()
                .map(|member| {
                    let member = reply::bytes("a term", member)?;
                    keys::read_entity(&member[prefix.len()..]).ok_or_else(|| rows::malformed("a term"))
                })
                .collect::<Result<Vec<_>, Error>>()
        });
        let mut found: Vec<_> = try_join_all(asked).await?.into_iter().flatten().collect();
        found.sort();
        found.truncate(limit);
        Ok(found)
    }

    pub(super) async fn open_exceptions(&self, filter: &ExceptionFilter) -> Result<Vec<ExceptionRow>, Error> {
        let asked = ShardId::all().map(|shard| self.exceptions_of(shard, filter));
        let mut found: Vec<_> = try_join_all(asked).await?.into_iter().flatten().collect();
        found.sort_by_cached_key(ExceptionRow::id);
        found.truncate(filter.limit);
        Ok(found)
    }

    async fn exceptions_of(
        &self,
        shard: ShardId,
        filter: &ExceptionFilter,
    ) -> Result<Vec<ExceptionRow>, Error> {
        const WHAT: &str = "exceptions";
        let prefix = filter.kind.as_ref().map(|kind| format!("{kind}/")).unwrap_or_default();
        let mut after = filter.after.clone().map(String::into_bytes);
        let mut found = Vec::new();
        while found.len() < filter.limit {
            let (from, to) = range(prefix.as_bytes(), after.as_deref());
            let mut command = redis::cmd("ZRANGEBYLEX");
            command
                .arg(self.shared.names.of(shard, "q"))
                .arg(from)
                .arg(to)
                .arg("LIMIT")
                .arg(0)
                .arg(EXCEPTIONS_PAGE);
            let ids = reply::list(WHAT, self.read_shard(shard, &command).await?)?;
            let ids = ids.into_iter().map(|id| reply::bytes(WHAT, id)).collect::<Result<Vec<_>, _>>()?;
            if ids.is_empty() {
                break;
            }
            let mut command = redis::cmd("HMGET");
            command.arg(self.shared.names.of(shard, "Q")).arg(&ids);
            let values = reply::list(WHAT, self.read_shard(shard, &command).await?)?;
            // One that was closed in between is gone.
            for value in values.into_iter().filter(|value| *value != Value::Nil) {
                let frame = reply::bytes(WHAT, value)?;
                let row: ExceptionRow =
                    codec::decode(Schema::ExceptionRow, &frame).map_err(rows::unreadable)?;
                if passes(filter, &row) {
                    found.push(row);
                }
            }
            let full = ids.len() == EXCEPTIONS_PAGE;
            after = ids.into_iter().next_back();
            if !full {
                break;
            }
        }
        Ok(found)
    }

    pub(super) async fn counted(&self) -> Result<BTreeMap<(String, String), u64>, Error> {
        const WHAT: &str = "the census";
        let asked = self.held_shards().into_iter().map(|shard| async move {
            let mut command = redis::cmd("HGETALL");
            command.arg(self.shared.names.of(shard, "n"));
            self.read_shard(shard, &command).await
        });
        let mut census = BTreeMap::new();
        for value in try_join_all(asked).await? {
            let pairs = match value {
                Value::Map(pairs) => pairs,
                other => reply::pairs(reply::list(WHAT, other)?).collect(),
            };
            for (name, count) in pairs {
                let name = reply::text(WHAT, name)?;
                let (kind, status) = name.split_once('\0').ok_or_else(|| rows::malformed("the census"))?;
                let count: u64 = reply::number(WHAT, count)?;
                *census.entry((kind.to_owned(), status.to_owned())).or_default() += count;
            }
        }
        Ok(census)
    }

    pub(super) async fn tallied(&self) -> Result<BTreeMap<String, u64>, Error> {
        const WHAT: &str = "the balance";
        let asked = ShardId::all().map(|shard| async move {
            let mut command = redis::cmd("HGETALL");
            command.arg(self.shared.names.of(shard, "b"));
            self.read_shard(shard, &command).await
        });
        let mut tallies = BTreeMap::new();
        for value in try_join_all(asked).await? {
            let pairs = match value {
                Value::Map(pairs) => pairs,
                other => reply::pairs(reply::list(WHAT, other)?).collect(),
            };
            for (name, count) in pairs {
                let count: u64 = reply::number(WHAT, count)?;
                *tallies.entry(reply::text(WHAT, name)?).or_default() += count;
            }
        }
        Ok(tallies)
    }

    pub(super) async fn compact_shard(
        &self,
        shard: ShardId,
        now: Timestamp,
        ended_before: Timestamp,
        compacted: &mut Compacted,
    ) -> Result<(), Error> {
        const WHAT: &str = "compact";
        let mut passed = 0_u64;
        loop {
            let mut call = Call::writing("compact", self.shared.names.lease(shard));
            request::time(&mut call, now);
            call.number(ended_before.0).number(COMPACTED_MAX).number(passed);
            let mut parts = reply::list(WHAT, self.write_shard(shard, call).await?)?.into_iter();
            let mut next = || reply::number::<u64>(WHAT, parts.next().unwrap_or(Value::Nil));
            compacted.dedup += next()?;
            compacted.records += next()?;
            let more = next()? == 1;
            passed = next()?;
            if !more {
                return Ok(());
            }
        }
    }
}
