//! Whether a Redis server can keep what it acknowledges: looked at before the first use and on every new connection.
//!
//! The rules are pure: facts in, refusals and warnings out. Each says what to set.

use std::time::Duration;

use super::{Options, Tier};

/// How far apart clocks may be without a word.
const APART_MAX: Duration = Duration::from_secs(1);

/// What a server says of itself. `None`: it does not tell (a hosted Redis may forbid `CONFIG`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) version: String,
    pub(super) role: String,
    pub(super) cluster_enabled: bool,
    pub(super) replicas_online: u64,
    pub(super) aof_enabled: Option<bool>,
    pub(super) appendfsync: Option<String>,
    pub(super) no_appendfsync_on_rewrite: Option<bool>,
    pub(super) maxmemory_policy: Option<String>,
    pub(super) maxmemory: Option<u64>,
    pub(super) aof_load_truncated: Option<bool>,
    pub(super) min_replicas_to_write: Option<u64>,
    /// This server's process: another one after each start.
    pub(super) run_id: String,
    /// Its history: another one after a promotion.
    pub(super) replication_id: String,
    /// How far its clock and this machine's are apart.
    pub(super) apart: Duration,
    /// Whether it is on another machine and reached without TLS.
    pub(super) in_the_open: bool,
}

/// What is wrong with a server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// It would lose what was acknowledged: it is not used.
    pub(super) refusals: Vec<String>,
    /// It may be used.
    pub(super) warnings: Vec<String>,
}

impl Facts {
    /// From `INFO` and the pairs of `CONFIG GET`.
    pub(super) fn read(info: &str, config: &[(String, String)]) -> Self {
        let of_info = |key: &str| {
            info.lines()
                .find_map(|line| line.trim_end().strip_prefix(key)?.strip_prefix(':'))
                .map(str::to_owned)
        };
        let of_config =
            |key: &str| config.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        let yes = |value: String| value == "yes";
        let online = |line: &&str| line.starts_with("slave") && line.contains("state=online");
        Self {
            version: of_info("redis_version").unwrap_or_default(),
            role: of_info("role").unwrap_or_default(),
            cluster_enabled: of_info("cluster_enabled").as_deref() == Some("1"),
            replicas_online: info.lines().filter(online).count() as u64,
            aof_enabled: of_config("appendonly")
                .map(yes)
                .or_else(|| of_info("aof_enabled").map(|on| on == "1")),
            appendfsync: of_config("appendfsync"),
            no_appendfsync_on_rewrite: of_config("no-appendfsync-on-rewrite").map(yes),
            maxmemory_policy: of_config("maxmemory-policy").or_else(|| of_info("maxmemory_policy")),
            maxmemory: of_config("maxmemory")
                .or_else(|| of_info("maxmemory"))
                .and_then(|bytes| bytes.parse().ok()),
            aof_load_truncated: of_config("aof-load-truncated").map(yes),
            min_replicas_to_write: of_config("min-replicas-to-write").and_then(|count| count.parse().ok()),
            run_id: of_info("run_id").unwrap_or_default(),
            replication_id: of_info("master_replid").unwrap_or_default(),
            ..Self::default()
        }
    }
}

