//! Which server holds a slot: the one there is, the primary of a group, or one of the masters of a Redis Cluster.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, TlsCertificates, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::line::{Line, Place};
use super::names::SLOTS;
use super::reply;
use super::shared::Shared;
use super::writer::Writers;
use crate::journal::Error;

/// Between two questions who holds what.
const ASK_PAUSE: Duration = Duration::from_millis(50);

/// A server that takes writes.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) place: Arc<Place>,
    /// For what is only read.
    pub(super) reader: Line,
    pub(super) writers: Writers,
}

/// The servers there are.
#[derive(Debug)]
pub(super) struct Servers {
    shared: Arc<Shared>,
    map: RwLock<Arc<Map>>,
    /// Held by whoever asks the servers; when the last one was done, and why that told nothing.
    asked: Mutex<Option<(Instant, Option<String>)>>,
}

/// Who holds which slots.
#[derive(Debug, Default)]
pub(super) struct Map {
    ranges: Vec<(u16, u16, Arc<Server>)>,
}

impl Map {
    fn server(&self, slot: u16) -> Option<&Arc<Server>> {
        self.ranges
            .iter()
            .find(|(first, last, _)| (*first..=*last).contains(&slot))
            .map(|(_, _, server)| server)
    }

    fn at(&self, address: &str) -> Option<&Arc<Server>> {
        self.ranges.iter().map(|(_, _, server)| server).find(|server| server.place.address == address)
    }
}

impl Servers {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, map: RwLock::default(), asked: Mutex::default() }
    }

    fn map(&self) -> Arc<Map> {
        self.map.read().expect("no code panics while it holds the map").clone()
    }

    /// The server of a slot, as far as is known.
    pub(super) async fn of(&self, slot: u16) -> Result<Arc<Server>, Error> {
        let map = self.map();
        if let Some(server) = map.server(slot) {
            return Ok(server.clone());
        }
        self.refresh(&map).await?;
        let found = self.map().server(slot).cloned();
        found.ok_or_else(|| {
            Error::Unavailable(format!("no redis server holds slot {slot}: the cluster is not whole"))
        })
    }

    /// Asks anew who holds what, because the server of `slot` turned out to be the wrong one or could not be reached.
    pub(super) async fn renew(&self) -> Result<(), Error> {
        let map = self.map();
        self.refresh(&map).await
    }

    async fn refresh(&self, known: &Arc<Map>) -> Result<(), Error> {
        let wanted = Instant::now();
        let mut asked = self.asked.lock().await;
        if !Arc::ptr_eq(known, &self.map()) {
            return Ok(());
        }
        // Somebody was faster: their answer is as new as ours would be. And all who wait do not ask as often as each of them.
        if let Some((at, why)) = &*asked
            && (*at >= wanted || at.elapsed() < ASK_PAUSE)
        {
            return why.clone().map_or(Ok(()), |why| Err(Error::Unavailable(why)));
        }
        let found = if self.shared.options.cluster_mode {
            self.slots(known).await
        } else {
            self.primary(known).await
        };
        *asked = Some((Instant::now(), found.as_ref().err().map(super::text_of)));
        let new = found?;
        let moved = !known.ranges.is_empty()
            && (new.ranges.len() != known.ranges.len()
                || new.ranges.iter().zip(&known.ranges).any(|(new, old)| {
                    (new.0, new.1, &new.2.place.address) != (old.0, old.1, &old.2.place.address)
                }));
        if moved {
            self.shared.changed();
        }
        *self.map.write().expect("no code panics while it holds the map") = Arc::new(new);
        Ok(())
    }

    /// The primary of the group: the first server that says so and is in order.
    async fn primary(&self, known: &Map) -> Result<Map, Error> {
        let mut reasons = Vec::new();
        for url in &self.shared.options.urls {
            let server = self.server(known, info(url, &self.shared)?)?;
            match server.reader.alive().await {
                Ok(()) => return Ok(Map { ranges: vec![(0, SLOTS - 1, server)] }),
                Err(error) => reasons.push(error),
            }
        }
        Err(worst(&reasons))
    }

    /// What the first server that answers says of the cluster.
    async fn slots(&self, known: &Map) -> Result<Map, Error> {
        let mut reasons = Vec::new();
        let mut asked: Vec<Arc<Server>> = known.ranges.iter().map(|(_, _, server)| server.clone()).collect();
        for url in &self.shared.options.urls {
            asked.push(self.server(known, info(url, &self.shared)?)?);
        }
        for server in asked {
            match server.place.slots().await {
                Ok(value) => return self.read_slots(known, value),
                Err(error) => reasons.push(error),
            }
        }
        Err(worst(&reasons))
    }

    fn read_slots(&self, known: &Map, value: Value) -> Result<Map, Error> {
        const WHAT: &str = "CLUSTER SLOTS";
        let mut ranges = Vec::new();
        let template = info(&self.shared.options.urls[0], &self.shared)?;
        for range in reply::list(WHAT, value)? {
            let mut parts = reply::list(WHAT, range)?.into_iter();
            let mut next = || parts.next().unwrap_or(Value::Nil);
            let (first, last) = (reply::number(WHAT, next())?, reply::number(WHAT, next())?);
            let mut master = reply::list(WHAT, next())?.into_iter();
            let host = reply::text(WHAT, master.next().unwrap_or(Value::Nil))?;
            let port = reply::number(WHAT, master.next().unwrap_or(Value::Nil))?;
            let there = template.clone().set_addr(moved_to(template.addr(), host, port));
            let address = there.addr().to_string();
            let server = match ranges
                .iter()
                .find(|(_, _, server): &&(u16, u16, Arc<Server>)| server.place.address == address)
            {
                Some((_, _, server)) => server.clone(),
                None => self.server(known, there)?,
            };
            ranges.push((first, last, server));
        }
        ranges.sort_by_key(|(first, ..)| *first);
        Ok(Map { ranges })
    }

    /// The server there; the one that is known already, if it is.
    fn server(&self, known: &Map, info: ConnectionInfo) -> Result<Arc<Server>, Error> {
        let address = info.addr().to_string();
        if let Some(server) = known.at(&address) {
            return Ok(server.clone());
        }
        let client = match self.shared.options.ca.clone() {
            Some(ca) => {
                Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: Some(ca) })
            }
            None => Client::open(info),
        };
        let client = client.map_err(|error| Error::Open(format!("redis at {address}: {error}")))?;
        let place = Arc::new(Place { address, client, shared: self.shared.clone() });
        Ok(Arc::new(Server {
            reader: Line::new(place.clone()),
            writers: Writers::start(&place, self.shared.options.writers),
            place,
        }))
    }
}

