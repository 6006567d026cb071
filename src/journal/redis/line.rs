//! One connection to one server, made anew when it breaks, and used only after the server was looked at.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, RedisError, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::preflight::{self, Facts};
use super::shared::Shared;
use crate::journal::Error;

/// A server, as it is reached.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) address: String,
    pub(super) client: Client,
    pub(super) shared: Arc<Shared>,
}

/// How long the reason why there is no connection holds for all who ask: a server that cannot be used is not asked anew by each caller.
const REFUSED_FOR: Duration = Duration::from_millis(50);

/// A connection, or the next one.
pub(super) struct Line {
    place: Arc<Place>,
    state: Mutex<State>,
}

enum State {
    /// A connection, or none yet.
    Live(Option<Live>),
    /// There was none at this time, and why.
    Refused(Instant, Refusal),
}

/// An error to tell again.
#[derive(Clone)]
enum Refusal {
    Open(String),
    Unavailable(String),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Open(why) => Self::Open(why),
            Refusal::Unavailable(why) => Self::Unavailable(why),
        }
    }
}

#[derive(Clone)]
struct Live {
    number: u64,
    connection: MultiplexedConnection,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("address", &self.place.address).finish_non_exhaustive()
    }
}

/// A connection that is in order, and its number among those of its line.
pub(super) struct Open {
    pub(super) number: u64,
    pub(super) connection: MultiplexedConnection,
}

impl Line {
    pub(super) fn new(place: Arc<Place>) -> Self {
        Self { place, state: Mutex::new(State::Live(None)) }
    }

    /// The connection; a new one when there is none.
    ///
    /// # Errors
    /// [`Error::Open`] when the server would lose data, [`Error::Unavailable`] when it cannot be reached.
    pub(super) async fn open(&self) -> Result<Open, Error> {
        let mut state = self.state.lock().await;
        match &*state {
            State::Live(Some(Live { number, connection })) => {
                return Ok(Open { number: *number, connection: connection.clone() });
            }
            State::Refused(at, refusal) if at.elapsed() < REFUSED_FOR => return Err(refusal.clone().into()),
            State::Live(None) | State::Refused(..) => {}
        }
        match self.place.connect_to_sound().await {
            Ok(connection) => {
                let number = self.place.shared.next_connection();
                *state = State::Live(Some(Live { number, connection: connection.clone() }));
                Ok(Open { number, connection })
            }
            Err(error) => {
                let refusal = match error {
                    Error::Open(why) => Refusal::Open(why),
                    other => Refusal::Unavailable(super::text_of(&other)),
                };
                *state = State::Refused(Instant::now(), refusal.clone());
                Err(refusal.into())
            }
        }
    }

    /// Whether the server answers on it, now, as the primary.
    pub(super) async fn alive(&self) -> Result<(), Error> {
        let mut open = self.open().await?;
        let role: Result<Vec<Value>, _> = redis::cmd("ROLE").query_async(&mut open.connection).await;
        let why = match role {
            Ok(role) if role.first() == Some(&Value::BulkString(b"master".to_vec())) => return Ok(()),
            Ok(_replica) => {
                Error::Unavailable(format!("redis at {} is the primary no more", self.place.address))
            }
            Err(error) => self.place.unavailable(&error),
        };
        self.broken(open.number).await;
        Err(why)
    }

    /// Gives the connection `number` up.
    pub(super) async fn broken(&self, number: u64) {
        let mut state = self.state.lock().await;
        if matches!(&*state, State::Live(Some(live)) if live.number == number) {
            *state = State::Live(None);
        }
    }
}

impl Place {
    /// A connection to a server that was looked at and is in order.
    async fn connect_to_sound(&self) -> Result<MultiplexedConnection, Error> {
        let mut connection = self.connect().await?;
        self.examine(&mut connection).await?;
        Ok(connection)
    }

