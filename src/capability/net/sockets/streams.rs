//! The two streams of a connection: bytes are counted, held to the rate, and held back until a ClientHello is known.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use portcullis_policy::Reason;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use super::sniff::{Sniff, Verdict};
use crate::evidence::Wire;
use crate::gate::Gate;
use crate::quota::Throttle;

/// What both streams of a connection share.
#[derive(Clone)]
pub(super) struct Line {
    gate: Gate,
    wire: Arc<Wire>,
    /// The ClientHello was refused: nothing passes in either direction any more.
    refused: Arc<AtomicBool>,
}

impl Line {
    pub(super) fn new(gate: Gate, wire: Arc<Wire>) -> Self {
        Self { gate, wire, refused: Arc::default() }
    }

    fn check(&self) -> StreamResult<()> {
        if self.refused.load(Ordering::Relaxed) {
            return Err(reset());
        }
        Ok(())
    }

    /// Bytes that the rate lets go now. None is told, once in a window.
    fn available(&self, throttle: &Throttle, reason: Reason) -> usize {
        throttle.room().unwrap_or_else(|met| {
            self.gate.exceeded(reason, met);
            0
        })
    }

    /// Waits until the rate lets bytes go.
    async fn refill(&self, throttle: &Throttle, reason: Reason) {
        if self.available(throttle, reason) == 0 {
            throttle.ready().await;
        }
    }
}

/// To the guest as a connection that the other end has reset.
fn reset() -> StreamError {
    StreamError::LastOperationFailed(io::Error::from(io::ErrorKind::ConnectionReset).into())
}

pub(super) struct In {
    inner: DynInputStream,
    line: Line,
    throttle: Throttle,
}

impl In {
    pub(super) fn new(inner: DynInputStream, line: Line, throttle: Throttle) -> Self {
        Self { inner, line, throttle }
    }
}

#[async_trait::async_trait]
impl Pollable for In {
    async fn ready(&mut self) {
        if self.line.check().is_ok() {
            self.inner.ready().await;
            self.line.refill(&self.throttle, Reason::QuotaBytesIn).await;
        }
    }
}

#[async_trait::async_trait]
impl InputStream for In {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.line.check()?;
        let available = self.line.available(&self.throttle, Reason::QuotaBytesIn);
        if available == 0 && size > 0 {
            return Ok(Bytes::new());
        }
        let bytes = self.inner.read(size.min(available))?;
        self.throttle.take(bytes.len());
        self.line.wire.received(bytes.len());
        Ok(bytes)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        // Without a number of attempts: other instances may take the bytes of a rate first. The call's deadline ends it.
        loop {
            self.ready().await;
            let bytes = self.read(size)?;
            if size == 0 || !bytes.is_empty() {
                return Ok(bytes);
            }
        }
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

pub(super) struct Out {
    inner: DynOutputStream,
    line: Line,
    throttle: Throttle,
    sniff: Option<Sniff>,
    /// What passed the sniff and the system has not taken yet.
    held: Bytes,
    /// What the last `check-write` allowed, in bytes.
    permit: usize,
}

impl Out {
    pub(super) fn new(inner: DynOutputStream, line: Line, throttle: Throttle, sniff: Option<Sniff>) -> Self {
        Self { inner, line, throttle, sniff, held: Bytes::new(), permit: 0 }
    }

    /// Gives held bytes to the system, as many as it takes.
    fn push_held(&mut self) -> StreamResult<()> {
        while !self.held.is_empty() {
            let room = self.inner.check_write()?;
            if room == 0 {
                break;
            }
            let part = self.held.split_to(self.held.len().min(room));
            self.line.wire.sent(part.len());
            self.inner.write(part)?;
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl Pollable for Out {
    async fn ready(&mut self) {
        while self.line.check().is_ok() {
            if self.sniff.is_some() {
                return self.line.refill(&self.throttle, Reason::QuotaBytesOut).await;
            }
            self.inner.ready().await;
            // An error of it is told by the next call.
            if self.push_held().is_err() || self.held.is_empty() {
                return self.line.refill(&self.throttle, Reason::QuotaBytesOut).await;
            }
        }
    }
}

#[async_trait::async_trait]
impl OutputStream for Out {
    fn check_write(&mut self) -> StreamResult<usize> {
        self.permit = 0;
        self.line.check()?;
        self.push_held()?;
        let available = self.line.available(&self.throttle, Reason::QuotaBytesOut);
        if available == 0 {
            return Ok(0);
        }
        let room = match &self.sniff {
            Some(sniff) => sniff.room(),
            None if self.held.is_empty() => self.inner.check_write()?,
            None => 0,
        };
        self.permit = room.min(available);
        Ok(self.permit)
    }

    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.line.check()?;
        if bytes.len() > self.permit {
            return Err(StreamError::trap("a write is longer than check-write allowed"));
        }
        self.permit = 0;
        self.throttle.take(bytes.len());
        let Some(sniff) = &mut self.sniff else {
            let length = bytes.len();
            self.inner.write(bytes)?;
            self.line.wire.sent(length);
            return Ok(());
        };
        match sniff.push(&bytes) {
            Verdict::Wait => Ok(()),
            Verdict::Pass(bytes) => {
                self.sniff = None;
                self.held = bytes;
                self.push_held()
            }
            Verdict::Refuse => {
                self.sniff = None;
                self.line.refused.store(true, Ordering::Relaxed);
                Err(reset())
            }
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.line.check()?;
        self.push_held()?;
        self.inner.flush()
    }

    async fn write_ready(&mut self) -> StreamResult<usize> {
        // As in `blocking_read`.
        loop {
            self.ready().await;
            let permit = self.check_write()?;
            if permit > 0 {
                return Ok(permit);
            }
        }
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}
