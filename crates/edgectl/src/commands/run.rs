//! `run`: one pod from an image.

use super::expose::pairs;
use crate::fault::Fault;
use crate::resource::Resource;
use crate::session::Session;
use crate::writing::{self, Writing};
use edge_api::{Object, kinds};
use serde_json::json;

/// Run an image in a pod
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The name of the pod
    name: String,
    /// The image
    #[arg(long)]
    image: String,
    /// A port that the container listens on
    #[arg(long)]
    port: Option<u16>,
    /// Environment, as NAME=VALUE
    #[arg(short, long)]
    env: Vec<String>,
    /// Labels, as KEY=VALUE,…
    #[arg(short, long)]
    labels: Option<String>,
    /// Annotations, as KEY=VALUE
    #[arg(long)]
    annotations: Vec<String>,
    /// Always, OnFailure or Never
    #[arg(long, default_value = "Always", value_parser = ["Always", "OnFailure", "Never"])]
    restart: String,
    /// Always, IfNotPresent or Never
    #[arg(long, value_parser = ["Always", "IfNotPresent", "Never"])]
    image_pull_policy: Option<String>,
    /// Take the words after `--` as the program, not as its arguments
    #[arg(long)]
    command: bool,
    /// Make a Service for --port, too
    #[arg(long, requires = "port")]
    expose: bool,
    #[command(flatten)]
    writing: Writing,
    /// Arguments of the container, after `--`
    #[arg(last = true)]
    words: Vec<String>,
}

pub(crate) async fn run(args: Run, session: &mut Session) -> Result<(), Fault> {
    let pod = pod(&args)?;
    let namespace = session.namespace()?;
    let mut made = vec![(Resource::from(kinds::POD), pod)];
    if args.expose {
        let labels = made[0].1["metadata"]["labels"].clone();
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": args.name},
            "spec": {"selector": labels,
                     "ports": [{"port": args.port, "targetPort": args.port, "protocol": "TCP"}]},
        });
        made.insert(0, (Resource::from(kinds::SERVICE), service));
    }
    for (resource, object) in made {
        let created = match args.writing.is_local() {
            true => object,
            false => {
                let params = args.writing.params();
                writing::create(session, &resource, &namespace, &object, &params).await?
            }
        };
        args.writing.report(session, &resource, &created, "created")?;
    }
    Ok(())
}

fn pod(args: &Run) -> Result<Object, Fault> {
    let labels = match &args.labels {
        Some(text) => Object::Object(pairs(text)?),
        None => json!({"run": args.name}),
    };
    let mut container = json!({"name": args.name, "image": args.image, "resources": {}});
    if let Some(policy) = &args.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    if let Some(port) = args.port {
        container["ports"] = json!([{"containerPort": port}]);
    }
    let mut env = Vec::new();
    for pair in &args.env {
        let (name, value) = pair
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Fault::text(format!("--env: {pair:?} is not NAME=VALUE")))?;
        env.push(json!({"name": name, "value": value}));
    }
    if !env.is_empty() {
        container["env"] = json!(env);
    }
    if !args.words.is_empty() {
        container[if args.command { "command" } else { "args" }] = json!(args.words);
    }
    let mut metadata = json!({"name": args.name, "labels": labels});
    for pair in &args.annotations {
        for (key, value) in pairs(pair)? {
            metadata["annotations"][key.as_str()] = value;
        }
    }
    Ok(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {"containers": [container], "restartPolicy": args.restart},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        run: Run,
    }

    #[test]
    fn a_pod_from_the_words() {
        let line = "run web --image web:1 --port 80 --env A=b=c --restart Never -- -v x";
        let args = Line::parse_from(line.split(' ')).run;
        let pod = pod(&args).unwrap();
        assert_eq!(pod["metadata"], json!({"name": "web", "labels": {"run": "web"}}));
        assert_eq!(pod["spec"]["restartPolicy"], "Never");
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["args"], json!(["-v", "x"]));
        assert_eq!(container["env"], json!([{"name": "A", "value": "b=c"}]));
        assert_eq!(container["ports"], json!([{"containerPort": 80}]));
        let bad = Line::parse_from(["run", "web", "--image", "x", "--env", "A"]).run;
        assert!(super::pod(&bad).is_err());
    }
}
