//! What must hold between settings, each of which is right alone.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use syncline_actors::placement::Regions;

use super::layer::Origins;
use super::{Cluster, ClusterTls, Mistake, Place, Settings, Store, Tier};

/// Everything wrong between the settings. Rules about keys that are `wrong` already are left out: their values are not known.
pub(super) fn check(settings: &Settings, origins: &Origins, wrong: &[Mistake]) -> Vec<Mistake> {
    let mut rules = Rules { settings, origins, wrong, found: Vec::new() };
    rules.node();
    rules.exposure();
    rules.tls();
    rules.tokens();
    rules.sizes();
    rules.times();
    rules.redis();
    rules.lease();
    rules.cluster();
    rules.placement();
    rules.seeds();
    rules.regions();
    rules.found
}

struct Rules<'a> {
    settings: &'a Settings,
    origins: &'a Origins,
    wrong: &'a [Mistake],
    found: Vec<Mistake>,
}

impl Rules<'_> {
    fn say(&mut self, key: &str, text: String) {
        let place = self.origins.get(key).cloned().unwrap_or(Place::Default);
        self.found.push(Mistake { place, key: key.to_owned(), text });
    }

    /// Whether the value of `key` is not known, because what was set is wrong.
    fn is_wrong(&self, key: &str) -> bool {
        self.wrong.iter().any(|mistake| mistake.key.starts_with(key))
    }

    fn node(&mut self) {
        let node = &self.settings.node;
        let odd = |c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c));
        if node.name.is_empty() || node.name.len() > 63 || node.name.contains(odd) {
            let text = format!(
                "`{}` is not a name; write 1 to 63 letters, digits, `-`, `_` or `.`",
                node.name.escape_debug()
            );
            self.say("node.name", text);
        }
        let paths = [
            ("node.data_dir", &node.data_dir),
            ("node.config_dir", &node.config_dir),
            ("journal.path", &self.settings.journal.path),
        ];
        for (key, path) in paths {
            if path.as_os_str().is_empty() {
                self.say(key, "the path is empty; leave the key out to have the default".to_owned());
            }
        }
    }

    /// Beyond loopback only with TLS and a token: there is no key that turns this off.
    fn exposure(&mut self) {
        let listen = self.settings.http.listen;
        if is_loopback(listen.ip()) {
            return;
        }
        let mut lacks = Vec::new();
        if self.settings.http.tls.files().is_none() && !self.is_wrong("http.tls") {
            lacks.push("set `http.tls.cert` and `http.tls.key` to PEM files");
        }
        if self.settings.auth.tokens.is_empty() && !self.is_wrong("auth.tokens") {
            lacks.push(
                "set `auth.tokens` to at least one token, e.g. `[{ name = \"ops\", role = \"operator\", token = \"env:SYNCLINE_TOKEN_OPS\" }]`",
            );
        }
        if !lacks.is_empty() {
            let text = format!(
                "{listen} can be reached from other machines, which needs TLS and a token: {}; or listen on 127.0.0.1:{}",
                lacks.join(", and "),
                listen.port()
            );
            self.say("http.listen", text);
        }
    }

    fn tls(&mut self) {
        let tls = &self.settings.http.tls;
        for (set, missing, is_half) in [
            ("http.tls.cert", "http.tls.key", tls.cert.is_some() && tls.key.is_none()),
            ("http.tls.key", "http.tls.cert", tls.key.is_some() && tls.cert.is_none()),
        ] {
            if is_half && !self.is_wrong(missing) {
                self.say(set, format!("it is set alone; set `{missing}` too"));
            }
        }
    }

    fn tokens(&mut self) {
        let mut names = BTreeSet::new();
        for token in &self.settings.auth.tokens {
            if token.name.trim().is_empty() {
                self.say("auth.tokens", "a token has an empty name; write who uses it".to_owned());
            } else if !names.insert(&token.name) {
                let text = format!("two tokens are called `{}`; give each its own name", token.name);
                self.say("auth.tokens", text);
            }
        }
    }

    fn sizes(&mut self) {
        if self.settings.journal.cache.0 < 1 << 20 {
            self.say(
                "journal.cache",
                "the store would read its file for every message; write at least `1 MiB`".to_owned(),
            );
        }
        let (body, all) = (self.settings.http.body_max, self.settings.limits.in_flight_bytes);
        if body.0 == 0 {
            self.say("http.body_max", "no message would fit; write e.g. `1 MiB`".to_owned());
        }
        if all.0 == 0 {
            self.say("limits.in_flight_bytes", "no message would be let in; write e.g. `64 MiB`".to_owned());
        } else if body > all {
            let text = format!(
                "a body of {body} would never be let in, as limits.in_flight_bytes is {all}; lower this one or raise that one"
            );
            self.say("http.body_max", text);
        }
    }

    fn redis(&mut self) {
        let redis = &self.settings.journal.redis;
        if redis.urls.is_empty() {
            self.say(
                "journal.redis.urls",
                "there is no address; write e.g. `[\"redis://10.0.0.5:6379\"]`".to_owned(),
            );
        }
        for url in &redis.urls {
            let rest = url.strip_prefix("redis://").or_else(|| url.strip_prefix("rediss://"));
            match rest {
                None | Some("") => {
                    let text = "an address is written `redis://host:port`, or `rediss://host:port` with TLS";
                    self.say("journal.redis.urls", text.to_owned());
                }
                // Never shown: it may hold a password.
                Some(rest) if rest.contains('@') => self.say(
                    "journal.redis.urls",
                    "an address holds a user or password; set `journal.redis.user` and `journal.redis.password` instead".to_owned(),
                ),
                Some(_) => {}
            }
        }
        for (key, time) in [
            ("journal.redis.replicas_wait", redis.replicas_wait),
            ("journal.redis.response_timeout", redis.response_timeout),
            ("journal.redis.patience", redis.patience),
        ] {
            if time == Duration::ZERO {
                self.say(key, "no time at all is not enough; write e.g. `1s`".to_owned());
            }
        }
        if redis.replicas_flush && redis.tier != Tier::Replicated {
            let text = "it means nothing as no replica is waited for; set `journal.redis.tier` to `redis-replicated`, or remove it";
            self.say("journal.redis.replicas_flush", text.to_owned());
        }
    }

    fn lease(&mut self) {
        let lease = &self.settings.journal.lease;
        if lease.renew == Duration::ZERO {
            self.say("journal.lease.renew", "no time at all is not enough; write e.g. `1s`".to_owned());
        }
        if lease.give_up < 2 * lease.renew || lease.give_up == Duration::ZERO {
            let text = "it must leave time for two renewals; raise it, or lower `journal.lease.renew`";
            self.say("journal.lease.give_up", text.to_owned());
        }
        if lease.ttl <= lease.give_up {
            let text = "another node could take a shard before this one has stopped answering; \
                        set it above `journal.lease.give_up` by a second or more";
            self.say("journal.lease.ttl", text.to_owned());
        }
    }

    fn cluster(&mut self) {
        let name = &self.settings.cluster.name;
        let odd = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if name.is_empty() || name.len() > 32 || name.contains(odd) {
            let text = format!(
                "`{}` is not a name of a cluster; write 1 to 32 small letters, digits or `-`",
                name.escape_debug()
            );
            self.say("cluster.name", text);
        }
        self.cluster_labels();
        match self.settings.cluster.listen {
            Some(listen) => self.cluster_of_many(listen),
            None => self.cluster_unheard(),
        }
    }

    /// Labels travel in datagrams.
    fn cluster_labels(&mut self) {
        let Cluster { region, zone, .. } = &self.settings.cluster;
        for (key, label) in [("cluster.region", region), ("cluster.zone", zone)] {
            let odd = |label: &String| {
                label.is_empty()
                    || label.len() > 63
                    || label.contains(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            };
            if label.as_ref().is_some_and(odd) {
                self.say(key, "write 1 to 63 letters, digits or `-`, e.g. `eu`".to_owned());
            }
        }
    }

    /// What nodes need that speak with each other.
    fn cluster_of_many(&mut self, listen: SocketAddr) {
        let cluster = &self.settings.cluster;
        let beyond = !is_loopback(listen.ip());
        if self.settings.journal.store == Store::Embedded {
            let text = "nodes of a cluster share their store, and the embedded one belongs to one process; set `journal.store` to \
                        `redis` and `journal.redis.urls`, or leave `cluster.listen` out";
            self.say("cluster.listen", text.to_owned());
        }
        if cluster.keys.is_none() && !self.is_wrong("cluster.keys") {
            let text = "nodes tell each other who is up under a key; make one with `openssl rand -base64 32`, give it to every node, \
                        and set `cluster.keys` to where it is, e.g. `file:/run/secrets/syncline-gossip`";
            self.say("cluster.listen", text.to_owned());
        }
        let advertised = cluster.advertise.unwrap_or(listen);
        if advertised.ip().is_unspecified() || advertised.port() == 0 {
            let text = format!(
                "nobody can send to {advertised}; write this machine's address and port as other nodes see them"
            );
            self.say(if cluster.advertise.is_some() { "cluster.advertise" } else { "cluster.listen" }, text);
        }
        let ClusterTls { ca, cert, key } = &cluster.tls;
        let count = [ca, cert, key].into_iter().flatten().count();
        if count != 3 && (count > 0 || beyond) && !self.is_wrong("cluster.tls") {
            let text = format!(
                "messages between nodes need all of `ca`, `cert` and `key` under `cluster.tls`, as {listen} can be reached from other \
                 machines or one of them is set"
            );
            self.say("cluster.listen", text);
        }
        if count > 0
            && self
                .settings
                .node
                .name
                .contains(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'))
        {
            let text = "the node's certificate names it, so it needs a name of small letters, digits and `-`";
            self.say("node.name", text.to_owned());
        }
    }

    /// Settings that nobody would look at.
    fn cluster_unheard(&mut self) {
        let Cluster { advertise, seeds, keys, tls, .. } = &self.settings.cluster;
        let tls = [&tls.ca, &tls.cert, &tls.key].into_iter().any(Option::is_some);
        for (key, set) in [
            ("cluster.advertise", advertise.is_some()),
            ("cluster.seeds", !seeds.is_empty()),
            ("cluster.keys", keys.is_some()),
            ("cluster.tls", tls),
        ] {
            if set && !self.is_wrong("cluster.listen") {
                let text = "it means nothing as this node listens for no other; set `cluster.listen` too, or remove it";
                self.say(key, text.to_owned());
            }
        }
    }

    fn regions(&mut self) {
        let cluster = &self.settings.cluster;
        if let Err(wrong) = Regions::new(cluster.regions.iter().map(String::as_str)) {
            for error in wrong {
                self.say("cluster.regions", error.to_string());
            }
        } else if cluster.listen.is_none() && !self.is_wrong("cluster.listen") {
            let own = cluster.region.as_ref();
            if let Some(other) = cluster.regions.iter().find(|region| Some(*region) != own) {
                let text = format!(
                    "this node is alone and would hold what is bound to `{other}`; set `cluster.region` to that, or `cluster.listen` to work \
                     with a node there"
                );
                self.say("cluster.regions", text);
            }
        }
    }

    fn placement(&mut self) {
        let placement = &self.settings.cluster.placement;
        if placement.settle < Duration::from_millis(200) || placement.settle > Duration::from_mins(1) {
            let text = "below `200ms` shards move for what is only late, above `1m` they hardly move at all; write e.g. `1500ms`";
            self.say("cluster.placement.settle", text.to_owned());
        }
        if placement.moves_max.get() > 256 {
            self.say("cluster.placement.moves_max", "there are 256 shards; write at most that".to_owned());
        }
    }

    fn seeds(&mut self) {
        for seed in &self.settings.cluster.seeds {
            let named = seed.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty()
                    && !host.contains(['/', ' '])
                    && port.parse::<u16>().is_ok_and(|port| port > 0)
            });
            if !named {
                let text =
                    format!("`{seed}` is not a node to call on; write host:port, e.g. `node-a.example:7946`");
                self.say("cluster.seeds", text);
            }
        }
    }

    fn times(&mut self) {
        let Settings { http, passivation, .. } = self.settings;
        for (key, time) in [
            ("http.header_timeout", http.header_timeout),
            ("http.request_timeout", http.request_timeout),
            ("passivation.idle", passivation.idle),
            ("passivation.rest", passivation.rest),
        ] {
            if time == Duration::ZERO {
                self.say(key, "no time at all is not enough; write e.g. `5s`".to_owned());
            }
        }
    }
}

/// Whether only this machine reaches it, also when it is written as IPv6.
fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}
