//! The recipes of NetworkPolicies that people copy from the documentation, and some that they get
//! wrong: each with who gets through and who does not, in words. What the table says of each is
//! tested in `policy_model`; what packets say, on two boards, in `policy`.

use std::net::Ipv4Addr;

use edge_api::Object;

/// What everybody listens on, by TCP; the first also by UDP.
pub(crate) const PORTS: [u16; 2] = [7001, 7002];
pub(crate) const DNS: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 10);

/// Namespaces and their labels.
pub(crate) const NAMESPACES: [(&str, &str); 3] =
    [("x", "team: shop"), ("y", "team: ops"), ("z", "team: dev")];

/// Pods: namespace and name, labels, the board (0 or 1), and the port that it calls `http`.
pub(crate) const PODS: [(&str, &str, usize, u16); 6] = [
    ("x/web", "app: web, tier: front", 0, 7001),
    ("x/db", "app: db, tier: back", 1, 7002),
    ("x/client", "app: client", 1, 7001),
    ("y/web", "app: web", 1, 7002),
    ("y/client", "app: client, role: monitor", 0, 7001),
    ("z/client", "app: client", 0, 7001),
];

/// The host beside the boards.
pub(crate) const OUTSIDE: &str = "outside";

/// One recipe. Policies are in the namespace `x` unless they say another; a way is
/// `from>to:port`, where the port may be `u7001` by UDP, and `dns` is the cluster's own server.
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    pub(crate) policies: &'static [&'static str],
    pub(crate) allowed: &'static str,
    pub(crate) denied: &'static str,
}

const fn recipe(
    name: &'static str,
    policies: &'static [&'static str],
    allowed: &'static str,
    denied: &'static str,
) -> Recipe {
    Recipe { name, policies, allowed, denied }
}

