//! The host as each driver wants to speak to it: drivers do not know one another.

use std::fmt::Display;

use async_trait::async_trait;
use syncline_actors::envelope::Envelope;

use crate::host::{self, Host, Lane};
use crate::{delivery, ingress, timer};

/// A way to the entities.
#[derive(Debug, Clone)]
pub(super) struct Mailbox(pub(super) Host);

#[async_trait]
impl delivery::Mailbox for Mailbox {
    async fn settle(&self, envelope: Envelope) -> Result<(), delivery::MailboxError> {
        match self.0.deliver(envelope, Lane::Inside).await {
            Ok(_) => Ok(()),
            Err(host::Error::NotOwner { .. }) => Err(delivery::MailboxError::NotOwned),
            Err(error) => Err(delivery::MailboxError::Unavailable(error.to_string())),
        }
    }
}

#[async_trait]
impl timer::Mailbox for Mailbox {
    async fn deliver(&self, envelope: Envelope) -> Result<(), Box<dyn Display + Send>> {
        match self.0.deliver(envelope, Lane::Inside).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Box::new(error)),
        }
    }
}