impl Facts {
    /// The first two numbers of the version; zeros where there are none.
    fn release(&self) -> (u32, u32) {
        let mut numbers = self.version.split('.').map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

/// Whether `facts` suffice for what `options` promise.
pub(super) fn judge(facts: &Facts, options: &Options) -> Verdict {
    let mut verdict = Verdict::default();
    let relaxed = options.tier == Tier::Relaxed;
    version(facts, &mut verdict);
    if facts.role != "master" {
        let role = &facts.role;
        verdict.refusals.push(format!(
            "it is a `{role}`: name the primary in `journal.redis.urls`, or all servers of a group"
        ));
    }
    if facts.cluster_enabled != options.cluster_mode {
        let (is, set) = if facts.cluster_enabled { ("", "true") } else { ("not ", "false") };
        verdict
            .refusals
            .push(format!("it is {is}part of a Redis Cluster: set `journal.redis.cluster_mode` to {set}"));
    }
    durability(facts, options, relaxed, &mut verdict);
    eviction(facts, &mut verdict);
    surroundings(facts, &mut verdict);
    if let Tier::Replicated { replicas, flushed, .. } = options.tier {
        replication(facts, u64::from(replicas), &mut verdict);
        if flushed && facts.release() < (7, 2) {
            let version = &facts.version;
            verdict.refusals.push(format!(
                "its version is {version}: it cannot tell what replicas have flushed before 7.2; set `journal.redis.replicas_flush` to false"
            ));
        }
    }
    verdict
}

fn version(facts: &Facts, verdict: &mut Verdict) {
    if facts.release() < (7, 0) {
        let version = &facts.version;
        verdict
            .refusals
            .push(format!("its version is {version}: functions and a safe AOF need Redis 7.0 or newer"));
    }
}

fn durability(facts: &Facts, options: &Options, relaxed: bool, verdict: &mut Verdict) {
    match facts.aof_enabled {
        Some(false) => verdict
            .refusals
            .push("`appendonly` is off: set it to `yes`, or a restart loses everything".to_owned()),
        Some(true) => {}
        None => unknown("whether `appendonly` is on", options, verdict),
    }
    match facts.appendfsync.as_deref() {
        Some("always") => {}
        Some(other) if !relaxed => verdict.refusals.push(format!(
            "`appendfsync` is `{other}`: set it to `always`, or choose the tier `relaxed` and accept losing about a second"
        )),
        Some("no") => verdict.refusals.push("`appendfsync` is `no`: set it to `everysec` or `always`".to_owned()),
        Some(_) => {}
        None => unknown("`appendfsync`", options, verdict),
    }
    if facts.no_appendfsync_on_rewrite == Some(true) {
        verdict.refusals.push(
            "`no-appendfsync-on-rewrite` is `yes`: set it to `no`, or a rewrite suspends the flush"
                .to_owned(),
        );
    }
    if facts.aof_load_truncated == Some(true) {
        verdict.warnings.push(
            "`aof-load-truncated` is `yes`: a cut file is loaded without its end, silently; set it to `no`"
                .to_owned(),
        );
    }
}

fn unknown(what: &str, options: &Options, verdict: &mut Verdict) {
    let text = format!("it does not tell {what} (`CONFIG` is forbidden)");
    if options.trust_store_durability {
        verdict.warnings.push(format!("{text}; trusted, as `journal.redis.trust_store_durability` says"));
    } else {
        verdict.refusals.push(format!(
            "{text}: allow `CONFIG GET`, or set `journal.redis.trust_store_durability = true` when you know it"
        ));
    }
}

fn eviction(facts: &Facts, verdict: &mut Verdict) {
    match facts.maxmemory_policy.as_deref() {
        Some("noeviction") | None => {}
        Some(policy) => verdict.refusals.push(format!(
            "`maxmemory-policy` is `{policy}`: set it to `noeviction`, or records are thrown away when memory is short"
        )),
    }
    if facts.maxmemory == Some(0) {
        verdict.warnings.push("`maxmemory` is 0: set a limit below the machine's memory, so that writes are refused before the system ends the server".to_owned());
    }
}

/// What lies between this machine and the server.
fn surroundings(facts: &Facts, verdict: &mut Verdict) {
    if facts.apart > APART_MAX {
        verdict.warnings.push(format!(
            "its clock and this machine's are {} s apart: timers fire by this machine's, leases run by the server's; keep both in step (NTP)",
            facts.apart.as_secs()
        ));
    }
    if facts.in_the_open {
        verdict.warnings.push(
            "it is reached over the network without TLS: write `rediss://`, with `journal.redis.ca` if its certificate is your own"
                .to_owned(),
        );
    }
}

fn replication(facts: &Facts, wanted: u64, verdict: &mut Verdict) {
    if facts.replicas_online < wanted {
        let online = facts.replicas_online;
        verdict.refusals.push(format!(
            "{online} of {wanted} replicas are in step: start them, or lower `journal.redis.replicas`"
        ));
    }
    if facts.min_replicas_to_write == Some(0) {
        verdict.warnings.push(format!("`min-replicas-to-write` is 0: set it to {wanted}, so that a primary that was cut off takes no writes"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Facts {
        let info = "redis_version:7.0.15\r\nrun_id:abc\r\nrole:master\r\nmaster_replid:def\r\ncluster_enabled:0\r\n\
                    slave0:ip=127.0.0.1,port=1,state=online,offset=1,lag=0\r\nslave1:ip=127.0.0.1,port=2,state=wait_bgsave\r\n";
        let config = [
            ("appendonly", "yes"),
            ("appendfsync", "always"),
            ("no-appendfsync-on-rewrite", "no"),
            ("maxmemory-policy", "noeviction"),
            ("maxmemory", "1000000"),
            ("aof-load-truncated", "no"),
            ("min-replicas-to-write", "1"),
        ];
        Facts::read(info, &config.map(|(key, value)| (key.to_owned(), value.to_owned())))
    }

    fn replicated(replicas: u8) -> Options {
        Options {
            tier: Tier::Replicated { replicas, wait: std::time::Duration::from_secs(1), flushed: false },
            ..Options::default()
        }
    }

    #[test]
    fn a_sound_server_is_taken() {
        assert_eq!(judge(&sound(), &Options::default()), Verdict::default());
        assert_eq!(judge(&sound(), &replicated(1)), Verdict::default());
        assert_eq!((sound().run_id.as_str(), sound().replication_id.as_str()), ("abc", "def"));
    }

    #[test]
    fn what_would_lose_something_is_refused_with_what_to_set() {
        type Spoil = fn(&mut Facts);
        let spoilt: [(Spoil, &str); 8] = [
            (|facts| facts.version = "6.2.1".into(), "7.0"),
            (|facts| facts.role = "slave".into(), "primary"),
            (|facts| facts.cluster_enabled = true, "cluster_mode"),
            (|facts| facts.aof_enabled = Some(false), "appendonly"),
            (|facts| facts.appendfsync = Some("everysec".into()), "always"),
            (|facts| facts.no_appendfsync_on_rewrite = Some(true), "no-appendfsync-on-rewrite"),
            (|facts| facts.maxmemory_policy = Some("allkeys-lru".into()), "noeviction"),
            (|facts| facts.appendfsync = None, "trust_store_durability"),
        ];
        for (spoil, said) in spoilt {
            let mut facts = sound();
            spoil(&mut facts);
            let verdict = judge(&facts, &Options::default());
            assert!(verdict.refusals.len() == 1 && verdict.refusals[0].contains(said), "{said}: {verdict:?}");
        }
        let verdict = judge(&sound(), &replicated(2));
        assert!(verdict.refusals[0].starts_with("1 of 2 replicas"), "{verdict:?}");
    }

    #[test]
    fn what_replicas_have_flushed_is_asked_only_of_a_server_that_can_tell() {
        let tier = Tier::Replicated { replicas: 1, wait: std::time::Duration::from_secs(1), flushed: true };
        let options = Options { tier, ..Options::default() };
        let of = |version: &str| judge(&Facts { version: version.to_owned(), ..sound() }, &options).refusals;
        assert!(of("7.2.0").is_empty() && of("8.0.1").is_empty());
        assert!(of("7.0.15")[0].contains("replicas_flush"), "{:?}", of("7.0.15"));
    }

    #[test]
    fn what_may_hurt_one_day_is_warned_of() {
        let facts = Facts {
            maxmemory: Some(0),
            aof_load_truncated: Some(true),
            min_replicas_to_write: Some(0),
            apart: Duration::from_secs(90),
            in_the_open: true,
            ..sound()
        };
        let verdict = judge(&facts, &replicated(1));
        assert!(verdict.refusals.is_empty() && verdict.warnings.len() == 5, "{verdict:?}");
        assert!(verdict.warnings.iter().any(|warning| warning.contains("90 s apart")), "{verdict:?}");
    }

    #[test]
    fn a_relaxed_tier_may_lose_a_second_but_not_everything() {
        let relaxed = Options { tier: Tier::Relaxed, ..Options::default() };
        let facts = Facts { appendfsync: Some("everysec".into()), ..sound() };
        assert_eq!(judge(&facts, &relaxed), Verdict::default());
        for facts in [
            Facts { appendfsync: Some("no".into()), ..sound() },
            Facts { aof_enabled: Some(false), ..sound() },
        ] {
            assert_eq!(judge(&facts, &relaxed).refusals.len(), 1, "{facts:?}");
        }
    }
}
