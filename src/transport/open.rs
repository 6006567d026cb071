//! Opens a connection to another node: network, TLS, hellos.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::time::timeout;

use super::hello::{Agreed, ReadError, Refusal, Word};
use super::network::BoxedStream;
use super::outgoing::Outgoing;
use super::tls::{Identity, certificate_name, check_name, in_words};
use super::{Error, Parts, Peer};

/// Reaches the peer and agrees with it. Nothing has been asked yet, so every failure is [`Error::NotSent`] or
/// [`Error::Refused`].
pub(super) async fn open(parts: &Arc<Parts>, peer: &Peer) -> Result<Arc<Outgoing>, Error> {
    let limits = &parts.config.limits;
    let not_sent = |why: String| Error::NotSent { node: peer.node.clone(), why };
    let address = peer.address;
    if parts.identity.is_none() && !parts.network.stays_here(address) {
        let why =
            format!("without TLS nothing is sent to {address}, off this machine; configure certificates");
        return Err(refused(peer, Refusal::Plain, why));
    }
    let stream = timeout(limits.connect_timeout, parts.network.connect(address))
        .await
        .map_err(|_elapsed| not_sent(format!("{address} did not answer for {:?}", limits.connect_timeout)))?
        .map_err(|error| not_sent(format!("{address} cannot be reached: {error}")))?;
    let (stream, agreed) =
        timeout(limits.handshake_timeout, shake_hands(parts, peer, stream)).await.map_err(|_elapsed| {
            not_sent(format!("{address} began no handshake for {:?}", limits.handshake_timeout))
        })??;
    let held = parts.counters.connections_out.while_held();
    Ok(Outgoing::begin(stream, agreed, limits, parts.counters.clone(), parts.stage.subscribe(), held))
}

async fn shake_hands(
    parts: &Parts,
    peer: &Peer,
    stream: BoxedStream,
) -> Result<(BoxedStream, Agreed), Error> {
    let mut stream = match &parts.identity {
        Some(identity) => secure(identity, parts, peer, stream).await?,
        None => stream,
    };
    let own = parts.hello();
    Word::Hello(own.clone()).write(&mut stream).await.map_err(|error| broken(peer, &error))?;
    let word = Word::read(&mut stream).await.map_err(|error| match error {
        ReadError::Io(error) => broken(peer, &error),
        ReadError::Malformed => Error::NotSent {
            node: peer.node.clone(),
            why: format!("what answers at {} does not speak this protocol; check the address", peer.address),
        },
    })?;
    let hello = match word {
        Word::Hello(hello) => hello,
        Word::Refused(refusal, why) => return Err(refused(peer, refusal, why)),
    };
    let agreed = own.agree(&hello).map_err(|(refusal, why)| refused(peer, refusal, why))?;
    if agreed.node != peer.node {
        let why = format!(
            "at {} answers {}, not {}; the address is old or wrong",
            peer.address, agreed.node, peer.node
        );
        return Err(refused(peer, Refusal::Name, why));
    }
    Ok((stream, agreed))
}

/// TLS on `stream`, with the certificate of the node that is meant.
async fn secure(
    identity: &Identity,
    parts: &Parts,
    peer: &Peer,
    stream: BoxedStream,
) -> Result<BoxedStream, Error> {
    let of_certificate = |why: String| refused(peer, Refusal::Certificate, why);
    let name = certificate_name(&peer.node, &parts.config.cluster)
        .map_err(|error| of_certificate(error.to_string()))?;
    let server = ServerName::try_from(name.clone()).map_err(|error| of_certificate(error.to_string()))?;
    let stream = identity.connector().connect(server, stream).await.map_err(|error| broken(peer, &error))?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = shown.ok_or_else(|| of_certificate("it shows no certificate".to_owned()))?;
    check_name(certificate, &name).map_err(of_certificate)?;
    Ok(Box::new(stream))
}

fn refused(peer: &Peer, refusal: Refusal, why: String) -> Error {
    Error::Refused { node: peer.node.clone(), refusal, why }
}

/// What an error on the stream means during the handshake: TLS said no, or the connection was lost.
fn broken(peer: &Peer, error: &io::Error) -> Error {
    let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match of_tls {
        Some(error) => refused(peer, Refusal::Certificate, in_words(error)),
        None => Error::NotSent {
            node: peer.node.clone(),
            why: format!("the connection to {} ended in the handshake: {error}", peer.address),
        },
    }
}
