//! The client: picks a server, sends, retries what may be repeated, reads answers.

use self::attempt::{Attempt, address, strip};
use crate::body::Body;
use crate::call::{Answer, Call, failure, read_failure, warnings};
use crate::config::{Config, ConfigError};
use crate::connect::{Sender, Server};
use crate::error::{Error, flatten};
use crate::pause::{Backoff, retry_after};
use crate::refusal::Refusals;
use crate::trust::Tls;
use bytes::{Bytes, BytesMut};
use edge_api::Object;
use http::header::{AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

mod attempt;

/// The largest answer that is collected in memory.
const ANSWER_LIMIT: usize = 256 * 1024 * 1024;

/// The longest pause that `Retry-After` can ask for.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(10);

/// How long a finished connection is waited for, to be used again.
const SETTLE: Duration = Duration::from_millis(20);

const AGENT: HeaderValue = HeaderValue::from_static(concat!("edged/", env!("CARGO_PKG_VERSION")));

/// How long to wait and how often to try.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For one server to accept a connection.
    pub connect: Duration,
    /// For an answer to begin, and then for each further piece of it.
    pub answer: Duration,
    /// Tries of a request that may be repeated.
    pub attempts: u32,
    /// Rounds over all servers while none accepts a connection.
    pub rounds: u32,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(30),
            attempts: 4,
            rounds: 1,
        }
    }
}

/// A handle on the API; cheap to clone, safe to share.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

/// Shared, so that a request under way keeps the list that it began with.
type Servers = Arc<Vec<Arc<Server>>>;

struct Inner {
    /// The name that every server's certificate must have, instead of its host's.
    name: Option<String>,
    servers: RwLock<Servers>,
    /// The place in the list of the server that answered last.
    current: AtomicUsize,
    tls: Tls,
    authorization: Option<HeaderValue>,
    namespace: Option<String>,
    patience: Patience,
    refusals: Refusals,
}

/// An answer whose body has not been read, and the connection that it comes over.
struct Open {
    response: Response<Incoming>,
    server: Arc<Server>,
    sender: Sender,
}

impl Client {
    /// A client for these servers and credentials. Nothing is dialled yet.
    pub fn new(config: Config) -> Result<Client, ConfigError> {
        Client::with_patience(config, Patience::default())
    }

    /// [`Client::new`] with its own idea of waiting.
    pub fn with_patience(config: Config, patience: Patience) -> Result<Client, ConfigError> {
        let servers = parse(&config.servers, config.server_name.as_deref())?;
        let plain = servers.iter().all(|server| server.url.starts_with("http://"));
        let tls = Tls::of(&config, plain)?;
        let authorization = match &config.token {
            None => None,
            Some(token) => {
                let mut value =
                    HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                        ConfigError::Tls {
                            operation: "use the bearer token",
                            message: "it holds characters that a header cannot carry".to_string(),
                        }
                    })?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let inner = Inner {
            servers: RwLock::new(servers),
            name: config.server_name,
            current: AtomicUsize::new(0),
            tls,
            authorization,
            namespace: config.namespace,
            patience,
            refusals: config.refusals,
        };
        Ok(Client { inner: Arc::new(inner) })
    }

    /// The namespace of the configuration, if it names one.
    pub fn namespace(&self) -> Option<&str> {
        self.inner.namespace.as_deref()
    }

    /// The address of the server that answered last.
    pub fn server(&self) -> String {
        let current = self.inner.current.load(Ordering::Relaxed);
        let servers = self.inner.servers();
        servers[current % servers.len()].url.clone()
    }

    /// Replaces the list of servers, as the cluster's servers change. Connections to servers that
    /// stay are kept; those to others end, with what is being read from them.
    ///
    /// # Errors
    /// A URL that is none, or an empty list; the list is then as it was.
    pub fn set_servers(&self, urls: &[String]) -> Result<(), ConfigError> {
        let mut next = Vec::clone(&*parse(urls, self.inner.name.as_deref())?);
        let known = self.inner.servers();
        for server in &mut next {
            if let Some(same) = known.iter().find(|other| other.url == server.url) {
                *server = same.clone();
            }
        }
        for gone in known.iter().filter(|old| !next.iter().any(|new| Arc::ptr_eq(old, new))) {
            gone.retire();
        }
        *self.inner.servers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(())
    }

