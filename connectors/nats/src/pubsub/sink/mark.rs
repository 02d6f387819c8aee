use async_nats::{Client, Subject, Subscriber};
use portcullis_connector_api::Bytes;

use crate::link::{ECHO, within};

/// Its subscription takes one message.
pub(super) const CAPACITY: usize = 1;

/// A question to the server that comes back among its notices. A denial is a notice too: all of them that belong to messages
/// in front of the question are there before it. Messages go another way inside async-nats and would come back earlier.
pub(super) struct Mark {
    subject: Subject,
    /// Never read, and full: another message for it is a notice that something was dropped.
    _full: Subscriber,
}

impl Mark {
    pub(super) async fn new(client: &Client) -> Option<Self> {
        let subject = Subject::from(client.new_inbox());
        let mark = Self { _full: client.subscribe(subject.clone()).await.ok()?, subject };
        mark.send(client).await?;
        Some(mark)
    }

    pub(super) async fn send(&self, client: &Client) -> Option<()> {
        within(ECHO, client.publish(self.subject.clone(), Bytes::new())).await?.ok()
    }
}
