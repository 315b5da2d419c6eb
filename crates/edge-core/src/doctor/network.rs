//! What stands between boards and pods: routes, ports, firewalls, others' networks, Wi-Fi.

use super::{Chain, Facts, Finding, Fix, Hook, Legacy};

pub(super) fn judge(facts: &Facts, found: &mut Vec<Finding>) {
    match facts.default_route {
        Some(true) => found.push(Finding::ok("default-route", "packets for elsewhere have a way")),
        Some(false) => found.push(Finding::warning(
            "default-route",
            "there is no default route",
            "no image comes from a registry and no time from a server; fine for boards that are \
             meant to be offline",
            "let DHCP give one (plug in the cable, join the Wi-Fi), or set a gateway; offline, \
             give --node-ip and push images with edgectl image push",
        )),
        None => {}
    }
    ports(facts, found);
    if let Some(chains) = &facts.chains {
        firewalls(chains, found);
    }
    legacy(facts, found);
    resolvers(facts, found);
    overlaps(facts, found);
    wifi(facts, found);
    if let Some(forwarding) = facts.forwarding {
        found.push(match (forwarding.on, forwarding.settable) {
            (false, false) => Finding::error(
                "ip-forward",
                "net.ipv4.ip_forward is 0 and can't be set",
                "pods reach nobody beyond the board",
                "run edged where /proc/sys is writable, or set it in /etc/sysctl.d and reboot",
            ),
            (on, _) => Finding::ok(
                "ip-forward",
                if on { "packets are passed on" } else { "edged will turn forwarding on" },
            ),
        });
    }
}

fn ports(facts: &Facts, found: &mut Vec<Finding>) {
    let Some(taken) = &facts.taken else { return };
    let id = "ports";
    if taken.iter().all(|one| one.purpose == "Ingress") {
        found.push(Finding::ok(id, "the ports that edged needs are its own or free"));
    }
    for one in taken {
        let who = one.owner.as_deref().unwrap_or("another program");
        let what = format!("{who} holds port {}/{}", one.port, one.protocol);
        let todo = match (one.purpose, &one.owner) {
            (_, None) => "run this as root to see who it is, and stop it or move it".to_owned(),
            ("names for pods", Some(who)) => format!(
                "keep {who} off the cluster's DNS address: have it listen on the LAN's address \
                 only (dnsmasq: bind-interfaces, listen-address)"
            ),
            ("tunnels", Some(who)) => {
                format!("stop {who}, or give edged another port (--wireguard-port)")
            }
            (_, Some(who)) => format!("stop {who}, or give edged another port"),
        };
        let why = why(one.purpose);
        found.push(match one.purpose {
            // Nobody needs it until there is an Ingress, and then the agent says so.
            "Ingress" => Finding::ok(id, format!("{what}: this board could answer no Ingress")),
            "tunnels" => Finding::warning(id, what, why, todo),
            _ => Finding::error(id, what, why, todo),
        });
    }
    if let Some(why) = &facts.ingress_closed {
        let todo = "stop that program or move it to another port, or take its web pages into the \
                    cluster and remove it from the board";
        let bites = "Ingresses of the cluster are not answered at this board's address";
        found.push(Finding::warning("ingress-ports", why.clone(), bites, todo));
    }
}

fn why(purpose: &str) -> &'static str {
    match purpose {
        "the API" => "edged server can't open its API there and does not start",
        "the bus" => "edged server can't open its broker there and does not start",
        "the agent" => "logs, exec and port-forward of this board's pods are answered by another",
        "names for pods" => "pods of this board can't look up names",
        _ => "tunnels to boards of other networks can't be made",
    }
}

/// Who made a chain, by the marks that they leave.
fn maker(chain: &Chain, all: &[Chain]) -> &'static str {
    let in_table = |mark: &str| all.iter().any(|c| c.table == chain.table && c.name.contains(mark));
    if chain.table.contains("firewalld") {
        "firewalld"
    } else if in_table("ufw") {
        "ufw"
    } else if in_table("DOCKER") {
        "Docker"
    } else if matches!(chain.name.as_str(), "INPUT" | "FORWARD") {
        "iptables"
    } else {
        "nftables"
    }
}

fn remedy(maker: &str, hook: Hook) -> &'static str {
    match (maker, hook) {
        ("Docker", _) => {
            "`iptables -I DOCKER-USER -i edge0 -j ACCEPT` and the same with `-o edge0` at each \
             boot, or take Docker off this board (edged does not need it)"
        }
        ("ufw", Hook::Forward) => {
            "set DEFAULT_FORWARD_POLICY=\"ACCEPT\" in /etc/default/ufw and `ufw reload`"
        }
        ("ufw", Hook::Input) => {
            "`ufw allow 6443,8883,10250/tcp`, `ufw allow 51820/udp`, `ufw allow in on edge0`"
        }
        ("firewalld", _) => {
            "`firewall-cmd --permanent --zone=trusted --add-interface=edge0`, open 6443/tcp, \
             8883/tcp, 10250/tcp and 51820/udp, and `firewall-cmd --reload`"
        }
        (_, Hook::Forward) => "accept there what comes from and goes to edge0",
        (_, Hook::Input) => {
            "accept there 6443/tcp, 8883/tcp, 10250/tcp, 51820/udp, and all that comes from edge0"
        }
    }
}

