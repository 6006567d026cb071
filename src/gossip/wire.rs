//! How gossip is written into bytes: foca's messages, cards and epochs. By hand, as each byte of a datagram counts.
//!
//! Numbers are big endian. A text is its length in one byte and its UTF-8. An address is 4 or 6, the octets, the port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BufMut};
use foca::{Header, Member, Message, State};
use syncline_actors::id::NodeId;

use super::peer::{Life, Peer};
use super::seal::NAME_MAX;

/// The bytes are not what they should be; the text says where reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed gossip: {0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// Reads from the front of bytes and never beyond their end.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (read, rest) = self.0.split_first_chunk().ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*read)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = usize::from(self.u8()?);
        let (text, rest) = self.0.split_at_checked(length).ok_or(Malformed("a text ends too early"))?;
        self.0 = rest;
        str::from_utf8(text).map_err(|_says_where| Malformed("a text is not UTF-8"))
    }

    pub(super) fn addr(&mut self) -> Result<SocketAddr, Malformed> {
        let ip = match self.u8()? {
            4 => IpAddr::from(Ipv4Addr::from(self.array::<4>()?)),
            6 => IpAddr::from(Ipv6Addr::from(self.array::<16>()?)),
            _ => return Err(Malformed("an address is neither IPv4 nor IPv6")),
        };
        Ok(SocketAddr::new(ip, self.u16()?))
    }

    fn peer(&mut self) -> Result<Peer, Malformed> {
        let peer = self.peer_or_anyone()?;
        if peer.is_anyone() { Err(Malformed("a node without a name")) } else { Ok(peer) }
    }

    fn peer_or_anyone(&mut self) -> Result<Peer, Malformed> {
        let node = self.text()?;
        if node.len() > NAME_MAX {
            return Err(Malformed("a name is too long"));
        }
        let (node, addr) = (NodeId(node.into()), self.addr()?);
        Ok(Peer { node, addr, life: Life { boot: self.u64()?, rejoin: self.u32()? } })
    }

    fn message(&mut self) -> Result<Message<Peer>, Malformed> {
        Ok(match self.u8()? {
            0 => Message::Ping(self.u8()?),
            1 => Message::Ack(self.u8()?),
            2 => Message::PingReq { target: self.peer()?, probe_number: self.u8()? },
            3 => Message::IndirectPing { origin: self.peer()?, probe_number: self.u8()? },
            4 => Message::IndirectAck { target: self.peer()?, probe_number: self.u8()? },
            5 => Message::ForwardedAck { origin: self.peer()?, probe_number: self.u8()? },
            6 => Message::Announce,
            7 => Message::Feed,
            8 => Message::Gossip,
            9 => Message::Broadcast,
            10 => Message::TurnUndead,
            _ => return Err(Malformed("an unknown message")),
        })
    }
}

pub(super) fn put_text(to: &mut Vec<u8>, text: &str) {
    to.put_u8(u8::try_from(text.len()).expect("texts were checked to be short"));
    to.put_slice(text.as_bytes());
}

pub(super) fn put_addr(to: &mut Vec<u8>, addr: SocketAddr) {
    match addr.ip() {
        IpAddr::V4(ip) => {
            to.put_u8(4);
            to.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            to.put_u8(6);
            to.put_slice(&ip.octets());
        }
    }
    to.put_u16(addr.port());
}

fn put_peer(to: &mut Vec<u8>, peer: &Peer) {
    put_text(to, &peer.node.0);
    put_addr(to, peer.addr);
    to.put_u64(peer.life.boot);
    to.put_u32(peer.life.rejoin);
}

fn put_message(to: &mut Vec<u8>, message: &Message<Peer>) {
    let (number, peer, probe) = match message {
        Message::Ping(probe) => (0, None, Some(probe)),
        Message::Ack(probe) => (1, None, Some(probe)),
        Message::PingReq { target, probe_number } => (2, Some(target), Some(probe_number)),
        Message::IndirectPing { origin, probe_number } => (3, Some(origin), Some(probe_number)),
        Message::IndirectAck { target, probe_number } => (4, Some(target), Some(probe_number)),
        Message::ForwardedAck { origin, probe_number } => (5, Some(origin), Some(probe_number)),
        Message::Announce => (6, None, None),
        Message::Feed => (7, None, None),
        Message::Gossip => (8, None, None),
        Message::Broadcast => (9, None, None),
        Message::TurnUndead => (10, None, None),
    };
    to.put_u8(number);
    if let Some(peer) = peer {
        put_peer(to, peer);
    }
    if let Some(probe) = probe {
        to.put_u8(*probe);
    }
}

/// Writes and reads foca's messages for the node `own`.
#[derive(Debug)]
pub(super) struct Codec {
    pub(super) own: NodeId,
}

impl foca::Codec<Peer> for Codec {
    type Error = Malformed;

