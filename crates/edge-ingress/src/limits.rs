//! How much of everything there may be, and how long it may take.

use std::time::Duration;

use edge_core::porch::Room;

/// How long clients may be silent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    /// On a new connection.
    pub(super) first_byte: Duration,
    /// So long a head may take to arrive, and a connection may wait for its next request …
    pub(super) head: Duration,
    /// … and only so long when more than half of the places are taken.
    pub(super) head_crowded: Duration,
}

/// Connections that have not sent a whole request so far; who comes when it is full takes the
/// place of whoever has waited longest.
pub(super) const HALF_OPEN: Room = Room { each: 256, all: 1024 };
/// Connections that have sent one.
pub(super) const CONNECTIONS: usize = 4096;
/// Requests under way.
pub(super) const REQUESTS: usize = 8192;
/// Requests under way on one HTTP/2 connection.
pub(super) const STREAMS: u32 = 128;
/// Bytes of a request's head, or of a response's.
pub(super) const HEAD_BYTES: usize = 64 << 10;
/// Bytes on their way in one direction of an HTTP/2 stream, and of its whole connection.
pub(super) const STREAM_WINDOW: u32 = 64 << 10;
pub(super) const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of HTTP/2 that wait to be written.
pub(super) const SEND_BUFFER: usize = 64 << 10;

/// The TLS handshake may take so long.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long clients may be silent.
pub(super) const WAITS: Waits = Waits {
    first_byte: Duration::from_secs(15),
    head: Duration::from_secs(60),
    head_crowded: Duration::from_secs(5),
};
/// A client that takes nothing of its answer for so long is let go.
pub(super) const WRITE_STALL: Duration = Duration::from_secs(60);
/// Silent HTTP/2 connections are asked whether anybody is there.
pub(super) const PING: Duration = Duration::from_secs(60);
/// Silence after which the kernel asks whether the peer is still there.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(60);
/// A tunnel (WebSocket) that is silent for so long ends.
pub(super) const TUNNEL_SILENCE: Duration = Duration::from_secs(3600);
/// What is under way when the proxy ends gets so long.
pub(super) const DRAIN: Duration = Duration::from_secs(3);
/// Pause after the system refused a connection, for want of descriptors usually.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Time to connect to an endpoint.
pub(super) const CONNECT: Duration = Duration::from_secs(2);
/// Endpoints that are tried for one request.
pub(super) const TRIES: usize = 3;
/// Endpoints that are compared for one request.
pub(super) const COMPARED: usize = 32;
/// An endpoint that could not be connected to comes last for so long.
pub(super) const DOWN: Duration = Duration::from_secs(2);
/// Connections to one endpoint that wait for their next request.
pub(super) const IDLE: usize = 64;
/// They wait no longer than this: some servers close after 5 s, and a request that was sent to a
/// closing connection is lost.
pub(super) const IDLE_FOR: Duration = Duration::from_secs(4);
