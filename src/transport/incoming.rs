//! Connections from other nodes: who they are is checked, then each request is handled in a task of its own.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::bounds::Permit;
use super::callers::Entered;
use super::frame::{Frame, Kind};
use super::hello::{Agreed, Hello, ReadError, Refusal, Word};
use super::network::{BoxedStream, Listener};
use super::tls::{Identity, certificate_name, check_name, in_words};
use super::wire::{Ended, Parcel, Reader, write};
use super::{Parts, Request, Stage};

/// Pause after an accept that failed because the machine lacks something, e.g. file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long, and how much, is read after a refusal, so that the other side reads it before the connection is gone.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 * 1024;

/// Takes connections until the stage is over.
pub(super) async fn listen(parts: Arc<Parts>, mut listener: Box<dyn Listener>) {
    let places = Arc::new(Semaphore::new(parts.config.limits.connections_max));
    let mut stage = parts.stage.subscribe();
    loop {
        // Biased, here and below, so that one seed gives one order.
        let accepted = tokio::select! {
            biased;
            accepted = accept(&mut *listener, &places) => accepted,
            _ = stage.wait_for(|stage| *stage == Stage::Over) => return,
        };
        match accepted {
            Ok((stream, from, place)) => {
                tokio::spawn(one(parts.clone(), stream, from, place));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of a peer; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept(
    listener: &mut dyn Listener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(BoxedStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.expect("it is never closed");
    let (stream, from) = listener.accept().await?;
    Ok((stream, from, place))
}

/// One connection, which keeps its place until it has ended.
async fn one(parts: Arc<Parts>, stream: BoxedStream, from: SocketAddr, place: OwnedSemaphorePermit) {
    let mut stage = parts.stage.subscribe();
    let whole = async {
        match timeout(parts.config.limits.handshake_timeout, shake_hands(&parts, stream)).await {
            Ok(Ok((stream, agreed, entered))) => {
                let node = agreed.node.clone();
                let ended = Connection::run(&parts, stream, agreed, entered).await;
                tracing::debug!(peer = %node, %ended, "connection of a peer ended");
            }
            Ok(Err(why)) => {
                parts.counters.refused.add(1);
                tracing::warn!(%from, why, "a connection was refused");
            }
            Err(_elapsed) => {
                parts.counters.refused.add(1);
                tracing::warn!(%from, "a connection was dropped: its handshake took too long");
            }
        }
    };
    tokio::select! {
        biased;
        () = whole => {}
        _ = stage.wait_for(|stage| *stage == Stage::Over) => {}
    }
    drop(place);
}

async fn shake_hands(parts: &Parts, stream: BoxedStream) -> Result<(BoxedStream, Agreed, Entered), String> {
    let (mut stream, certificate) = match &parts.identity {
        Some(identity) => secure(identity, stream).await.map(|(stream, shown)| (stream, Some(shown)))?,
        None => (stream, None),
    };
    let hello = match Word::read(&mut stream).await {
        Ok(Word::Hello(hello)) => hello,
        Ok(Word::Refused(_, why)) => return Err(why),
        Err(ReadError::Malformed) => return Err("what came is no hello of this protocol".to_owned()),
        Err(ReadError::Io(error)) => return Err(format!("no hello came: {error}")),
    };
    let own = parts.hello();
    match let_in(parts, &own, &hello, certificate.as_ref()) {
        Ok((agreed, entered)) => {
            Word::Hello(own).write(&mut stream).await.map_err(|error| format!("it left: {error}"))?;
            Ok((stream, agreed, entered))
        }
        Err((refusal, why)) => {
            let _it_may_have_left = Word::Refused(refusal, why.clone()).write(&mut stream).await;
            linger(stream).await;
            Err(format!("{}: {why}", hello.node))
        }
    }
}

/// Whether a node that says `hello` and has shown `certificate` may ask anything here.
fn let_in(
    parts: &Parts,
    own: &Hello,
    hello: &Hello,
    certificate: Option<&Certificate>,
) -> Result<(Agreed, Entered), (Refusal, String)> {
    let agreed = own.agree(hello)?;
    if let Some(certificate) = certificate {
        certificate_name(&agreed.node, &parts.config.cluster)
            .map_err(|error| error.to_string())
            .and_then(|name| check_name(certificate, &name))
            .map_err(|why| (Refusal::Certificate, format!("it calls itself {}, but {why}", agreed.node)))?;
    }
    if agreed.node == parts.config.node && agreed.boot != parts.config.boot {
        let why = format!("this node is called {} too; give each its own name", agreed.node);
        return Err((Refusal::Name, why));
    }
    let entered = parts.callers.enter(&agreed.node, agreed.boot, || parts.config.limits.bounds()).map_err(
        |newest| {
            let why = format!(
                "{} has been started again: its life {newest} is known here, {} calls; stop one of the two",
                agreed.node, agreed.boot
            );
            (Refusal::Life, why)
        },
    )?;
    Ok((agreed, entered))
}

type Certificate = rustls::pki_types::CertificateDer<'static>;

/// TLS on `stream`, and the certificate that the other side has shown.
async fn secure(identity: &Identity, stream: BoxedStream) -> Result<(BoxedStream, Certificate), String> {
    match identity.acceptor().accept(stream).into_fallible().await {
        Ok(stream) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
            let certificate = shown.ok_or("it shows no certificate")?;
            Ok((Box::new(stream), certificate))
        }
        Err((error, stream)) => {
            linger(stream).await;
            let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            Err(of_tls.map_or_else(|| error.to_string(), in_words))
        }
    }
}

/// Closes so that the other side reads what was last written: data that comes to a closed socket would discard it.
async fn linger(mut stream: BoxedStream) {
    let _it_may_have_left = timeout(LINGER, async {
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(LINGER_BYTES), &mut tokio::io::sink()).await
    })
    .await;
}

/// What waits to be written to a caller.
struct Reply {
    frame: Frame,
    /// Until when the caller waits.
    until: Option<Instant>,
    /// What the request has kept until its answer leaves.
    hold: Option<(Permit, InHand)>,
}

impl Parcel for Reply {
    type Receipt = Option<InHand>;

    /// The caller's bound and this one are equal: the place is given back before the caller can know.
    fn pack(self, buffer: &mut BytesMut) -> Option<InHand> {
        if self.until.is_none_or(|until| Instant::now() < until) {
            self.frame.encode(buffer);
        }
        self.hold.map(|(_given_back, in_hand)| in_hand)
    }
}

/// Counts a request from when it has come until its answer has been written.
#[derive(Debug)]
struct InHand(watch::Sender<usize>);

impl InHand {
    fn begin(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// A connection of a node that has been let in.
struct Connection {
    parts: Arc<Parts>,
    agreed: Agreed,
    entered: Entered,
    replies: mpsc::Sender<Reply>,
}

impl Connection {
    async fn run(parts: &Arc<Parts>, stream: BoxedStream, agreed: Agreed, entered: Entered) -> Ended {
        let _counted = parts.counters.connections_in.while_held();
        let limits = &parts.config.limits;
        let (read_half, write_half) = tokio::io::split(stream);
        let (replies, waiting) = mpsc::channel(limits.in_flight_max + 1);
        let reader = Reader::new(read_half, agreed.payload_max, parts.counters.clone());
        let (life, mut newest) = (agreed.boot, entered.newest.clone());
        let connection = Self { parts: parts.clone(), agreed, entered, replies };
        tokio::select! {
            biased;
            ended = connection.read(reader) => ended,
            wrote = write(waiting, write_half, 2 * limits.keep_alive, &parts.counters) => wrote.err().unwrap_or(Ended::Unused),
            _ = newest.wait_for(|newest| *newest > life) => Ended::Superseded,
        }
    }

    /// Callers ask in silence whether this node is there, so one that is not heard for four times as long is gone.
    async fn read(&self, mut reader: Reader<impl AsyncRead + Unpin>) -> Ended {
        let patience = 4 * self.parts.config.limits.keep_alive;
        loop {
            let heard = reader.heard();
            let frame = match timeout_at(heard + patience, reader.frame()).await {
                Ok(Ok(frame)) => frame,
                Ok(Err(ended)) => return ended,
                Err(_elapsed) if reader.heard() != heard => continue,
                Err(_elapsed) => return Ended::Silent(patience),
            };
            let reply = match frame.kind {
                Kind::Request => self.request(frame),
                Kind::Ping => Some(Frame::bare(Kind::Pong, 0)),
                _ => return Ended::OutOfTurn,
            };
            if let Some(frame) = reply
                && self.replies.send(Reply { frame, until: None, hold: None }).await.is_err()
            {
                return Ended::Unused;
            }
        }
    }

    /// Begins to handle a request, or turns it away.
    fn request(&self, frame: Frame) -> Option<Frame> {
        let deadline = Instant::now() + Duration::from_millis(u64::from(frame.millis));
        // It is in hand before the stage is looked at, so that a drain either sees it or turns it away.
        let in_hand = InHand::begin(&self.parts.in_hand);
        let refused = if *self.parts.stage.borrow() != Stage::Open {
            Frame::bare(Kind::Draining, frame.id)
        } else if frame.millis == 0 {
            Frame::bare(Kind::Late, frame.id)
        } else if let Some(permit) = self.entered.bounds.take(frame.payload.len()) {
            let request = Request { from: self.agreed.node.clone(), payload: frame.payload, deadline };
            let replies = self.replies.clone();
            let task = handle(self.parts.clone(), request, frame.id, self.agreed.payload_max);
            tokio::spawn(async move {
                let reply = Reply { frame: task.await, until: Some(deadline), hold: Some((permit, in_hand)) };
                let _connection_may_have_ended = replies.send(reply).await;
            });
            return None;
        } else {
            let retry_after = self.parts.config.limits.retry_after.as_millis();
            let millis = u32::try_from(retry_after).unwrap_or(u32::MAX);
            Frame { millis, ..Frame::bare(Kind::Busy, frame.id) }
        };
        self.parts.counters.turned_away.add(1);
        Some(refused)
    }
}

/// The handler's answer. A handler that panics answers for itself alone.
async fn handle(parts: Arc<Parts>, request: Request, id: u64, payload_max: u32) -> Frame {
    if Instant::now() >= request.deadline {
        parts.counters.turned_away.add(1);
        return Frame::bare(Kind::Late, id);
    }
    parts.counters.handled.add(1);
    let from = request.from.clone();
    let answer = AssertUnwindSafe(parts.handler.handle(request)).catch_unwind().await;
    match answer {
        Ok(payload) if payload.len() <= payload_max as usize => answered(id, payload),
        Ok(payload) => {
            let bytes = payload.len();
            tracing::error!(peer = %from, bytes, payload_max, "an answer was too large to send");
            Frame::bare(Kind::Failed, id)
        }
        Err(_panic) => {
            tracing::error!(peer = %from, "the handler of a request panicked");
            Frame::bare(Kind::Failed, id)
        }
    }
}

fn answered(id: u64, payload: Bytes) -> Frame {
    Frame { payload, ..Frame::bare(Kind::Answer, id) }
}
