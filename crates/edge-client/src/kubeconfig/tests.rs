//! Kubeconfig files as people have them: inline data, files beside them, several merged.

use super::*;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("edge-client-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const TWO: &str = "
apiVersion: v1
kind: Config
current-context: home
clusters:
- name: home
  cluster: {server: 'https://10.0.0.1:6443', certificate-authority-data: Q0E=}
- name: lab
  cluster: {server: 'https://lab:6443/prefix', certificate-authority: ca.pem,
            tls-server-name: kubernetes, insecure-skip-tls-verify: true}
users:
- name: admin
  user: {client-certificate-data: Q0VSVA==, client-key: key.pem}
- name: robot
  user: {tokenFile: token}
- name: cloud
  user: {exec: {command: aws}}
- name: half
  user: {client-certificate-data: Q0VSVA==}
contexts:
- name: home
  context: {cluster: home, user: admin}
- name: lab
  context: {cluster: lab, user: robot, namespace: web}
- name: cloud
  context: {cluster: lab, user: cloud}
- name: half
  context: {cluster: home, user: half}
- name: lost
  context: {cluster: nowhere, user: admin}
";

#[test]
fn contexts_data_and_files() {
    let dir = Dir::new("contexts");
    dir.write("key.pem", "KEY");
    dir.write("ca.pem", "LABCA");
    dir.write("token", "secret\n");
    let path = dir.write("config", TWO);
    let home = Config::from_kubeconfig(&path, None).unwrap();
    assert_eq!(home.servers, ["https://10.0.0.1:6443"]);
    assert_eq!(home.ca_pem.as_deref(), Some(&b"CA"[..]));
    assert_eq!(home.client_cert_pem.as_deref(), Some(&b"CERT"[..]));
    assert_eq!(home.client_key_pem.as_deref(), Some(&b"KEY"[..]));
    assert_eq!(home.namespace, None);
    let lab = Config::from_kubeconfig(&path, Some("lab")).unwrap();
    assert_eq!(lab.ca_pem.as_deref(), Some(&b"LABCA"[..]));
    assert_eq!(lab.token.as_deref(), Some("secret"));
    assert_eq!(lab.server_name.as_deref(), Some("kubernetes"));
    assert_eq!(lab.namespace.as_deref(), Some("web"));
    assert!(lab.insecure);
}

#[test]
fn refusals_name_the_file_and_the_way_out() {
    let dir = Dir::new("refusals");
    dir.write("ca.pem", "CA");
    let path = dir.write("config", TWO);
    let said = |context| Config::from_kubeconfig(&path, Some(context)).unwrap_err().to_string();
    let file = path.display().to_string();
    assert!(said("cloud").contains("exec plug-in"), "{}", said("cloud"));
    assert!(said("cloud").contains(&file));
    assert!(said("half").contains("needs both"));
    assert!(said("lost").contains("cluster \"nowhere\" does not exist"));
    assert!(said("none").contains("context \"none\" does not exist"));
    let bad = dir.write("bad", "clusters: []\nusers: }");
    let error = Config::from_kubeconfig(&bad, None).unwrap_err().to_string();
    assert!(error.contains("line 2"), "{error}");
    let missing = Config::from_kubeconfig(&dir.0.join("none"), None).unwrap_err();
    assert!(matches!(missing, ConfigError::Read { .. }));
}

#[test]
fn several_files_merge_and_the_first_wins() {
    let dir = Dir::new("merge");
    dir.write("key.pem", "KEY");
    let first = dir.write(
        "first",
        "current-context: lab\nclusters:\n- {name: home, cluster: {server: 'https://other'}}\n",
    );
    let second = dir.write("second", TWO);
    let paths = [dir.0.join("absent"), first, second];
    let merged = Kubeconfig::read_merged(&paths).unwrap();
    assert_eq!(merged.current_context(), "lab");
    let home = merged.config(Some("home")).unwrap();
    assert_eq!(home.servers, ["https://other"]);
    assert_eq!(home.client_key_pem.as_deref(), Some(&b"KEY"[..]));
    assert_eq!(merged.contexts().iter().filter(|context| context.current).count(), 1);
}