    fn encode_header(&mut self, header: &Header<Peer>, buf: impl BufMut) -> Result<(), Malformed> {
        let mut bytes = Vec::with_capacity(256);
        put_peer(&mut bytes, &header.src);
        bytes.put_u16(header.src_incarnation);
        put_peer(&mut bytes, &header.dst);
        put_message(&mut bytes, &header.message);
        put_whole(&bytes, buf)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Peer>, Malformed> {
        let mut header = read(buf, |from| {
            let (src, src_incarnation) = (from.peer()?, from.u16()?);
            Ok(Header { src, src_incarnation, dst: from.peer_or_anyone()?, message: from.message()? })
        })?;
        if header.dst.is_anyone() {
            header.dst.node = self.own.clone();
        }
        Ok(header)
    }

    fn encode_member(&mut self, member: &Member<Peer>, buf: impl BufMut) -> Result<(), Malformed> {
        let mut bytes = Vec::with_capacity(128);
        put_peer(&mut bytes, member.id());
        bytes.put_u16(member.incarnation());
        bytes.put_u8(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        put_whole(&bytes, buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Peer>, Malformed> {
        read(buf, |from| {
            let (peer, incarnation) = (from.peer()?, from.u16()?);
            let state = match from.u8()? {
                0 => State::Alive,
                1 => State::Suspect,
                2 => State::Down,
                _ => return Err(Malformed("an unknown state")),
            };
            Ok(Member::new(peer, incarnation, state))
        })
    }
}

/// All of `bytes`, or nothing.
fn put_whole(bytes: &[u8], mut buf: impl BufMut) -> Result<(), Malformed> {
    if buf.remaining_mut() < bytes.len() {
        return Err(Malformed("it does not fit the datagram"));
    }
    buf.put_slice(bytes);
    Ok(())
}

/// What `parse` reads from the front of `buf`, which foca gives in one piece.
fn read<T>(
    mut buf: impl Buf,
    parse: impl FnOnce(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let mut from = Reader(buf.chunk());
    let value = parse(&mut from)?;
    let left = from.0.len();
    buf.advance(buf.chunk().len() - left);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use foca::Codec as _;
    use proptest::prelude::*;

    use super::*;

    fn peer() -> impl Strategy<Value = Peer> {
        ("[a-z]{1,63}", any::<SocketAddr>(), any::<u64>(), any::<u32>()).prop_map(
            |(node, addr, boot, rejoin)| Peer {
                node: NodeId(node.into()),
                addr: SocketAddr::new(addr.ip(), addr.port()),
                life: Life { boot, rejoin },
            },
        )
    }

    fn message() -> impl Strategy<Value = Message<Peer>> {
        (0..11, peer(), any::<u8>()).prop_map(|(kind, peer, probe_number)| match kind {
            0 => Message::Ping(probe_number),
            1 => Message::Ack(probe_number),
            2 => Message::PingReq { target: peer, probe_number },
            3 => Message::IndirectPing { origin: peer, probe_number },
            4 => Message::IndirectAck { target: peer, probe_number },
            5 => Message::ForwardedAck { origin: peer, probe_number },
            6 => Message::Announce,
            7 => Message::Feed,
            8 => Message::Gossip,
            9 => Message::Broadcast,
            _ => Message::TurnUndead,
        })
    }

    fn codec() -> Codec {
        Codec { own: NodeId("n1".into()) }
    }

    proptest! {
        #[test]
        fn headers_and_members_read_as_they_were_written(src in peer(), dst in peer(), message in message(), n: u16) {
            let header = Header { src: src.clone(), src_incarnation: n, dst, message };
            let member = Member::new(src, n, State::Suspect);
            let mut bytes = Vec::new();
            codec().encode_header(&header, &mut bytes).unwrap();
            codec().encode_member(&member, &mut bytes).unwrap();
            let mut from = &bytes[..];
            prop_assert_eq!(codec().decode_header(&mut from).unwrap(), header);
            prop_assert_eq!(codec().decode_member(&mut from).unwrap(), member);
            prop_assert!(from.is_empty());
        }

        #[test]
        fn a_header_cut_anywhere_is_malformed(src in peer(), message in message(), cut: prop::sample::Index) {
            let header = Header { dst: src.clone(), src, src_incarnation: 3, message };
            let mut bytes = Vec::new();
            codec().encode_header(&header, &mut bytes).unwrap();
            prop_assert!(codec().decode_header(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = codec().decode_header(&bytes[..]);
            let _ = codec().decode_member(&bytes[..]);
        }
    }

    #[test]
    fn a_member_without_a_name_or_with_an_endless_one_is_malformed() {
        for name in [String::new(), "x".repeat(64)] {
            let addr = "127.0.0.1:1".parse().unwrap();
            let member = Member::alive(Peer { node: NodeId(name.into()), addr, life: Life::default() });
            let mut bytes = Vec::new();
            codec().encode_member(&member, &mut bytes).unwrap();
            assert!(codec().decode_member(&bytes[..]).is_err());
        }
    }

    #[test]
    fn what_does_not_fit_leaves_the_buffer_clean() {
        let member = Member::alive(Peer::anyone_at("127.0.0.1:1".parse().unwrap()));
        let mut bytes = Vec::new().limit(10);
        assert!(codec().encode_member(&member, &mut bytes).is_err());
        assert!(bytes.get_ref().is_empty());
    }

    #[test]
    fn who_announces_to_an_address_means_whoever_is_there() {
        let addr = "127.0.0.1:1".parse().unwrap();
        let src = Peer { node: NodeId("n2".into()), addr, life: Life::default() };
        let header =
            Header { src, src_incarnation: 0, dst: Peer::anyone_at(addr), message: Message::Announce };
        let mut bytes = Vec::new();
        codec().encode_header(&header, &mut bytes).unwrap();
        assert_eq!(codec().decode_header(&bytes[..]).unwrap().dst.node, codec().own);
    }
}
