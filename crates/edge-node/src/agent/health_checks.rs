//! `healthCheckNodePort`: a load balancer outside asks each board whether it has endpoints of a
//! Service, and is answered as kube-proxy answers. A port is open while a Service has it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edge_core::proxy::HealthCheck;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

/// Callers of one port at once; more wait.
const CALLERS: usize = 16;
/// How long a caller may take, from its first byte to our last.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause after the system could not accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a port answers, as it is now.
type Shared = Arc<Mutex<HealthCheck>>;

/// The ports that are open. All are closed when this is dropped.
#[derive(Default)]
pub(crate) struct HealthChecks {
    open: BTreeMap<u16, (Shared, AbortHandle)>,
    serving: JoinSet<()>,
    /// Ports that something else has, so that it is told once.
    taken: Vec<u16>,
}

impl HealthChecks {
    /// Opens and closes ports as wanted. Answers those that could not be opened, with why.
    pub(crate) async fn set(
        &mut self,
        wanted: &BTreeMap<u16, HealthCheck>,
    ) -> Vec<(HealthCheck, String)> {
        while self.serving.try_join_next().is_some() {}
        self.open.retain(|port, (_, task)| {
            let stays = wanted.contains_key(port);
            if !stays {
                task.abort();
            }
            stays
        });
        let mut failed = Vec::new();
        for (port, check) in wanted {
            if let Some((shared, _)) = self.open.get(port) {
                shared.lock().unwrap_or_else(PoisonError::into_inner).clone_from(check);
                continue;
            }
            match TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).await {
                Ok(listener) => {
                    let shared: Shared = Arc::new(Mutex::new(check.clone()));
                    let task = self.serving.spawn(serve(listener, shared.clone()));
                    self.open.insert(*port, (shared, task));
                    self.taken.retain(|known| known != port);
                }
                Err(error) if !self.taken.contains(port) => {
                    self.taken.push(*port);
                    let why = format!("can't start healthcheck on port {port}: {error}");
                    failed.push((check.clone(), why));
                }
                Err(_) => {}
            }
        }
        self.taken.retain(|port| wanted.contains_key(port));
        failed
    }
}

async fn serve(listener: TcpListener, shared: Shared) {
    let slots = Arc::new(Semaphore::new(CALLERS));
    let mut callers = JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        while callers.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = shared.clone();
                callers.spawn(async move {
                    let _ = tokio::time::timeout(PATIENCE, answer(stream, shared)).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::debug!("accept a health check: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, shared: Shared) {
    let service = service_fn(move |_| {
        let check = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
        async move { Ok::<_, Infallible>(reply(&check)) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!("health check: {error}");
    }
}

/// As kube-proxy's `healthcheck.hcHandler` has it.
fn reply(check: &HealthCheck) -> Response<Full<Bytes>> {
    let body = json!({
        "service": { "namespace": check.namespace, "name": check.name },
        "localEndpoints": check.ready,
        "serviceProxyHealthy": true,
    });
    let status = match check.ready {
        0 => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    let mut response = Response::new(Full::new(Bytes::from(format!("{body:#}\n"))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let fixed = http::HeaderValue::from_static;
    headers.insert("content-type", fixed("application/json"));
    headers.insert("x-content-type-options", fixed("nosniff"));
    headers.insert("x-load-balancing-endpoint-weight", check.ready.into());
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(port: u16) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        Some(text)
    }

    #[tokio::test]
    async fn a_port_says_how_many_endpoints_are_here_for_as_long_as_a_service_has_it() {
        let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let check = |ready| {
            let (namespace, name) = ("n".to_owned(), "web".to_owned());
            BTreeMap::from([(port, HealthCheck { namespace, name, ready })])
        };
        let mut checks = HealthChecks::default();
        let failed = checks.set(&check(0)).await;
        assert!(failed[0].1.contains(&format!("port {port}")), "{failed:?}");
        assert!(checks.set(&check(0)).await.is_empty(), "told once");
        drop(taken);
        assert!(checks.set(&check(0)).await.is_empty());
        let none = ask(port).await.unwrap();
        assert!(none.starts_with("HTTP/1.1 503"), "{none}");
        assert!(checks.set(&check(2)).await.is_empty());
        let two = ask(port).await.unwrap();
        assert!(two.starts_with("HTTP/1.1 200"), "{two}");
        assert!(two.contains("x-load-balancing-endpoint-weight: 2"), "{two}");
        assert!(
            two.contains("\"localEndpoints\": 2") && two.contains("\"name\": \"web\""),
            "{two}"
        );
        checks.set(&BTreeMap::new()).await;
        tokio::task::yield_now().await;
        assert!(ask(port).await.is_none(), "closed");
    }
}