    async fn connect(&self) -> Result<MultiplexedConnection, Error> {
        let time = self.shared.options.response_timeout;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(time))
            .set_response_timeout(Some(self.shared.options.response_timeout_with_wait()));
        let connected = self.client.get_multiplexed_async_connection_with_config(&config).await;
        connected.map_err(|error| self.unavailable(&error))
    }

    pub(super) fn unavailable(&self, error: &RedisError) -> Error {
        Error::Unavailable(format!("redis at {}: {error}", self.address))
    }

    /// What the server says of itself.
    pub(super) async fn facts(&self, connection: &mut MultiplexedConnection) -> Result<Facts, Error> {
        let info: String =
            redis::cmd("INFO").query_async(connection).await.map_err(|error| self.unavailable(&error))?;
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg(&[
            "appendonly",
            "appendfsync",
            "no-appendfsync-on-rewrite",
            "maxmemory-policy",
            "maxmemory",
            "aof-load-truncated",
            "min-replicas-to-write",
        ]);
        let config: Vec<(String, String)> = match command.query_async(connection).await {
            Ok(config) => config,
            Err(error) if error.is_io_error() => return Err(self.unavailable(&error)),
            // It is forbidden: INFO tells some of it.
            Err(_forbidden) => Vec::new(),
        };
        let asked = self.shared.options.clock.now();
        // Where it is forbidden, nothing is said of it.
        let time: Vec<String> = redis::cmd("TIME").query_async(connection).await.unwrap_or_default();
        let there =
            time.first().and_then(|seconds| seconds.parse::<i64>().ok()).map(|seconds| seconds * 1_000);
        let apart = there.map_or(0, |there| there.abs_diff(asked.0).saturating_sub(1_000));
        Ok(Facts {
            apart: Duration::from_millis(apart),
            in_the_open: self.is_in_the_open(),
            ..Facts::read(&info, &config)
        })
    }

    /// Whether bytes leave this machine as they are.
    fn is_in_the_open(&self) -> bool {
        let ConnectionAddr::Tcp(host, _) = self.client.get_connection_info().addr() else { return false };
        let here = |ip: IpAddr| ip.to_canonical().is_loopback();
        host != "localhost" && !host.parse().is_ok_and(here)
    }

    async fn examine(&self, connection: &mut MultiplexedConnection) -> Result<(), Error> {
        let facts = self.facts(connection).await?;
        let verdict = preflight::judge(&facts, &self.shared.options);
        if !verdict.refusals.is_empty() {
            return Err(self.refused(&verdict.refusals.join("; ")));
        }
        for warning in verdict.warnings {
            self.shared.warn_once(&self.address, &warning);
        }
        self.examine_library(connection).await?;
        self.probe(connection).await?;
        self.shared.met(&self.address, &facts);
        Ok(())
    }

    fn refused(&self, why: &str) -> Error {
        Error::Open(format!("redis at {} cannot be used: {why}", self.address))
    }

    /// The library is loaded where it is not; another text under its name is refused.
    async fn examine_library(&self, connection: &mut MultiplexedConnection) -> Result<(), Error> {
        let library = &self.shared.options.library;
        let (name, own) = (library.name(), library.hash());
        let mut ask = redis::cmd("FCALL_RO");
        ask.arg(library.function("hash")).arg(0);
        let found: Result<String, _> = ask.query_async(connection).await;
        let found = match found {
            Ok(found) => found,
            Err(error) if error.is_io_error() => return Err(self.unavailable(&error)),
            Err(_not_there) => {
                let mut load = redis::cmd("FUNCTION");
                load.arg("LOAD").arg(library.text());
                let loaded: Result<String, RedisError> = load.query_async(connection).await;
                let again = ask.query_async(connection).await;
                // Another node may have loaded it at this very moment.
                again.map_err(|_still_not| {
                    let why = loaded.err().map_or_else(String::new, |error| format!(" ({error})"));
                    self.refused(&format!(
                        "the functions of {name} cannot be loaded{why}: let someone with the right do it, \
                         `syncline store functions | redis-cli -x FUNCTION LOAD`"
                    ))
                })?
            }
        };
        if found == own {
            return Ok(());
        }
        Err(self.refused(&format!(
            "the functions of {name} there are not this program's ({found} instead of {own}): all nodes must be of one release, \
             or of releases that follow each other"
        )))
    }

    /// A write, a read and a delete.
    async fn probe(&self, connection: &mut MultiplexedConnection) -> Result<(), Error> {
        if self.shared.options.cluster_mode {
            return Ok(()); // No key is sure to lie here; the first lease is the probe.
        }
        let key = self.shared.names.shared(&format!("probe:{}", self.shared.next_connection()));
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg(&key).arg("x").arg("PX").arg(10_000).cmd("GET").arg(&key).cmd("DEL").arg(&key);
        let answers: Result<(String, String, i64), _> = pipe.query_async(connection).await;
        match answers {
            Ok((_, read, 1)) if read == "x" => Ok(()),
            Ok(other) => Err(self.refused(&format!("a key that was written reads as {other:?}"))),
            Err(error) if error.is_io_error() => Err(self.unavailable(&error)),
            Err(error) => Err(self.refused(&format!("a key cannot be written, read and deleted: {error}"))),
        }
    }
}

/// What to do about an error of one command.
#[derive(Debug, PartialEq)]
pub(super) enum Trouble {
    /// The connection is gone; whether the command was carried out is unknown.
    Broken,
    /// It was not carried out: the server is not the right one, or not ready.
    Elsewhere,
    /// It was not carried out, and will not be.
    Refused(String),
}

impl Trouble {
    pub(super) fn of(error: &RedisError) -> Self {
        if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() {
            return Self::Broken;
        }
        match error.code() {
            Some(
                "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "READONLY" | "LOADING" | "BUSY"
                | "NOREPLICAS" | "UNKILLABLE",
            ) => Self::Elsewhere,
            _ if error.to_string().contains("Function not found") => Self::Elsewhere,
            _ => Self::Refused(error.to_string()),
        }
    }
}

/// Sends one command and waits for its answer.
pub(super) async fn ask(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
) -> Result<Value, (Trouble, RedisError)> {
    command.query_async(connection).await.map_err(|error| (Trouble::of(&error), error))
}