pub(crate) const RECIPES: &[Recipe] = &[
    recipe(
        "deny all ingress",
        &["{podSelector: {}, policyTypes: [Ingress]}"],
        "x/client>y/web:7001 x/web>outside:7001 y/client>y/web:7001 x/web>dns",
        "x/client>x/web:7001 y/client>x/db:7002 outside>x/web:7001 z/client>x/web:u7001",
    ),
    recipe(
        "deny all egress",
        &["{podSelector: {}, policyTypes: [Egress]}"],
        "y/client>x/web:7001 outside>x/db:7002 z/client>y/web:7001",
        "x/client>x/web:7001 x/web>y/web:7001 x/db>outside:u7001 x/web>dns x/client>dns",
    ),
    recipe(
        "deny all",
        &["{podSelector: {}, policyTypes: [Ingress, Egress]}"],
        "y/client>z/client:7001 y/web>dns",
        "x/client>x/web:7001 y/client>x/web:7001 x/web>y/web:7002 x/db>dns",
    ),
    recipe(
        "allow all ingress",
        &["{podSelector: {}, ingress: [{}]}"],
        "x/client>x/web:7001 outside>x/db:7002 y/client>x/web:u7001",
        "",
    ),
    recipe(
        "allow all ingress, beside deny all",
        &["{podSelector: {}, policyTypes: [Ingress]}", "{podSelector: {}, ingress: [{}]}"],
        "x/client>x/web:7001 outside>x/db:7002 y/client>x/web:u7001",
        "",
    ),
    recipe(
        "allow all egress, beside deny all",
        &[
            "{podSelector: {}, policyTypes: [Ingress, Egress]}",
            "{podSelector: {}, egress: [{}], policyTypes: [Egress]}",
        ],
        "x/web>y/web:7001 x/client>outside:7002 x/db>dns",
        "x/client>x/web:7001 outside>x/web:7001",
    ),
    recipe(
        "allow by label",
        &["{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: \
           {matchLabels: {app: client}}}]}]}"],
        "x/client>x/web:7001 x/client>x/web:u7001 y/client>x/db:7001 x/web>x/db:7001",
        "x/db>x/web:7001 y/client>x/web:7001 z/client>x/web:7001 outside>x/web:7001",
    ),
    recipe(
        "allow by namespace",
        &["{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: \
             {team: ops}}}]}]}"],
        "y/client>x/web:7001 y/web>x/db:u7001",
        "x/client>x/web:7001 z/client>x/web:7001 outside>x/db:7001",
    ),
    recipe(
        "allow a namespace by its name",
        &["{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: \
           {kubernetes.io/metadata.name: z}}}]}]}"],
        "z/client>x/web:7001 z/client>x/db:7002",
        "x/client>x/web:7001 y/client>x/web:7001 outside>x/web:7001",
    ),
    recipe(
        "allow pods of a namespace: both in one peer",
        &["{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}, \
           podSelector: {matchLabels: {role: monitor}}}]}]}"],
        "y/client>x/web:7001 y/client>x/db:7001",
        "y/web>x/web:7001 x/client>x/web:7001 z/client>x/web:7001",
    ),
    recipe(
        "allow pods, or a namespace: two peers",
        &["{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}}, \
           {podSelector: {matchLabels: {app: client}}}]}]}"],
        "y/client>x/web:7001 y/web>x/web:7001 x/client>x/web:7001",
        "z/client>x/web:7001 x/db>x/web:7001 outside>x/web:7001",
    ),
    recipe(
        "allow the LAN only",
        &["{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.168.78.0/24}}]}]}"],
        "outside>x/web:7001 outside>x/db:u7001",
        "x/client>x/web:7001 y/client>x/db:7002",
    ),
    recipe(
        "allow everybody but some addresses",
        &["{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: \
           [192.168.0.0/16, 10.42.1.0/24]}}]}]}"],
        "y/client>x/web:7001 z/client>x/db:7001 x/web>x/db:7001",
        "outside>x/web:7001 x/client>x/web:7001 y/web>x/db:7001 outside>x/db:7001",
    ),
    recipe(
        "allow one port",
        &["{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 7001}]}]}"],
        "x/client>x/web:7001 outside>x/web:7001 y/client>x/db:7002",
        "x/client>x/web:7002 x/client>x/web:u7001",
    ),
    recipe(
        "allow a range of ports",
        &["{podSelector: {}, ingress: [{ports: [{port: 7002, endPort: 7999}]}]}"],
        "x/client>x/web:7002 outside>x/db:7002",
        "x/client>x/web:7001 y/client>x/db:7001 y/client>x/web:u7001",
    ),
    recipe(
        "allow a port by its name, which each pod has elsewhere",
        &["{podSelector: {}, ingress: [{ports: [{port: http}]}]}"],
        "y/client>x/web:7001 y/client>x/db:7002",
        "y/client>x/web:7002 y/client>x/db:7001 y/client>x/web:u7001",
    ),
    recipe(
        "a port name that nobody has allows nothing",
        &["{podSelector: {}, ingress: [{ports: [{port: metrics}, {port: 7002}]}]}"],
        "y/client>x/web:7002",
        "y/client>x/web:7001 x/client>x/db:7001",
    ),
    recipe(
        "allow UDP only",
        &["{podSelector: {}, ingress: [{ports: [{protocol: UDP}]}]}"],
        "x/client>x/web:u7001 outside>x/db:u7001",
        "x/client>x/web:7001 outside>x/db:7002",
    ),
    recipe(
        "allow SCTP only",
        &["{podSelector: {}, ingress: [{ports: [{protocol: SCTP, port: 7001}]}]}"],
        "x/web>y/web:7001",
        "x/client>x/web:7001 x/client>x/web:u7001",
    ),
    recipe(
        "egress: names only, by port",
        &["{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}, \
           {port: 53}]}]}"],
        "x/web>dns x/db>dns y/client>x/web:7001",
        "x/client>x/web:7001 x/web>outside:7001",
    ),
    recipe(
        "egress: names only, by the pods that usually answer",
        &["{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: \
           {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: \
           {k8s-app: kube-dns}}}], ports: [{port: dns, protocol: UDP}]}]}"],
        "x/web>dns x/client>dns",
        "x/client>x/web:7001 x/web>y/web:u7001 x/db>outside:7001",
    ),
    recipe(
        "egress: outside of the cluster only",
        &["{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, \
           except: [10.0.0.0/8]}}]}]}"],
        "x/web>outside:7001 x/db>outside:u7001",
        "x/client>x/web:7001 x/web>y/web:7001 x/web>dns",
    ),
    recipe(
        "egress: to one kind of pods",
        &["{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{to: \
           [{podSelector: {matchLabels: {app: db}}}], ports: [{port: 7002}]}]}"],
        "x/client>x/db:7002 x/web>y/web:7001 y/client>x/web:7001",
        "x/client>x/db:7001 x/client>x/web:7002 x/client>y/web:7002 x/client>dns",
    ),
    recipe(
        "egress: a port by the name that the others have for it",
        &["{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], \
           ports: [{port: http}]}]}"],
        "x/client>x/web:7001 x/client>x/db:7002 x/client>y/web:7002 x/web>z/client:7001",
        "x/client>x/web:7002 x/client>x/db:7001 x/client>y/web:7001 x/web>outside:7001",
    ),
    recipe(
        "an empty list of peers is everybody",
        &["{podSelector: {}, ingress: [{from: [], ports: [{port: 7001}]}]}"],
        "outside>x/web:7001 y/client>x/db:7001",
        "outside>x/web:7002 x/client>x/web:u7001",
    ),
    recipe(
        "no rule is nobody",
        &["{podSelector: {matchLabels: {app: db}}, ingress: []}"],
        "x/client>x/web:7001 x/db>x/web:7001",
        "x/web>x/db:7001 outside>x/db:7001",
    ),
    recipe(
        "an empty pod selector as a peer is the own namespace",
        &["{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"],
        "x/client>x/web:7001 x/web>x/db:u7001",
        "y/client>x/web:7001 z/client>x/db:7002 outside>x/web:7001",
    ),
    recipe(
        "an empty namespace selector is every pod, and nobody else",
        &["{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}"],
        "y/client>x/web:7001 z/client>x/db:7002 x/client>x/web:u7001",
        "outside>x/web:7001 outside>x/db:u7001",
    ),
    recipe(
        "expressions",
        &["{podSelector: {matchExpressions: [{key: app, operator: In, values: [web, db]}]}, \
           ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, \
           values: [dev]}]}, podSelector: {matchExpressions: [{key: tier, operator: \
           DoesNotExist}]}}]}]}"],
        "x/client>x/web:7001 y/web>x/db:7001 y/client>x/web:7001 x/web>x/client:7001",
        "x/db>x/web:7001 z/client>x/web:7001 outside>x/web:7001",
    ),
    recipe(
        "two policies add up",
        &[
            "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {}}], \
              ports: [{port: 7001}]}]}",
            "{podSelector: {matchLabels: {tier: front}}, ingress: [{from: [{namespaceSelector: \
              {matchLabels: {team: dev}}}], ports: [{port: 7002}]}]}",
        ],
        "x/client>x/web:7001 z/client>x/web:7002",
        "x/client>x/web:7002 z/client>x/web:7001 y/client>x/web:7001",
    ),
    recipe(
        "both ends must allow",
        &[
            "{podSelector: {matchLabels: {app: client}}, egress: [{to: [{podSelector: \
              {matchLabels: {tier: front}}}, {podSelector: {matchLabels: {app: db}}}]}], \
              policyTypes: [Egress]}",
            "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: \
              {matchLabels: {app: client}}}]}]}",
            "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: \
              {matchLabels: {app: web}}}]}]}",
        ],
        "x/client>x/web:7001 x/web>x/db:7002",
        "x/client>x/db:7001 x/db>x/web:7001 x/client>y/web:7001",
    ),
    recipe(
        "a policy elsewhere is no business of theirs",
        &["namespace: y {podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: \
           [{podSelector: {}}]}], egress: [{to: [{podSelector: {}}]}]}"],
        "x/client>x/web:7001 y/client>y/web:7001 outside>x/db:7001",
        "y/client>x/web:7001 x/client>y/web:7001 y/web>dns outside>y/web:u7001",
    ),
];

