//! How many appends a second does the embedded store make durable, with 1, 64 and 512 callers waiting? And, where `BENCH_REDIS` has the
//! address of an empty Redis server, how many does that one, with 256?
//!
//! Each append is a record of 500 bytes with a deduplication key, an effect that now waits and one that waits no longer, to one
//! of 4,096 entities in turn; fsync is real. One iteration is one append; `append/64 in flight` keeps 64 callers busy.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use syncline::journal::redb::{Options, Redb};
use syncline::journal::redis::{self, Redis};
use syncline::journal::{Append, Appended, DedupKey, SharedJournal};
use syncline_actors::decision::{Answer, Effect, Verdict};
use syncline_actors::id::{EffectId, EntityId, Epoch, NodeId, ShardId};
use syncline_actors::outbox::{OutboxRow, Progress, Rows};
use syncline_actors::record::Hash;
use syncline_actors::time::Timestamp;
use syncline_actors::value::Value;

const ENTITIES: usize = 4_096;
const NOW: Timestamp = Timestamp(1_795_000_000_000);

/// Where an entity stands.
struct Place {
    entity: EntityId,
    seq: u64,
    hash: Hash,
}

impl Place {
    fn next(&self) -> Append {
        let seq = self.seq + 1;
        let mut frame = vec![7; 500];
        frame[..8].copy_from_slice(&seq.to_be_bytes());
        let hash = Hash::of(&frame);
        let settled = if self.seq > 0 { vec![EffectId { seq: self.seq, n: 0 }] } else { Vec::new() };
        Append {
            entity: self.entity.clone(),
            epoch: Epoch(1),
            seq,
            prev: self.hash,
            hash,
            frame: Bytes::from(frame),
            at: NOW,
            dedup: vec![DedupKey {
                scope: "source:crm".into(),
                id: format!("evt-{}-{seq}", self.entity.key()).into(),
                expires: Some(NOW.plus(Duration::from_hours(72))),
            }],
            answer: Answer { seq, status: "open".into(), verdict: Verdict::Applied },
            ended: false,
            rows: Rows { emitted: vec![self.row(seq)], settled, ..Rows::default() },
            terms: Vec::new(),
        }
    }

    fn row(&self, seq: u64) -> OutboxRow {
        OutboxRow {
            entity: self.entity.clone(),
            effect: Effect {
                id: EffectId { seq, n: 0 },
                name: "create_order".into(),
                connector: "erp".into(),
                operation: "orders.create".into(),
                input: Value::Text("x".repeat(200).into()),
                undoes: None,
                due: NOW,
            },
            correlation_id: "9f2c".into(),
            traceparent: None,
            since: NOW,
            progress: Progress {
                due: NOW,
                attempts: 0,
                uncertain: false,
                called_off: false,
                last: "".into(),
            },
            latency: syncline_actors::class::Latency::Realtime,
        }
    }
}

/// Appends `count` times to the entities of `places` in turn.
async fn caller(journal: SharedJournal, mut places: Vec<Place>, count: u64) -> Vec<Place> {
    let length = places.len();
    for n in 0..count {
        let place = &mut places[usize::try_from(n).expect("fits") % length];
        let append = place.next();
        (place.seq, place.hash) = (append.seq, append.hash);
        let written = journal.append(append).await.expect("the disk works");
        assert_eq!(black_box(written), Appended::Written);
    }
    places.rotate_left(usize::try_from(count).expect("fits") % length);
    places
}

fn append(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for callers in [1_usize, 64, 512] {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let journal = Redb::open(directory.path().join("store.redb"), Options::default()).expect("a store");
        measure(criterion, &runtime, "append", &(Arc::new(journal) as SharedJournal), callers);
    }
    if let Ok(url) = std::env::var("BENCH_REDIS") {
        let options = redis::Options { urls: vec![url], lease: Duration::ZERO, ..redis::Options::default() };
        let journal =
            runtime.block_on(Redis::open(options)).expect("an empty server that flushes each append");
        measure(criterion, &runtime, "append to Redis", &(journal as SharedJournal), 256);
    }
}

/// Measures appends to `journal`, made by so many callers at the same time.
#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
#[expect(clippy::cast_precision_loss, reason = "counts of appends are far below 2^52")]
fn measure(
    criterion: &mut Criterion,
    runtime: &tokio::runtime::Runtime,
    name: &str,
    journal: &SharedJournal,
    callers: usize,
) {
    let shards: Vec<ShardId> = ShardId::all().collect();
    runtime.block_on(journal.acquire(&shards, &NodeId("bench".into()))).expect("epochs");
    let mut places: Vec<Vec<Place>> = (0..callers).map(|_| Vec::new()).collect();
    for n in 0..ENTITIES {
        let entity = EntityId::new("order", &format!("SO-{n}")).expect("legal");
        places[n % callers].push(Place { entity, seq: 0, hash: Hash::default() });
    }
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    group.bench_function(format!("{callers} in flight"), |bencher| {
        bencher.iter_custom(|appends| {
            let each = appends.div_ceil(callers as u64);
            let tasks = std::mem::take(&mut places);
            let start = std::time::Instant::now();
            places = runtime.block_on(async {
                let tasks =
                    tasks.into_iter().map(|places| tokio::spawn(caller(journal.clone(), places, each)));
                let tasks: Vec<_> = tasks.collect();
                let mut places = Vec::new();
                for task in tasks {
                    places.push(task.await.expect("no panic"));
                }
                places
            });
            // The callers share the appends evenly, so a few more than asked for were made.
            start.elapsed().mul_f64(appends as f64 / (each * callers as u64) as f64)
        });
    });
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
