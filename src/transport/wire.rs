//! The two halves of a connection: frames read one by one, frames written together.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::frame::{Frame, Malformed};
use super::stats::Counters;

/// Room that is made for each read: memory grows with what has come, not with what was announced.
const READ_ROOM: usize = 16 * 1024;

/// What waits is gathered up to about this many bytes, and at most [`GATHER_FRAMES`] frames, for one write.
const GATHER_BYTES: usize = 256 * 1024;
const GATHER_FRAMES: usize = 256;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the other side closed the connection")]
    Closed,
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("the other side sent {0}")]
    Malformed(#[from] Malformed),
    #[error("the other side sent a frame that its side does not send")]
    OutOfTurn,
    #[error("nothing was heard for {0:?}")]
    Silent(Duration),
    #[error("nothing could be written for {0:?}")]
    Stalled(Duration),
    #[error("the other node has been started again since")]
    Superseded,
    #[error("this node stops")]
    Stopping,
    #[error("the connection is no longer needed")]
    Unused,
}

/// Reads frames.
pub(super) struct Reader<R> {
    stream: R,
    buffer: BytesMut,
    payload_max: u32,
    heard: Instant,
    counters: Arc<Counters>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(stream: R, payload_max: u32, counters: Arc<Counters>) -> Self {
        Self { stream, buffer: BytesMut::new(), payload_max, heard: Instant::now(), counters }
    }

    /// When the last byte came.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    /// The next frame. Safe to drop while it waits: what has come is kept.
    pub(super) async fn frame(&mut self) -> Result<Frame, Ended> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.buffer, self.payload_max)? {
                return Ok(frame);
            }
            self.buffer.reserve(READ_ROOM);
            let read = self.stream.read_buf(&mut self.buffer).await?;
            if read == 0 {
                return Err(Ended::Closed);
            }
            self.heard = Instant::now();
            self.counters.bytes_received.add(read);
        }
    }
}

/// Something that waits to be written.
pub(super) trait Parcel: Send + 'static {
    /// Dropped once the bytes have been written.
    type Receipt: Send;

    /// Appends the frame, unless it is no longer wanted; this is the moment from which it counts as sent.
    fn pack(self, buffer: &mut BytesMut) -> Self::Receipt;
}

/// Writes what is in `queue` until nobody can put anything in.
pub(super) async fn write<P: Parcel>(
    mut queue: mpsc::Receiver<P>,
    mut stream: impl AsyncWrite + Unpin,
    stall_max: Duration,
    counters: &Counters,
) -> Result<(), Ended> {
    let (mut parcels, mut receipts, mut buffer) = (Vec::new(), Vec::new(), BytesMut::new());
    while queue.recv_many(&mut parcels, GATHER_FRAMES).await > 0 {
        for parcel in parcels.drain(..) {
            let before = buffer.len();
            receipts.push(parcel.pack(&mut buffer));
            counters.frames_sent.add(usize::from(buffer.len() > before));
            if buffer.len() >= GATHER_BYTES {
                write_out(&mut buffer, &mut stream, stall_max, counters).await?;
                receipts.clear();
            }
        }
        write_out(&mut buffer, &mut stream, stall_max, counters).await?;
        receipts.clear();
    }
    within(stall_max, stream.shutdown()).await
}

async fn write_out(
    buffer: &mut BytesMut,
    stream: &mut (impl AsyncWrite + Unpin),
    stall_max: Duration,
    counters: &Counters,
) -> Result<(), Ended> {
    if buffer.is_empty() {
        return Ok(());
    }
    counters.bytes_sent.add(buffer.len());
    counters.writes.add(1);
    while !buffer.is_empty() {
        if within(stall_max, stream.write_buf(buffer)).await? == 0 {
            return Err(Ended::Closed);
        }
    }
    within(stall_max, stream.flush()).await?;
    if buffer.capacity() > 2 * GATHER_BYTES {
        *buffer = BytesMut::new(); // one large payload must not be paid for for ever
    }
    Ok(())
}

/// A peer that takes nothing must not hold memory here for ever.
async fn within<T>(stall_max: Duration, step: impl Future<Output = std::io::Result<T>>) -> Result<T, Ended> {
    timeout(stall_max, step).await.map_err(|_elapsed| Ended::Stalled(stall_max))?.map_err(Ended::Io)
}

#[cfg(test)]
mod tests {
    use super::super::frame::Kind;
    use super::*;

    struct Plain(Frame);

    impl Parcel for Plain {
        type Receipt = ();

        fn pack(self, buffer: &mut BytesMut) {
            self.0.encode(buffer);
        }
    }

    #[tokio::test]
    async fn what_waits_leaves_in_one_write() {
        let counters = Arc::new(Counters::default());
        let (here, there) = tokio::io::duplex(1 << 20);
        let (queue, waiting) = mpsc::channel(100);
        for id in 0..100 {
            queue.send(Plain(Frame::bare(Kind::Ping, id))).await.expect("it is open");
        }
        drop(queue);
        write(waiting, here, Duration::from_secs(1), &counters).await.expect("there is room");
        let stats = counters.read(0);
        assert_eq!((stats.frames_sent, stats.writes), (100, 1));
        let mut reader = Reader::new(there, 0, counters);
        for id in 0..100 {
            assert_eq!(reader.frame().await.expect("it was written").id, id);
        }
        assert!(matches!(reader.frame().await, Err(Ended::Closed)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_ends_the_connection() {
        let (here, _there) = tokio::io::duplex(16);
        let (queue, waiting) = mpsc::channel(1);
        queue.send(Plain(Frame::bare(Kind::Ping, 0))).await.expect("it is open");
        let ended = write(waiting, here, Duration::from_secs(1), &Counters::default()).await;
        assert!(matches!(ended, Err(Ended::Stalled(_))), "{ended:?}");
    }
}