    /// Sends a request and reads the whole answer as JSON. `GET` is repeated when a connection
    /// breaks or a gateway fails; anything is repeated when the server asks for it.
    pub async fn call(&self, call: &Call) -> Result<Answer, Error> {
        let (code, headers, body) = self.collect(call).await?;
        let object = match body.is_empty() {
            true => Object::Null,
            false => serde_json::from_slice(&body).map_err(|error| Error::Decode {
                operation: call.operation(),
                message: error.to_string(),
            })?,
        };
        Ok(Answer { code, warnings: warnings(&headers), object })
    }

    /// [`Client::call`] for answers that are plain text.
    pub async fn text(&self, call: &Call) -> Result<String, Error> {
        let (_, _, body) = self.collect(call).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    async fn collect(&self, call: &Call) -> Result<(u16, HeaderMap, Bytes), Error> {
        let patience = self.inner.patience;
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut attempt = 1;
        loop {
            let (failure, pause) = match self.once(call).await {
                Ok((code, headers, body)) if code < 400 => return Ok((code, headers, body)),
                Ok((code, headers, body)) => {
                    let asked = retry_after(&headers).filter(|_| code == 429 || code >= 500);
                    let gateway = call.method == Method::GET && (502..=504).contains(&code);
                    let pause = asked.or(gateway.then(|| backoff.next()));
                    (failure(call, code, &body), pause)
                }
                Err(error) => {
                    let broken = matches!(error, Error::Protocol { .. });
                    let again = broken && call.method == Method::GET;
                    let pause = again.then(|| backoff.next());
                    (error, pause)
                }
            };
            self.inner.refusals.failed(&failure);
            match pause {
                Some(pause) if attempt < patience.attempts => {
                    tracing::debug!(%failure, attempt, "request will be repeated");
                    tokio::time::sleep(pause.min(RETRY_AFTER_LIMIT)).await;
                }
                _ => return Err(failure),
            }
            attempt += 1;
        }
    }

    /// One attempt, with the body read to its end.
    async fn once(&self, call: &Call) -> Result<(u16, HeaderMap, Bytes), Error> {
        let limit = self.inner.patience.answer;
        let slow = || Error::Timeout { operation: call.operation(), seconds: limit.as_secs() };
        let sent = tokio::time::timeout(limit, self.send(call.request()?)).await;
        let Open { response, server, mut sender } = sent.map_err(|_| slow())??;
        self.judge(&server, response.status());
        let (head, mut incoming) = response.into_parts();
        let mut body = BytesMut::new();
        loop {
            let frame = tokio::time::timeout(limit, incoming.frame()).await;
            let Some(frame) = frame.map_err(|_| slow())? else { break };
            let frame = frame.map_err(|error| Error::Protocol {
                operation: call.operation(),
                message: flatten(&error),
            })?;
            if let Some(data) = frame.data_ref() {
                if body.len() + data.len() > ANSWER_LIMIT {
                    return Err(Error::Decode {
                        operation: call.operation(),
                        message: format!("larger than {ANSWER_LIMIT} bytes"),
                    });
                }
                body.extend_from_slice(data);
            }
        }
        // Whom a server takes somebody for is settled when a connection begins: the next attempt
        // may show a better certificate, over another one.
        let known = head.status != StatusCode::UNAUTHORIZED;
        if let (true, Ok(Ok(()))) = (known, tokio::time::timeout(SETTLE, sender.ready()).await) {
            server.give_back(sender);
        }
        Ok((head.status.as_u16(), head.headers, body.freeze()))
    }

    /// Sends a request and gives the answer as it comes, whatever its code. Only connecting is
    /// repeated, and there is no time limit on the answer. The URI holds path and query.
    pub async fn request(&self, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        Ok(self.send(request).await?.response)
    }

    /// Like [`Client::request`] for a call, but a failure code becomes [`Error::Status`].
    pub async fn stream(&self, call: &Call) -> Result<Response<Incoming>, Error> {
        let limit = self.inner.patience.answer;
        let slow = || Error::Timeout { operation: call.operation(), seconds: limit.as_secs() };
        let sent = tokio::time::timeout(limit, self.send(call.request()?)).await;
        let Open { response, server, .. } = sent.map_err(|_| slow())??;
        self.judge(&server, response.status());
        if response.status() < StatusCode::BAD_REQUEST {
            return Ok(response);
        }
        let failure = read_failure(call, response, limit).await;
        self.inner.refusals.failed(&failure);
        Err(failure)
    }

    /// The error in an answer to [`Client::request`] whose code is a failure.
    pub async fn refused(&self, call: &Call, response: Response<Incoming>) -> Error {
        read_failure(call, response, self.inner.patience.answer).await
    }

    /// A server that cannot help right now is left for the next one.
    fn judge(&self, server: &Arc<Server>, status: StatusCode) {
        self.inner.refusals.took(status);
        if (502..=504).contains(&status.as_u16()) {
            let servers = self.inner.servers();
            let at = servers.iter().position(|other| Arc::ptr_eq(other, server)).unwrap_or(0);
            self.inner.current.store((at + 1) % servers.len(), Ordering::Relaxed);
        }
    }

    /// Sends over an idle connection or a new one, to the first server that takes it.
    async fn send(&self, mut request: Request<Body>) -> Result<Open, Error> {
        let headers = request.headers_mut();
        headers.entry(USER_AGENT).or_insert(AGENT);
        if let Some(value) = &self.inner.authorization {
            headers.entry(AUTHORIZATION).or_insert(value.clone());
        }
        let servers = self.inner.servers();
        let count = servers.len();
        let first = self.inner.current.load(Ordering::Relaxed);
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut round = 1;
        loop {
            let mut last = None;
            for offset in 0..count {
                let server = (first + offset) % count;
                match self.send_to(&servers[server], request).await {
                    Ok(open) => {
                        self.inner.current.store(server, Ordering::Relaxed);
                        return Ok(open);
                    }
                    Err(Attempt::Unsent(back, error)) => (request, last) = (*back, Some(error)),
                    Err(Attempt::Lost(error)) => {
                        // The next request starts elsewhere, should this server be dying.
                        self.inner.current.store((server + 1) % count, Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
            let error = last.expect("invariant: there is at least one server");
            if round >= self.inner.patience.rounds {
                return Err(error);
            }
            round += 1;
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn send_to(&self, server: &Arc<Server>, request: Request<Body>) -> Result<Open, Attempt> {
        let mut request = address(server, request)?;
        while let Some(mut sender) = server.take_idle() {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(Open { response, server: server.clone(), sender }),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Attempt::lost(server, &error.into_error())),
                },
            }
        }
        let dialled = server.dial(&self.inner.tls.now(), self.inner.patience.connect).await;
        let (mut sender, broken) = match dialled {
            Ok(connection) => connection,
            Err(error) => return Err(Attempt::Unsent(Box::new(strip(server, request)), error)),
        };
        match sender.try_send_request(request).await {
            Ok(response) => Ok(Open { response, server: server.clone(), sender }),
            Err(error) => Err(Attempt::broken(server, error.into_error(), broken).await),
        }
    }
}

impl Inner {
    fn servers(&self) -> Servers {
        self.servers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn parse(urls: &[String], name: Option<&str>) -> Result<Servers, ConfigError> {
    let servers = urls.iter().map(|url| Server::parse(url, name).map(Arc::new));
    let servers: Vec<Arc<Server>> = servers.collect::<Result<_, _>>()?;
    if servers.is_empty() {
        let message = "no server is given".to_string();
        return Err(ConfigError::Server { server: String::new(), message });
    }
    Ok(Arc::new(servers))
}

#[cfg(test)]
mod tests;
