//! A server in a temporary directory, and the CLI run against it with its output caught.

use edge_server::{Config, Server};
use edgectl::Io;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A cluster without boards.
pub(crate) struct World {
    pub(crate) server: Server,
    dir: PathBuf,
}

/// What one run of the CLI gave.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Outcome {
    /// The output of a run that went well.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// The message of a run that failed.
    #[track_caller]
    pub(crate) fn fails(self) -> String {
        assert_ne!(self.code, 0, "{self:?}");
        self.err
    }
}

#[derive(Clone, Default)]
struct Caught(Arc<Mutex<Vec<u8>>>);

impl Write for Caught {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Caught {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// Output that is looked at while the command runs.
pub(crate) struct Running {
    out: Caught,
    task: tokio::task::JoinHandle<i32>,
}

impl Running {
    /// Waits until the output holds a text.
    pub(crate) async fn until(&self, text: &str) -> String {
        for _ in 0..400 {
            let seen = self.out.text();
            if seen.contains(text) {
                return seen;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        panic!("{text:?} did not come; seen: {}", self.out.text());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl World {
    pub(crate) async fn new() -> World {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("edgectl-world-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        World::over(dir).await
    }

    /// The cluster of the data that is in this directory.
    pub(crate) async fn over(dir: PathBuf) -> World {
        let server = Server::start(Config {
            name: "board".to_string(),
            data_dir: dir.join("data"),
            listen: "127.0.0.1:0".parse().unwrap(),
            node_ip: None,
            cluster_cidr: "10.42.0.0/16".to_string(),
            service_cidr: "10.43.0.0/16".to_string(),
            cluster_domain: "cluster.local".to_string(),
            agent_port: 10250,
            nodes: edge_server::NodeSettings::default(),
            cluster: Default::default(),
        })
        .await
        .unwrap();
        World { server, dir }
    }

    /// Where all of it is; its data are in `data`.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.join("data").join("admin.kubeconfig")
    }

    /// Writes a file and gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Runs a command; words are separated by spaces.
    pub(crate) async fn run(&self, line: &str) -> Outcome {
        self.run_with(line, "").await
    }

    /// Runs a command with some input.
    pub(crate) async fn run_with(&self, line: &str, input: &str) -> Outcome {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.words(&words, input).await
    }

    /// Runs a command whose words hold spaces.
    pub(crate) async fn words(&self, words: &[&str], input: &str) -> Outcome {
        run_words(&self.kubeconfig(), words, input).await
    }

    /// Starts a command that goes on.
    pub(crate) fn start(&self, line: &str) -> Running {
        let out = Caught::default();
        let io = Io::over(out.clone(), std::io::sink(), std::io::empty());
        let mut args = vec!["edgectl".to_string(), "--kubeconfig".to_string()];
        args.push(self.kubeconfig().display().to_string());
        args.extend(line.split_whitespace().map(str::to_string));
        Running { out, task: tokio::spawn(edgectl::run_on(args, io)) }
    }
}

pub(crate) async fn run_words(kubeconfig: &Path, words: &[&str], input: &str) -> Outcome {
    let (out, err) = (Caught::default(), Caught::default());
    let io = Io::over(out.clone(), err.clone(), std::io::Cursor::new(input.to_string()));
    let path = kubeconfig.display().to_string();
    let mut args = vec!["edgectl", "--kubeconfig", &path];
    args.extend(words);
    let code = edgectl::run_on(args, io).await;
    Outcome { code, out: out.text(), err: err.text() }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A Deployment with one container.
pub(crate) fn deployment(name: &str, replicas: u32, image: &str) -> String {
    let container = format!("{{name: web, image: \"{image}\", ports: [{{containerPort: 80}}]}}");
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
spec:
  replicas: {replicas}
  selector:
    matchLabels: {{app: {name}}}
  template:
    metadata:
      labels: {{app: {name}}}
    spec:
      containers: [{container}]
"
    )
}
