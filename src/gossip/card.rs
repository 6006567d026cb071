//! What every node tells of itself, and who is in the cluster.

use std::net::SocketAddr;

use bytes::BufMut as _;
use syncline_actors::id::NodeId;

use super::Error;
use super::seal::NAME_MAX;
use super::wire::{Malformed, Reader, put_addr, put_text};

/// A node's card: how to reach it, and what placement has to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its name: 1 to 63 bytes, unique in the cluster, stable over restarts.
    pub node: NodeId,
    /// Where other nodes reach it.
    pub transport: SocketAddr,
    /// Where its API and pages are.
    pub http: SocketAddr,
    /// Its share of the shards, relative to that of other nodes.
    pub weight: u16,
    /// Where it stands in law, e.g. `eu`: 1 to 63 bytes.
    pub region: Option<String>,
    /// What fails together with it, e.g. a rack or a data centre: 1 to 63 bytes.
    pub zone: Option<String>,
    /// The newest protocol between nodes that it speaks.
    pub protocol: u32,
    /// It gives its shards away and wants no new ones.
    pub draining: bool,
}

impl Card {
    /// Whether every text fits a datagram.
    pub(super) fn check(&self) -> Result<(), Error> {
        let texts = [("name", Some(&*self.node.0)), ("region", self.region()), ("zone", self.zone())];
        for (what, text) in texts {
            text.map_or(Ok(()), |text| check_text(what, text))?;
        }
        Ok(())
    }

    fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    pub(super) fn put(&self, to: &mut Vec<u8>) {
        put_text(to, &self.node.0);
        put_addr(to, self.transport);
        put_addr(to, self.http);
        to.put_u16(self.weight);
        put_text(to, self.region().unwrap_or_default());
        put_text(to, self.zone().unwrap_or_default());
        to.put_u32(self.protocol);
        to.put_u8(self.draining.into());
    }

    /// What follows the known fields is left alone: a newer node may say more.
    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let label = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let card = Self {
            node: NodeId(from.text()?.into()),
            transport: from.addr()?,
            http: from.addr()?,
            weight: from.u16()?,
            region: label(from.text()?),
            zone: label(from.text()?),
            protocol: from.u32()?,
            draining: from.u8()? != 0,
        };
        card.check().map_err(|_never_shown| Malformed("a card's text is empty or too long"))?;
        Ok(card)
    }
}

/// Whether `text` is 1 to 63 bytes without control characters.
pub(super) fn check_text(what: &'static str, text: &str) -> Result<(), Error> {
    if text.is_empty() || text.len() > NAME_MAX || text.chars().any(char::is_control) {
        return Err(Error::Text { what, text: text.chars().take(80).collect() });
    }
    Ok(())
}

/// A node that is in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it tells of itself.
    pub card: Card,
    /// Its boot counter: another one is another process.
    pub boot: u64,
}

/// The nodes that are up as far as this one knows, itself included, by name. A hint: the journal's epochs decide.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Members(Vec<Member>);

impl Members {
    /// These nodes, put in order.
    pub(super) fn new(mut members: Vec<Member>) -> Self {
        members.sort_by(|a, b| a.card.node.cmp(&b.card.node));
        Self(members)
    }

    /// All of them, by name.
    pub fn iter(&self) -> std::slice::Iter<'_, Member> {
        self.0.iter()
    }

    /// The node of this name, if it is up.
    pub fn get(&self, node: &NodeId) -> Option<&Member> {
        self.0.binary_search_by(|member| member.card.node.cmp(node)).ok().map(|at| &self.0[at])
    }

    /// How many are up; at least one.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl<'a> IntoIterator for &'a Members {
    type Item = &'a Member;
    type IntoIter = std::slice::Iter<'a, Member>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn card(node: &str) -> Card {
        Card {
            node: NodeId(node.into()),
            transport: "10.0.0.1:7001".parse().unwrap(),
            http: "[2001:db8::1]:8080".parse().unwrap(),
            weight: 100,
            region: Some("eu".to_owned()),
            zone: None,
            protocol: 1,
            draining: false,
        }
    }

    #[test]
    fn a_card_reads_as_it_was_written_and_may_say_more_one_day() {
        let mut bytes = Vec::new();
        card("n1").put(&mut bytes);
        bytes.extend_from_slice(b"more");
        let mut from = Reader(&bytes);
        assert_eq!(Card::read(&mut from), Ok(card("n1")));
        assert_eq!(from.0, b"more");
        assert!(Card::read(&mut Reader(&bytes[..bytes.len() - 5])).is_err());
    }

    #[test]
    fn a_card_that_would_not_fit_is_refused() {
        let long = "x".repeat(64);
        assert!(card("n1").check().is_ok());
        for wrong in [
            card(""),
            card(&long),
            card("a\nb"),
            Card { region: Some(String::new()), ..card("n1") },
            Card { zone: Some(long.clone()), ..card("n1") },
        ] {
            assert!(matches!(wrong.check(), Err(Error::Text { .. })), "{wrong:?}");
        }
    }

    #[test]
    fn members_are_found_by_name() {
        let member = |node: &str| Member { card: card(node), boot: 1 };
        let members = Members::new(vec![member("n3"), member("n1"), member("n2")]);
        let names: Vec<String> = members.iter().map(|member| member.card.node.to_string()).collect();
        assert_eq!(names, ["n1", "n2", "n3"]);
        assert_eq!(members.get(&NodeId("n2".into())), Some(&member("n2")));
        assert_eq!(members.get(&NodeId("n4".into())), None);
    }
}