/// Traffic that a way is about: to a port by TCP, by UDP, or a question for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Tcp(u16),
    Udp(u16),
    Name,
}

/// A way: from whom, to whom, and what.
pub(crate) type Way = (String, String, What);

fn ways(text: &str) -> Vec<Way> {
    let way = |word: &str| {
        let (from, rest) = word.split_once('>').expect("from>to");
        let (to, port) = rest.split_once(':').unwrap_or((rest, "u53"));
        let what = match (to, port.strip_prefix('u')) {
            ("dns", _) => What::Name,
            (_, Some(port)) => What::Udp(port.parse().expect("a port")),
            _ => What::Tcp(port.parse().expect("a port")),
        };
        (from.to_owned(), to.to_owned(), what)
    };
    text.split_whitespace().map(way).collect()
}

impl Recipe {
    pub(crate) fn allowed(&self) -> Vec<Way> {
        ways(self.allowed)
    }

    pub(crate) fn denied(&self) -> Vec<Way> {
        ways(self.denied)
    }

    /// Its policies as objects with these names.
    pub(crate) fn objects(&self, prefix: &str) -> Vec<Object> {
        let object = |(number, text): (usize, &&str)| {
            let spec = text.find('{').expect("a spec");
            let namespace = text[..spec].trim().strip_prefix("namespace: ").unwrap_or("x").trim();
            let spec: Object = serde_yaml::from_str(&text[spec..]).expect("YAML");
            serde_json::json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"namespace": namespace, "name": format!("{prefix}-{number}")},
                "spec": spec,
            })
        };
        self.policies.iter().enumerate().map(object).collect()
    }
}
