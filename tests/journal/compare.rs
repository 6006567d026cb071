//! Two minds, one contract: whatever is done, in whatever order, memory and every other store answer alike.

use std::sync::Arc;

use proptest::prelude::*;
use syncline::journal::memory::Memory;
use syncline::journal::redb::Redb;
use syncline::journal::redis::Redis;
use syncline::journal::{DedupKey, Grant, SharedJournal, Snapshot};
use syncline_actors::decision::{Change, Ending, ExceptionClass};
use syncline_actors::id::{EffectId, Epoch, NodeId};
use syncline_actors::outbox::Progress;
use syncline_actors::record::Hash;

use crate::kit::{Chain, at, closed, effect, emitted, key, opened, settled, take_all, timer};
use crate::server::{SOUND, Server};
use crate::sim::Disk;
use crate::suite::everything;

const ENTITIES: [&str; 4] = ["order/a", "order/b", "order/c", "supplier/a"];
const NAMES: [&str; 3] = ["new", "open", "shipped"];

#[derive(Debug, Clone)]
enum Step {
    Append {
        who: usize,
        seq: i8,
        epoch: i8,
        message: u8,
        status: usize,
        second: i64,
        keep: Option<i64>,
        changes: Vec<Made>,
    },
    Progress {
        who: usize,
        effect: (u64, u16),
        due: i64,
        called_off: bool,
    },
    Snapshot {
        who: usize,
        back: u64,
    },
    Acquire {
        who: usize,
    },
    Release {
        who: usize,
        back: u64,
    },
    Define {
        version: u32,
        text: String,
    },
    Compact {
        now: i64,
        ended_before: i64,
    },
    Reopen,
}

#[derive(Debug, Clone)]
enum Made {
    Emit { connector: bool, due: i64 },
    Settle(u64, u16),
    Again(u64, u16, i64),
    CallOff(u64, u16),
    Timer(u8, i64),
    Clear(u8),
    Open(u64),
    Close(u64),
    End,
}

