//! Pulls from a real registry, Debian's `docker-registry`: with plain HTTP on loopback, and with
//! TLS of a private authority and passwords.

use crate::tools::{Room, run, shell, skipped};
use edge_node::images::{
    ImageStore, ImagesConfig, Progress, RegistriesConfig, RegistryAuth, RegistryConfig,
};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running registry; it ends with the value.
struct Registry {
    process: Child,
    address: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn start(room: &Room, name: &str, extra: &str) -> Registry {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n\
         http:\n  addr: {address}\n{extra}",
        room.text(&format!("{name}-data"))
    );
    let file = room.path(&format!("{name}.yml"));
    std::fs::write(&file, config).unwrap();
    let process = Command::new("docker-registry")
        .args(["serve", file.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let registry = Registry { process, address };
    let started = Instant::now();
    while TcpStream::connect(&registry.address).is_err() {
        assert!(started.elapsed() < Duration::from_secs(20), "the registry doesn't start");
        std::thread::sleep(Duration::from_millis(50));
    }
    registry
}

/// A two-layer image in an OCI layout, by umoci.
fn make(room: &Room) -> String {
    let layout = room.text("layout");
    let (image, bundle) = (format!("{layout}:app"), room.text("bundle"));
    run("umoci", &["init", "--layout", &layout]);
    run("umoci", &["new", "--image", &image]);
    run("umoci", &["unpack", "--image", &image, &bundle]);
    for step in ["mkdir etc; echo one > etc/one", "echo two > etc/two; rm etc/one"] {
        shell(&room.path("bundle/rootfs"), step);
        run("umoci", &["repack", "--refresh-bundle", "--image", &image, &bundle]);
    }
    format!("oci:{image}")
}

fn open(room: &Room, name: &str, registries: RegistriesConfig) -> ImageStore {
    let config = ImagesConfig { registries, ..ImagesConfig::default() };
    ImageStore::open(&room.path(name), config).unwrap()
}

#[tokio::test]
async fn a_real_registry_is_pulled_from() {
    let programs = ["umoci", "skopeo", "docker-registry"];
    if skipped("a_real_registry_is_pulled_from", &programs) {
        return;
    }
    let room = Room::new("registry");
    let source = make(&room);
    let registry = start(&room, "plain", "");
    let name = format!("{}/team/app:v1", registry.address);
    let push = |format: &str| {
        let target = format!("docker://{name}");
        run("skopeo", &["copy", "-q", "--dest-tls-verify=false", "-f", format, &source, &target]);
    };
    let mut ids = Vec::new();
    for format in ["oci", "v2s2"] {
        push(format);
        let store = open(&room, format, RegistriesConfig::default());
        let image = store.pull(&name, &[], &Progress::none()).await.unwrap();
        assert_eq!(image.layers.len(), 2);
        let mount = room.overlay(&format!("mount-{format}"), &image.layers);
        assert_eq!(std::fs::read(mount.join("etc/two")).unwrap(), b"two\n");
        assert!(!mount.join("etc/one").exists());
        let pinned = format!("{}/team/app@{}", registry.address, image.digest.clone().unwrap());
        let remote = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}"];
        let target = format!("docker://{name}");
        let theirs = run("skopeo", &[&remote[..], &[&target]].concat());
        assert_eq!(image.digest.as_deref(), Some(theirs.as_str()));
        assert_eq!(store.pull(&pinned, &[], &Progress::none()).await.unwrap().id, image.id);
        ids.push(image.id);
    }
    let store = open(&room, "missing", RegistriesConfig::default());
    for (wrong, word) in [("team/app:v2", "not found"), ("team/none:v1", "not found")] {
        let name = format!("{}/{wrong}", registry.address);
        let error = store.pull(&name, &[], &Progress::none()).await.unwrap_err();
        assert_eq!(error.reason(), "ErrImagePull");
        assert!(error.to_string().contains(word), "{error}");
    }
}

/// The user `U*U` with the password `U*U`, from bcrypt's published test vectors.
const HTPASSWD: &str = "U*U:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n";

#[tokio::test]
async fn tls_of_a_private_authority_and_passwords_work() {
    let programs = ["umoci", "skopeo", "docker-registry", "openssl"];
    if skipped("tls_of_a_private_authority_and_passwords_work", &programs) {
        return;
    }
    let room = Room::new("tls");
    let source = make(&room);
    std::fs::write(room.path("htpasswd"), HTPASSWD).unwrap();
    shell(
        &room.path("."),
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
           -subj /CN=test-ca -keyout ca.key -out ca.pem -addext keyUsage=keyCertSign 2>/dev/null
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=registry \
           -keyout tls.key -out tls.csr 2>/dev/null
         printf 'subjectAltName=IP:127.0.0.1\\n' > ext
         openssl x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
           -extfile ext -out tls.pem 2>/dev/null",
    );
    let extra = format!(
        "  tls: {{certificate: {}, key: {}}}\nauth:\n  htpasswd: {{realm: r, path: {}}}\n",
        room.text("tls.pem"),
        room.text("tls.key"),
        room.text("htpasswd")
    );
    let registry = start(&room, "tls", &extra);
    let name = format!("{}/app:1", registry.address);
    let target = format!("docker://{name}");
    let password = ["--dest-creds", "U*U:U*U", "--dest-tls-verify=false"];
    run("skopeo", &[&["copy", "-q"][..], &password, &[&source, &target]].concat());

    let config = |change: fn(&mut RegistryConfig, &Room)| {
        let mut host = RegistryConfig::default();
        change(&mut host, &room);
        RegistriesConfig { hosts: [(registry.address.clone(), host)].into() }
    };
    let secret = format!(r#"{{"auths":{{"{}":{{"auth":"VSpVOlUqVQ=="}}}}}}"#, registry.address);
    let auth = RegistryAuth::from_docker_config_json(secret.as_bytes()).unwrap();
    let pull = async |store: &ImageStore, auth: &[RegistryAuth]| {
        store.pull(&name, auth, &Progress::none()).await.map_err(|error| error.to_string())
    };
    let store = open(&room, "ca", config(|host, room| host.ca_file = Some(room.path("ca.pem"))));
    let error = pull(&store, &[]).await.unwrap_err();
    assert!(error.contains("imagePullSecrets"), "{error}");
    pull(&store, &auth).await.unwrap();
    let configured = config(|host, room| {
        host.ca_pem = Some(std::fs::read_to_string(room.path("ca.pem")).unwrap());
        (host.username, host.password) = (Some("U*U".into()), Some("U*U".into()));
    });
    pull(&open(&room, "configured", configured), &[]).await.unwrap();
    let careless = config(|host, _| host.insecure_skip_verify = true);
    pull(&open(&room, "careless", careless), &auth).await.unwrap();
    // Without its authority the registry is a stranger, and no plain HTTP server either.
    let error = pull(&open(&room, "stranger", <_>::default()), &auth).await.unwrap_err();
    assert!(error.contains("registry"), "{error}");
}