impl Place {
    async fn slots(&self) -> Result<Value, Error> {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.shared.options.response_timeout))
            .set_response_timeout(Some(self.shared.options.response_timeout));
        let mut connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| self.unavailable(&error))?;
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        command.query_async(&mut connection).await.map_err(|error| {
            if error.is_io_error() {
                return self.unavailable(&error);
            }
            Error::Open(format!(
                "redis at {} is no member of a Redis Cluster ({error}): set `journal.redis.cluster_mode` to false",
                self.address
            ))
        })
    }
}

/// Where to connect, with what the settings say besides.
fn info(url: &str, shared: &Shared) -> Result<ConnectionInfo, Error> {
    let options = &shared.options;
    let info = url.into_connection_info().map_err(|error| {
        Error::Open(format!(
            "`{url}` is not an address of Redis: write redis://host:port or rediss://host:port ({error})"
        ))
    })?;
    let mut settings = info.redis_settings().clone();
    if let Some(user) = &options.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &options.password {
        settings = settings.set_password(secrecy::ExposeSecret::expose_secret(password));
    }
    Ok(info.set_redis_settings(settings))
}

/// The same way of connecting, elsewhere.
fn moved_to(template: &ConnectionAddr, host: String, port: u16) -> ConnectionAddr {
    match template {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    }
}

/// Of several reasons, those that do not pass by themselves, if there are any.
fn worst(reasons: &[Error]) -> Error {
    let text = |reasons: &[&Error]| {
        reasons.iter().map(|reason| super::text_of(reason)).collect::<Vec<_>>().join("; ")
    };
    let lasting: Vec<&Error> = reasons.iter().filter(|reason| !reason.is_transient()).collect();
    let passing: Vec<&Error> = reasons.iter().filter(|reason| reason.is_transient()).collect();
    // While a server cannot be reached, nobody knows whether it is the right one.
    if passing.is_empty() && !lasting.is_empty() {
        return match lasting.as_slice() {
            [Error::Open(text)] => Error::Open(text.clone()),
            several => Error::Open(text(several)),
        };
    }
    Error::Unavailable(text(&reasons.iter().collect::<Vec<_>>()))
}
