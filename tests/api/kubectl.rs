//! Real `kubectl`, every version that the machine has in its PATH: what people type first, against
//! the API alone. `KUBECTL` may name further ones, separated by colons.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Lab;

/// Every distinct kubectl: `kubectl`, `kubectl.1.27` and the like in PATH, and those in `KUBECTL`.
fn all() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let named = std::env::var_os("KUBECTL").unwrap_or_default();
    found.extend(std::env::split_paths(&named).filter(|path| path.is_file()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    for dir in std::env::split_paths(&path) {
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let version = name.strip_prefix("kubectl.").unwrap_or_default();
            let versioned = version.starts_with(|c: char| c.is_ascii_digit());
            let path = entry.path();
            let real = path.canonicalize().unwrap_or(path);
            if (name == "kubectl" || versioned) && !found.contains(&real) {
                found.push(real);
            }
        }
    }
    found
}

struct Kubectl<'a> {
    program: &'a Path,
    lab: &'a Lab,
}

impl Kubectl<'_> {
    /// Runs it off the runtime's threads; answers whether it went well, and all that it said.
    async fn try_run(&self, args: &str, input: &str) -> (bool, String) {
        let mut command = Command::new(self.program);
        let cache = self.lab.dir.join("cache");
        command.args(args.split_whitespace());
        command.env("KUBECONFIG", self.lab.dir.join("admin.kubeconfig"));
        command.env("KUBECACHEDIR", cache).env_remove("HTTPS_PROXY").env_remove("https_proxy");
        let stdin = self.lab.dir.join("stdin");
        std::fs::write(&stdin, input).unwrap();
        command.stdin(std::fs::File::open(&stdin).unwrap());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    async fn run(&self, args: &str, input: &str, want: &[&str]) {
        let (well, said) = self.try_run(args, input).await;
        let program = self.program.display();
        assert!(well, "{program} {args}:\n{said}");
        for words in want {
            assert!(said.contains(words), "{program} {args}: no {words:?} in:\n{said}");
        }
    }

    async fn fails(&self, args: &str, input: &str, want: &str) {
        let (well, said) = self.try_run(args, input).await;
        assert!(!well && said.contains(want), "{}: {args}:\n{said}", self.program.display());
    }
}

const MANIFEST: &str = include_str!("nginx.yaml");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_works() {
    let programs = all();
    if programs.is_empty() {
        eprintln!("SKIPPED: no kubectl in PATH; tests/setup.sh installs one");
        return;
    }
    for program in programs {
        let lab = Lab::start().await;
        let kubectl = Kubectl { program: &program, lab: &lab };
        everyday(&kubectl).await;
        mistakes(&kubectl).await;
        accounts(&kubectl).await;
        lab.end().await;
    }
}

