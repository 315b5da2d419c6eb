//! Which Nodes are servers, for people: `node-role.kubernetes.io/control-plane`, as kubeadm and k3s
//! put it. The label is edged's own: a Node that is written by anybody gets it or loses it as the
//! membership says, and when the membership changes, the Nodes that it concerns are written.

use crate::api::{Api, ListOptions, Place, WriteOptions, read_object};
use crate::auth::Identity;
use edge_api::kinds;
use edge_api::status::Status;
use edge_api::{Object, meta};
use edge_core::consensus::Members;
use serde_json::json;

/// The label of servers' Nodes.
pub(crate) const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// Puts the label on a Node, or takes it off; whether it was otherwise.
pub(crate) fn label(node: &mut Object, members: &Members) -> bool {
    let serves = members.by_name(meta::name(node)).is_some();
    if meta::label(node, CONTROL_PLANE).is_some() == serves {
        return false;
    }
    if serves {
        node["metadata"]["labels"][CONTROL_PLANE] = json!("");
    } else if let Some(labels) = node["metadata"]["labels"].as_object_mut() {
        labels.remove(CONTROL_PLANE);
    }
    true
}

/// Writes the Nodes whose label is not as the membership has it.
pub(super) async fn relabel(api: &Api) -> Result<(), Status> {
    let who = Identity::system("apiserver");
    let nodes = api.list(kinds::NODE, "", &ListOptions::default())?;
    for entry in nodes.entries {
        let mut node = read_object(&entry.value)?;
        if !label(&mut node, &api.inner.leadership.standing().members) {
            continue;
        }
        let name = meta::name(&node).to_owned();
        let place = Place::new(kinds::NODE, "", &name);
        api.update(&who, place, node, &WriteOptions::default()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_core::consensus::MemberInfo;

    #[test]
    fn servers_have_the_label_and_others_do_not() {
        let info = MemberInfo { id: 7, name: "s1".into(), ..MemberInfo::default() };
        let members = Members::genesis(info);
        let mut server = json!({"metadata": {"name": "s1"}});
        assert!(label(&mut server, &members) && !label(&mut server, &members));
        assert_eq!(meta::label(&server, CONTROL_PLANE), Some(""));
        assert!(label(&mut server, &Members::default()), "it left");
        assert_eq!(meta::label(&server, CONTROL_PLANE), None);
        let labels = json!({CONTROL_PLANE: "", "site": "farm"});
        let mut agent = json!({"metadata": {"name": "a1", "labels": labels}});
        assert!(label(&mut agent, &members));
        assert_eq!(agent["metadata"]["labels"], json!({"site": "farm"}));
    }
}