fn made() -> impl Strategy<Value = Made> {
    let (seq, n, time) = (1..6_u64, 0..2_u16, 0..100_i64);
    prop_oneof![
        4 => (any::<bool>(), time.clone()).prop_map(|(connector, due)| Made::Emit { connector, due }),
        2 => (seq.clone(), n.clone()).prop_map(|(seq, n)| Made::Settle(seq, n)),
        1 => (seq.clone(), n.clone(), time.clone()).prop_map(|(seq, n, due)| Made::Again(seq, n, due)),
        1 => (seq, n).prop_map(|(seq, n)| Made::CallOff(seq, n)),
        2 => (0..3_u8, time).prop_map(|(name, due)| Made::Timer(name, due)),
        1 => (0..3_u8).prop_map(Made::Clear),
        1 => (0..4_u64).prop_map(Made::Open),
        1 => (0..4_u64).prop_map(Made::Close),
        1 => Just(Made::End),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let (who, time) = (0..ENTITIES.len(), 0..100_i64);
    let rarely = || prop_oneof![12 => Just(0_i8), 1 => Just(-1), 1 => Just(1)];
    let append = (
        (who.clone(), rarely(), rarely(), 0..20_u8),
        (0..NAMES.len(), time.clone(), proptest::option::of(0..40_i64)),
        proptest::collection::vec(made(), 0..5),
    );
    prop_oneof![
        12 => append.prop_map(|((who, seq, epoch, message), (status, second, keep), changes)| {
            Step::Append { who, seq, epoch, message, status, second, keep, changes }
        }),
        2 => (who.clone(), (1..6_u64, 0..2_u16), time.clone(), any::<bool>())
            .prop_map(|(who, effect, due, called_off)| Step::Progress { who, effect, due, called_off }),
        2 => (who.clone(), 0..3_u64).prop_map(|(who, back)| Step::Snapshot { who, back }),
        1 => who.clone().prop_map(|who| Step::Acquire { who }),
        1 => (who, 0..2_u64).prop_map(|(who, back)| Step::Release { who, back }),
        1 => (0..2_u32, "[ab]").prop_map(|(version, text)| Step::Define { version, text }),
        2 => (time.clone(), time).prop_map(|(now, ended_before)| Step::Compact { now, ended_before }),
        1 => Just(Step::Reopen),
    ]
}

/// What the callers believe: where each entity stands, and every hash it had.
struct World {
    chains: Vec<Chain>,
    hashes: Vec<Vec<Hash>>,
}

/// A store that is compared with memory.
enum Other {
    Disk(Disk),
    Redis(Server),
}

impl Other {
    async fn open(&self) -> SharedJournal {
        match self {
            Self::Disk(disk) => {
                let disk = disk.clone();
                Arc::new(Redb::open_on(move || disk.plugs(), crate::sim::small()).unwrap())
            }
            Self::Redis(server) => {
                assert_eq!(server.say(&["FLUSHALL"]), "OK");
                Redis::open(server.options()).await.unwrap()
            }
        }
    }

    /// The store as it is after a restart.
    async fn reopen(&self, journal: SharedJournal) -> SharedJournal {
        match self {
            Self::Disk(_) => {
                drop(journal);
                self.open().await
            }
            Self::Redis(server) => {
                assert_eq!(server.say(&["DEBUG", "LOADAOF"]), "OK");
                journal
            }
        }
    }
}

impl World {
    fn changes(seq: u64, made: &[Made]) -> Vec<Change> {
        let mut n = 0;
        let mut change = |made: &Made| match *made {
            Made::Emit { connector, due } => {
                n += 1;
                emitted(seq, n - 1, if connector { "erp" } else { "tax" }, due)
            }
            Made::Settle(seq, n) => settled(seq, n),
            Made::Again(seq, n, due) => Change::Reissued(effect(seq, n, "erp", due)),
            Made::CallOff(seq, n) => Change::CalledOff { effect: EffectId { seq, n } },
            Made::Timer(name, due) => timer(&format!("t{name}"), due),
            Made::Clear(name) => Change::TimerCleared { name: format!("t{name}").into() },
            Made::Open(number) => opened(number, ExceptionClass::Hold),
            Made::Close(number) => closed(number),
            Made::End => Change::Ended { ending: Ending::Completed },
        };
        made.iter().map(&mut change).collect()
    }

    fn append(&self, step: &Step) -> Option<syncline::journal::Append> {
        let Step::Append { who, seq, epoch, message, status, second, keep, changes } = step else {
            return None;
        };
        let mut chain = self.chains[*who].clone().now(NAMES[*status]);
        chain.seq = chain.seq.saturating_add_signed(i64::from(*seq));
        chain.epoch = Epoch(chain.epoch.0.saturating_add_signed(i64::from(*epoch)));
        let name = format!("m{message}");
        let mut append = chain.next(&name, *second, Self::changes(chain.seq + 1, changes));
        let until = keep.map(|keep| at(second + keep));
        append.dedup = vec![DedupKey { expires: until, ..key("source:crm", &name, None) }];
        if message % 5 == 0 {
            append.dedup.push(key("business:b", &format!("{}", message % 2), Some(*second)));
            append.terms = vec!["correlation:1".into()];
        }
        Some(append)
    }

    async fn act(&self, journal: &SharedJournal, step: &Step) -> String {
        match step {
            Step::Append { .. } => format!("{:?}", journal.append(self.append(step).unwrap()).await),
            Step::Progress { who, effect: (seq, n), due, called_off } => {
                let chain = &self.chains[*who];
                let progress = Progress {
                    due: at(*due),
                    attempts: 1,
                    uncertain: false,
                    called_off: *called_off,
                    last: "503".into(),
                };
                let effect = EffectId { seq: *seq, n: *n };
                format!("{:?}", journal.progress(chain.epoch, &chain.entity, effect, progress).await)
            }
            Step::Snapshot { who, back } => {
                let chain = &self.chains[*who];
                let seq = chain.seq.saturating_sub(*back);
                let hash = self.hashes[*who][usize::try_from(seq).unwrap()];
                let snapshot = Snapshot { seq, hash, frame: format!("s{seq}").into() };
                format!("{:?}", journal.save_snapshot(chain.epoch, &chain.entity, snapshot).await)
            }
            Step::Acquire { who } => {
                let shard = self.chains[*who].entity.shard();
                format!("{:?}", journal.acquire(&[shard], &NodeId("n2".into())).await)
            }
            Step::Release { who, back } => {
                let chain = &self.chains[*who];
                let grant =
                    Grant { shard: chain.entity.shard(), epoch: Epoch(chain.epoch.0.saturating_sub(*back)) };
                let renewed = journal.renew(&[grant]).await;
                format!("{renewed:?} {:?}", journal.release(&[grant]).await)
            }
            Step::Define { version, text } => {
                format!("{:?}", journal.keep_definition("order", *version, text).await)
            }
            Step::Compact { now, ended_before } => {
                format!("{:?}", journal.compact(at(*now), at(*ended_before)).await)
            }
            Step::Reopen => String::new(),
        }
    }

    /// Follows a step that took effect.
    fn learn(&mut self, step: &Step, answer: &str) {
        match step {
            Step::Append { who, .. } if answer == "Ok(Written)" => {
                let append = self.append(step).unwrap();
                self.chains[*who].follow(&append);
                self.hashes[*who].push(append.hash);
            }
            Step::Acquire { who } => self.chains[*who].epoch.0 += 1,
            // The next owner takes the shard up at once, one epoch after the one that was given back.
            _ => {}
        }
    }

    async fn compare(mut self, store: &Other, steps: Vec<Step>) {
        let memory: SharedJournal = Arc::new(Memory::new());
        let mut other = store.open().await;
        take_all(&*memory).await;
        take_all(&*other).await;
        for (place, step) in steps.iter().enumerate() {
            if matches!(step, Step::Reopen) {
                other = store.reopen(other).await;
            }
            let (expected, found) = (self.act(&memory, step).await, self.act(&other, step).await);
            assert_eq!(expected, found, "step {place}: {step:?}");
            self.learn(step, &expected);
            if let Step::Release { who, .. } = step {
                let shard = self.chains[*who].entity.shard();
                let node = NodeId("n1".into());
                let grant = memory.acquire(&[shard], &node).await.unwrap();
                assert_eq!(grant, other.acquire(&[shard], &node).await.unwrap());
                self.chains[*who].epoch = grant[0].epoch;
            }
        }
        let (expected, found) = (everything(&memory).await, everything(&other).await);
        for (expected, found) in expected.lines().zip(found.lines()) {
            assert_eq!(expected, found);
        }
        assert_eq!(memory.definitions().await.unwrap(), other.definitions().await.unwrap());
        for now in (0..100).step_by(9) {
            let due = |journal: SharedJournal| async move {
                let effects = journal.due_effects("erp", at(now), 2).await.unwrap();
                let timers = journal.due_timers(at(now), 2).await.unwrap();
                let next = (journal.next_effect("tax", at(now)).await, journal.next_timer(at(now)).await);
                format!("{effects:?} {timers:?} {next:?}")
            };
            assert_eq!(due(memory.clone()).await, due(other.clone()).await, "at {now}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_and_disk_answer_alike(steps in proptest::collection::vec(step(), 1..40)) {
        compare(&Other::Disk(Disk::default()), steps);
    }
}

#[test]
fn memory_and_redis_answer_alike() {
    let settings: Vec<&str> = SOUND.iter().copied().chain(["--enable-debug-command", "yes"]).collect();
    let store = Other::Redis(Server::with(&settings));
    let config =
        ProptestConfig { cases: cases() / 3, failure_persistence: None, ..ProptestConfig::default() };
    let steps = proptest::collection::vec(step(), 1..40);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner
        .run(&steps, |steps| {
            compare(&store, steps);
            Ok(())
        })
        .unwrap();
}

fn compare(store: &Other, steps: Vec<Step>) {
    let world = World {
        chains: ENTITIES.map(Chain::new).to_vec(),
        hashes: vec![vec![Hash::default()]; ENTITIES.len()],
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(world.compare(store, steps));
}

/// `JOURNAL_CASES`, or what a push can afford.
fn cases() -> u32 {
    std::env::var("JOURNAL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300)
}