fn firewalls(chains: &[Chain], found: &mut Vec<Finding>) {
    for (id, hook, fine) in [
        ("firewall-forward", Hook::Forward, "no firewall drops what pods send on"),
        ("firewall-input", Hook::Input, "no firewall drops by default what is for the board"),
    ] {
        let drops: Vec<&Chain> =
            chains.iter().filter(|c| c.hook == Some(hook) && c.drops).collect();
        if drops.is_empty() {
            found.push(Finding::ok(id, fine));
        }
        for chain in drops {
            let maker = maker(chain, chains);
            let (table, name) = (&chain.table, &chain.name);
            let todo = remedy(maker, hook);
            found.push(match hook {
                Hook::Forward => Finding::error(
                    id,
                    format!("a firewall of {maker} (chain {table}/{name}) drops forwarded packets"),
                    "pods reach nobody beyond the board, and nobody reaches them, unless a rule \
                     accepts it",
                    todo,
                ),
                Hook::Input => Finding::warning(
                    id,
                    format!(
                        "a firewall of {maker} (chain {table}/{name}) drops what is for the \
                             board"
                    ),
                    "unless rules accept them, other boards and pods do not reach this one",
                    todo,
                ),
            });
        }
    }
}

/// The older iptables, whose rules nf_tables does not show.
fn legacy(facts: &Facts, found: &mut Vec<Finding>) {
    let id = "firewall-legacy";
    if !facts.legacy_rules {
        return;
    }
    let todo = "`iptables-legacy -I FORWARD -i edge0 -j ACCEPT` and the same with `-o edge0` at \
                each boot, or take the older rules away (iptables-legacy -S lists them)";
    found.push(match facts.legacy {
        Some(Legacy { drops: true, .. }) => Finding::error(
            id,
            "the older iptables drops forwarded packets (iptables-legacy, chain FORWARD)",
            "pods reach nobody beyond the board, and nobody reaches them, and nft does not show it",
            todo,
        ),
        Some(Legacy { rules: 0, .. }) => {
            Finding::ok(id, "the older iptables drops nothing that pods send on")
        }
        Some(Legacy { rules, .. }) => Finding::warning(
            id,
            format!("{rules} rules of the older iptables drop forwarded packets"),
            "some of what pods send and are sent may be lost, and nft does not show it",
            todo,
        ),
        None => Finding::warning(
            id,
            "the older iptables has rules that can't be read from here",
            "they drop packets without nf_tables showing it",
            "look with `iptables-legacy -S`; accept what comes from and goes to edge0",
        ),
    });
}

fn resolvers(facts: &Facts, found: &mut Vec<Finding>) {
    let Some(resolvers) = &facts.resolvers else { return };
    found.push(match resolvers.is_empty() {
        false => Finding::ok("resolver", format!("names are asked of {}", resolvers.join(", "))),
        true => Finding::warning(
            "resolver",
            "no DNS server is known: /etc/resolv.conf is missing or names none",
            "images come from no registry that is known by name, and pods look up no names outside \
             the cluster; fine for boards that are meant to be offline",
            "let DHCP give one (systemd-resolved, or resolvconf), or write your router's address \
             into /etc/resolv.conf: `nameserver 192.168.1.1`",
        ),
    });
}

fn overlaps(facts: &Facts, found: &mut Vec<Finding>) {
    let before = found.len();
    for (setting, range) in &facts.ranges {
        for network in facts.networks.iter().filter(|n| n.range.overlaps(range)) {
            let whose = match network.link.as_str() {
                "cni0" | "flannel.1" => "k3s or another Kubernetes",
                "docker0" => "Docker",
                link if link.starts_with("br-") => "Docker",
                _ => "the board",
            };
            found.push(Finding::error(
                "networks",
                format!("{} of {whose} ({}) meets {setting} {range}", network.range, network.link),
                "packets for pods or Services go there instead",
                format!("choose another --{setting} for the cluster, or take that network away"),
            ));
        }
    }
    if found.len() == before && !facts.ranges.is_empty() {
        found.push(Finding::ok("networks", "no other network meets those of pods and Services"));
    }
    if facts.rivals.is_empty() {
        found.push(Finding::ok("rivals", "no other kubelet runs here"));
    }
    for rival in &facts.rivals {
        found.push(Finding::warning(
            "rivals",
            format!("{rival} runs here as well"),
            "two kubelets share one board's memory, ports and packet rules, and each thinks that \
             it has all of it",
            format!("stop {rival} and keep it from starting (systemctl disable --now {rival})"),
        ));
    }
}

fn wifi(facts: &Facts, found: &mut Vec<Finding>) {
    let id = "wifi-power-save";
    if facts.wifi.is_empty() {
        return found.push(Finding::ok(id, "no Wi-Fi"));
    }
    for one in &facts.wifi {
        let link = &one.link;
        if one.power_save != Some(true) {
            let what = match one.power_save {
                Some(_) => format!("{link} stays awake"),
                None => format!("the driver of {link} does not say whether it sleeps"),
            };
            found.push(Finding::ok(id, what));
            continue;
        }
        let finding = Finding::warning(
            id,
            format!("{link} sleeps between packets"),
            "answers take up to a second and more, and the cluster takes the board for dead",
            format!(
                "`iw dev {link} set power_save off` at each boot, or wifi.powersave=2 in \
                 NetworkManager"
            ),
        );
        found.push(finding.with(Fix::WifiAwake(link.clone())));
    }
}