async fn everyday(kubectl: &Kubectl<'_>) {
    kubectl.run("version", "", &["v1.33.0+edged"]).await;
    kubectl.run("get namespaces", "", &["kube-system", "Active"]).await;
    kubectl.run("api-resources", "", &["deployments", "deploy", "apps/v1"]).await;
    kubectl.run("explain deployment.spec", "", &["replicas"]).await;
    let created = ["deployment.apps/nginx-deployment created", "service/nginx created"];
    kubectl.run("apply -f -", MANIFEST, &created).await;
    let same = ["deployment.apps/nginx-deployment unchanged", "service/nginx unchanged"];
    kubectl.run("apply -f -", MANIFEST, &same).await;
    let changed = MANIFEST.replace("nginx:1.14.2", "nginx:1.16.1");
    let configured = ["deployment.apps/nginx-deployment configured"];
    kubectl.run("apply -f -", &changed, &configured).await;
    kubectl.run("diff -f -", &changed, &[]).await;
    kubectl.run("get deploy,rs,svc", "", &["NAME", "nginx-deployment", "NodePort"]).await;
    kubectl.run("get deploy -o wide -A", "", &["CONTAINERS", "nginx:1.16.1"]).await;
    kubectl.run("get deploy nginx-deployment -o yaml", "", &["kind: Deployment"]).await;
    kubectl.run("describe deploy nginx-deployment", "", &["Replicas:", "nginx:1.16.1"]).await;
    kubectl.run("scale deploy/nginx-deployment --replicas=2", "", &["scaled"]).await;
    kubectl.run("label deploy nginx-deployment tier=front", "", &["labeled"]).await;
    kubectl.run("annotate svc nginx note=x", "", &["annotate"]).await;
    kubectl.run("get svc -l app=nginx", "", &["nginx"]).await;
    let patch = r#"patch svc nginx -p {"spec":{"sessionAffinity":"ClientIP"}}"#;
    kubectl.run(patch, "", &["patched"]).await;
    kubectl.run("set image deploy/nginx-deployment nginx=nginx:1.17", "", &["updated"]).await;
    kubectl.run("rollout restart deploy/nginx-deployment", "", &["restarted"]).await;
    kubectl.run("rollout history deploy/nginx-deployment", "", &["REVISION"]).await;
    let waiting = "wait --for=jsonpath={.spec.replicas}=2 deploy/nginx-deployment --timeout=10s";
    kubectl.run(waiting, "", &["condition met"]).await;
    let watching = "get ns --watch --request-timeout=2s";
    let (_, said) = kubectl.try_run(watching, "").await;
    assert!(said.contains("default") && !said.contains("unable to"), "{said}");
    kubectl.run("delete -f - --wait=true", MANIFEST, &["deleted"]).await;
    kubectl
        .run(
            "create -f -",
            "kind: Namespace\napiVersion: v1\nmetadata: {name: shop}",
            &["namespace/shop created"],
        )
        .await;
    kubectl.run("get sa -n shop", "", &["default"]).await;
    kubectl.run("get --raw /readyz?verbose", "", &["[+]store ok"]).await;
}

async fn mistakes(kubectl: &Kubectl<'_>) {
    kubectl
        .fails("get pod none", "", "Error from server (NotFound): pods \"none\" not found")
        .await;
    kubectl.fails("get widgets", "", "the server doesn't have a resource type \"widgets\"").await;
    let typo = MANIFEST.replace("replicas:", "replicsa:");
    kubectl.fails("apply -f -", &typo, "unknown field \"spec.replicsa\"").await;
    kubectl.run("apply --validate=warn -f -", &typo, &["Warning: unknown field"]).await;
    kubectl.fails("delete ns default", "", "this namespace may not be deleted").await;
}

const ROBOT: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: robot-sees}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: robot}]
";

async fn accounts(kubectl: &Kubectl<'_>) {
    kubectl.run("apply -f -", ROBOT, &["serviceaccount/robot created"]).await;
    kubectl.run("auth whoami", "", &["kubernetes-admin", "system:masters"]).await;
    let robot = "--as=system:serviceaccount:default:robot";
    kubectl.run(&format!("auth can-i list pods {robot}"), "", &["yes"]).await;
    kubectl.fails(&format!("auth can-i list secrets {robot}"), "", "no").await;
    kubectl.run(&format!("auth can-i --list {robot}"), "", &["endpointslices"]).await;
    kubectl.run("get clusterroles,rolebindings -o wide", "", &["ClusterRole/view", "robot"]).await;
    let (well, token) = kubectl.try_run("create token robot --duration=10m", "").await;
    assert!(well && token.starts_with("eyJ"), "{token}");
    let config = kubectl.lab.dir.join("robot.kubeconfig");
    std::fs::write(&config, "{apiVersion: v1, kind: Config}").unwrap();
    let config = format!("--kubeconfig={}", config.display());
    let address = kubectl.lab.server.address();
    let as_robot = format!(
        "{config} --server=https://{address} --insecure-skip-tls-verify --token={}",
        token.trim()
    );
    let who = format!("{as_robot} auth whoami");
    kubectl.run(&who, "", &["system:serviceaccount:default:robot"]).await;
    kubectl.run(&format!("{as_robot} get pods -o name"), "", &[]).await;
    kubectl.fails(&format!("{as_robot} get secrets"), "", "cannot list resource").await;
}
